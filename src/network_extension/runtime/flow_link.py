"""The provider process's end of the flow channel: messages of the engine become calls of the provider, and
back.

The engine may open 2,500 flows a second, so this is a hot path: no task unless `handle_new_flow` is a
coroutine, and then one; no stream, no transport; the channel is read in batches.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ..app_proxy import AppProxyProvider
from ..endpoint import Endpoint
from ..errors import FlowError, FlowErrorCode
from ..flow import AppProxyFlow, RelayResult
from ..metadata import FlowMetadata, ProcessInfo
from ..network_settings import TransparentProxyNetworkSettings
from ..tcp_flow import TCPFlow
from ..udp_flow import UDPFlow
from .channel import Channel
from .hello import pack_hello
from .loader import one_line
from .wire import (
    MessageType,
    WireError,
    endpoint_field,
    int_field,
    object_field,
    optional_endpoint_field,
    optional_text_field,
    text_field,
)

Body = dict[str, Any]
BATCH = 64
MAX_PROCESSES = 256
MAX_REASON = 500


class LinkOwner(Protocol):
    """What a link needs of the process that it is in."""

    def log(self, level: str, text: str, error: BaseException | None = None) -> None:
        """One line for the log; the traceback of `error` goes along where debugging is on."""

    def link_ended(self, link: FlowLink) -> None:
        """The engine is gone, or speaks nonsense."""


class FlowLink:
    """One flow channel and the flows that came through it."""

    def __init__(self, sock: socket.socket, provider: AppProxyProvider, owner: LinkOwner) -> None:
        self.channel = Channel(sock)
        self.loop = asyncio.get_running_loop()
        self.flows: dict[int, LinkedFlow] = {}
        self._provider = provider
        self._owner = owner
        self._processes: dict[tuple[object, ...], ProcessInfo] = {}
        self._writing = False
        self.loop.add_reader(self.channel.fileno(), self._readable)

    def say_hello(self, name: str, settings: TransparentProxyNetworkSettings | None) -> None:
        """Announce the provider, at first and whenever its settings change."""
        body, fds = pack_hello(name, self._provider.kind, settings)
        try:
            self.send(MessageType.HELLO, 0, body, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def send(self, kind: MessageType, flow: int, body: Body | None = None, fds: list[int] | None = None) -> None:
        """Send to the engine; a channel that cannot take it has ended."""
        try:
            self.channel.send(kind, flow, body, fds or ())
        except (WireError, OSError) as error:
            self._owner.log("error", f"flow channel: {kind.name} was not sent: {error}")
            self.close()
            return
        if self.channel.wants_write and not self._writing:
            self._writing = True
            self.loop.add_writer(self.channel.fileno(), self._writable)

    def log(self, level: str, text: str, error: BaseException | None = None) -> None:
        """For the flows: a line for the log."""
        self._owner.log(level, text, error)

    def close(self) -> None:
        """End the channel and every flow that came through it. May be called twice."""
        fd = self.channel.fileno()
        if fd < 0:
            return
        self.loop.remove_reader(fd)
        self.loop.remove_writer(fd)
        self.channel.close()
        lost = FlowError(FlowErrorCode.ABORTED, "the engine has gone")
        for linked in list(self.flows.values()):
            linked.end(lost)
        self.flows.clear()
        self._owner.link_ended(self)

    def _readable(self) -> None:
        try:
            messages = self.channel.receive(BATCH)
        except (WireError, OSError) as error:
            self._owner.log("error", f"flow channel: {error}")
            self.close()
            return
        for kind, flow_id, body, fds in messages:
            try:
                if not self.channel.eof or kind is not MessageType.NEW_FLOW:
                    self._dispatch(kind, flow_id, body, fds)
            except WireError as error:
                self._owner.log("error", f"flow channel: {kind.name} of flow {flow_id}: {error}")
            for fd in fds:
                os.close(fd)
        if self.channel.eof:
            self.close()

    def _writable(self) -> None:
        self.channel.flush()
        if not self.channel.wants_write:
            self._writing = False
            self.loop.remove_writer(self.channel.fileno())

    def _dispatch(self, kind: MessageType, flow_id: int, body: Body, fds: list[int]) -> None:
        """Descriptors that are taken are removed from `fds`."""
        if kind is MessageType.NEW_FLOW:
            self._new_flow(flow_id, body)
            return
        linked = self.flows.get(flow_id)
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise WireError("not a message that an engine sends")
        if linked is not None:  # else it ended here while the message was on its way
            handler(linked, body, fds)

    def _new_flow(self, flow_id: int, body: Body) -> None:
        linked = LinkedFlow(self, flow_id)
        flow = linked.flow = self._make_flow(linked, body)
        self.flows[flow_id] = linked
        try:
            if isinstance(flow, UDPFlow):
                answer = self._provider.handle_new_udp_flow(flow, flow.remote_endpoint)
            else:
                answer = self._provider.handle_new_flow(flow)
        except Exception as error:
            linked.failed(error)
            return
        if answer is True or answer is False:
            linked.decided(answer)
        elif inspect.iscoroutine(answer):
            linked.task = self.loop.create_task(answer, name=f"flow {flow_id} to {flow.remote_endpoint}")
            linked.task.add_done_callback(linked.handler_done)
        elif inspect.isawaitable(answer):
            linked.task = self.loop.create_task(_wait_for(answer), name=f"flow {flow_id}")
            linked.task.add_done_callback(linked.handler_done)
        else:
            linked.decided(answer)

    def _make_flow(self, linked: LinkedFlow, body: Body) -> AppProxyFlow:
        proto = text_field(body, "proto")
        if proto not in ("tcp", "udp"):
            raise WireError(f"proto: {proto[:20]!r} is neither tcp nor udp")
        make = TCPFlow if proto == "tcp" else UDPFlow
        return make(
            linked.id,
            linked,
            Endpoint(*endpoint_field(body, "local")),
            Endpoint(*endpoint_field(body, "remote")),
            remote_hostname=optional_text_field(body, "host"),
            metadata=FlowMetadata(self._process(body), optional_text_field(body, "name_source")),
            network_interface=optional_text_field(body, "interface"),
        )

    def _process(self, body: Body) -> ProcessInfo | None:
        """The flow's process. Ten thousand flows of one process share one object."""
        data = object_field(body, "process")
        if not data:
            return None
        key = (data.get("pid"), data.get("start_time"), data.get("executable"), str(data.get("arguments")))
        try:
            known = self._processes.get(key)
        except TypeError:
            raise WireError("process: not made of numbers and texts") from None
        if known is None:
            if len(self._processes) >= MAX_PROCESSES:
                self._processes.clear()
            known = self._processes[key] = ProcessInfo.from_dict(data)
        return known


