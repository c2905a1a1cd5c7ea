"""User agents and headers become the class that docs and statistics promise."""

from __future__ import annotations

from importlib.metadata import version
from typing import get_args

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import given
from hypothesis import strategies as st

from hits import classify, user_agents
from hits.classify import (
    CLASS_OF_REASON,
    CLOCK_SKEW_SECONDS_MAX,
    FORGED_TOKEN,
    PREFETCH_HEADER,
    SOON,
    SOON_SECONDS_MAX,
    TOO_SOON,
    TOO_SOON_SECONDS_MAX,
    USER_AGENT_CHARACTERS_MAX,
    Agent,
    HitClass,
    Reason,
    Verdict,
    classify_agent,
    classify_hit,
    explain,
    signal_of_delay,
)
from hits.intake import PREFETCH_HEADERS, has_prefetch_header

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
LINUX = "Mozilla/5.0 (X11; Linux x86_64)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_4 like Mac OS X)"
IPAD = "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X)"
ANDROID = "Mozilla/5.0 (Linux; Android 10; K)"
BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"
WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
CHROME = f"{WINDOWS} {BLINK} Chrome/142.0.0.0 Safari/537.36"

APPLE_MPP = "Mozilla/5.0"
GMAIL_PREFETCH = f"{WINDOWS} {BLINK} Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
GMAIL_PROXY = (
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
)
YAHOO_PROXY = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
OUTLOOK = "Mozilla/4.0 (compatible; ms-office; MSOffice 16)"

PROVIDERS = [
    (APPLE_MPP, "apple-mpp", "apple-mail"),
    (GMAIL_PREFETCH, "gmail-prefetch", "gmail-proxy"),
    (GMAIL_PROXY, "gmail-proxy", "gmail-proxy"),
    (YAHOO_PROXY, "yahoo-proxy", "yahoo-proxy"),
    (
        f"{LINUX} {BLINK} Chrome/118.0.5993.117 Safari/537.36 FastmailUA/1.0",
        "mail-client",
        "fastmail-proxy",
    ),
    ("Mozilla/5.0 SeznamEmailProxy/2.0.174", "mail-client", "seznam-proxy"),
    ("RamblerMail/6.0 (incompatible; ImageProxy/6.0)", "mail-client", "rambler-proxy"),
    (f"{CHROME} (via secureurl.fwdcdn.com - mail.ukr.net proxy)", "mail-client", "ukrnet-proxy"),
    (
        f"hey.com/imageproxy {LINUX} {BLINK} Chrome/134.0.0.0 Safari/537.36",
        "mail-client",
        "hey-proxy",
    ),
    ("Shortwave Image Fetcher", "mail-client", "shortwave-proxy"),
]

