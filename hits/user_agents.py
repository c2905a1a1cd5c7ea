"""The rules about user agents, as data: what is looked for, what it stands for, and why.

`hits.classify` says in which order it asks the tables; within a table the first row wins. Words
are in lower case and looked for in an agent in lower case. They are words and sets rather than
patterns wherever that will do: no stranger's string can make looking them up slow, and a set may
grow without any agent taking longer.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

from hits.words import Vocabulary

# Raise it with every change of a rule, and of the release of crawler-user-agents: stored hits
# whose rules are older can then be found and classified again.
RULES_VERSION: Final = 2

# The words of an agent, in lower case, that `…_TOKENS` are looked up by.
TOKEN: Final = re.compile(r"[a-z0-9]+")


class Name(NamedTuple):
    """A row that names what an agent is: all its words must stand in the agent."""

    name: str
    words: tuple[str, ...]
    why: str


class Mark(NamedTuple):
    """A row that tells a kind of agent: one of its words stands there, and its pattern matches.

    It does not count where a word of `unless` stands in the agent as well.
    """

    why: str
    words: frozenset[str]
    pattern: re.Pattern[str] | None = None
    unless: frozenset[str] = frozenset()


def _names(*rows: tuple[str, ...] | str) -> tuple[Name, ...]:
    """Return rows from (name, word, …); a plain string says why the rows that follow it are."""
    names, why = [], ""
    for row in rows:
        if isinstance(row, str):
            why = row
        else:
            names.append(Name(row[0], row[1:], why))
    return tuple(names)


def _mark(why: str, words: str, pattern: str = "", *, unless: tuple[str, ...] = ()) -> Mark:
    """Return a row; `words` are separated by two blanks."""
    compiled = re.compile(pattern) if pattern else None
    return Mark(why, frozenset(words.split("  ")), compiled, frozenset(unless))


def _tokens(rows: dict[str, str]) -> dict[str, str]:
    """Return the reason of each token, from tokens separated by blanks for each reason."""
    return {token: why for why, tokens in rows.items() for token in tokens.split()}


Index = dict[str, tuple[tuple[int, Name], ...]]


def _indexed(names: tuple[Name, ...]) -> Index:
    """Return rows and their places by the longest token of their last word."""
    index: Index = {}
    for place, row in enumerate(names):
        token = max(TOKEN.findall(row.words[-1]), key=len)
        index[token] = (*index.get(token, ()), (place, row))
    return index


# 1. Apple's relay, and Gmail's fetch at delivery.

# uap-core#509.
APPLE_MPP: Final = "Mozilla/5.0"
# mautic#10245.
GMAIL_PREFETCH_END: Final = "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"

# 2. Image proxies of mail providers: a person opened the mail, the provider fetched.

MAIL_PROXIES = _names(
    "the provider documents its proxy",
    ("gmail-proxy", "googleimageproxy"),
    ("yahoo-proxy", "yahoomailproxy"),
    ("fastmail-proxy", "fastmailua"),
    "matomo-org/device-detector#5668 lists it",
    ("seznam-proxy", "seznamemailproxy"),
    ("rambler-proxy", "ramblermail/"),
    ("ukrnet-proxy", "mail.ukr.net proxy"),
    ("hey-proxy", "hey.com/imageproxy"),
    ("shortwave-proxy", "shortwave image fetcher"),
)

# 3. What only robots say. It counts beside a mail program's name and in a whole browser's agent.

ROBOT_MARKS = (
    _mark("`bot` ends a word; Cubot makes telephones", "bot", r"(?<!cu)(?<!key)bots?(?![a-z])"),
    _mark("a crawler's own word", "crawl  spider"),
    _mark("a browser without a window", "headless"),
)
# In the agent as it is written: RankBotEU, but neither bottle nor Botswana.
GLUED_BOT: Final = re.compile(r"Bot(?=[A-Z0-9_])")

ROBOT_TOKENS = _tokens(
    {
        "a monitor that fetches with a browser of its own": (
            "alertra catchpoint dareboost debugbear dejaclick ghostinspector gomezagent gtmetrix"
            " iplabel neustar nodemeter observatory pingdom pingdomtms ptst site24x7"
            " speedcurve syntheticsagent uptimerobot webpagetest wpt yottaa"
        ),
        "makes pictures or documents of pages": (
            "browsershots imgsizer inspici mshots pagepeeker screenshot screenshotservice splash"
            " thumbshots webcapture webkit2png webscreenie websnapr webthumb wkhtmltoimage"
            " wkhtmltopdf wpif"
        ),
        "a browser that a program drives": (
            "browserless casperjs cypress electroncrawler functionize htmlunit phantomjs playwright"
            " puppeteer selenium slimerjs testcafe webdriver jsdom"
        ),
        "a scanner, or a gateway that mail passes": (
            "assetnote barracuda bluecoat burpcollaborator heimdall mimecast nessus nuclei openvas"
            " proofpoint urlscan"
        ),
        "fetches for a search engine or a service of its maker": (
            "bingpreview daum daumoa duplexweb googleother slurp snapsearch thumbor transcoder"
        ),
    }
)

# 4. Mail programs. The first word of a row that has one name only is the form it is seen in.

MAIL_CLIENTS = _names(
    "names itself",
    ("outlook-express", "outlook-express"),
    ("outlook", "microsoft outlook"),
    ("outlook", "microsoft office outlook"),
    ("outlook", "ms-office"),
    ("outlook", "msoffice"),
    ("outlook", "outlook-ios"),
    ("outlook", "outlook-android"),
    "Outlook/ and MacOutlook/ on macOS, OneOutlook in the new Outlook for Windows",
    ("outlook", "outlook/"),
    ("outlook", "macoutlook/"),
    ("outlook", "oneoutlook"),
    ("outlook", "outlookmobile"),
    "Apple's Mail where it fetches for an Exchange account",
    ("apple-mail", "exchangewebservices/", "mail/"),
    "names itself",
    ("windows-mail", "windowsmail/"),
    ("windows-mail", "windows-live-mail"),
    ("thunderbird", "thunderbird"),
    ("thunderbird", "icedove/"),
    ("thunderbird", "betterbird/"),
    ("postbox", "postbox/"),
    ("postbox", "postbox "),
    ("spicebird", "spicebird/"),
    ("em-client", "em client"),
    ("em-client", "emclient"),
    ("lotus-notes", "lotus-notes"),
    ("the-bat", "the bat!"),
    ("airmail", "airmail "),
    ("airmail", "airmail/"),
    ("spark", "sparkdesktop"),
    ("spark", "readdle spark"),
    ("sparrow", "sparrow/"),
    ("superhuman", "superhuman"),
    ("mailbird", "mailbird"),
    ("mailmate", "mailmate/"),
    ("mailspring", "mailspring"),
    ("bluemail", "bluemail"),
    ("foxmail", "foxmail"),
    ("mail-master", "mailmaster"),
    ("mail-master", "mailmasterpc"),
    ("barca", "barca/"),
    ("barca", "barcapro/"),
    ("mailbar", "mailbar/"),
    ("evolution", "evolution/"),
    ("geary", "geary/"),
    ("kmail", "kmail/"),
    ("kmail", "kmail2/"),
    ("sylpheed", "sylpheed/"),
    ("claws-mail", "claws mail/"),
    ("eudora", "eudora"),
    ("incredimail", "incredimail"),
    ("polymail", "polymail"),
    ("proton-mail", "protonmail/"),
    ("proton-mail", "proton mail/"),
    ("tutanota", "tutanota"),
    ("zimbra", "zdesktop/"),
    ("zimbra", "zimbra desktop"),
    ("zoho-mail", "zohomail"),
    ("gmail", "android-gmail"),
    ("yahoo-mail", "yahoomobilemail/"),
    ("yahoo-mail", "yahoo%20mail/"),
    ("yahoo-mail", "yahoomail/"),
    ("yahoo-mail", "jp.co.yahoo.ymail/"),
    ("samsung-email", "samsungemail"),
    ("samsung-email", "com.samsung.android.email"),
    ("aquamail", "aquamail"),
    ("fairemail", "fairemail"),
    ("k9-mail", "k-9 mail"),
    ("k9-mail", "k-9/"),
    ("naver-mail", "navermailapp/"),
    ("canary-mail", "canary%20mail"),
    ("canary-mail", "canary mail"),
    ("virgilio-mail", "virgiliomail"),
    ("inboxcube", "inboxcube"),
    ("edison-mail", "edison mail"),
    ("edison-mail", "edison%20mail"),
    ("newton-mail", "newton mail"),
    ("nine-mail", "nine/", "android"),
    ("mymail", "mymail"),
    ("mail-ru", "mail.ru/", "android"),
    ("mutt", "mutt/"),
    ("alpine", "alpine/"),
    ("pegasus-mail", "pegasus mail"),
    ("becky", "becky!"),
    ("seamonkey-mail", "seamonkey", "mailnews"),
    ("groupwise", "groupwise"),
    ("exchange", "exchangewebservices/"),
    ("roundcube", "roundcube"),
    "GMX, Web.de, 1&1 and mail.com name theirs after a web view",
    ("mail-app", "mailapp/"),
    "the calendar of SeaMonkey's mail program",
    ("seamonkey-mail", "seamonkey", "lightning/"),
    "a window for several web mails",
    ("franz", "franz/"),
    ("rambox", "rambox/"),
    ("rambox", "ramboxpro/"),
)
# A mail program that we have no row for, by what it calls itself: `NameMail/1`, `Name%20Mail/2`.
MAIL_NAME: Final = _mark(
    "a product whose name ends in mail",
    "mail",
    r"(?:^|[ ;(])((?:[a-z0-9]{1,24}(?:%20|[._-])?)?e?mail(?:app|client)?)/v?[0-9]",
    unless=("scan", "check", "valid", "verif", "harvest"),
)
MAIL_CLIENTS_BY_TOKEN: Final = _indexed(MAIL_CLIENTS)

# Those that exist on a desktop only, and Outlook, which names the telephone it runs on.
DESKTOP_MAIL_CLIENTS = frozenset(
    {
        *("barca", "becky", "claws-mail", "em-client", "eudora", "evolution", "foxmail", "geary"),
        *("incredimail", "kmail", "lotus-notes", "mailbar", "mailbird", "mailmate", "mailspring"),
        *("outlook", "outlook-express", "pegasus-mail", "postbox", "sparrow", "spicebird"),
        *("sylpheed", "the-bat", "thunderbird", "tutanota", "windows-mail", "zimbra"),
        *("franz", "rambox", "seamonkey-mail"),
    }
)

# Apple's Mail where its protection is off: WebKit that names no browser. On an iPhone other
# programs with a web view say the same. The one that calls itself a Macintosh is also sent by
# Outlook, by iPads and by what hides behind a relay, so that it tells neither name nor system.
APPLE_MAIL: Final = re.compile(
    r"Mozilla/5\.0 \((?:iPhone|iPad|iPod)[^()]*\)"
    r" AppleWebKit/[\d.]+\+? \(KHTML, like Gecko\)(?: Mobile/\w+)?"
)
STRIPPED_WEBKIT: Final = re.compile(
    r"Mozilla/5\.0 \(Macintosh[^()]*\) AppleWebKit/[\d.]+\+? \(KHTML, like Gecko\)"
)

# 5. Nothing but a browser's own words is a browser, whatever a list says: crawler-user-agents
# 1.67 lists a build of Android 15 that ordinary telephones carry.

ORDINARY_BROWSER: Final = re.compile(
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

# 6. Tools and HTTP libraries. CFNetwork and Dalvik are missing on purpose: whole families of mail
# programs on iOS and Android fetch with them.

TOOL_TOKENS = _tokens(
    {
        "a command-line tool": (
            "curl wget wget2 aria2 httpie apachebench gobuster ffuf sqlmap nikto masscan zgrab"
            " powershell windowspowershell postmanruntime insomnia lwp httrack nmap"
        ),
        "an HTTP library": (
            "libcurl pycurl httpx aiohttp grequests fasthttp"
            " httpclient httpasyncclient unirest asynchttpclient reactornetty ktor scalaj"
            " axios superagent undici guzzle guzzlehttp faraday typhoeus httparty restsharp"
            " winhttp winhttprequest reqwest hackney cpprestsdk libsoup urllib urllib2 urllib3"
            " httplib2 httplib resty mechanize"
        ),
    }
)
TOOL_MARKS = (
    _mark(
        "an HTTP library, unless an app on Android names itself",
        "okhttp",
        r"(?<![a-z])okhttp[34]?(?![a-z])",
        unless=("android",),
    ),
    _mark(
        "an HTTP library",
        "lwp-  libwww-perl  www-mechanize  http-tiny  python-requests  node-fetch  go-http-client"
        "  go-resty  apache-http  commons-http  java-http  google-http-java  akka-http  vert.x-web"
        "  symfony httpclient  symfony browserkit  php-curl  http_request2  rest-client  http.rb"
        "  dart:io  cpp-httplib  lua-resty  esp32 http client",
    ),
)
# Words too common to tell a tool but at the start.
TOOL_START: Final = re.compile(
    r"(?:java|php|ruby|perl|python|node|node\.js|deno|bun|dart|go|got|rust|ahc|jersey|jetty"
    r"|httpclient|urllib|lwp|snoopy|mechanize|lavf)(?:[/ ]|$)"
)

# 7. Crawlers, link previews and scanners, by words that a person's program may have by chance.

CRAWLER_MARKS = (
    _mark(
        "a robot's trade",
        "scrape  scrapy  fetcher  archiver  validator  uptime  webmon",
    ),
    _mark("an attempt to break what reads user agents", "${  <?  <script  (select"),
    _mark(
        "makes a preview",
        "preview",
        unless=("technology%20preview", "technology preview"),
    ),
    _mark(
        "a robot's trade",
        "monitor  check  detector  extractor  inspector  analyzer  synthetic  survey  audit"
        "  research  scan",
        r"(?:monitor|check|detector|extractor|inspector|analyzer|synthetics?|survey|audit"
        r"|(?<![a-z])research|(?<!cam)scan)(?:ner|er|or|ing)?(?![a-z])",
    ),
    _mark(
        "an address to complain to, unless a browser or an app for people adds its own",
        "://  mailto:  @",
        r"https?://|mailto:|@[\w-]+\.[a-z]",
        unless=(
            *("bsalsa.com", "k-meleon", "qtweb", "avant browser", "orca browser", "podcast"),
            *("/ios", "; ios", "android app", "/android", "(android", "ecosia"),
        ),
    ),
    _mark(
        "a robot names itself where a browser names its system",
        "(compatible;",
        r"^mozilla/5\.0 \(compatible; (?!msie |konqueror|u; |ibrowse )",
        unless=("gecko/", "applewebkit/", "trident/"),
    ),
    _mark(
        "a robot names itself where a browser names its system",
        "mozilla/5.0",
        r"^mozilla/5\.0 [\w-]+(?:/[\w.]+)?$",
        unless=("firefox",),
    ),
    _mark(
        "a robot names itself beside its engine",
        "(khtml, like gecko;",
        r"\(khtml, like gecko; (?!googleweblight)",
    ),
    _mark("fetches for a service of its maker", "google-", r"google-[a-z]"),
    _mark(
        "fetches for a service of its maker",
        "googlemessages  gmail-content-sampling  cloudflare  facebookexternal  facebookcatalog"
        "  facebookplatform  meta-external  whatsapp/  slack-imgproxy  github-camo"
        "  camo asset proxy  imgproxy",
    ),
)

# Patterns of crawler-user-agents 1.67 that match what persons send: a build of Android 15, the
# ends of version numbers, apps with a browser inside, readers, and the names of telephones.
NOT_CRAWLERS = frozenset(
    {
        *(r"AP3A\.240617\.008", r"008\/", "MetaIAB Facebook", "Viber", "Fluid", "Sogou"),
        *(r"Code\/1\.", "NewsBlur", "Sonic", "Butterfly", "Fever", "Expanse", "Blackboard"),
        *(r"Notion\/", r"Trae\/", "coccoc", r"Instapaper\/", "Podimo", r"Overcast\/", "Magellan"),
        *(r"PocketCasts\/", r"Freespoke\/", r"^Silk\/"),
    }
)

# 8. Browsers: the names of detect-browser 5, which Umami uses, in its order where that is right.

BROWSERS = _names(
    "names itself in a web view, which Umami calls by the web view's name",
    ("instagram", "instagram ", "mozilla/"),
    ("facebook", "fb_iab/"),
    ("facebook", "fbav/"),
    ("facebook", "fban/"),
    "detect-browser names it so",
    ("aol", "aolshield/"),
    ("edge", " edge/"),
    ("edge-ios", " edgios/"),
    ("yandexbrowser", "yabrowser/"),
    ("yandexbrowser", "yasearchbrowser/"),
    ("yandexbrowser", "yandexsearch/"),
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
    ("instagram", "instagram "),
    ("android", "mozilla/", "android"),
    ("ios", "version/", "mobile", "safari"),
    ("ios-webview", "like mac os x", "mobile/"),
    ("safari", " safari/"),
)

BROWSERS_BY_TOKEN: Final = _indexed(BROWSERS)

# 9. What only a person's program says: a system, a device, an engine, an app's kind. An agent
# without a browser that has none of these is a tool: `Prometheus/2.40.5`, `kube-probe/1.15`.

PERSON_WORDS: Final = frozenset(
    {
        *("android", "iphone", "ipad", "ipod", "-ios", "ios/", "ios ", "(ios", "watchos"),
        *("watch os", "tvos", "apple watch", "appletv", "windows", "win32", "win64", "win10"),
        *("win7", "mac os", "macos", "macintosh", "os x", "osx/", "x11", "cfnetwork", "dalvik"),
        *("symbian", "series60", "series40", "midp", "amiga", "nokia", "blackberry", "samsung"),
        *("sonyericsson", "huawei", "motorola", "palm", "docomo", "garmin", "roku", "webos"),
        *("tizen", "playstation", "nintendo", "xbox", "ps vita", "smarttv", "smart-tv", "hbbtv"),
        *(";tpapi", "fire os", "kreatv", "netfront", "teleca", "openwave", "up.link", "up/"),
        *("gecko", "webkit", "khtml", "konqueror", "opera", "mozilla", "firefox", "safari"),
        *("chrome ", "browser", "internet explorer", "iceweasel", "icecat", "netsurf", "dillo"),
        *("mosaic", "lynx", "links ", "links/", "w3m/", "ucweb", "lunascape", "sleipnir"),
        *("java/1.", "profile/", "wap", "pod", "cast", "radio", "music", "player", "phone"),
        *("mobile", "tablet", "office", "victorreader", "viber", "spotify", "hulu", "skype"),
        *("webex", "bose/", "sonos", "plex", "torrent", "itunes", "quicktime", "zune", "rhythmbox"),
        *("kodi", "bluestacks", "citrix", "polycom", "aquos", "dlna", "cinnamon/", "gfiber"),
        *("biyubi", "xiino", "amaya", "activeworlds", "battle.net", "tunnel", "soundwaves"),
        *("soundon", "swoot", "bullhorn", "tuner", "airplay", "airsonic", "idsc/", "mail"),
    }
)

# Such a product names its version, is one word by itself, or says what it is for.
BARE_PRODUCT: Final = re.compile(r"[a-z](?:/v?\d| v?\.? ?\d+\.\d)|^[\w.-]+/[\w.]*$")
BARE_WORD: Final = re.compile(r"[a-z][\w.:!-]{5,}")
TRADE_TOKENS: Final = frozenset(
    {
        *("agent", "api", "checker", "client", "cdn", "daemon", "downloader", "explorer", "feed"),
        *("feeds", "finder", "fuzz", "get", "harvester", "header", "http", "https", "import"),
        *("index", "internet", "lib", "library", "link", "links", "loader", "lookup", "module"),
        *("parser", "plugin", "project", "proxy", "publishing", "reader", "request", "resolver"),
        *("rss", "scanning", "search", "seo", "server", "service", "site", "sitemap", "test"),
        *("tester", "url", "verifier", "web", "website", "xml"),
    }
)
TOP_LEVEL_DOMAIN: Final = re.compile(r"\.(?:com|net|org|io|de|cz|ru|info|biz|eu|fr|nl|pl)")

# 10. Systems: Umami's names, and those it has none for.

SYSTEMS: Final = _names(
    "names a telephone beside what it claims to be like",
    ("Windows Mobile", "windows phone"),
    ("Windows Mobile", "windows mobile"),
    ("Windows Mobile", "windowsmobile"),
    ("Windows Mobile", "iemobile"),
    ("Windows Mobile", "; wds "),
    ("KaiOS", "kaios"),
    ("Linux", "like android"),
    ("Chrome OS", "chromebook"),
    ("Android OS", "android"),
    ("Android OS", "; adr "),
    "names itself",
    ("iOS", "like mac os x"),
    ("iOS", "iphone"),
    ("iOS", "ipad"),
    ("iOS", "ipod"),
    ("iOS", "outlook-ios/"),
    ("BlackBerry OS", "blackberry"),
    ("BlackBerry OS", "(bb10;"),
    ("Amazon OS", "kindle"),
    ("Windows 10", "windows nt 10.0"),
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
    ("Windows ME", "windows me"),
    ("Windows CE", "windows ce"),
    ("Open BSD", "openbsd"),
    ("Sun OS", "sunos"),
    ("Chrome OS", "cros "),
    ("Linux", "linux"),
    ("Linux", "x11"),
    ("Mac OS", "macintosh"),
    ("Mac OS", "mac os"),
    ("Mac OS", "macos"),
    ("Mac OS", "mac_powerpc"),
    "CFNetwork names the processor on a Mac and nothing on an iPhone",
    ("Mac OS", "darwin/", "(x86_64)"),
    ("Mac OS", "darwin/", "(i386)"),
    ("Mac OS", "darwin/17.7.0"),
    ("iOS", "cfnetwork"),
    ("Mac OS", "darwin/"),
    "names itself",
    ("QNX", "qnx"),
    ("BeOS", "beos"),
)
# Names that are part of others too, asked where no row above is found.
SYSTEM_MARKS = (
    ("iOS", "ios", re.compile(r"\bios(?![a-z])")),
    ("OS/2", "os/2", re.compile(r"\bos/2\b")),
)

# 11. Devices.

NO_DEVICE: Final = frozenset(
    {
        *("smarttv", "googletv", "hbbtv", "bravia", "playstation", "xbox", "nintendo"),
        *(" tv", "(tv"),
    }
)
FIRE_TV: Final = re.compile(r"\baft[a-z]")
TABLET: Final = frozenset({"ipad", "kindle", " silk/", "playbook"})
MOBILE: Final = frozenset(
    {
        *("mobi", "iphone", "ipod", "outlook-ios", "blackberry", "bb10", "windows phone"),
        *("opera mini", "symbian"),
    }
)
DESKTOP: Final = frozenset(
    {
        *("windows", "win16", "win95", "win98", "macintosh", "mac os", "mac_os", "mac_powerpc"),
        *("x11", "cros", "linux", "bsd"),
    }
)


# All words above that are looked for together.

_MARKS = (*ROBOT_MARKS, *TOOL_MARKS, *CRAWLER_MARKS, MAIL_NAME)
VOCABULARY: Final = Vocabulary(
    chain(
        *(mark.words | mark.unless for mark in _MARKS),
        *(row.words for row in (*MAIL_PROXIES, *SYSTEMS)),
        *(PERSON_WORDS, NO_DEVICE, TABLET, MOBILE, DESKTOP),
    )
)

# What crawler-user-agents lists, by a token that an agent must have for the pattern to match.

_CASES = re.compile(r"\[(\w)(\w)\]")
_META = re.compile(r"[][(){}*+?^$|]|\\(?=[A-Za-z])")


def listed_crawlers() -> dict[str, tuple[str, ...]]:
    """Return the patterns of crawler-user-agents by the token that each needs.

    Most are never needed, so `compiled` compiles one when an agent has its token.

    A pattern of which that can't be told is left out; tests say how few of its agents that costs.
    """
    index: dict[str, list[str]] = {}
    for crawler in _crawler_user_agents():
        pattern = crawler["pattern"]
        if pattern in NOT_CRAWLERS:
            continue
        for token in _tokens_of(pattern):
            index.setdefault(token, []).append(pattern)
    return {token: tuple(patterns) for token, patterns in index.items()}


def _crawler_user_agents() -> list[dict[str, Any]]:
    """Return what crawler-user-agents lists; to import it would keep its examples in memory."""
    package = find_spec("crawleruseragents")
    assert package
    assert package.origin
    listed = Path(package.origin).with_name("crawler-user-agents.json")
    rows: list[dict[str, Any]] = json.loads(listed.read_text(encoding="utf-8"))
    return rows


@functools.cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Return one of the listed patterns compiled, once it is needed."""
    return re.compile(pattern)


def _tokens_of(pattern: str) -> Iterator[str]:
    plain = _CASES.sub(lambda match: match[1].lower(), pattern).replace("(^| )", " ")
    for choice in plain.split("|"):
        literal = re.sub(r"\\([^A-Za-z0-9])", r"\1", choice).strip("^$()")
        tokens = TOKEN.findall(literal.lower())
        if tokens and not _META.search(literal):
            yield max(tokens, key=len)


LISTED_CRAWLERS: Final = listed_crawlers()

# All tokens that anything is looked up by.
TOKENS: Final = frozenset(
    chain(
        *(ROBOT_TOKENS, TOOL_TOKENS, TRADE_TOKENS),
        *(MAIL_CLIENTS_BY_TOKEN, BROWSERS_BY_TOKEN, LISTED_CRAWLERS),
    )
)


def any_of(*patterns: str) -> re.Pattern[str]:
    """Compile patterns into one that matches where any of them does."""
    return re.compile("|".join(patterns))
