"""Finds credentials in text that is about to be remembered. Pure: no Django, no network, no state.

Shapes come from the vendors' documents and from two public rule sets, gitleaks (`config/gitleaks.toml`) and Yelp's
detect-secrets (`plugins/`). Three ideas keep it fast and quiet:

- a literal that must occur is looked for with `in` before any pattern runs; most texts never meet a pattern;
- patterns begin with that literal and repeat with bounds or possessively, so the time is linear in the text;
- a shape is not enough: `_is_filler` drops what documentation invents (AWS's own `...EXAMPLE` keys, `xxxx`, published
  test cards), and values that only a name gives away (`password=`) must look made by a generator or a person in need.

On purpose not reported: plain words and word-and-hyphen passphrases, numeric PINs, Stripe `_test_` and publishable
keys, public keys, password hashes, pagination and CSRF tokens, UUIDs called "token".
"""

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Secret:
    """One credential: what it is, and the characters `text[start:end]` that hold it."""

    kind: str
    start: int
    end: int


def find_secrets(text: str) -> list[Secret]:
    """Return the credentials in `text`, sorted by start, never overlapping; of two readings the more specific one."""
    found: list[Secret] = []
    # One byte a character says what is taken: a specific detector runs first and keeps its place from a general one.
    taken = bytearray()
    for detect in _detectors_worth_running(text):
        for secret in detect(text):
            taken = taken or bytearray(len(text))
            if taken.find(1, secret.start, secret.end) < 0:
                taken[secret.start : secret.end] = b"\x01" * (secret.end - secret.start)
                found.append(secret)
    if len(found) > 1:
        found.sort(key=lambda secret: secret.start)
    return found


_Detector = Callable[[str], Iterator[Secret]]


def _detectors_worth_running(text: str) -> Iterator[_Detector]:
    if "-----BEGIN" in text or "Private-Lines" in text:
        yield _private_keys
    for anchor, detect in _ISSUED:
        if anchor in text:
            yield detect
    if "://" in text:
        yield _url_passwords
    lowered = text.lower()
    if "authorization" in lowered or "bearer" in lowered:
        yield _authorization
    if "curl" in text:
        yield _user_options
    for vendor, detect in _NEAR_NAME:
        if vendor in lowered:
            yield detect
    if "cred" in lowered or "login" in lowered or "basic auth" in lowered or "zugangsdaten" in lowered:
        yield _login_pairs
    if any(map(lowered.__contains__, _NAME_ANCHORS)):
        yield _assignments
    yield _payment_cards


# --- keys with a shape of their own ---------------------------------------------------------------------------------


def _issued(
    kind: str, prefix: str, body: str, joins: str | None = r"\w-", *, mixed: bool = True
) -> tuple[str, _Detector]:
    """A detector for keys that begin with `prefix`; no character of `joins` may stand before it.

    The class of `joins` covers the body's characters: a failed long body is then not tried again from its middle.
    """
    literal = re.escape(prefix)
    boundary = rf"(?<![{joins}]{literal})" if joins else ""
    pattern = re.compile(literal + boundary + body, re.ASCII)

    def detect(text: str) -> Iterator[Secret]:
        for match in pattern.finditer(text):
            group = 1 if pattern.groups else 0
            start, end = match.span(group)
            tail = text[max(start, match.start() + len(prefix)) : end]
            if not _is_filler(match[group]) and (not mixed or _looks_issued(tail)):
                yield Secret(kind, start, end)

    return prefix, detect


_ALNUM_END = r"(?![A-Za-z0-9])"
_HEX_END = r"(?![0-9A-Za-z])"