MAIL_CLIENTS = [
    (OUTLOOK, "outlook", None, "desktop"),
    ("Outlook-Android/2.0", "outlook", "Android OS", "mobile"),
    ("Outlook-iOS/723.4027091.prod.iphone (4.28.0)", "outlook", "iOS", "mobile"),
    (f"{IPAD} {WEBKIT} Mobile/15E148 Outlook-iOS/2.0", "outlook", "iOS", "tablet"),
    ("Outlook-iOS-Android/1.0", "outlook", "Android OS", "mobile"),
    (
        "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17928; Pro)",
        "outlook",
        "Windows 10",
        "desktop",
    ),
    (
        "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.1; WOW64; Trident/7.0; .NET4.0E; "
        "Microsoft Outlook 14.0.7113; ms-office; MSOffice 14)",
        "outlook",
        "Windows 7",
        "desktop",
    ),
    (
        "MacOutlook/16.46.21021202 (Intelx64 Mac OS X 11.2.2 (Build 20D80))",
        "outlook",
        "Mac OS",
        "desktop",
    ),
    (f"{CHROME} Edg/140.0.0.0 OneOutlook/1.2026.317.100", "outlook", "Windows 10", "desktop"),
    (
        "Outlook-Express/7.0 (MSIE 7.0; Windows NT 6.1; WOW64)",
        "outlook-express",
        "Windows 7",
        "desktop",
    ),
    ("WindowsMail/17.5.9600.22013", "windows-mail", None, "desktop"),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.2.0",
        "thunderbird",
        "Linux",
        "desktop",
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:24.0) Gecko/20100101 Icedove/24.4.0",
        "thunderbird",
        "Linux",
        "desktop",
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:52.0) Gecko/20100101 Firefox/52.0 SeaMonkey/2.49"
        " Lightning/5.4",
        "seamonkey-mail",
        "Linux",
        "desktop",
    ),
    (
        f"{WINDOWS} {BLINK} Franz/5.6.1 Chrome/83.0.4103.122 Electron/9.4.4 Safari/537.36",
        "franz",
        "Windows 10",
        "desktop",
    ),
    (
        f"{WINDOWS} {BLINK} ramboxpro/1.5.2 Chrome/83.0.4103.122 Electron/9.4.4 Safari/537.36",
        "rambox",
        "Windows 10",
        "desktop",
    ),
    (f"{IPHONE} {WEBKIT} Mobile/15E148", "apple-mail", "iOS", "mobile"),
    (f"{IPAD} {WEBKIT} Mobile/15E148", "apple-mail", "iOS", "tablet"),
    ("Mail/3731.600.7 CFNetwork/1408.0.4 Darwin/22.5.0", "apple-mail", "iOS", None),
    ("Airmail 1.4 rv:238 (Macintosh; Mac OS X 10.9.2; hr_HR)", "airmail", "Mac OS", "desktop"),
    (
        "Mozilla/5.0 (Macintosh; U; Intel Mac OS X 10.6; en-US; rv:1.9.1.8) Gecko/20100317 "
        "Postbox/1.1.3",
        "postbox",
        "Mac OS",
        "desktop",
    ),
    ("eMClient/9.3.6041.0", "em-client", None, "desktop"),
    (f"{CHROME} eM Client/8.2.1659.0", "em-client", "Windows 10", "desktop"),
    ("Mozilla/4.0 (compatible; Lotus-Notes/6.0; Windows-NT)", "lotus-notes", None, "desktop"),
    ("The Bat! 4.0.0.22", "the-bat", None, "desktop"),
    (f"{CHROME} Mailbird/2.4.30.0/", "mailbird", "Windows 10", "desktop"),
    (
        f"{WINDOWS} {BLINK} Mailspring/1.7.4 Chrome/69.0.3497.128 Electron/4.2.2 Safari/537.36",
        "mailspring",
        "Windows 10",
        "desktop",
    ),
    ("NaverMailApp/2.2.2 (Android 10; SM-G986N)", "naver-mail", "Android OS", "mobile"),
    (
        "YahooMobileMail/1.0 (Android Mail; 1.4.6) (mako;LGE;Nexus 4;4.4/KRT16S)",
        "yahoo-mail",
        "Android OS",
        "mobile",
    ),
]

