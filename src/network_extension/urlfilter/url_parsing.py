"""Taking a URL apart as browsers do, for the strings that the URL filter tests.

What counts is what the device's URL parser makes of what people type, which is the URL Standard (url.spec.whatwg.org)
for WebKit: the host in lower case and punycode (UTS #46, not transitional), IPv4 addresses in any spelling as four
numbers, dot segments of the path removed, what is not ASCII in path, query and fragment percent-encoded. Percent
escapes that are there stay as they are: what devices make of them is not known (specification §10).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from ..errors import ConfigurationError

LONGEST_URL = 65536
"""Characters. Browsers stop at two million; lists and requests that go beyond this are no URLs that people meet."""
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
"""The schemes that the filter sees, with the port that goes unsaid."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):[/\\]{2}", re.ASCII)
_OTHER_SCHEME = re.compile(r"(?:about|blob|data|file|javascript|mailto|tel):", re.IGNORECASE)
_HOST_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]")
_NUMBER_AT_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)
_DOT, _DOT_DOT = {".", "%2e"}, {"..", ".%2e", "%2e.", "%2e%2e"}
# What the URL Standard leaves as it is, besides letters and digits, in a path, and in a query or fragment.
_PATH_SAFE = "!$%&'()*+,-./:;=@[\\]^_|~"
_QUERY_SAFE = "!$%&()*+,-./:;=?@[\\]^_`{|}~"


class UnusableURL(ConfigurationError):
    """A text that is no URL which the URL filter could ever test; `reason` says why, without the text itself.

    URLs are private: the message does not repeat what was asked for.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"not a URL that the filter tests: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class URLParts:
    """A URL in its parts, normalised."""

    scheme: str
    """In lower case; https where the text had none."""
    host: str
    """Punycode in lower case without a dot at its end; IPv4 as four numbers; IPv6 in brackets, compressed."""
    port: int | None
    """None where it is the scheme's own, or not said."""
    path: str
    """With its first slash; empty where the URL ends with the host. A lone slash is kept."""
    query: str | None
    """Without its question mark; None where there is none, empty where there is only the mark."""
    fragment: str | None

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, which has no domains above it."""
        return self.host.startswith("[") or self.host.replace(".", "").isdigit()

    @property
    def effective_port(self) -> int:
        """The port that is connected to."""
        return self.port or DEFAULT_PORTS[self.scheme]


def parse_url(text: str) -> URLParts:
    """The parts of a URL, or of `host[:port][/path][?query][#fragment]` without a scheme.

    User names and passwords are dropped, as they are before a request. Raises UnusableURL.
    """
    text = text.strip()
    if not text:
        raise UnusableURL("it is empty")
    if len(text) > LONGEST_URL:
        raise UnusableURL(f"it is longer than {LONGEST_URL} characters")
    if _CONTROL.search(text):
        raise UnusableURL("there is a space or a control character in it")
    scheme, rest = _scheme(text)
    rest, mark, fragment = rest.partition("#")
    encoded_fragment = _encoded(fragment, _QUERY_SAFE) if mark else None
    rest, mark, query = rest.partition("?")
    encoded_query = _encoded(query, _QUERY_SAFE) if mark else None
    authority, slash, path = rest.replace("\\", "/").partition("/")
    host, port = _authority(authority)
    return URLParts(
        scheme,
        host,
        None if port == DEFAULT_PORTS[scheme] else port,
        _without_dots(_encoded(slash + path, _PATH_SAFE)),
        encoded_query,
        encoded_fragment,
    )


def _scheme(text: str) -> tuple[str, str]:
    if match := _SCHEME.match(text):
        scheme = match[1].lower()
        if scheme not in DEFAULT_PORTS:
            raise UnusableURL(f"the filter sees http, https, ws and wss, not {scheme[:20]}")
        return scheme, text[match.end() :]
    if match := _OTHER_SCHEME.match(text):
        raise UnusableURL(f"the filter sees http, https, ws and wss, not {match[0][:-1].lower()}")
    return "https", text.removeprefix("//")


def _authority(authority: str) -> tuple[str, int | None]:
    host = authority.rpartition("@")[2]
    port: int | None = None
    if host.startswith("["):
        host, bracket, rest = host.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UnusableURL("the brackets of its IPv6 address are not closed before the port")
        return _ipv6(host[1:]), _port(rest[1:])
    host, colon, number = host.partition(":")
    if colon:
        port = _port(number)
    return normalised_host(host), port


def _port(number: str) -> int | None:
    if not number:
        return None
    if not _PORT.fullmatch(number) or not 0 < int(number) < 65536:
        raise UnusableURL("its port is no number from 1 to 65535")
    return int(number)


def _ipv6(text: str) -> str:
    if "%" in text:
        raise UnusableURL("an IPv6 address with a zone belongs to one machine")
    try:
        return f"[{ipaddress.IPv6Address(text).compressed}]"
    except ValueError:
        raise UnusableURL("what stands in brackets is no IPv6 address") from None


def normalised_host(text: str) -> str:
    """A host name in punycode and lower case without a dot at its end, or an IPv4 address as four numbers.

    Raises UnusableURL for what is neither. Underscores are let through: names with them are on many lists.
    """
    host = text.lower() if text.isascii() else text
    if "%" in host:
        host = unquote_to_bytes(host).decode("utf-8", "replace")
    if not host.isascii() or "xn--" in host:
        host = _punycode(host)
    host = host.lower().removesuffix(".")
    if not host:
        raise UnusableURL("it has no host")
    if _NUMBER_AT_END.fullmatch(host):
        return _ipv4(host)
    if len(host) > 253:
        raise UnusableURL("its host is longer than 253 characters")
    for label in host.split("."):
        if not label:
            raise UnusableURL("its host has an empty label")
        if len(label) > 63:
            raise UnusableURL("a label of its host is longer than 63 characters")
        if not _HOST_LABEL.fullmatch(label):
            raise UnusableURL("its host has a character that no host name has, or a hyphen at an end of a label")
    return host


def _punycode(host: str) -> str:
    """UTS #46 without the checks of IDNA 2008, which browsers do not make: names of symbols exist."""
    import idna

    try:
        mapped = idna.uts46_remap(host, std3_rules=False, transitional=False)
        return ".".join(_ascii_label(label) for label in mapped.split("."))
    except (idna.IDNAError, UnicodeError):
        raise UnusableURL("its host has a character that no host name has") from None