_ISSUED: list[tuple[str, _Detector]] = [
    # AWS IAM user guide, "Understanding unique ID prefixes"; 16 characters after the prefix.
    # One real id in thirty has no digit.
    *(_issued("aws_access_key_id", prefix, r"[A-Z0-9]{16}(?!\w)", r"\w", mixed=False) for prefix in ("AKIA", "ASIA")),
    _issued("google_api_key", "AIza", r"[\w-]{35}(?![\w-])"),
    _issued("google_oauth_secret", "GOCSPX-", r"[\w-]{28}(?![\w-])"),
    _issued("google_oauth_token", "ya29.", r"[\w-]{20,}+"),
    # 64 bytes in base64 are 86 characters and "=="; service bus, event hub and IoT keys are 32 bytes.
    _issued("azure_account_key", "AccountKey=", r"([A-Za-z0-9+/]{86}==)", None),
    _issued("azure_account_key", "SharedAccessKey=", r"([A-Za-z0-9+/]{43}=)", None),
    _issued("azure_sas", "sig=", r"([A-Za-z0-9%+/]{43,100}(?:%3[dD]|=))", r"\w"),
    # Order matters below "sk-": whoever comes first keeps the place.
    _issued("anthropic_api_key", "sk-ant-", r"[\w-]{32,}+"),
    _issued("openrouter_api_key", "sk-or-v1-", rf"[0-9a-f]{{64}}{_HEX_END}"),
    *(_issued("openai_api_key", f"sk-{owner}-", r"[\w-]{32,}+") for owner in ("proj", "svcacct", "admin")),
    _issued("openai_api_key", "sk-", r"[A-Za-z0-9]{32,64}+(?![\w-])"),
    # GitHub blog, "Behind GitHub's new authentication token formats".
    *(
        _issued("github_token", f"gh{letter}_", rf"[A-Za-z0-9]{{36,255}}+{_ALNUM_END}", "A-Za-z0-9")
        for letter in "pousr"
    ),
    _issued("github_token", "github_pat_", r"[A-Za-z0-9]{22}_[A-Za-z0-9]{59}(?!\w)"),
    # GitLab docs, "Token overview: token prefixes".
    *(
        _issued("gitlab_token", f"gl{letters}-", r"[\w.-]{20,}+")
        for letters in ("pat", "dt", "rt", "ptt", "cbt", "ft", "soat", "agent")
    ),
    _issued("slack_webhook", "hooks.slack.com/services/", r"(T\w{6,14}/B\w{6,14}/\w{20,40}+)", None),
    _issued("slack_webhook", "hooks.slack.com/triggers/", r"(T\w{6,14}/\d{8,16}/\w{20,40}+)", None),
    _issued("slack_token", "xox", r"[abceoprs]-(?:[0-9]-)?[A-Za-z0-9-]{20,}+"),
    _issued("slack_token", "xapp-", r"\d-[A-Z0-9]{8,14}-\d{8,15}-[0-9a-f]{32,}+"),
    *(
        _issued("stripe_key", f"{letter}k_live_", rf"[A-Za-z0-9]{{20,}}+{_ALNUM_END}", "A-Za-z0-9")
        for letter in ("s", "r")
    ),
    _issued("stripe_webhook_secret", "whsec_", r"[A-Za-z0-9+/]{24,}+"),
    _issued("twilio_api_key", "SK", rf"[0-9a-f]{{32}}{_HEX_END}", r"\w"),
    _issued("sendgrid_api_key", "SG.", r"[\w-]{22}\.[\w-]{43}(?![\w-])"),
    _issued("npm_token", "npm_", rf"[A-Za-z0-9]{{36}}{_ALNUM_END}"),
    # A macaroon in base64: version 2, location "pypi.org" or "test.pypi.org".
    _issued("pypi_token", "pypi-AgE", r"[\w-]{50,}+"),
    _issued("huggingface_token", "hf_", rf"[A-Za-z0-9]{{30,40}}+{_ALNUM_END}"),
    _issued("digitalocean_token", "dop_v1_", rf"[0-9a-f]{{64}}{_HEX_END}"),
    _issued("digitalocean_token", "doo_v1_", rf"[0-9a-f]{{64}}{_HEX_END}"),
    _issued("digitalocean_token", "dor_v1_", rf"[0-9a-f]{{64}}{_HEX_END}"),
    _issued("heroku_api_key", "HRKU-", r"[\w-]{36,}+"),
    _issued("mem0_api_key", "m0_", rf"[A-Za-z0-9]{{40}}{_ALNUM_END}"),
    _issued("mem0_api_key", "m0-", rf"[A-Za-z0-9]{{40}}{_ALNUM_END}"),
    _issued("groq_api_key", "gsk_", rf"[A-Za-z0-9]{{48,56}}+{_ALNUM_END}"),
    _issued("xai_api_key", "xai-", rf"[A-Za-z0-9]{{70,90}}+{_ALNUM_END}"),
    _issued("shopify_token", "shpat_", rf"[0-9a-fA-F]{{32}}{_HEX_END}"),
    _issued("databricks_token", "dapi", rf"[0-9a-f]{{32}}(?:-\d)?{_HEX_END}"),
    _issued("docker_token", "dckr_pat_", r"[\w-]{24,}+"),
    _issued("vault_token", "hvs.", r"[\w-]{24,}+"),
    _issued("linear_api_key", "lin_api_", rf"[A-Za-z0-9]{{40}}{_ALNUM_END}"),
    _issued("notion_token", "ntn_", rf"[A-Za-z0-9]{{40,50}}+{_ALNUM_END}"),
    _issued("grafana_token", "glsa_", r"[A-Za-z0-9]{32}_[0-9a-f]{8}"),
    _issued("tailscale_key", "tskey-", r"[a-z]{3,12}-[A-Za-z0-9]{8,}-[A-Za-z0-9]{20,}+"),
    _issued("atlassian_token", "ATATT3", r"[\w=-]{150,}+"),
    _issued("age_secret_key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{58}(?!\w)"),
    _issued("discord_webhook", "/api/webhooks/", r"(\d{17,20}/[\w-]{60,80}+)", None),
    # A header and a claim set are JSON objects, and '{"' is "eyJ" in base64; RFC 7519.
    _issued("jwt", "eyJ", r"[\w-]{10,}+\.eyJ[\w-]{10,}+\.[\w-]{20,}+"),
]