CRAWLERS = [
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Slack-ImgProxy (+https://api.slack.com/robots)",
    "Twitterbot/1.0",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "facebookexternalhit/1.1",
    f"{MAC} AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 Safari/601.2.4 "
    "facebookexternalhit/1.1 Facebot Twitterbot/1.0",
    "WhatsApp/2.23.20.0 A",
    "TelegramBot (like TwitterBot)",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "github-camo (c006e452)",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpAsyncClient +http://www.linkedin.com)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
    "GoogleMessages/20",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like "
    "Gecko) Chrome/41.0.2272.96 Mobile Safari/537.36 (compatible; Googlebot/2.1; "
    "+http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    f"{LINUX} AppleWebKit/537.36 (KHTML, like Gecko; Google Search Console) Chrome/41.0 "
    "Safari/537.36",
    f"{WINDOWS} {BLINK} Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Gmail-content-sampling",
    f"{LINUX} {BLINK} HeadlessChrome/120.0.0.0 Safari/537.36",
    f"{LINUX} AppleWebKit/538.1 (KHTML, like Gecko) PhantomJS/2.1.1 Safari/538.1",
    f"{CHROME} Playwright/1.40",
    "Barracuda Sentinel (EE)",
    "Mozilla/5.0 (compatible; Proofpoint)",
    "UptimeRobot/2.0",
    "Zabbix",
    "SOMEBOT",
    "Mozilla/5.0 xtate/2.12.4",
    "recon-engine/0.2 (contact: ops@recon-engine.example)",
    "${jndi:ldap://evil}",
]

TOOLS = [
    "curl/8.5.0",
    "Wget/1.21.4",
    "python-requests/2.31.0",
    "Python-urllib/3.11",
    "Python/3.11 aiohttp/3.9.1",
    "python-httpx/0.27.0",
    "Go-http-client/2.0",
    "okhttp/4.12.0",
    "Java/17.0.9",
    "Apache-HttpClient/4.5.14 (Java/17.0.9)",
    "Java-http-client/21.0.1",
    "axios/1.6.2",
    "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
    "node",
    "undici",
    "got (https://github.com/sindresorhus/got)",
    "libwww-perl/6.72",
    "Ruby",
    "PostmanRuntime/7.36.0",
    "PHP/8.3.0",
    "GuzzleHttp/7",
    "Dart/3.2 (dart:io)",
    "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041.3803",
    "CURL/8.5.0",
]

BROWSERS = [
    (CHROME, "chrome", "Windows 10", "desktop"),
    (f"{CHROME} Edg/142.0.0.0", "edge-chromium", "Windows 10", "desktop"),
    (f"{CHROME} OPR/120.0.0.0", "opera", "Windows 10", "desktop"),
    (f"{WINDOWS[:-1]}; rv:144.0) Gecko/20100101 Firefox/144.0", "firefox", "Windows 10", "desktop"),
    (f"{MAC} {WEBKIT} Version/18.4 Safari/605.1.15", "safari", "Mac OS", "desktop"),
    (f"{IPHONE} {WEBKIT} Version/18.4 Mobile/15E148 Safari/604.1", "ios", "iOS", "mobile"),
    (f"{IPAD} {WEBKIT} Version/17.5 Mobile/15E148 Safari/604.1", "ios", "iOS", "tablet"),
    (
        f"{IPHONE} {WEBKIT} CriOS/142.0.7444.128 Mobile/15E148 Safari/604.1",
        "crios",
        "iOS",
        "mobile",
    ),
    (f"{IPHONE} {WEBKIT} FxiOS/144.0 Mobile/15E148 Safari/605.1.15", "fxios", "iOS", "mobile"),
    (f"{IPHONE} {WEBKIT} Mobile/22E240 Instagram 376.0.0.29.75", "instagram", "iOS", "mobile"),
    (f"{ANDROID} {BLINK} Chrome/142.0.0.0 Mobile Safari/537.36", "chrome", "Android OS", "mobile"),
    (f"{ANDROID} {BLINK} Chrome/142.0.0.0 Safari/537.36", "chrome", "Android OS", "tablet"),
    (
        f"{ANDROID} {BLINK} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
        "samsung",
        "Android OS",
        "mobile",
    ),
    (
        "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/142.0.0.0 Safari/537.36",
        "chrome",
        "Chrome OS",
        "desktop",
    ),
    (
        "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
        "ie",
        "Windows 7",
        "desktop",
    ),
    (
        "Mozilla/5.0 (Linux; Android 9; BRAVIA 4K UR3) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/120.0.0.0 Safari/537.36",
        "chrome",
        "Android OS",
        None,
    ),
    # What follows holds words of a bot's and is none: a brand of telephones, a build of Android
    # 15 and other names that crawler-user-agents lists, an in-app browser, a desktop program.
    (
        "Mozilla/5.0 (Linux; Android 6.0; CUBOT ECHO) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/70.0.3538.80 Mobile Safari/537.36",
        "chrome",
        "Android OS",
        "mobile",
    ),
    (
        "Mozilla/5.0 (Linux; Android 7.0; CUBOT_NOTE_S Build/NRD90M; wv) AppleWebKit/537.36 "
        "(KHTML, like Gecko) Version/4.0 Chrome/70.0.3538.80 Mobile Safari/537.36 GSA/8.3",
        "chromium-webview",
        "Android OS",
        "mobile",
    ),
    (
        "Mozilla/5.0 (Linux; Android 15; RMX3945 Build/AP3A.240617.008; wv) AppleWebKit/537.36 "
        "(KHTML, like Gecko) Version/4.0 Chrome/141.0.7390.98 Mobile Safari/537.36 AWP/2.0",
        "chromium-webview",
        "Android OS",
        "mobile",
    ),
    (
        "Mozilla/5.0 (Linux; Android 5.1; O+ Sonic) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/80.0.3987.162 Mobile Safari/537.36",
        "chrome",
        "Android OS",
        "mobile",
    ),
    (
        "Mozilla/5.0 (Linux; Android 4.4.2; HTCButterflys901s Build/KOT49H) AppleWebKit/537.36 "
        "(KHTML like Gecko) Chrome/41.0.2272.96 Mobile Safari/537.36",
        "chrome",
        "Android OS",
        "mobile",
    ),
    (
        f"{ANDROID} {BLINK} Version/4.0 Chrome/145.0.7632.120 Mobile Safari/537.36 Viber/27.4",
        "chrome",
        "Android OS",
        "mobile",
    ),
    (
        f"{ANDROID} {BLINK} Chrome/150.0.0.0 Mobile Safari/537.36 (Ecosia android@150.0.0.0)",
        "chrome",
        "Android OS",
        "mobile",
    ),
    (
        f"{WINDOWS} {BLINK} SomeApp/1.2.0 Chrome/120.0.0.0 Electron/28.0.0 Safari/537.36",
        "chrome",
        "Windows 10",
        "desktop",
    ),
    # Gmail's prefetch begins like this and goes on.
    (
        f"{WINDOWS} {BLINK} Chrome/42.0.2311.135 Safari/537.36 Edge/12.246",
        "edge",
        "Windows 10",
        "desktop",
    ),
]

UNKNOWN = [
    ("mozilla/5.0", None, None),
    ("Mozilla/5.00", None, None),
    ("Dalvik/2.1.0 (Linux; U; Android 10; SM-A716U Build/QP1A.190711.020)", "Android OS", "mobile"),
    ("SomeApp/4 CFNetwork/1408.0.4 Darwin/22.5.0", "iOS", None),
    ("AppleCoreMedia/1.0 CFNetwork/978.0.7 Darwin/18.7.0 (x86_64)", "Mac OS", None),
    ("61", None, None),
    ("something else", None, None),
]

# Instances of crawler-user-agents that we hold for persons: mail providers' proxies, and what
# its patterns that we leave out stand for.
LISTED_BUT_OPEN_COUNT_MAX = 12


@pytest.mark.parametrize(("user_agent", "reason", "browser"), PROVIDERS)
def test_agent_of_mail_provider_names_it_and_no_device(
    user_agent: str, reason: Reason, browser: str
) -> None:
    assert classify_agent(user_agent) == Agent(reason, browser)


@pytest.mark.parametrize(("user_agent", "browser", "os", "device"), MAIL_CLIENTS)
def test_agent_of_mail_client_is_open(
    user_agent: str, browser: str, os: str | None, device: str | None
) -> None:
    assert classify_agent(user_agent) == Agent("mail-client", browser, os, device, True)
    assert classify_agent(user_agent).hit_class == "open"


@pytest.mark.parametrize("user_agent", CRAWLERS)
def test_agent_of_crawler_is_bot(user_agent: str) -> None:
    assert classify_agent(user_agent) == Agent("crawler")
    assert classify_agent(user_agent).hit_class == "bot"


@pytest.mark.parametrize("user_agent", TOOLS)
def test_agent_of_tool_is_bot(user_agent: str) -> None:
    assert classify_agent(user_agent) == Agent("tool")
    assert classify_agent(user_agent).hit_class == "bot"


@pytest.mark.parametrize(("user_agent", "browser", "os", "device"), BROWSERS)
def test_agent_of_browser_is_open(
    user_agent: str, browser: str, os: str, device: str | None
) -> None:
    assert classify_agent(user_agent) == Agent("browser", browser, os, device, True)


@pytest.mark.parametrize(("user_agent", "os", "device"), UNKNOWN)
def test_agent_without_known_word_is_open_and_unknown(
    user_agent: str, os: str | None, device: str | None
) -> None:
    assert classify_agent(user_agent) == Agent("unknown", None, os, device, True)


@pytest.mark.parametrize("user_agent", ["", "  \t "])
def test_no_agent_is_a_bot_of_no_country(user_agent: str) -> None:
    assert classify_agent(user_agent) == Agent("no-agent")


# The kinds of agents that rules of version 1 got wrong, each by strings of our own.
WRONG_BEFORE = [
    # A product and nothing else.
    ("Meterwatch/3.1.4", Agent("tool")),
    ("queue-probe/0.9", Agent("tool")),
    ("acme-sdk-java/2.20.1 Linux/5.15.0 OpenJDK_64-Bit_Server_VM/17.0.4", Agent("tool")),
    ("VirusSweep/1.0.2 (OS: linux-gnu, ARCH: aarch64)", Agent("tool")),
    ("Netprober", Agent("tool")),
    ("Site Health Service 2.1", Agent("tool")),
    # A browser that a monitor or a program drives.
    (f"{WINDOWS} AppleWebKit/537.36 (KHTML, like Gecko GomezAgent 3.0) Chrome/90.0", "crawler"),
    ("Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; PTST 3.1)", "crawler"),
    (f"{CHROME} DebugBear", "crawler"),
    ("Mozilla/5.0 (Linux; U; Android 5.0; en-us; Catchpoint) AppleWebKit/537.36", "crawler"),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:60.0) Gecko/20100101 Firefox/60.0 mShots", "crawler"),
    ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/534.34 wkhtmltopdf Safari/534.34", "crawler"),
    # `Bot` glued to letters, and letters that are none.
    ("PriceBotEU/2.0 Mozilla/5.0 (compatible)", "crawler"),
    ("LinkBotParser/1.1", "crawler"),
    ("ImageOnlyScraperV3", "crawler"),
    (
        "Mozilla/5.0 (Linux; Android 7.0; M bot 58) AppleWebKit/537.36 (KHTML, like Gecko)"
        " Chrome/81.0.4044.138 Mobile Safari/537.36",
        "browser",
    ),
    # Words of robots within longer words, and addresses that browsers of people add.
    (f"{CHROME} Presearch (Tempest)", "browser"),
    (
        "Mozilla/5.0 (Windows; U; Windows NT 6.1; en-US) Gecko/2010 K-Meleon/1.6"
        " Firefox/3.6 (+http://example.com)",
        "browser",
    ),
    (
        "Mozilla/5.0 (compatible; Windows; U; Windows NT 6.1; rv:14.0) Gecko/2012 Firefox/14.0",
        "browser",
    ),
    # Apps with a browser inside.
    (f"{IPHONE} {WEBKIT} Mobile/16A5288q Blackboard/4.1", "browser"),
    (f"{WINDOWS} {BLINK} Notion/3.1.0 Chrome/114.0.5735.289 Electron/25 Safari/537.36", "browser"),
    (
        "Mozilla/5.0 (Windows NT 6.1) AppleWebKit/537.36 (KHTML like Gecko)"
        " coc_coc_browser/50 Chrome/44.0 Safari/537.36",
        "browser",
    ),
    # Mail programs that have no row before.
    (
        f"{IPHONE} {WEBKIT} Mobile/15E148 mailapp/7.1.0",
        Agent("mail-client", "mail-app", "iOS", "mobile", True),
    ),
    ("VirgilioMail/2.0.1", Agent("mail-client", "virgilio-mail", own_machine=True)),
    ("TiscaliMail/1.4", Agent("mail-client", "tiscalimail", own_machine=True)),
    (
        "Canary%20Mail/412 CFNetwork/978.0.7 Darwin/18.7.0 (x86_64)",
        Agent("mail-client", "canary-mail", "Mac OS", None, True),
    ),
    ("Inboxcube/4.1 CFNetwork/1240.0.4", Agent("mail-client", "inboxcube", "iOS", None, True)),
    (
        f"{CHROME} Edg/121.0.0.0 OneOutlook/1.2024.111",
        Agent("mail-client", "outlook", "Windows 10", "desktop", True),
    ),
    ("Foxmail 7, 2, 25", Agent("mail-client", "foxmail", None, "desktop", True)),
    (
        "ExchangeWebServices/6.0 (245); Mail/11.5",
        Agent("mail-client", "apple-mail", None, None, True),
    ),
    # What Mail, Outlook and others send alike: neither program, system nor country is known.
    (f"{MAC} AppleWebKit/605.1.15 (KHTML, like Gecko)", Agent("mail-client")),
    # Systems.
    ("Mail/61 CFNetwork/758.5.3", Agent("mail-client", "apple-mail", "iOS", None, True)),
    (
        "Mozilla/5.0 (Mobile; Some_Phone; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5.2",
        Agent("browser", "firefox", "KaiOS", "mobile", True),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 11; Iphone13 pro) {BLINK} Chrome/99.0 Mobile Safari/537.36",
        Agent("browser", "chrome", "Android OS", "mobile", True),
    ),
    (
        "UCWEB/2.0 (MIDP-2.0; U; Adr 6.0; en-US; Phone) U2/1.0.0 UCBrowser/10.7 Mobile",
        Agent("unknown", None, "Android OS", "mobile", True),
    ),
    # Facebook and Instagram in a web view, and Yandex.
    (
        f"Mozilla/5.0 (Linux; Android 13; SM-X; wv) {BLINK} Version/4.0 Chrome/120.0 Mobile"
        " Safari/537.36 [FB_IAB/FB4A;FBAV/440.0;]",
        Agent("browser", "facebook", "Android OS", "mobile", True),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 12; SM-Y; wv) {BLINK} Version/4.0 Chrome/119.0 Mobile"
        " Safari/537.36 Instagram 301.0 Android",
        Agent("browser", "instagram", "Android OS", "mobile", True),
    ),
    (
        f"{ANDROID} {BLINK} Chrome/120.0 YaSearchBrowser/25.1.1 Mobile Safari/537.36",
        Agent("browser", "yandexbrowser", "Android OS", "mobile", True),
    ),
]


