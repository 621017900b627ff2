"""Block pages and redirects: how the stage waits for the request that they answer.

A filter may ask for a block page before the program has sent its request. Then the stage stands in for the filter: the
flow opens with both directions held, the first bytes are looked at, and when they turn out to be a plain HTTP request
they are answered by the page; whatever else they are, the flow is dropped. Nothing of the program's gets out.

The button of a block page is a link to the remediation URL. A request for just that URL, in a flow whose bytes the
filter looks at (or for which it answers "remediate" again), is how the user asks for access: the filter's
`handle_remediation` is called in place of the next data callback. A flow that the filter allowed unseen goes to the
server of that name instead, as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..filter_verdicts import FLOW_BYTES_MAX, FilterVerdict, VerdictKind
from .filter_hello import ControlMaps
from .filter_pages import block_page, redirect, remediation_url

MOST_URLS = 1024
LONGEST_STAND_IN = 5.0
_ASKS_FOR_PAGE = (VerdictKind.REMEDIATE, VerdictKind.URL_APPEND_STRING)
SHOW_MORE = FilterVerdict(VerdictKind.DATA, peek_bytes=FLOW_BYTES_MAX)
HOLD_ALL = FilterVerdict(
    VerdictKind.FILTER_DATA, filter_inbound=True, peek_inbound=1, filter_outbound=True, peek_outbound=1
)


class StandIn(NamedTuple):
    """The stage answers for a filter until the request is there."""

    slot: int
    verdict: FilterVerdict
    until: float
    method: str
    """The filter's, which asked for the page."""


class Remediation:
    """What is known of pages: the control provider's maps, and the URLs that users may ask for access by."""

    def __init__(self) -> None:
        self._urls: dict[str, int] = {}

    def page(
        self, maps: ControlMaps, index: int, verdict_keys: tuple[str, str], url: str | None, host: str | None
    ) -> bytes | None:
        """The block page of filter `index` for a plain HTTP request; None for anything else."""
        if url is None:
            return None
        link = remediation_url(maps, verdict_keys[0], url, host)
        if link.startswith("http://"):
            while len(self._urls) >= MOST_URLS:
                del self._urls[next(iter(self._urls))]
            self._urls[link] = index
        return block_page(maps, *verdict_keys, url, host)

    def redirect(self, maps: ControlMaps, key: str, url: str | None) -> bytes | None:
        """The redirect for a plain HTTP request; None for anything else."""
        return None if url is None else redirect(url, maps.append_strings.get(key, ""))

    def is_request(self, url: str | None, index: int) -> bool:
        """Whether a request for this URL asks filter `index` for access."""
        return url is not None and self._urls.get(url) == index


def asks_for_page(verdict: FilterVerdict) -> bool:
    """Whether a verdict needs the program's request."""
    return verdict.kind in _ASKS_FOR_PAGE


def is_appended(strings: Mapping[str, str], verdict: FilterVerdict, url: str | None) -> bool:
    """Whether the redirect has been followed: the URL ends as it should."""
    if verdict.kind is not VerdictKind.URL_APPEND_STRING or url is None:
        return False
    string = strings.get(verdict.url_map_key, "")
    return bool(string) and url.endswith(string)