def _before(anchor: str, kind: str, pattern: str) -> tuple[str, _Detector]:
    """A detector for keys whose telling literal stands in the middle."""
    compiled = re.compile(pattern, re.ASCII)

    def detect(text: str) -> Iterator[Secret]:
        for match in compiled.finditer(text):
            if not _is_filler(match[0]) and _looks_issued(match[0]):
                yield Secret(kind, *match.span())

    return anchor, detect


_ISSUED += [
    # Bot id and a hash that begins with "AA"; Telegram Bot API, "Authorizing your bot".
    _before(":AA", "telegram_bot_token", r"(?<![\d:])\d{8,10}:AA[\w-]{33}(?![\w-])"),
    # Entra ID client secrets.
    _before("Q~", "azure_client_secret", r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}(?![\w~-])"),
]


# --- private keys ---------------------------------------------------------------------------------------------------

_KEY_HEADER = re.compile(r"-----BEGIN ((?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?)-----")
_KEY_BODY = re.compile(r"[A-Za-z0-9+/]{32}")
_KEY_BODY_WITHOUT_END = re.compile(r"[A-Za-z0-9+/=\s\\]*+")
_PUTTY_BODY = re.compile(r"Private-Lines: \d{1,3}\s{1,2}([A-Za-z0-9+/=\s]{32,}+)")


def _private_keys(text: str) -> Iterator[Secret]:
    """PEM (RFC 7468), OpenSSH, PGP (RFC 9580) and PuTTY; a header that is only mentioned has no body and is no key."""
    for header in _KEY_HEADER.finditer(text):
        following = text.find("-----BEGIN", header.end())
        limit = len(text) if following < 0 else following
        closing = f"-----END {header[1]}-----"
        at = text.find(closing, header.end(), limit)
        if at >= 0:
            body_end, end = at, at + len(closing)
        else:
            cut = _KEY_BODY_WITHOUT_END.match(text, header.end(), limit)
            body_end = end = cut.end() if cut else header.end()
        body = _KEY_BODY.search(text, header.end(), body_end)
        if body and not _is_filler(body[0]):
            kind = "pgp_private_key" if "PGP" in header[1] else "private_key"
            yield Secret(kind, header.start(), len(text[:end].rstrip()) if at < 0 else end)
    for match in _PUTTY_BODY.finditer(text):
        yield Secret("private_key", *match.span(1))


# --- URLs and headers -----------------------------------------------------------------------------------------------

