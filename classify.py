"""What fetched the image: user agent and headers in; class, reason and client out.

Pure: no Flask, no database, no clock, nothing kept but a bounded cache. First match wins:

1. a header announces a prefetch: prefetch
2. Apple Mail Privacy Protection, by its exact user agent: prefetch
3. Gmail's fetch at delivery, by the end of its user agent: prefetch
4. Gmail's image proxy, sent by a person who opened the mail: open
5. Yahoo's image proxy: open
6. mail clients, and the image proxies of smaller mail providers: open
7. crawlers, link previews, camo proxies, headless browsers, tools and HTTP libraries: bot
8. a browser: open
9. anything else, no user agent included: open

What is an open by these rules, but came sooner than a person can, is a prefetch after all.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from crawleruseragents import CRAWLER_USER_AGENTS_DATA

# Raise it with every change of a rule, and of the release of crawler-user-agents: stored hits
# whose rules are older can then be found and classified again.
RULES_VERSION: Final = 1

USER_AGENT_CHARACTERS_MAX: Final = 1000
AGENTS_CACHED_MAX: Final = 2048
TOO_SOON_SECONDS_MAX: Final = 3.0
CLOCK_SKEW_SECONDS_MAX: Final = 10.0

HitClass = Literal["open", "prefetch", "bot"]
Reason = Literal[
    "prefetch-header",
    "apple-mpp",
    "gmail-prefetch",
    "gmail-proxy",
    "yahoo-proxy",
    "mail-client",
    "crawler",
    "tool",
    "browser",
    "unknown",
    "too-soon",
    "forged-token",
]
# The class that goes with a reason; a forged token is noted whatever the class.
CLASS_OF_REASON: Final[Mapping[Reason, HitClass]] = {
    "prefetch-header": "prefetch",
    "apple-mpp": "prefetch",
    "gmail-prefetch": "prefetch",
    "gmail-proxy": "open",
    "yahoo-proxy": "open",
    "mail-client": "open",
    "crawler": "bot",
    "tool": "bot",
    "browser": "open",
    "unknown": "open",
    "too-soon": "prefetch",
}

# What a request tells of itself beside its user agent, as bits that are stored with a hit.
PREFETCH_HEADER: Final = 1
TOO_SOON: Final = 2
FORGED_TOKEN: Final = 4

# Sec-Purpose, Purpose, X-Purpose and X-Moz, as WSGI names them.
PREFETCH_HEADERS: Final = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_PURPOSE", "HTTP_X_MOZ")


@dataclass(frozen=True, slots=True)
class Agent:
    """What a user-agent string says by itself.

    browser, os and device are named as Umami names them, with mail clients among the browsers;
    None is unknown, and all three are None for bots and, but for browser, for a provider's proxy.
    own_machine: the person's own machine fetched, so its address may tell the person's country.
    """

    reason: Reason
    browser: str | None = None
    os: str | None = None
    device: str | None = None
    own_machine: bool = False

    @property
    def hit_class(self) -> HitClass:
        """The class that goes with the reason."""
        return CLASS_OF_REASON[self.reason]


class Verdict(NamedTuple):
    """What one hit is. Look a country up only where own_machine is true."""

    hit_class: HitClass
    reason: Reason
    own_machine: bool


def classify_hit(agent: Agent, signals: int = 0) -> Verdict:
    """Return the verdict on one hit from its agent and its signals, PREFETCH_HEADER and so on.

    A prefetch that a header announces comes from the person's own browser, so own_machine stays
    as the agent has it. What comes too soon is a gateway that the mail passes (gophish#1390,
    #973), whatever its agent says. A forged token is the reason to be told, and changes no class.
    """
    verdict = Verdict(agent.hit_class, agent.reason, agent.own_machine)
    if signals & PREFETCH_HEADER:
        verdict = Verdict("prefetch", "prefetch-header", agent.own_machine)
    elif signals & TOO_SOON and agent.hit_class == "open":
        verdict = Verdict("prefetch", "too-soon", False)
    return verdict._replace(reason="forged-token") if signals & FORGED_TOKEN else verdict


def is_too_soon(seconds_since_sent: float) -> bool:
    """Tell whether a hit came before a person can have opened the mail.

    A sender's clock may be ahead of ours, so a little below zero is at once. Far below zero the
    time of sending is wrong or was only planned, and proves nothing.
    """
    return -CLOCK_SKEW_SECONDS_MAX <= seconds_since_sent <= TOO_SOON_SECONDS_MAX


def has_prefetch_header(environ: Mapping[str, Any]) -> bool:
    """Tell whether a WSGI environ carries a header that announces a prefetch."""
    return any(
        name in environ and _PREFETCH.search(environ[name].lower()) for name in PREFETCH_HEADERS
    )


def classify_agent(user_agent: str) -> Agent:
    """Return what a user-agent string says. Never raises, whatever the string.

    Only the first USER_AGENT_CHARACTERS_MAX characters count, so that no string is slow: store no
    more than these, and classifying again sees what the first time saw.
    """
    # HTTP does not count the blanks around a header's value, so neither does an exact match.
    return _classify_cut(user_agent[:USER_AGENT_CHARACTERS_MAX].strip(" \t"))


@lru_cache(maxsize=AGENTS_CACHED_MAX)
def _classify_cut(user_agent: str) -> Agent:
    lowered = user_agent.lower()
    return (
        _mail_provider(user_agent, lowered)
        or _mail_client(user_agent, lowered)
        or _bot(user_agent, lowered)
        or _browser(lowered)
    )


def _mail_provider(user_agent: str, lowered: str) -> Agent | None:
    """Apply rules 2 to 5, and rule 6 to the smaller providers' proxies."""
    if user_agent == _APPLE_MPP:
        return Agent("apple-mpp", browser="apple-mail")
    if user_agent.endswith(_GMAIL_PREFETCH_END):
        return Agent("gmail-prefetch", browser="gmail-proxy")
    match _first_name(_MAIL_PROXIES, lowered):
        case None:
            return None
        case "gmail-proxy":
            return Agent("gmail-proxy", browser="gmail-proxy")
        case "yahoo-proxy":
            return Agent("yahoo-proxy", browser="yahoo-proxy")
        case name:
            return Agent("mail-client", browser=name)


def _mail_client(user_agent: str, lowered: str) -> Agent | None:
    name = _first_name(_MAIL_CLIENTS, lowered)
    if name is None and _APPLE_MAIL.fullmatch(user_agent):
        name = "apple-mail"
    if name is None:
        return None
    device = _device(lowered) or ("desktop" if name in _DESKTOP_MAIL_CLIENTS else None)
    return Agent("mail-client", name, _system(lowered), device, own_machine=True)


def _bot(user_agent: str, lowered: str) -> Agent | None:
    # Nothing but a browser's own words is a browser, whatever a list says: crawler-user-agents
    # 1.67 lists a build of Android 15 that ordinary telephones carry.
    if _ORDINARY_BROWSER.fullmatch(user_agent):
        return None
    if _TOOL.search(lowered) and not _ROBOT.search(lowered):
        return Agent("tool")
    if _CRAWLER.search(lowered) or any(names.search(user_agent) for names in _LISTED_CRAWLERS):
        return Agent("crawler")
    return None


def _browser(lowered: str) -> Agent:
    name = _first_name(_BROWSERS, lowered)
    reason: Reason = "unknown" if name is None else "browser"
    return Agent(reason, name, _system(lowered), _device(lowered), own_machine=True)


def _system(lowered: str) -> str | None:
    return _first_name(_SYSTEMS, lowered)


def _device(lowered: str) -> str | None:
    """Return desktop, mobile or tablet; Umami's laptop needs a screen's width."""
    if _NO_DEVICE.search(lowered):
        return None
    if _TABLET.search(lowered):
        return "tablet"
    if _MOBILE.search(lowered):
        return "mobile"
    # Android's browsers say Mobile on a telephone and nothing on a tablet. Its other programs
    # say nothing on either.
    if "android" in lowered:
        return "tablet" if lowered.startswith("mozilla/") else "mobile"
    return "desktop" if _DESKTOP.search(lowered) else None


def _first_name(rows: Iterable[tuple[str, ...]], lowered: str) -> str | None:
    """Return the name of the first row whose other words all stand in the user agent."""
    for name, *words in rows:
        if all(word in lowered for word in words):
            return name
    return None


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_PREFETCH = _any_of("prefetch", "preview", "prerender")

# uap-core#509.
_APPLE_MPP = "Mozilla/5.0"

# mautic#10245.
_GMAIL_PREFETCH_END = "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"

# A row of the tables is a name and the lower-case words that must all stand in the user agent.
# Words rather than patterns, because no stranger's string can make the search for a word slow.
_MAIL_PROXIES = (
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

_MAIL_CLIENTS = (
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
_DESKTOP_MAIL_CLIENTS = frozenset(
    {
        *("barca", "claws-mail", "em-client", "eudora", "evolution", "geary", "incredimail"),
        *("kmail", "lotus-notes", "mailbar", "mailbird", "mailmate", "mailspring", "outlook"),
        *("outlook-express", "postbox", "sparrow", "spicebird", "sylpheed", "the-bat"),
        *("thunderbird", "tutanota", "windows-mail", "zimbra"),
    }
)

# Apple's Mail where its protection is off: WebKit that names no browser. Other programs with a
# web view of Apple's say the same, and no one can tell them apart.
_APPLE_MAIL = re.compile(
    r"Mozilla/5\.0 \((?:Macintosh|iPhone|iPad|iPod)[^()]*\)"
    r" AppleWebKit/[\d.]+\+? \(KHTML, like Gecko\)(?: Mobile/\w+)?"
    r"|Mail/[\d.]+ CFNetwork/.*"
)

_ORDINARY_BROWSER = re.compile(
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
_TOOL = _any_of(
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
_ROBOT = _any_of(r"(?<!cu)bots?(?![a-z])|crawl|spider")

_CRAWLER = _any_of(
    _ROBOT.pattern,
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
_NOT_CRAWLERS = frozenset(
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
        name for name in listed if name not in _NOT_CRAWLERS and not _CRAWLER.search(name.lower())
    ]
    starts = range(0, len(names), _CRAWLERS_A_PATTERN_MAX)
    return [_any_of(*names[start : start + _CRAWLERS_A_PATTERN_MAX]) for start in starts]


_LISTED_CRAWLERS = _listed_crawlers()

# The names of detect-browser 5, which Umami uses, and its order where that is right.
_BROWSERS = (
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

_SYSTEMS = (
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

_NO_DEVICE = _any_of(r"\btv\b|smarttv|googletv|hbbtv|bravia|\baft[a-z]|playstation|xbox|nintendo")
_TABLET = _any_of(r"\bipad|tablet(?! pc)|kindle|\bsilk/|playbook")
_MOBILE = _any_of(r"mobi|iphone|ipod|outlook-ios|blackberry|bb10|windows phone|opera mini|symbian")
_DESKTOP = _any_of(r"windows|win(?:16|9[58])|macintosh|mac[ _](?:os|powerpc)|x11|cros|linux|bsd")