async def _wait_for(answer: Awaitable[Any]) -> Any:
    return await answer


class LinkedFlow:
    """The `FlowBackend` of one flow: its requests, and the futures that wait for the engine's answers."""

    __slots__ = (
        "_attached",
        "_claimed",
        "_link",
        "_opened",
        "_peers",
        "_relayed",
        "flow",
        "id",
        "task",
    )

    flow: AppProxyFlow

    def __init__(self, link: FlowLink, flow_id: int) -> None:
        self.id = flow_id
        self.task: asyncio.Task[Any] | None = None
        self._link = link
        self._claimed = False  # the engine has been told a decision
        self._opened: asyncio.Future[None] | None = None
        self._attached: asyncio.Future[socket.socket | None] | None = None
        self._relayed: asyncio.Future[RelayResult] | None = None
        self._peers: dict[Endpoint, asyncio.Future[None]] | None = None

    # What the flow asks for

    def claim(self) -> None:
        """The provider keeps the flow."""
        self._claimed = True
        self._link.send(MessageType.CLAIM, self.id)

    def open(self, local: Endpoint | None) -> asyncio.Future[None]:
        """Let the program's connect() complete."""
        if self._opened is None or self._opened.cancelled():
            self._opened = self._link.loop.create_future()
            self._link.send(MessageType.OPEN, self.id, {"local": list(local)} if local else None)
        return self._opened

    def attach(self) -> asyncio.Future[socket.socket | None]:
        """The program's side as a socket."""
        if self._attached is None or self._attached.cancelled():
            self._attached = self._link.loop.create_future()
            self._link.send(MessageType.ATTACH, self.id)
        return self._attached

    def request_peer(self, remote: Endpoint) -> asyncio.Future[None]:
        """A socket for a remote endpoint that the program has not sent to."""
        peers = self._peers = {} if self._peers is None else self._peers
        waiting = peers.get(remote)
        if waiting is None or waiting.cancelled():
            waiting = peers[remote] = self._link.loop.create_future()
            self._link.send(MessageType.PEER_REQUEST, self.id, {"remote": list(remote)})
        return waiting

    def relay(self, remote: socket.socket) -> asyncio.Future[RelayResult]:
        """Hand the flow to the engine's splice."""
        relayed = self._relayed = self._link.loop.create_future()
        self._link.send(MessageType.RELAY, self.id, None, [remote.fileno()])
        return relayed

    def close(self, error: int, direction: str, reason: str = "") -> None:
        """Close one way or both."""
        self._claimed = True
        body: Body = {"error": error, "direction": direction}
        if reason:
            body["reason"] = reason[:MAX_REASON]
        self._link.send(MessageType.CLOSE, self.id, body)

    # What the handler comes to

    def handler_done(self, task: asyncio.Task[Any]) -> None:
        """`handle_new_flow`, as a coroutine, has ended."""
        self.task = None
        if task.cancelled():
            self.flow.close(FlowErrorCode.ABORTED)
        elif (error := task.exception()) is not None:
            self.failed(error)
        else:
            self.decided(task.result())

    def decided(self, answer: object) -> None:
        """What `handle_new_flow` returned."""
        if answer is True:
            if not self._claimed and not self._ended:
                self.flow._claim()
        elif answer is not False:
            text = f"handle_new_flow returned {type(answer).__name__}, not True or False"
            self._give_up(text, FlowErrorCode.INTERNAL)
        elif not self._claimed:
            self._refuse(MessageType.DECLINE, None)
        elif not self.flow._closed and not self._ended:
            text = "handle_new_flow returned False after it had claimed the flow"
            self._give_up(text, FlowErrorCode.ABORTED)

    def failed(self, error: BaseException) -> None:
        """`handle_new_flow` raised."""
        if isinstance(error, FlowError):
            if self._ended:
                return  # the program, or the engine, ended the flow; there is nobody to tell
            level, code = "info", error.code
        else:
            level, code = "error", FlowError.from_exception(error).code
        self._give_up(f"handle_new_flow raised {one_line(error)}", code, level, error)

    @property
    def _ended(self) -> bool:
        return self.flow._failure is not None

    def _give_up(
        self, text: str, code: FlowErrorCode, level: str = "error", error: BaseException | None = None
    ) -> None:
        self._link.log(level, f"flow {self.id} to {self.flow.remote_endpoint}: {text}", error)
        if self._claimed:
            self.flow.close(error if isinstance(error, FlowError) else FlowError(code, text))
        else:
            self._refuse(MessageType.FAIL, {"error": text})

    def _refuse(self, kind: MessageType, body: Body | None) -> None:
        """The flow is not ours: the engine does with it what it must, and nothing more can be asked for."""
        self._claimed = True
        if not self._ended:
            self._link.send(kind, self.id, body)
        self._link.flows.pop(self.id, None)
        self.end(FlowError(FlowErrorCode.NOT_CONNECTED, f"flow {self.id} was not claimed"))

    # What the engine says

    def on_opened(self, body: Body, fds: list[int]) -> None:
        """OPENED: the program's connect() has completed (also when RELAY did it)."""
        self.flow._opened = True
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    def on_attached(self, body: Body, fds: list[int]) -> None:
        """ATTACHED: the program's side, for TCP."""
        waiting = self._attached
        if waiting is None or waiting.done():
            return
        if isinstance(self.flow, UDPFlow):
            waiting.set_result(None)
            return
        try:
            waiting.set_result(_take_socket(fds))
        except WireError as error:
            self._attached = None
            waiting.set_exception(FlowError(FlowErrorCode.INTERNAL, f"flow {self.id}: {error}"))

    def on_peer(self, body: Body, fds: list[int]) -> None:
        """PEER: a socket for the datagrams between the program and one remote."""
        if not isinstance(self.flow, UDPFlow):
            raise WireError("the flow is not UDP")
        remote = Endpoint(*endpoint_field(body, "remote"))
        waiting = self._peers.pop(remote, None) if self._peers else None
        try:
            self.flow._add_peer(remote, _take_socket(fds))
        except WireError as error:
            if waiting is None or waiting.done():
                raise
            waiting.set_exception(FlowError(FlowErrorCode.INTERNAL, f"flow {self.id}: {error}"))
            return
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def on_udp_eof(self, body: Body, fds: list[int]) -> None:
        """UDP_EOF: the program closed its socket."""
        if isinstance(self.flow, UDPFlow):
            self.flow._end_of_datagrams()

    def on_error(self, body: Body, fds: list[int]) -> None:
        """ERROR: a request was not met; the flow lives on."""
        error = FlowError(int_field(body, "error"), text_field(body, "reason", ""))
        about = int_field(body, "for", 0)
        waiting: asyncio.Future[Any] | None = None
        if about == MessageType.OPEN:
            waiting, self._opened = self._opened, None
        elif about == MessageType.ATTACH:
            waiting, self._attached = self._attached, None
        elif about == MessageType.RELAY:
            waiting, self._relayed = self._relayed, None
        elif about == MessageType.PEER_REQUEST and self._peers:
            named = optional_endpoint_field(body, "remote")
            remote = Endpoint(*named) if named else next(iter(self._peers))
            waiting = self._peers.pop(remote, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    def on_closed(self, body: Body, fds: list[int]) -> None:
        """CLOSED: the last word on the flow."""
        code = int_field(body, "error", 0)
        reason = text_field(body, "reason", "")
        result = RelayResult(int_field(body, "in", 0), int_field(body, "out", 0), _error_code(code), reason)
        self._link.flows.pop(self.id, None)
        # A relay that opened the flow itself may not have been told so; bytes tell that it began.
        began = self.flow._opened or not code or result.bytes_in or result.bytes_out
        if self._relayed is not None and not self._relayed.done() and began:
            self._relayed.set_result(result)
        self.end(FlowError(code or FlowErrorCode.NOT_CONNECTED, reason or f"flow {self.id} has ended"))

    def end(self, failure: FlowError) -> None:
        """Whatever still waits for an answer fails."""
        self.flow._end(failure)
        waiting = (self._opened, self._attached, self._relayed, *(self._peers or {}).values())
        self._opened = self._attached = self._relayed = self._peers = None
        for future in waiting:
            if future is not None and not future.done():
                future.set_exception(failure)
                future.exception()  # marks it as seen: the handler may not be waiting for it any more


Handler = Callable[[LinkedFlow, Body, list[int]], None]
_HANDLERS: dict[MessageType, Handler] = {
    MessageType.OPENED: LinkedFlow.on_opened,
    MessageType.ATTACHED: LinkedFlow.on_attached,
    MessageType.PEER: LinkedFlow.on_peer,
    MessageType.UDP_EOF: LinkedFlow.on_udp_eof,
    MessageType.ERROR: LinkedFlow.on_error,
    MessageType.CLOSED: LinkedFlow.on_closed,
}


def _error_code(code: int) -> FlowErrorCode | None:
    return FlowError(code).code if code else None


def _take_socket(fds: list[int]) -> socket.socket:
    if len(fds) != 1:
        hint = "" if fds else ": it was lost; the limit of open files may be reached (ulimit -n)"
        raise WireError(f"one descriptor is needed, not {len(fds)}{hint}")
    try:
        sock = socket.socket(fileno=fds[0])
    except OSError as error:
        raise WireError(f"the descriptor is no socket: {error.strerror}") from None
    fds.clear()
    sock.setblocking(False)
    return sock