@pytest.mark.parametrize(("user_agent", "expected"), WRONG_BEFORE)
def test_agent_that_version_1_got_wrong(user_agent: str, expected: Agent | Reason) -> None:
    agent = classify_agent(user_agent)
    assert (agent if isinstance(expected, Agent) else agent.reason) == expected


def test_explanation_names_the_row_that_decides() -> None:
    decision = explain(f"{CHROME} DebugBear")
    assert (decision.agent.reason, decision.matched) == ("crawler", "debugbear")
    assert "monitor" in decision.why
    for user_agent in ["", "Mozilla/5.0", GMAIL_PREFETCH, GMAIL_PROXY, CHROME, "x/1", "some words"]:
        decision = explain(user_agent)
        assert decision.agent == classify_agent(user_agent)
        assert decision.matched
        assert decision.why


@pytest.mark.parametrize("user_agent", [" Mozilla/5.0", "Mozilla/5.0 ", "\tMozilla/5.0 \t"])
def test_agent_with_blanks_around_is_read_without_them(user_agent: str) -> None:
    assert classify_agent(user_agent).reason == "apple-mpp"


@pytest.mark.parametrize(
    ("user_agent", "reason"),
    [
        (f"{GMAIL_PROXY} YahooMailProxy", "gmail-proxy"),
        (f"{YAHOO_PROXY} Thunderbird/128.0", "yahoo-proxy"),
        (f"{YAHOO_PROXY} SomeBot/1.0", "yahoo-proxy"),
        ("Thunderbird/128.0 SomeBot/1.0", "crawler"),
        ("Thunderbird/1.0.6 - WebCrawler http://example.com", "crawler"),
        ("Thunderbird/128.0 curl/8.0", "mail-client"),
        (f"{CHROME} SomeBot/1.0", "crawler"),
        (f"{CHROME} curl/8.0", "tool"),
        ("PhxBot/0.1 (phxbot@protonmail.com)", "crawler"),
        (f"{IPHONE} {WEBKIT} Mobile/15E148 Googlebot/2.1", "crawler"),
        ("googleimageproxy", "gmail-proxy"),
        ("OUTLOOK-ANDROID/2.0", "mail-client"),
    ],
)
def test_agent_under_two_rules_takes_the_first(user_agent: str, reason: Reason) -> None:
    assert classify_agent(user_agent).reason == reason