def _ascii_label(label: str) -> str:
    if label.isascii():
        if label.startswith("xn--"):
            label[4:].encode().decode("punycode")  # raises for what no name becomes
        return label
    return f"xn--{label.encode('punycode').decode()}"


def _ipv4(host: str) -> str:
    """Four numbers from any spelling that browsers take: fewer parts, octal, hexadecimal."""
    parts = host.split(".")
    try:
        numbers = [_ipv4_number(part) for part in parts]
        if len(parts) > 4 or any(number > 255 for number in numbers[:-1]):
            raise ValueError
        value = numbers[-1]
        if value >= 1 << 8 * (5 - len(parts)):
            raise ValueError
    except ValueError:
        raise UnusableURL("its host ends in a number and is no IPv4 address") from None
    for place, number in enumerate(numbers[:-1]):
        value |= number << 8 * (3 - place)
    return str(ipaddress.IPv4Address(value))


def _ipv4_number(part: str) -> int:
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    if len(part) > 12:
        raise ValueError
    return int(part, 8) if part.startswith("0") and part != "0" else int(part)


def _encoded(text: str, safe: str) -> str:
    return text if text.isascii() and not set(text) & set('"<>`{}') else quote(text, safe=safe, errors="replace")


def _without_dots(path: str) -> str:
    """The path without `.` and `..` segments (RFC 3986 §5.2.4), also where they are escaped."""
    if "/." not in path and "%2" not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for place, segment in enumerate(segments):
        lowered, is_last = segment.lower(), place == len(segments) - 1
        if lowered in _DOT_DOT:
            if kept:
                kept.pop()
            if is_last:
                kept.append("")
        elif lowered in _DOT:
            if is_last:
                kept.append("")
        else:
            kept.append(segment)
    return "/" + "/".join(kept)
