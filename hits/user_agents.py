"""What is known of user agents: the patterns by which `classify` tells programs apart."""

from __future__ import annotations

import re

from crawleruseragents import CRAWLER_USER_AGENTS_DATA


def any_of(*patterns: str) -> re.Pattern[str]:
    """Compile patterns into one that matches where any of them does."""
    return re.compile("|".join(patterns))


# uap-core#509.
APPLE_MPP = "Mozilla/5.0"

# mautic#10245.
GMAIL_PREFETCH_END = "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"

# A row of the tables is a name and the lower-case words that must all stand in the user agent.
# Words rather than patterns, because no stranger's string can make the search for a word slow.
MAIL_PROXIES = (
    ("gmail-proxy", "googleimageproxy"),
    ("yahoo-proxy", "yahoomailproxy"),
    # fastmail.com/policies/bots.
    ("fastmail-proxy", "fastmailua"),
    # matomo-org/device-detector#5668, whose list has the next two as well.
    ("seznam-proxy", "seznamemailproxy"),
    ("rambler-proxy", "ramblermail/"),
    ("ukrnet-proxy", "mail.ukr.net proxy"),
    ("hey-proxy", "hey.com/imageproxy"),
    ("shortwave-proxy", "shortwave image fetcher"),
)

MAIL_CLIENTS = (
    ("outlook-express", "outlook-express"),
    ("outlook", "microsoft outlook"),
    ("outlook", "microsoft office outlook"),
    ("outlook", "ms-office"),
    ("outlook", "msoffice"),
    ("outlook", "outlook-ios"),
    ("outlook", "outlook-android"),
    # Outlook/ and MacOutlook/ on macOS, OneOutlook/ in the new Outlook for Windows.
    ("outlook", "outlook/"),
    ("windows-mail", "windowsmail/"),
    ("windows-mail", "windows-live-mail"),
    ("thunderbird", "thunderbird/"),
    ("thunderbird", "icedove/"),
    ("thunderbird", "betterbird/"),
    ("postbox", "postbox/"),
    ("postbox", "postbox "),
    ("spicebird", "spicebird/"),
    ("em-client", "em client/"),
    ("em-client", "emclient/"),
    ("lotus-notes", "lotus-notes"),
    ("the-bat", "the bat!"),
    ("airmail", "airmail "),
    ("airmail", "airmail/"),
    ("spark", "sparkdesktop"),
    ("sparrow", "sparrow/"),
    ("superhuman", "superhuman"),
    ("mailbird", "mailbird/"),
    ("mailmate", "mailmate/"),
    ("mailspring", "mailspring/"),
    ("bluemail", "bluemail/"),
    ("foxmail", "foxmail/"),
    ("mail-master", "mailmaster"),
    ("barca", "barca/"),
    ("barca", "barcapro/"),
    ("mailbar", "mailbar/"),
    ("evolution", "evolution/"),
    ("geary", "geary/"),
    ("kmail", "kmail/"),
    ("kmail", "kmail2/"),
    ("sylpheed", "sylpheed/"),
    ("claws-mail", "claws mail/"),
    ("eudora", "eudora/"),
    ("incredimail", "incredimail/"),
    ("polymail", "polymail/"),
    ("proton-mail", "protonmail/"),
    ("tutanota", "tutanota-desktop/"),
    ("zimbra", "zdesktop/"),
    ("zoho-mail", "zohomail-desktop/"),
    ("gmail", "android-gmail"),
    ("yahoo-mail", "yahoomobilemail/"),
    ("yahoo-mail", "yahoo%20mail/"),
    ("yahoo-mail", "jp.co.yahoo.ymail/"),
    ("samsung-email", "samsungemail"),
    ("aquamail", "aquamail"),
    ("fairemail", "fairemail/"),
    ("k9-mail", "k-9 mail"),
    ("naver-mail", "navermailapp/"),
)

# Those that exist on a desktop alone, and Outlook, which names the telephone it runs on.
DESKTOP_MAIL_CLIENTS = frozenset(
    {
        *("barca", "claws-mail", "em-client", "eudora", "evolution", "geary", "incredimail"),
        *("kmail", "lotus-notes", "mailbar", "mailbird", "mailmate", "mailspring", "outlook"),
        *("outlook-express", "postbox", "sparrow", "spicebird", "sylpheed", "the-bat"),
        *("thunderbird", "tutanota", "windows-mail", "zimbra"),
    }
)

# Apple's Mail where its protection is off: WebKit that names no browser. Other programs with a
# web view of Apple's say the same, and no one can tell them apart.
APPLE_MAIL = re.compile(
    r"Mozilla/5\.0 \((?:Macintosh|iPhone|iPad|iPod)[^()]*\)"
    r" AppleWebKit/[\d.]+\+? \(KHTML, like Gecko\)(?: Mobile/\w+)?"
    r"|Mail/[\d.]+ CFNetwork/.*"
)