def test_agents_that_the_list_of_crawlers_ships_are_bots() -> None:
    instances = [
        instance for crawler in CRAWLER_USER_AGENTS_DATA for instance in crawler["instances"]
    ]
    others = [instance for instance in instances if classify_agent(instance).hit_class != "bot"]
    assert len(instances) > 2000
    assert len(others) <= LISTED_BUT_OPEN_COUNT_MAX, others


def test_patterns_left_out_are_still_on_the_list() -> None:
    listed = {crawler["pattern"] for crawler in CRAWLER_USER_AGENTS_DATA}
    assert listed >= user_agents.NOT_CRAWLERS


def test_rules_version_goes_with_the_list_of_crawlers() -> None:
    """Another release of the list is another set of rules: raise RULES_VERSION with it."""
    assert (classify.RULES_VERSION, version("crawler-user-agents")) == (2, "1.67.0")


def test_every_reason_has_one_class_unless_it_tells_of_the_name_only() -> None:
    assert {*CLASS_OF_REASON, "forged-token", "merge-tag"} == set(get_args(Reason))
    assert set(CLASS_OF_REASON.values()) == set(get_args(HitClass))


@pytest.mark.parametrize("header", PREFETCH_HEADERS)
@pytest.mark.parametrize(
    "value", ["prefetch", "Prefetch", "prefetch;prerender", "preview", "PRERENDER", " x, prefetch"]
)
def test_header_that_announces_a_prefetch_is_seen(header: str, value: str) -> None:
    assert has_prefetch_header({"REQUEST_METHOD": "GET", header: value})


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HTTP_PURPOSE": ""},
        {"HTTP_SEC_PURPOSE": "navigate"},
        {"HTTP_X_MOZ": "\udcff\0"},
        {"HTTP_USER_AGENT": "prefetch"},
        {"QUERY_STRING": "prefetch"},
    ],
)
def test_header_that_announces_nothing_is_no_prefetch(environ: dict[str, str]) -> None:
    assert not has_prefetch_header(environ)


