"""De-identification: what names a person or opens a door becomes a placeholder, ``[EMAIL_1]``; the same thing has the
same placeholder throughout a dataset.

    EMAIL    addresses
    KEY      private key blocks, JSON web tokens, bearer and basic credentials, and keys that show their issuer: AWS,
             GitHub, GitLab, Slack, OpenAI, Anthropic, Stripe, Google, Hugging Face, npm, PyPI, SendGrid, ...
    SECRET   what a field or an assignment with a telling name holds (password, token, api_key, ...), user:password@host
    IP       v4 and v6; not loopback, unspecified or masks
    PHONE    +49 30 1234567, (212) 555-0123, 212-555-0123; what follows "phone:" and what a field ``phone`` holds
    CARD     13 to 19 digits with an issuer's prefix and a right check digit (Luhn)

What only looks like them stays: versions (v1.2.3.4, version 1.2.3.4, ==1.2.3.4, 1.2.3.4-rc1; 1.2.3.4 alone is an
address), dates, times, plain numbers, slices (x[1000::2]), names in code (std::vector), git@, max_tokens, eos_token,
"password: required", ${PASSWORD}.

People's names, postal addresses, dates of birth and account numbers are not found.

Placeholders are numbered in the order in which things are met. No table leads back: what was met is remembered as a
keyed hash, and the key is gone with the object.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from windlass.datasets.rows import snake
from windlass.datasets.traces import Trace

KINDS = ("EMAIL", "KEY", "SECRET", "IP", "PHONE", "CARD")
_PLACEHOLDER = re.compile(rf"\[({'|'.join(KINDS)})_([1-9]\d{{0,8}})\]")
_REPLACED = re.compile(rf"(?:[A-Za-z]+ )?{_PLACEHOLDER.pattern}")  #: also with the scheme: "Bearer [KEY_1]"


class Count(NamedTuple):
    found: int  #: replaced
    distinct: int  #: different things


class Deidentifier:
    """Replaces within one dataset; what it has cleaned, it leaves as it is."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._numbers: dict[str, dict[bytes, int]] = {kind: {} for kind in KINDS}
        self._taken = dict.fromkeys(KINDS, 0)
        self._found: Counter[str] = Counter()
        self._plain: set[str] = set()  #: short texts, such as the names of fields, in which nothing is

    @property
    def counts(self) -> dict[str, Count]:
        """By kind, those that were found."""
        return {kind: Count(self._found[kind], len(self._numbers[kind])) for kind in KINDS if self._found[kind]}

    def respect(self, value: Any) -> None:
        """Give no number again that a placeholder in ``value`` has: nobody knows any more what it stands for."""
        match value:
            case str():
                for kind, number in _PLACEHOLDER.findall(value) if "[" in value else ():
                    self._taken[kind] = max(self._taken[kind], int(number))
            case Mapping():
                for key, inner in value.items():
                    self.respect(key)
                    self.respect(inner)
            case list() | tuple():
                for inner in value:
                    self.respect(inner)

    def clean(self, value: Any) -> Any:
        """A JSON value, cleaned: texts, names of fields, and what the fields with a telling name hold."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                cleaned: dict[str, Any] = {}
                for key, inner in value.items():
                    name = self.text(key)
                    while name in cleaned:
                        name += "#"
                    cleaned[name] = self._field(key, inner, value)
                return cleaned
            case list() | tuple():
                return [self.clean(inner) for inner in value]
            case int() if abs(value) > 10**12:
                text = self.text(str(value))
                return value if text == str(value) else text
        return value

    def text(self, text: str) -> str:
        """What is replaced may bring together what was apart, so this goes on until nothing is found."""
        if text in self._plain:
            return text
        while (cleaned := self._once(text)) != text:
            text = cleaned
        if len(text) <= 40 and len(self._plain) < 10_000:
            self._plain.add(text)
        return text

    def _once(self, text: str) -> str:
        for rule in _RULES:
            if any(needle in text for needle in rule.needles):

                def replaced(match: re.Match[str], rule: _Rule = rule) -> str:
                    thing = rule.thing(match)
                    if thing is None:
                        return match[0]
                    group = next(name for name in rule.groups if match.span(name) != (-1, -1))
                    start, end = (position - match.start() for position in match.span(group))
                    return match[0][:start] + self._placeholder(rule.kind, thing) + match[0][end:]

                text = rule.pattern.sub(replaced, text)
        return text

    def _field(self, name: str, value: Any, beside: Mapping[str, Any]) -> Any:
        if names_secret(name) and not (snake(name) == "token" and "logprob" in beside):
            return self._secret(value, numbers=not snake(name).endswith("token"))
        if _words(name)[-1:] in _PHONE_NAMES or _words(name)[-2:] in _PHONE_NAMES:
            digits = re.sub(r"\D", "", str(value)) if isinstance(value, (str, int)) else ""
            if 6 <= len(digits) <= 15 and re.fullmatch(r"[+\d ()./-]+", str(value)):
                return self._placeholder("PHONE", digits)
        return self.clean(value)

    def _secret(self, value: Any, *, numbers: bool) -> Any:
        match value:
            case Mapping():
                return {self.text(key): self._secret(inner, numbers=True) for key, inner in value.items()}
            case list() | tuple():
                return [self._secret(inner, numbers=numbers) for inner in value]
            case str():
                return self._placeholder("SECRET", value) if _holds_secret(value) else value
            case int() | float() if numbers and not isinstance(value, bool):
                return self._placeholder("SECRET", str(value))
        return value

    def _placeholder(self, kind: str, thing: str) -> str:
        self._found[kind] += 1
        numbers = self._numbers[kind]
        digest = hashlib.blake2b(thing.encode(errors="replace"), key=self._key, digest_size=16).digest()
        return f"[{kind}_{numbers.setdefault(digest, self._taken[kind] + len(numbers) + 1)}]"


def clean_traces(
    traces: Sequence[Trace], on_done: Callable[[int, int], object] | None = None
) -> tuple[list[Trace], dict[str, Count]]:
    """The traces without what identifies, and what was replaced by kind. Labels and numbers stay; ids stay different.

    ``on_done`` is called now and then with how many are done, and of how many.
    """
    deidentifier = Deidentifier()
    rows = [trace.model_dump(exclude={"labels"}) for trace in traces]
    deidentifier.respect(rows)
    cleaned: list[Trace] = []
    ids: set[str] = set()
    for done, (trace, row) in enumerate(zip(traces, rows, strict=True), 1):
        found = deidentifier.clean(row)
        while found["id"] in ids:
            found["id"] += "#"
        ids.add(found["id"])
        cleaned.append(trace.model_copy(update=found))
        if on_done and (done % 100 == 0 or done == len(traces)):
            on_done(done, len(traces))
    return cleaned, deidentifier.counts


# Names that tell -----------------------------------------------------------------------------------------------------

_SECRET_NAMES = {
    *(("password",), ("passwords",), ("passwd",), ("pwd",), ("passphrase",), ("secret",), ("secrets",), ("token",)),
    *(("apikey",), ("credential",), ("credentials",), ("authorization",), ("cookie",), ("cookies",), ("ssn",)),
    *(("cvv",), ("cvc",), ("password", "hash"), ("api", "key"), ("api", "keys"), ("access", "key"), ("secret", "key")),
    *(("private", "key"), ("signing", "key"), ("encryption", "key"), ("account", "key"), ("license", "key")),
}
#: before ``token``: a piece of text, or a number of them
_NO_SECRET = {"pad", "eos", "bos", "unk", "sep", "cls", "mask", "image", "special", "stop", "end", "start", "first"} | {
    *("last", "per", "next", "page", "new", "max", "min", "input", "output", "prompt", "target", "predicted"),
}
_PHONE_NAMES = (["phone"], ["telephone"], ["tel"], ["mobile"], ["fax"], ["phone", "number"], ["mobile", "number"])
#: what stands where a secret would
_STANDS_FOR = re.compile(
    r"\$\{\w+\}|\{\{.*\}\}|<[A-Za-z _-]+>|\*+|[xX.]+|null|none|true|false|undefined|redacted|\[redacted\]",
    re.IGNORECASE,
)


def names_secret(name: str) -> bool:
    """Whether a field of this name holds a secret: ``password``, ``X-Api-Key``, ``accessToken``; not ``eos_token``."""
    words = tuple(_words(name))
    if words[-1:] == ("token",) and words[-2:-1] and words[-2] in _NO_SECRET:
        return False
    return words[-1:] in _SECRET_NAMES or words[-2:] in _SECRET_NAMES


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", snake(name))


def _holds_secret(value: str) -> bool:
    return bool(value.strip()) and not (_REPLACED.fullmatch(value) or _STANDS_FOR.fullmatch(value.strip()))


# Rules: what a kind of thing looks like ------------------------------------------------------------------------------


class _Rule(NamedTuple):
    kind: str
    pattern: re.Pattern[str]
    thing: Callable[[re.Match[str]], str | None] = lambda match: match[0]  #: what it is; None: nothing of the kind
    groups: tuple[int | str, ...] = (0,)  #: of the pattern: the first that is there is replaced
    needles: tuple[str, ...] = ("",)  #: one of them is in every text that has the pattern


def _credential(match: re.Match[str]) -> str | None:
    value = match["value"]
    return value if match["header"] or len(value) >= 20 or re.search(r"\d", value) else None


def _assigned(match: re.Match[str]) -> str | None:
    name, quoted, bare = match["name"], match["quoted"], match["bare"]
    if not names_secret(name):
        return None
    if quoted is not None:
        return quoted if _holds_secret(quoted) else None
    words = re.fullmatch(r"[A-Za-z_]+(\.[A-Za-z_]+)*", bare) is not None
    code = words and ("." in bare or snake(bare) == snake(name))
    prose = words and match["sign"] != "="  # "password: required"
    number = bare.isdecimal() and snake(name).endswith("token")
    return None if code or prose or number or not _holds_secret(bare) else bare


def _email(match: re.Match[str]) -> str | None:
    return None if match[0].startswith("git@") else match[0].casefold()


_VERSION = re.compile(
    r"(?:\b(?:v|ver|version|release|section|chapter|clause|build)\.?\s*[:=]?\s*|[=<>~!^]=\s*|§\s*)$", re.I
)


def _v4(match: re.Match[str]) -> str | None:
    if _VERSION.search(match.string[max(0, match.start() - 16) : match.start()]):
        return None
    address = ipaddress.IPv4Address(match[0])
    return None if address.is_loopback or address.is_unspecified or match[0].startswith("255.") else match[0]


def _v6(match: re.Match[str]) -> str | None:
    found, before = match[0], match.string[max(0, match.start() - 2) : match.start()]
    try:
        address = ipaddress.IPv6Address(found)
    except ValueError:
        return None
    sliced = re.fullmatch(r"\w\[", before) is not None
    if sliced or address.is_loopback or address.is_unspecified or max(map(len, found.split(":"))) < 3:
        return None
    return str(address)


#: the prefixes and lengths of those who issue cards (ISO/IEC 7812)
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|62\d{14,17}"
)


def _card(match: re.Match[str]) -> str | None:
    digits = re.sub(r"\D", "", match[0])
    doubled = (int(d) * 2 if i % 2 else int(d) for i, d in enumerate(reversed(digits)))
    right = sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0
    return digits if right and _CARD.fullmatch(digits) else None


def _phone(match: re.Match[str]) -> str | None:
    digits = re.sub(r"\D", "", match[0])
    plain = re.fullmatch(r"\+\d+(\.\d+)?", match[0])  # a number with its sign
    if not 8 <= len(digits) <= 15 or (plain and (plain[1] or len(digits) < 10)):
        return None
    return digits


def _labelled_phone(match: re.Match[str]) -> str | None:
    digits = re.sub(r"\D", "", match["value"])
    return digits if 6 <= len(digits) <= 15 else None


_KEY_SHAPES = (
    r"eyJ[\w-]{5,}(?:\.[\w-]*){2,4}",  # JSON web tokens begin with {"
    r"(?:A3T[A-Z0-9]|AKIA|ASIA|AROA|AIDA|AGPA|AIPA|ANPA|ANVA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|glpat-[\w-]{20,}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    r"sk-[\w-]{20,}|[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}",
    r"AIza[\w-]{35}|ya29\.[\w-]{20,}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,}",
    r"SG\.[\w-]{16,}\.[\w-]{16,}|dop_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}|\d{8,10}:AA[\w-]{33}",
)
_AUTH = r"(?P<header>authorization\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?(?:bearer|basic|token|digest|apikey)\s{1,3})"

_RULES = (
    _Rule(
        "KEY",
        re.compile(r"-----BEGIN ((?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?)-----.*?(?:-----END \1-----|\Z)", re.DOTALL),
        needles=("-----BEGIN",),
    ),
    _Rule("KEY", re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_KEY_SHAPES)})")),
    _Rule(
        "KEY",
        re.compile(rf"\b(?:{_AUTH}|bearer\s{{1,3}})(?P<value>[A-Za-z0-9._~+/-]{{8,}}=*)", re.IGNORECASE),
        _credential,
        ("value",),
    ),
    _Rule("SECRET", re.compile(r"(?<=://)[^\s/:@\[\]\"'<>]*:[^\s/@\[\]\"'<>]+(?=@)"), needles=("://",)),
    _Rule(
        "SECRET",
        re.compile(
            r"(?<![A-Za-z0-9_-])(?P<name>[A-Za-z_-][\w-]{2,60})(?:\\?[\"'])?\s{0,3}(?P<sign>=>|:=|[:=])\s{0,3}"
            r"(?:(?P<quote>\\?[\"'])(?P<quoted>(?:\\.|[^\\\n]){1,4000}?)(?P=quote)"
            r"|(?P<bare>[^\s\"'\\,;&<>(){}\[\]]{6,})(?![\w(\[]))"
        ),
        _assigned,
        ("quoted", "bare"),
    ),
    _Rule(
        "EMAIL",
        re.compile(r"(?<![\w.%+-])[\w.%+-]{1,200}(?:@|%40)(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])"),
        _email,
        needles=("@", "%40"),
    ),
    _Rule(
        "IP",
        re.compile(
            r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
            r"(?!\w|\.\w|-(?:rc|a|alpha|b|beta|dev|pre|post|snapshot|final|release)\d*\b)"
        ),
        _v4,
        needles=(".",),
    ),
    _Rule(
        "IP",
        re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?(?![\w:]|\.\d)"),
        _v6,
        needles=(":",),
    ),
    _Rule(
        "CARD",
        re.compile(
            r"\d(?<!\d\d)(?<!\d\.\d)(?:\d{12,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{4}|\d{3}([ -])\d{6}\2\d{4,5})(?!\d|\.\d)"
        ),
        _card,
    ),
    _Rule(
        "PHONE",
        re.compile(r"(?<![\w+.])\+[1-9]\d{0,2}(?:[ ./-]?\(\d{1,4}\))?(?:[ ./-]?\d){5,14}(?!\d|\.\d)"),
        _phone,
        needles=("+",),
    ),
    _Rule(
        "PHONE",
        re.compile(
            r"(?<![\w.+-])(?:1[ .-])?(?:\([2-9]\d\d\) ?[2-9]\d\d[ .-]|[2-9]\d\d([.-])[2-9]\d\d\1)\d{4}(?![\w-]|\.\d)"
        ),
        _phone,
    ),
    _Rule(
        "PHONE",
        re.compile(
            r"\b(?:tel|telephone|phone|mobile|cell|fax|whatsapp)\b\\?[\"']?[ .]{0,2}(?:number|no\.?|nr\.?)?"
            r"\s{0,3}[:=]?\s{0,3}\\?[\"']?(?P<value>(?!\d{4}-\d\d-\d\d)\+?\(?\d[\d ()./-]{4,18}\d)(?!\d)",
            re.IGNORECASE,
        ),
        _labelled_phone,
        ("value",),
    ),
)