ORDINARY_BROWSER = re.compile(
    r"Mozilla/5\.0 \((?:"
    r"Windows NT [\d.]+(?:; (?:Win64|WOW64|x64|ARM64))*"
    r"|Macintosh; Intel Mac OS X [\d._]+"
    r"|X11; (?:Ubuntu; )?(?:Linux|CrOS|FreeBSD|OpenBSD) [\w.]+(?: [\d.]+)?"
    r"|(?:iPhone|iPad|iPod touch); CPU (?:iPhone )?OS [\d_]+ like Mac OS X"
    r"|(?:Linux; )?(?:U; )?Android [\d.]+(?:; [a-z]{2}-[a-zA-Z]{2})?"
    r"(?:; [^;()]+)?(?:; [A-Z][A-Z0-9.]+)?(?:; wv)?"
    r")(?:; rv:[\d.]+)?\)"
    r"(?: Gecko/[\d.]+ Firefox/[\d.]+"
    r"| AppleWebKit/[\d.]+ \(KHTML, like Gecko\)"
    r"(?: (?:Version|Chrome|Mobile|Safari|Edge|Edg|EdgA|EdgiOS|OPR|OPT|OPiOS|CriOS|FxiOS|GSA"
    r"|SamsungBrowser|YaBrowser|Vivaldi|UCBrowser|HuaweiBrowser|HeyTapBrowser|VivoBrowser|Ddg"
    r"|DuckDuckGo|XiaoMi/MiuiBrowser)(?:/[\w.-]+)?)+)"
)

# CFNetwork and Dalvik are missing on purpose: whole families of mail programs on iOS and Android
# fetch with them.
TOOL = any_of(
    r"(?<![a-z])(?:"
    r"curl|libcurl|pycurl|wget2?|aria2|httpie|lwp-(?:request|simple|trivial)|libwww-perl"
    r"|www-mechanize|http-tiny|python-(?:requests|urllib[23]?|httpx|httplib2)|httpx|aiohttp"
    r"|grequests|go-http-client|go-resty|fasthttp|okhttp[34]?|apache-http(?:async)?client"
    r"|commons-httpclient|java-http-client|google-http-java-client|unirest-java|asynchttpclient"
    r"|reactornetty|akka-http|ktor-client|vert\.x-webclient|scalaj-http|axios|node-fetch"
    r"|node-superagent|undici|jsdom|guzzle(?:http)?|symfony httpclient|php-curl-class"
    r"|http_request2|faraday|typhoeus|httparty|rest-client|http\.rb|restsharp"
    r"|winhttp(?:request)?|(?:windows)?powershell|postmanruntime|insomnia|reqwest|hackney|dart:io"
    r"|cpp-httplib|cpprestsdk|libsoup|lua-resty-http|esp32 http client|apachebench|gobuster"
    r"|sqlmap|nikto|masscan|zgrab"
    r")(?![a-z])",
    # Words too common to mean a tool but at the start.
    r"^(?:java|php|ruby|perl|python|node|node\.js|deno|bun|dart|go|got|rust|ahc|jersey|jetty"
    r"|httpclient|urllib|lwp|snoopy|mechanize|lavf)(?:[/ ]|$)",
)

# Cubot is a brand of telephones.
ROBOT = any_of(r"(?<!cu)bots?(?![a-z])|crawl|spider")

CRAWLER = any_of(
    ROBOT.pattern,
    r"slurp|scrap(?:er?|y)(?![a-z])|headless|phantomjs|slimerjs|puppeteer|playwright",
    r"selenium|webdriver|cypress/|lighthouse|preview|fetcher|archiver|validator|uptime|pingdom",
    r"(?:monitor|check|detector|extractor|inspector|analyzer|synthetics?|research|survey|audit"
    r"|(?<!cam)scan)(?:ner|er|or|ing)?(?![a-z])",
    # An address to complain to. bsalsa.com is the maker of an old browser for embedding.
    r"https?://(?!bsalsa|www\.bsalsa)|mailto:|@[\w-]+\.[a-z]",
    # The forms of a robot that names itself where a browser names its system or its engine.
    r"^mozilla/5\.0 (?:\(compatible; (?!msie |konqueror|u; |ibrowse )|[\w-]+(?:/[\w.]+)?$)",
    r"\(khtml, like gecko; (?!googleweblight)",
    r"google-[a-z]|googleother|googlemessages|gmail-content-sampling|cloudflare",
    r"facebookexternal|facebookcatalog|facebookplatform|meta-external|whatsapp|slack-imgproxy",
    r"github-camo|camo asset proxy|imgproxy|chatgpt-user|claude-user",
    r"barracuda|proofpoint|mimecast",
    # Attempts to break what reads the user agent.
    r"\$\{|<\?|<script",
)