@pytest.mark.parametrize(
    ("user_agent", "own_machine"),
    [
        (CHROME, True),
        (OUTLOOK, True),
        ("", False),
        (APPLE_MPP, False),
        (GMAIL_PROXY, False),
        ("curl/8.5.0", False),
        ("Twitterbot/1.0", False),
    ],
)
def test_hit_with_prefetch_header_is_prefetch_whatever_fetched(
    user_agent: str, own_machine: bool
) -> None:
    verdict = classify_hit(classify_agent(user_agent), PREFETCH_HEADER | TOO_SOON)
    assert verdict == Verdict("prefetch", "prefetch-header", own_machine)


@pytest.mark.parametrize("user_agent", [GMAIL_PROXY, YAHOO_PROXY, OUTLOOK, CHROME, "some words"])
def test_open_too_soon_is_prefetch(user_agent: str) -> None:
    assert classify_hit(classify_agent(user_agent), TOO_SOON) == ("prefetch", "too-soon", False)


@pytest.mark.parametrize("user_agent", [APPLE_MPP, GMAIL_PREFETCH, "curl/8.5.0", "Twitterbot/1.0"])
def test_prefetch_or_bot_too_soon_keeps_its_reason(user_agent: str) -> None:
    agent = classify_agent(user_agent)
    assert classify_hit(agent, TOO_SOON) == (agent.hit_class, agent.reason, False)