_URL_PASSWORD = re.compile(r"://([^\s:/?#@\"'<>`]{0,100}):([^\s/\"'`]{1,200})@(?!sha\d{3}:)[\w\[{$<-]")
# Shipped defaults that every tutorial repeats, where user and password are not the same word.
_CONSTANT = re.compile("[A-Z]+(?:_[A-Z]+)*")
_DEFAULT_LOGINS = frozenset({"root:example", "root:toor", "scott:tiger", "neo4j:password", "sa:yourStrong(!)Password"})


def _url_passwords(text: str) -> Iterator[Secret]:
    """The password of `scheme://user:password@host` (RFC 3986, 3.2.1), unless a placeholder or equal to the user."""
    for match in _URL_PASSWORD.finditer(text):
        user, value = match.groups()
        if value == user or _CONSTANT.fullmatch(value) or f"{user}:{value}" in _DEFAULT_LOGINS or len(value) < 4:
            continue
        if not _is_reference(value) and not _is_filler(value) and not _STOCK_VALUE.fullmatch(value.lower()):
            yield Secret("url_password", *match.span(2))


_AUTHORIZATION = re.compile(
    r"(?:authorization[\\\"'`]{0,2}\s{0,3}[:=]\s{0,3}[\\\"'`]{0,2}(token|apikey|bearer|basic)?|(bearer))"
    r"\s{1,2}([\w.~+/=-]{8,}+)",
    re.IGNORECASE | re.ASCII,
)
# "credentials: alice / …", "basic auth is admin:…".
_LOGIN_PAIR = re.compile(
    r"(?:credentials?|creds|login|basic auth|zugangsdaten)\b[^\n:/]{0,32}?[: ][ ]?"
    r"[\w.@+-]{1,48}(?:[ ]?/[ ]?|:)([^\s\"'`]{7,64})",
    re.IGNORECASE,
)
_USER_OPTION = re.compile(r"(?<=\s)(?:-u|--user)[ =][\"']?[\w.@+-]{1,64}:([^\s\"']{6,128})")


def _authorization(text: str) -> Iterator[Secret]:
    """Credentials of an Authorization header (RFC 6750, RFC 7617) and a lone `Bearer …`."""
    for match in _AUTHORIZATION.finditer(text):
        scheme = (match[1] or match[2] or "").lower()
        value = match[3].rstrip(".")
        start = match.start(3)
        if scheme == "basic":
            if _is_basic_credential(value):
                yield Secret("basic_auth", start, start + len(value))
        elif _is_generated(value, at_least=16):
            yield Secret("bearer_token", start, start + len(value))


def _user_options(text: str) -> Iterator[Secret]:
    """The password of `curl -u user:password`."""
    for match in _USER_OPTION.finditer(text):
        if _is_password(match[1], hint="="):
            yield Secret("basic_auth", *match.span(1))


def _is_basic_credential(value: str) -> bool:
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    # "open sesame" is the example of RFC 7617.
    stock = password == user or password == "open sesame" or bool(_STOCK_VALUE.fullmatch(password.lower()))  # noqa: S105 - a documented example
    return bool(colon) and len(password) >= 4 and not stock and not _is_reference(password)


def _login_pairs(text: str) -> Iterator[Secret]:
    """The password of a user/password pair in a sentence; both signs also part paths, so the value must be strong."""
    for match in _LOGIN_PAIR.finditer(text):
        value = match[1].rstrip(".,;:)]}>*")
        if _is_unmistakable(value) and _is_password(value, hint="is"):
            yield Secret("password", match.start(1), match.start(1) + len(value))


# --- shapeless keys, known by what stands near ----------------------------------------------------------------------


def _near(name: str, kind: str, purpose: str, shape: str) -> tuple[str, _Detector]:
    """A detector for a shape that is common, reported only when owner and purpose stand shortly before it."""
    # The shape is looked for first: names repeat cheaply, whole values do not, so the time stays linear.
    value = re.compile(shape, re.ASCII)
    words = re.compile(purpose, re.IGNORECASE)

    def detect(text: str) -> Iterator[Secret]:
        for match in value.finditer(text):
            before = text[max(0, match.start() - 100) : match.start()]
            if name in before.lower() and words.search(before) and not _is_filler(match[0]):
                yield Secret(kind, *match.span())

    return name, detect