# Patterns of crawler-user-agents 1.67 that match what persons send: a build of Android 15, the
# ends of version numbers, in-app browsers, an input method, an editor, a feed reader, and the
# names of telephones.
NOT_CRAWLERS = frozenset(
    {
        *(r"AP3A\.240617\.008", r"008\/", "MetaIAB Facebook", "Viber", "Fluid", "Sogou"),
        *(r"Code\/1\.", "NewsBlur", "Sonic", "Butterfly", "Fever", "Expanse"),
    }
)

_CRAWLERS_A_PATTERN_MAX = 25


def _listed_crawlers() -> list[re.Pattern[str]]:
    """Compile the names of crawler-user-agents that our own words do not find already.

    By the handful, as the package does: one alternation of all of them takes four times as long.
    """
    listed: list[str] = [crawler["pattern"] for crawler in CRAWLER_USER_AGENTS_DATA]
    names = [
        name for name in listed if name not in NOT_CRAWLERS and not CRAWLER.search(name.lower())
    ]
    starts = range(0, len(names), _CRAWLERS_A_PATTERN_MAX)
    return [any_of(*names[start : start + _CRAWLERS_A_PATTERN_MAX]) for start in starts]


LISTED_CRAWLERS = _listed_crawlers()

# The names of detect-browser 5, which Umami uses, and its order where that is right.
BROWSERS = (
    ("aol", "aolshield/"),
    ("edge", " edge/"),
    ("edge-ios", " edgios/"),
    ("yandexbrowser", " yabrowser/"),
    ("vivaldi", " vivaldi/"),
    ("kakaotalk", "kakaotalk"),
    ("samsung", "samsungbrowser/"),
    ("silk", " silk/"),
    ("miui", "miuibrowser/"),
    ("beaker", "beakerbrowser/"),
    ("edge-chromium", " edg/"),
    ("edge-chromium", " edga/"),
    ("opera-mini", "opera mini"),
    ("opera", " opr/"),
    ("opera", " opt/"),
    ("opera", " opios/"),
    ("opera", "opera/"),
    ("opera", "opera "),
    ("chromium-webview", "; wv)", "chrome/"),
    ("chrome", "chrome/"),
    ("chrome", "chromium/"),
    ("crios", " crios/"),
    ("fxios", " fxios/"),
    ("firefox", " firefox/"),
    ("ie", "msie "),
    ("ie", "trident/"),
    ("bb10", "(bb10;"),
    ("facebook", "fbav/"),
    ("facebook", "fban/"),
    ("instagram", "instagram "),
    ("android", "mozilla/", "android"),
    ("ios", "version/", "mobile", "safari"),
    ("ios-webview", "like mac os x", "mobile/"),
    ("safari", " safari/"),
)

SYSTEMS = (
    ("Windows Mobile", "windows phone"),
    ("Windows Mobile", "iemobile"),
    ("iOS", "like mac os x"),
    ("iOS", "iphone"),
    ("iOS", "(ipad"),
    ("iOS", "ipod"),
    ("iOS", "outlook-ios/"),
    ("Android OS", "android"),
    ("BlackBerry OS", "blackberry"),
    ("BlackBerry OS", "(bb10;"),
    ("Amazon OS", "kindle"),
    ("Windows 3.11", "win16"),
    ("Windows 95", "windows 95"),
    ("Windows 95", "win95"),
    ("Windows 98", "windows 98"),
    ("Windows 98", "win98"),
    ("Windows 2000", "windows nt 5.0"),
    ("Windows 2000", "windows 2000"),
    ("Windows XP", "windows nt 5.1"),
    ("Windows XP", "windows xp"),
    ("Windows Server 2003", "windows nt 5.2"),
    ("Windows Vista", "windows nt 6.0"),
    ("Windows 7", "windows nt 6.1"),
    ("Windows 8", "windows nt 6.2"),
    ("Windows 8.1", "windows nt 6.3"),
    ("Windows 10", "windows nt 10.0"),
    ("Windows ME", "windows me"),
    ("Open BSD", "openbsd"),
    ("Sun OS", "sunos"),
    ("Chrome OS", "cros "),
    ("Linux", "linux"),
    ("Linux", "x11"),
    ("Mac OS", "macintosh"),
    ("Mac OS", "mac os"),
    ("Mac OS", "mac_powerpc"),
    ("QNX", "qnx"),
    ("BeOS", "beos"),
    ("OS/2", "os/2"),
)

NO_DEVICE = any_of(r"\btv\b|smarttv|googletv|hbbtv|bravia|\baft[a-z]|playstation|xbox|nintendo")
TABLET = any_of(r"\bipad|tablet(?! pc)|kindle|\bsilk/|playbook")
MOBILE = any_of(r"mobi|iphone|ipod|outlook-ios|blackberry|bb10|windows phone|opera mini|symbian")
DESKTOP = any_of(r"windows|win(?:16|9[58])|macintosh|mac[ _](?:os|powerpc)|x11|cros|linux|bsd")