@pytest.mark.parametrize("signals", [0, PREFETCH_HEADER, TOO_SOON])
@pytest.mark.parametrize("user_agent", [APPLE_MPP, GMAIL_PROXY, CHROME, "curl/8.5.0"])
def test_forged_token_is_the_reason_of_any_class(user_agent: str, signals: int) -> None:
    agent = classify_agent(user_agent)
    expected = classify_hit(agent, signals)._replace(reason="forged-token")
    assert classify_hit(agent, signals | FORGED_TOKEN) == expected


@pytest.mark.parametrize("seconds", [0.0, 1.5, TOO_SOON_SECONDS_MAX, -0.5, -CLOCK_SKEW_SECONDS_MAX])
def test_hit_within_seconds_of_sending_is_too_soon(seconds: float) -> None:
    assert signal_of_delay(seconds) == TOO_SOON


@pytest.mark.parametrize("seconds", [TOO_SOON_SECONDS_MAX + 0.001, 12.0, SOON_SECONDS_MAX])
def test_hit_within_half_a_minute_of_sending_is_soon(seconds: float) -> None:
    assert signal_of_delay(seconds) == SOON


@pytest.mark.parametrize(
    "seconds",
    [
        SOON_SECONDS_MAX + 0.001,
        86_400.0,
        -CLOCK_SKEW_SECONDS_MAX - 0.001,
        -3600.0,
        float("nan"),
        float("inf"),
        float("-inf"),
    ],
)
def test_hit_at_another_time_proves_nothing(seconds: float) -> None:
    assert signal_of_delay(seconds) == 0