_UUID_SHAPE = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
# Not a commit: 40 characters of lower-case hex.
_AWS_SHAPE = r"(?<![A-Za-z0-9/+=])(?![0-9a-f]{40})[A-Za-z0-9+][A-Za-z0-9/+]{39}(?![A-Za-z0-9/+=])"
_NEAR_NAME = [
    _near("secret", "aws_secret_access_key", r"secret[ _-]?(?:access[ _-]?)?key|aws", _AWS_SHAPE),
    _near("akia", "aws_secret_access_key", r"\bAKIA[A-Z0-9]{16}\b", _AWS_SHAPE),
    _near("asia", "aws_secret_access_key", r"\bASIA[A-Z0-9]{16}\b", _AWS_SHAPE),
    _near(
        "heroku", "heroku_api_key", r"api[ _-]?key|api[ _-]?token|auth[ _-]?token", rf"(?<![\w-]){_UUID_SHAPE}(?![\w-])"
    ),
    _near("twilio", "twilio_auth_token", r"auth[ _-]?token|api[ _-]?secret", r"(?<![\w-])[0-9a-f]{32}(?![\w-])"),
    _near(
        "datadog",
        "datadog_api_key",
        r"(?:api|app|application)[ _-]?key",
        r"(?<![\w-])[0-9a-f]{32}(?:[0-9a-f]{8})?(?![\w-])",
    ),
]


# --- values that only their name gives away -------------------------------------------------------------------------

# Every branch begins with a letter, not with a condition: the engine can then skip to a first letter.
_LOGIN_WORDS = (
    r"pass(?:word|wort|wd|phrase|code)?|pwd|pw(?<![a-z]pw)|kennwort|contraseña|senha|mot de passe|hasło|пароль|"
    r"密码|密碼|パスワード"
)
_NAME_ANCHORS = (
    "pass", "secret", "token", "key", "pw", "kennwort", "contraseña", "senha", "hasło", "пароль", "密码", "密碼",
    "パスワード",
)  # fmt: skip
# Runs on lower-cased text. The value is only looked at (`(?=`), so a value that holds another name is searched too.
_ASSIGNMENT = re.compile(
    rf"(?P<name>{_LOGIN_WORDS}|secret|token|key)"
    r"(?:[ _-]?(?:prod|production|dev|staging|live|main|old|new|value|string|\d{1,2}))?"
    r"[\\\"'`*\])]{0,4}"
    r"(?:(?:[ ](?:for|of|on|to|at|in|für|vom|von|der|para|del|pour|du|de|от|для)[ ][^\n=:]{1,48}?"
    r"|[ ]\([^)\n]{1,24}\))?"
    r"(?P<sep>\s{0,3}(?::\s?(?:str|string)\s?=|=>|->|→|:=|={1,2}|:|：)[\s*]{0,4}"  # noqa: RUF001 - Chinese texts use it
    r"|[ ](?:(?:is|was)(?: now| still| set to| changed to)?|(?:(?:changed|set|reset|rotated)[ ])?to|"
    r"ist|lautet|est|es|é|это):?[ ])"
    r"|(?P<option>[ ]))"
    r"[\\\"'`]{0,2}(?=(?P<value>[^\s\"'`，。；、]{6,128}))"
)
_KEY_OWNERS = (
    "api", "access", "secret", "private", "auth", "signing", "signature", "encryption", "master", "account", "service",
    "storage", "subscription", "license", "admin", "deploy", "app", "application", "webhook", "hmac", "jwt", "shared",
)  # fmt: skip
_TOKEN_NOT_SECRET = (
    "page", "next", "prev", "continuation", "cursor", "csrf", "xsrf", "sync", "pad", "eos", "bos", "stop", "special",
    "idempotency", "cancellation", "mask", "change", "resume", "dedup", "device", "publickey",
)  # fmt: skip
_QUERY_NEXT = re.compile(r"&[\w.-]{1,40}=|;\s?[\w ]{2,30}=")


