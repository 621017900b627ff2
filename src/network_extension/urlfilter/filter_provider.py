"""A content filter that applies a URL filter to what programs of this machine do.

    netext run --provider network_extension.urlfilter.filter_provider --config pir_server_url=https://… -- COMMAND

What it can see decides what it can ask about, and its log says which of the two it did:

- **plain HTTP**: every request of a connection by its full URL;
- **TLS and QUIC**: the host name of the hello, as `https://NAME/`: no path, since that is encrypted;
- anything else, and a hello without a name, is let through.

Configuration: what `URLFilterConfiguration` has, and besides

    token_file=FILE     the authentication token, rather than on the command line
    ca_file=FILE        authorities to trust in place of the system's
    log=all             log what is allowed as well; by default only what is blocked or could not be found out
"""

from __future__ import annotations

from pathlib import Path
from socket import IPPROTO_TCP, IPPROTO_UDP
from typing import Any
from weakref import WeakKeyDictionary

from ..content_filter import FilterDataProvider
from ..core.http_request import NotHTTPError
from ..core.name_sniffing import NameSniffer
from ..errors import ConfigurationError
from ..filter_flow import FilterFlow
from ..filter_verdicts import FLOW_BYTES_MAX, FilterDataVerdict, FilterNewFlowVerdict
from ..provider import StopReason
from ..rules import Direction
from .filter_session import FilterSession
from .http_requests import Body, Head, More, RequestReader, Tunnel
from .url_filter_configuration import URLFilterConfiguration
from .verdicts import Verdict

HTTPS = 443
MOST_LOOKED_AT = 65_536
"""Bytes of a stream in which a name must be."""
MOST_DATAGRAMS = 8
_TLS_HANDSHAKE = b"\x16"
_OWN_SETTINGS = ("token_file", "ca_file", "log")


class _Watched:
    """What has been seen of one flow."""

    __slots__ = ("pieces", "requests", "seen", "sniffer")

    def __init__(self, protocol: int, port: int) -> None:
        self.sniffer = NameSniffer(protocol, port)
        self.requests = RequestReader(port)
        self.seen = self.pieces = 0