def test_soon_is_the_reason_of_a_browsers_open_only() -> None:
    assert classify_hit(classify_agent(CHROME), SOON) == ("open", "soon", True)
    for user_agent in (GMAIL_PROXY, OUTLOOK, APPLE_MPP, "curl/8.5.0", "something else"):
        agent = classify_agent(user_agent)
        assert classify_hit(agent, SOON) == classify_hit(agent)


def test_agent_longer_than_the_maximum_is_read_up_to_it() -> None:
    padding = "x" * (USER_AGENT_CHARACTERS_MAX - len(CHROME) - 1)
    assert classify_agent(f"{CHROME} {padding} Thunderbird/128.0").reason == "browser"
    assert classify_agent(f"{CHROME} Thunderbird/128.0 {padding}").reason == "mail-client"


words = st.sampled_from([*CRAWLERS, *TOOLS, CHROME, GMAIL_PROXY, "Mozilla/5.0", "; wv)", "Android"])
texts = st.text(st.characters(exclude_categories=[]), max_size=300)


@given(st.one_of(texts, st.lists(st.one_of(words, texts), max_size=6).map(" ".join)))
def test_any_text_gives_a_known_reason_and_the_same_again(user_agent: str) -> None:
    agent = classify_agent(user_agent)
    assert agent.reason in CLASS_OF_REASON
    assert agent.hit_class == CLASS_OF_REASON[agent.reason]
    assert not (agent.own_machine and agent.hit_class != "open")
    assert agent == classify_agent(user_agent)
    classify._decide.cache_clear()
    assert agent == classify_agent(user_agent)


@given(
    st.sampled_from([APPLE_MPP, GMAIL_PREFETCH, GMAIL_PROXY, OUTLOOK, CHROME, "curl/8.5.0", ""]),
    st.sampled_from([0, PREFETCH_HEADER, TOO_SOON, SOON, TOO_SOON | SOON | PREFETCH_HEADER]),
)
def test_any_hit_gives_the_class_of_its_reason(user_agent: str, signals: int) -> None:
    verdict = classify_hit(classify_agent(user_agent), signals)
    assert verdict.hit_class == CLASS_OF_REASON[verdict.reason]