def _assignments(text: str) -> Iterator[Secret]:
    """`password=…`, `"api_key": "…"`, `the token is …`, `--password …`, when the value itself looks like a secret."""
    reached = chained = 0
    for match in _ASSIGNMENT.finditer(_lower_in_place(text)):
        start, end = match.span("value")
        chained = chained + 1 if match.start() < reached else 0
        reached = end
        if chained > _CHAINED_NAMES:
            continue
        value = text[start:end]
        if following := _QUERY_NEXT.search(value):
            value = value[: following.start()]
        value = value.rstrip(".,;:)]}>*\\。，")  # noqa: RUF001 - full-width punctuation ends sentences too
        name, hint = match["name"], (match["sep"] or "").strip().rstrip(":") or ":"
        before = text[max(0, match.start() - 16) : match.start()].lower()
        # Only a space between name and value: a command's option, or prose unless the value is unmistakable.
        if match["option"] and not _OPTION_BEFORE.search(before) and not _is_unmistakable(value):
            continue
        owner = before.rstrip(" _-.")
        if name == "key":
            kind, secret = "api_key", owner.endswith(_KEY_OWNERS) and _is_generated(value, at_least=16)
        elif name == "secret":
            kind, secret = "secret", _is_generated(value, at_least=16)
        elif name == "token":
            harmless = owner.endswith(_TOKEN_NOT_SECRET) or bool(_UUID.fullmatch(value))
            kind, secret = "token", not harmless and _is_generated(value, at_least=16)
        else:
            # "pass" and "hashed password" are about something else unless a sign follows.
            harmless = (name == "pass" and hint.isalpha()) or owner.endswith(("hash", "hashed", "encrypted"))
            kind, secret = "password", not harmless and _is_password(value, hint=hint)
        if secret:
            yield Secret(kind, start, start + len(value))


# `password=password=…` holds thousands of names in each other's values; a real query string holds a few.
_CHAINED_NAMES = 32
_OPTION_BEFORE = re.compile("--[a-z-]*$")


def _is_unmistakable(value: str) -> bool:
    classes = _classes(_SOFT_SIGNS.sub("", value))
    if not value[0].isalnum() or len(value) < 10 or "=" in value:
        return False
    return (classes == 4 or (classes == 3 and len(value) >= 20)) and not _is_wordy(value)


def _lower_in_place(text: str) -> str:
    """Lower case without moving any character: "İ" alone becomes two, so such texts are lowered letter by letter."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


# --- does a value look like a secret? -------------------------------------------------------------------------------

_UUID = re.compile(_UUID_SHAPE)
_FILLER = re.compile(
    r"example|placeholder|x{4}|\*{3}|\.{3}|…|your[_-]?|(?:^|[_-])my[_-]|change-?_?me|redacted|dummy|fake|sample|insert"
    r"|<[a-z]|eyjzdwiioiixmjm0nty3odkw|0{8}|12345678|abcdefg|deadbeef|todo|foobar|not-?_?a-?_?real|replace",
)
_REFERENCE = re.compile(
    r"\$[A-Za-z_{(]|\$(?:2[abxy]|[156]|argon2|pbkdf2|scrypt)|%[A-Za-z_(]|[{<\[(]|@|!|env[:.(]|os\.|process\.|import\.|"
    r"(?:op|vault|sm|aws|gcp|ref|file|https?|ssm|kms|arn|sha\d{1,3}|md5|enc|sops|akv)[:+]|secrets?[.\[]|\#|&|var\.|"
    r"sha\d{3}-|[.~]{0,2}/[a-z_]{2}|~/|--"
)
_CODE = re.compile(
    r"[A-Za-z_]\w{2,}(?:(?:\.|::|->)[A-Za-z_]\w*)*[(\[{]|[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)+[,;)]?$"
)
# Words people put where a password goes in documentation and local compose files, with or without a number.
# Possessive and flat: a value made of a hundred such words must not be tried in every split.
_STOCK_VALUE = re.compile(
    r"(?:p[a@]ss(?:w[o0]r[dt]|wd|phrase)?|pwd?|secrets?|tokens?|keys?|credentials?|hidden|masked|none|null|"
    r"test(?:ing)?|user(?:name)?|guest|demo|postgres|mysql|redis|changeit|changethis|default|dev|local|"
    r"example|hunter|letmein|qwerty|welcome|foo|bar|abc|minio|string|here|value|secure|docker|oauth|"
    r"my|your|the|some|database|db|super|new|old|very|strong|app|root|admin|api|access|client|auth|a|[_-])++\d{0,4}!?"
)
_TECHNICAL = re.compile(
    r"\b(?:sha-?\d|aes-?\d|[rhep]s(?:256|384|512)|argon2|pbkdf2|md5|base(?:32|64)|oauth2?|utf-?\d|ed25519|x\.?509|pkcs|"
    r"bcrypt|scrypt|tls|rfc|iso|fips|totp|ascii|length|chars?\b|characters?|encoded|encrypted|hashed|compliant|based|"
    r"minimum|maximum|required|optional|rotated|expires|v\d+\b)",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{1,2}[./]\d{1,2}[./]\d{2,4}|v?\d+\.\d+")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


def _is_filler(value: str) -> bool:
    """What documentation invents: the word "example", xxxx, counting, or hardly any different characters."""
    return bool(_FILLER.search(value.lower())) or (len(value) >= 16 and len(set(value)) < 8)


def _is_reference(value: str) -> bool:
    """A pointer to a secret: $VAR, ${…}, <…>, %(…)s, env:…, op://…, a path, a password hash."""
    return bool(_REFERENCE.match(value)) and not (value[0] in "!@#&~(%[" and _classes(value) == 4)