class URLFilterProvider(FilterDataProvider):
    """Blocks what the URL filter of its configuration blocks."""

    def __init__(self) -> None:
        self._session: FilterSession | None = None
        self._flows: WeakKeyDictionary[FilterFlow, _Watched] = WeakKeyDictionary()
        self._logs_all = self._fails_closed = False

    async def start_filter(self) -> None:
        """Fetch the prefilter, and see whether the service can be asked. Raises NetworkExtensionError."""
        configuration, ca_file, self._logs_all = read_settings(dict(self.configuration))
        self._fails_closed = configuration.should_fail_closed
        session = self.make_session(configuration, ca_file)
        try:
            await session.start()
        except BaseException:
            await session.stop(StopReason.PROVIDER_FAILED)
            raise
        self._session = session

    def make_session(self, configuration: URLFilterConfiguration, ca_file: str | None) -> FilterSession:
        """The session that decides; a derived class may give it a control provider of its own."""
        return FilterSession(configuration, ca_file=ca_file, log=self._log_line)

    async def stop_filter(self, reason: StopReason) -> None:
        """Let go of all connections."""
        if self._session is not None:
            await self._session.stop(reason)

    def _log_line(self, level: str, text: str) -> None:
        self.log(text, level)

    # Flows

    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
        """Have the first bytes of outbound TCP, and of what may be QUIC, shown."""
        port = _port(flow)
        looks = flow.direction is Direction.OUTBOUND and (
            flow.socket_protocol == IPPROTO_TCP or (flow.socket_protocol == IPPROTO_UDP and port == HTTPS)
        )
        if not looks:
            return FilterNewFlowVerdict.allow()
        self._flows[flow] = _Watched(flow.socket_protocol, port)
        return FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX)

    async def handle_outbound_data(self, flow: FilterFlow, offset: int, data: bytes) -> FilterDataVerdict:
        """Decide by what the bytes tell."""
        watched = self._flows.setdefault(flow, _Watched(flow.socket_protocol, _port(flow)))
        if flow.socket_protocol == IPPROTO_TCP and (offset or data[:1] != _TLS_HANDSHAKE):
            return await self._requests(flow, watched, data)
        return await self._hello(flow, watched, data)

    def handle_outbound_data_complete(self, flow: FilterFlow) -> FilterDataVerdict:
        """The program says nothing more that could be asked about."""
        return FilterDataVerdict.allow()

    async def _hello(self, flow: FilterFlow, watched: _Watched, data: bytes) -> FilterDataVerdict:
        """TLS or QUIC: the name in the hello, once it is whole."""
        new, watched.seen = data[watched.seen :], len(data)
        watched.pieces += 1
        found = watched.sniffer.feed(new)
        may_come = not watched.sniffer.done and len(data) < MOST_LOOKED_AT
        if found is None and may_come and (flow.socket_protocol == IPPROTO_TCP or watched.pieces < MOST_DATAGRAMS):
            return FilterDataVerdict.data(0, FLOW_BYTES_MAX)
        name = found.host if found else None
        if name is None:
            return FilterDataVerdict.allow()
        port = _port(flow)
        url = f"https://{name}{'' if port == HTTPS else f':{port}'}/"
        return await self._decide(flow, url, "by host name")

    async def _requests(self, flow: FilterFlow, watched: _Watched, data: bytes) -> FilterDataVerdict:
        """Plain HTTP, if it is that: every request by its URL."""
        at = 0
        while True:
            try:
                piece = watched.requests.read(data[at:])
            except NotHTTPError as error:
                return self._not_http(flow, watched, error)
            if isinstance(piece, More):
                return FilterDataVerdict.data(at, FLOW_BYTES_MAX)
            if isinstance(piece, Tunnel):
                return FilterDataVerdict.allow()
            if isinstance(piece, Head):
                verdict = await self._request(flow, piece)
                if verdict is not None:
                    return verdict
            assert isinstance(piece, (Body, Head))
            at += piece.size

    async def _request(self, flow: FilterFlow, head: Head) -> FilterDataVerdict | None:
        """None lets this request pass."""
        url, how = head.request.url, "by full URL"
        if head.request.method == "CONNECT" and head.request.host:
            url, how = f"https://{head.request.target}/", "by host name"
        if url is None:
            return None
        verdict = await self._decide(flow, url, how)
        return None if verdict == FilterDataVerdict.allow() else verdict

    def _not_http(self, flow: FilterFlow, watched: _Watched, error: NotHTTPError) -> FilterDataVerdict:
        """Another protocol from the start is not our business; HTTP that ends in something unclear may hide a URL."""
        if not watched.requests.requests:
            return FilterDataVerdict.allow()
        how = "blocked" if self._fails_closed else "let through"
        self.log(
            f"{flow!r}: {error}; {how}, as the filter fails {'closed' if self._fails_closed else 'open'}", "warning"
        )
        return FilterDataVerdict.drop() if self._fails_closed else FilterDataVerdict.allow()

    async def _decide(self, flow: FilterFlow, url: str, how: str) -> FilterDataVerdict:
        assert self._session is not None
        report = await self._session.verdict_for(url)
        if report.error is not None:
            word = "blocked" if report.verdict is Verdict.DENY else "let through"
            self.log(f"{url}: {word} {how}, since it could not be found out: {report.error}", "warning")
        elif report.verdict is Verdict.DENY:
            self.log(f"{url}: blocked {how}: {report.matched} is on the list")
        elif self._logs_all:
            self.log(f"{url}: allowed {how}")
        return FilterDataVerdict.drop() if report.verdict is Verdict.DENY else FilterDataVerdict.allow()


def read_settings(settings: dict[str, Any]) -> tuple[URLFilterConfiguration, str | None, bool]:
    """A provider's configuration: the filter's, the authorities' file, and whether all is logged.

    Raises ConfigurationError (of which URLFilterError's CONFIGURATION_INVALID is the one about single settings).
    """
    own = {name: settings.pop(name, None) for name in _OWN_SETTINGS}
    for name, value in own.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise ConfigurationError(f"configuration: {name} is a text, not {type(value).__name__}")
    if own["log"] not in (None, "all", "blocked"):
        raise ConfigurationError(f"configuration: log is all or blocked, not {own['log']!r}")
    if own["token_file"]:
        settings["pir_authentication_token"] = read_token(own["token_file"])
    return URLFilterConfiguration.from_mapping(settings), own["ca_file"], own["log"] == "all"


def read_token(path: str) -> str:
    """The authentication token in a file, without the white space around it. Raises ConfigurationError."""
    try:
        with Path(path).expanduser().open("rb") as file:
            return file.read(65_536).decode("ascii").strip()
    except OSError as error:
        raise ConfigurationError(f"token file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"token file {path}: not base64, but bytes of something else") from None


def _port(flow: FilterFlow) -> int:
    return flow.remote_endpoint.port if flow.remote_endpoint else 0
