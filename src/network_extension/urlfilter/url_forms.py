"""The strings that a device tests for one URL: those that must be on the list to block it.

Three generations of systems differ (specification §3.2; the documentation of NEURLFilterManager, whose two lists are
golden tests here):

- 26.0 to 26.3: the host with and without `www.`, with each beginning of the path, the query and the fragment, and a
  slash behind each or none. Domains above the host are tested without a path.
- 26.4 on: the host without `www.` and every domain above it, down to two labels, each without a port and with it, and
  each of those with every beginning of the path, with and without a slash, the query and the fragment.
- 27: the same in lower case, unless the app sets a parsing configuration or a regular expression (`url_parsing_27`).

`row_of` gives the one string for a list that all of them test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from .url_parsing import UnusableURL, URLParts, parse_url

if TYPE_CHECKING:
    from .url_parsing_27 import ParsingConfiguration
    from .url_parsing_expression import ParsingExpression

System = Literal["26.0", "26.4", "27"]
"""A generation of systems, by the first release of it."""
SYSTEMS: tuple[System, ...] = ("26.0", "26.4", "27")
DEEPEST_PATH = 64
"""Segments of which every beginning is tested; of a longer path the rest only as a whole. Bounds what one URL costs."""
MOST_DOMAINS = 32
"""Domains above the host that are tested, counted from the shortest; the host itself always is."""


def candidates(
    url: str,
    system: System = "26.4",
    parsing: ParsingConfiguration | ParsingExpression | None = None,
    *,
    include_observed: bool = False,
) -> tuple[str, ...]:
    """All strings that a device of that generation tests for `url`, in the documentation's order, each once.

    `parsing` is what an app may set from system 27 on; it is an error elsewhere. `include_observed` adds what is not
    documented and was seen on devices of 26.0 (specification §3.2): the bare top-level domain, a slash before the
    query, and the URL as it stands after its scheme. Raises UnusableURL.
    """
    if system not in SYSTEMS:
        raise UnusableURL(f"systems are {', '.join(SYSTEMS)}, not {str(system)[:20]}")
    if parsing is not None and system != "27":
        raise UnusableURL(f"a parsing configuration exists from system 27 on, not in {system}")
    if parsing is not None:
        return parsing.candidates(url)
    parts = parse_url(url)
    if system == "26.0":
        forms = _forms_26_0(parts)
        return _unique(forms) if not include_observed else _unique([*forms, *_observed_26_0(parts, url)])
    return _unique(forms_26_4(parts, is_lower=system == "27"))


def _unique(forms: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(forms))


def row_of(text: str) -> str:
    """The string to put on a list, and so into prefilter and database, to block a URL or a domain with all beneath it.

    The host in lower-case punycode without `www.`, a port only if it is not the scheme's own, the path in its own case
    without slashes at its end, query and fragment where there are any. Raises UnusableURL; also for a path of more than
    DEEPEST_PATH segments, which is never tested by its beginnings.
    """
    parts = parse_url(text)
    if parts.path.count("/") > DEEPEST_PATH:
        raise UnusableURL(f"its path has more than {DEEPEST_PATH} segments")
    port = f":{parts.port}" if parts.port else ""
    return without_www(parts.host) + port + parts.path.rstrip("/") + _tail(parts)


def without_www(host: str) -> str:
    """The host without its label www, unless only a top-level domain would be left."""
    bare = host.removeprefix("www.")
    return bare if "." in bare else host


def _tail(parts: URLParts) -> str:
    query = "" if parts.query is None else f"?{parts.query}"
    return query if parts.fragment is None else f"{query}#{parts.fragment}"


def path_beginnings(path: str) -> Iterator[str]:
    """`/a`, `/a/b`, … up to the whole path, all without a slash at their end; nothing for a path without a segment."""
    whole = path.rstrip("/")
    at = 0
    for _ in range(DEEPEST_PATH):
        at = whole.find("/", at + 1)
        if at < 0:
            break
        yield whole[:at]
    if whole:
        yield whole


def domains_above(host: str) -> Iterator[str]:
    """Every domain of a host name from two labels on, the shortest first and the host last."""
    labels = host.split(".")
    for count in range(2, min(len(labels), MOST_DOMAINS + 2)):
        yield ".".join(labels[-count:])
    yield host


def forms_26_4(parts: URLParts, *, is_lower: bool = False) -> Iterator[str]:
    """Domains times ports times what stands behind them, in the documentation's order."""
    host = without_www(parts.host)
    behind = [form.lower() if is_lower else form for form in _behind_26_4(parts)]
    for domain in [host] if parts.is_address else domains_above(host):
        for port in ("", f":{parts.effective_port}"):
            for form in behind:
                yield domain + port + form


def _behind_26_4(parts: URLParts) -> Iterator[str]:
    yield from ("", "/")
    for beginning in path_beginnings(parts.path):
        yield from (beginning, f"{beginning}/")
    whole, query = parts.path.rstrip("/"), "" if parts.query is None else f"?{parts.query}"
    for slash in ("/", ""):
        if query:
            yield f"{whole}{slash}{query}"
        if parts.fragment is not None:
            yield f"{whole}{slash}{query}#{parts.fragment}"


def _forms_26_0(parts: URLParts) -> Iterator[str]:
    bare = parts.host.removeprefix("www.")
    hosts = [bare] if parts.is_address else [bare, f"www.{bare}"]
    behind = [*path_beginnings(parts.path)]
    whole = parts.path.rstrip("/")
    if parts.query is not None:
        behind.append(f"{whole}?{parts.query}")
    if parts.fragment is not None:
        behind.append(whole + _tail(parts))
    port = f":{parts.port}" if parts.port else ""
    for form in ["", *behind]:
        for host in hosts:
            yield from (host + form, f"{host}{form}/")
            if port:
                yield from (host + port + form, f"{host}{port}{form}/")
    if not parts.is_address:
        for domain in domains_above(bare):
            yield from (domain, f"{domain}/")


def _observed_26_0(parts: URLParts, url: str) -> Iterator[str]:
    if not parts.is_address:
        top = parts.host.rpartition(".")[2]
        yield from (top, f"{top}/")
    if tail := _tail(parts):
        bare = parts.host.removeprefix("www.")
        for host in (bare, f"www.{bare}"):
            yield f"{host}{parts.path.rstrip('/')}/{tail}"
    port = f":{parts.port}" if parts.port else ""
    yield parts.host + port + parts.path + _tail(parts)