def _looks_issued(body: str) -> bool:
    """A generator mixes digits with letters or cases; a name such as `hf_model_cache_directory` does not."""
    longest = max(re.split(r"[-_.]", body), key=len)
    return len(longest) >= 10 and _classes(longest) >= 2 and len(set(body)) >= 8


def _is_generated(value: str, *, at_least: int) -> bool:
    if len(value) < at_least or not _has_digit_and_letter(value) or _is_filler(value) or _is_reference(value):
        return False
    if "=" in value.rstrip("=") or "://" in value or _CODE.match(value) or _DATE.match(value) or "_test_" in value:
        return False
    return not _is_wordy(value) and _entropy(value) >= 3.0


def _is_password(value: str, *, hint: str) -> bool:
    """`hint` is what joined name and value: a sign, or a word ("password is …"); prose then needs more proof."""
    if len(value) < 7 or value.isdigit() or not _HAS_LETTER.search(value):
        return False
    if not _HAS_DIGIT.search(value) and len(_STRONG_SIGNS.findall(value)) < 2:
        return False
    if _is_filler(value) or _is_reference(value) or _STOCK_VALUE.fullmatch(value.lower()):
        return False
    if "://" in value or _CODE.match(value) or _DATE.match(value) or _EMAIL.fullmatch(value) or _UUID.fullmatch(value):
        return False
    if _TECHNICAL.search(value) or len(_CODE_SIGNS.findall(value)) >= 3:
        return False
    # Hyphen, dot, slash and underscore join words everywhere; they are no sign of strength.
    classes = _classes(_SOFT_SIGNS.sub("", value))
    if len(value) < 8 and classes < 4:
        return False
    if not hint.isalpha() and " " not in hint:
        return classes >= 3 or not _is_wordy(value)
    # "moved the password to PostgreSQL17" names a place.
    return classes >= 3 and not (hint == "to" and _is_wordy(value))


_HAS_DIGIT = re.compile("[0-9]")
_HAS_LETTER = re.compile("[A-Za-z]")
_SOFT_SIGNS = re.compile("[-_./]")
_CODE_SIGNS = re.compile(r"[][(){},;=:]")
_STRONG_SIGNS = re.compile(r"[!@#$%^&*?+~|]")
_CLASSES = (re.compile("[a-z]"), re.compile("[A-Z]"), _HAS_DIGIT, re.compile("[^A-Za-z0-9]"))
_WORD = re.compile(
    r"[a-z]{1,20}+\d{0,3}|[A-Z]{1,20}+\d{0,3}|[a-z]{0,20}+(?:[A-Z]{1,4}+[a-z]{2,20}+|[A-Z]\d{1,2}){1,6}+[A-Z]{0,3}\d{0,4}|\d{1,8}"
)
_NOT_ALNUM = re.compile("[^A-Za-z0-9]+")


def _is_wordy(value: str) -> bool:
    """Made of words and small numbers only: names, paths, versions, kebab-case."""
    return all(_WORD.fullmatch(part) for part in _NOT_ALNUM.split(value[:256]) if part)


def _classes(value: str) -> int:
    """How many of lower case, upper case, digits and signs occur."""
    return sum(1 for pattern in _CLASSES if pattern.search(value))


def _has_digit_and_letter(value: str) -> bool:
    return bool(_HAS_DIGIT.search(value)) and bool(_HAS_LETTER.search(value))


def _entropy(value: str) -> float:
    """Shannon entropy in bits a character."""
    total = len(value)
    return -sum(count / total * math.log2(count / total) for count in Counter(value).values())


# --- payment cards --------------------------------------------------------------------------------------------------

# 16 digits in a row or printed as on the card: 4-4-4-4, American Express 4-6-5, Diners 4-6-4. What touches a letter,
# a longer run, a decimal point or a dash (UUIDs, phone numbers, ids) is something else.
_CARD = re.compile(
    r"[2-6](?<![\w.+#/-][2-6])(?<!\d{4} [2-6])\d{3}"
    r"(?:\d{10,15}|([ -])\d{4}\1\d{4}\1\d{4}|([ -])\d{6}\2\d{4,5})(?![\w/-]|\.\d| \d{4}\b)",
    re.ASCII,
)
# ISO/IEC 7812 issuer ranges: Visa, Mastercard (2221-2720, 51-55), American Express, Discover, JCB, Diners, UnionPay.
_ISSUER = re.compile(
    r"4\d{15}|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}|"
    r"(?:6011|65\d\d|64[4-9]\d|62\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
)
# Numbers that Stripe, PayPal and Braintree publish for tests; theirs with six zeros are told by the zeros.
_TEST_CARDS = frozenset(
    {
        "4242424242424242",
        "4111111111111111",
        "4012888888881881",
        "5555555555554444",
        "5105105105105100",
        "5200828282828210",
        "2223003122003222",
        "378282246310005",
        "371449635398431",
        "378734493671000",
        "6011111111111117",
        "6011000990139424",
        "30569309025904",
        "38520000023237",
        "3530111333300000",
        "3566002020360505",
        "4000056655665556",
        "4000002500003155",
        "4000002760003184",
        "4917610000000000",
        "4539148803436467",
    }
)
_ID_WORD_BEFORE = re.compile(
    r"(?:(?:(?-i:(?<=[a-z])Id)|(?<![A-Za-z])(?:id|ids|order|invoice|ticket|tracking|trace|request|job|run|build|account|message|msg|snowflake|offset|"
    r"timestamp|ts|seq|serial|imei|isbn|ean|number of|row|rows|pid|event|batch|user|session|shipment|parcel|sku|case))"
    r"(?: (?:no|nr|number|id))?)[.:#\s\"'=]{0,4}$",
    re.IGNORECASE,
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def _payment_cards(text: str) -> Iterator[Secret]:
    """A card number: issuer range, length and Luhn digit agree, no test number, and nobody calls it an order."""
    for match in _CARD.finditer(text):
        digits = match[0].replace(" ", "").replace("-", "")
        if not _ISSUER.fullmatch(digits) or not _luhn(digits) or digits in _TEST_CARDS or "000000" in digits:
            continue
        # One random number in ten passes Luhn, so an ungrouped one believes the word before it.
        grouped = match[1] or match[2]
        if not grouped and _ID_WORD_BEFORE.search(text[max(0, match.start() - 24) : match.start()]):
            continue
        yield Secret("payment_card", *match.span())


def _luhn(digits: str) -> bool:
    reversed_digits = [int(digit) for digit in reversed(digits)]
    return (sum(reversed_digits[::2]) + sum(_DOUBLED[digit] for digit in reversed_digits[1::2])) % 10 == 0
