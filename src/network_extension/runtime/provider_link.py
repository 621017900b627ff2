"""The engine's end of one provider's flow channel: offers go out, answers come in.

What a provider process sends is not trusted: a message about a flow that it does not have is dropped, a malformed one
ends the channel, and with it the provider's turn (the supervisor restarts it).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from typing import Any

from ..core.flow_decision import FlowState, ProviderKind, ProviderSlot, ProviderState, Trouble
from ..core.rule_matching import TransparentProxyMatcher
from ..errors import FlowErrorCode, errno_for_code
from ..linux.reactor import READ, WRITE, Reactor
from .channel import Channel
from .hello import unpack_hello
from .intercepted import InterceptedFlow, Pipeline
from .wire import MessageType, WireError

GIVEN_ON = "the flow was given to the next provider"
_UNOPENED = (FlowState.OFFERED, FlowState.CLAIMED)


class ProviderLink:
    """Talks with one provider process until its channel ends; then `lost(link, why)` is called."""

    def __init__(
        self,
        reactor: Reactor,
        pipeline: Pipeline,
        slot: ProviderSlot,
        channel: Channel,
        lost: Callable[[ProviderLink, str], None],
        running: Callable[[ProviderLink], None],
    ) -> None:
        self._reactor, self._pipeline, self.slot, self._channel, self._lost = reactor, pipeline, slot, channel, lost
        self._running = running
        self._flows: dict[int, InterceptedFlow] = {}
        self._events = READ
        self._descriptor = channel.fileno()
        self._handlers: dict[MessageType, Callable[[InterceptedFlow, dict[str, Any], list[int]], None]] = {
            MessageType.CLAIM: lambda flow, body, fds: pipeline.claimed(flow),
            MessageType.DECLINE: lambda flow, body, fds: pipeline.declined(flow),
            MessageType.FAIL: self._failed,
            MessageType.OPEN: self._open,
            MessageType.ATTACH: lambda flow, body, fds: flow.interceptor.attach(flow),
            MessageType.PEER_REQUEST: self._request_peer,
            MessageType.RELAY: self._relay,
            MessageType.CLOSE: self._close,
        }
        reactor.register(self._descriptor, READ, self._event)

    def offer(self, flow: InterceptedFlow, deadline: float) -> None:
        """Show a new flow to the provider."""
        flow.link, flow.wants_answer = self, False
        self._flows[flow.id] = flow
        body = {
            "proto": flow.protocol,
            "local": flow.local,
            "remote": flow.remote,
            "host": flow.host,
            "name_source": flow.name_source,
            "process": flow.process.to_dict() if flow.process else None,
            "interface": None,
            "deadline": deadline,
        }
        try:
            self._channel.send(MessageType.NEW_FLOW, flow.id, body)
        except WireError:  # a command line may be of any length; who it is matters more than what it was told
            if flow.process is not None:
                body["process"] = flow.process.to_dict() | {"arguments": [], "parents": []}
            self._send(MessageType.NEW_FLOW, flow.id, body)
        except OSError as error:
            self._lost_soon(error)
        else:
            self._watch()

    def opened(self, flow: InterceptedFlow) -> None:
        """The program's connect() has completed."""
        if flow.wants_answer:
            flow.wants_answer = False
            self._send(MessageType.OPENED, flow.id)

    def attached(self, flow: InterceptedFlow, descriptor: int | None) -> None:
        """Here is the program's side."""
        self._send(MessageType.ATTACHED, flow.id, None, () if descriptor is None else (descriptor,))

    def peer(self, flow: InterceptedFlow, address: tuple[str, int], descriptor: int) -> None:
        """Here is the socket for datagrams between the program and one remote address."""
        self._send(MessageType.PEER, flow.id, {"remote": address}, (descriptor,))

    def datagrams_ended(self, flow: InterceptedFlow) -> None:
        """The program closed its socket."""
        self._send(MessageType.UDP_EOF, flow.id)

    def refused(self, flow: InterceptedFlow, error: int, reason: str, request: MessageType, **details: Any) -> None:
        """A request could not be met; the flow lives on."""
        self._send(MessageType.ERROR, flow.id, {"error": error, "reason": reason, "for": int(request), **details})

    def closed(self, flow: InterceptedFlow) -> None:
        """The flow is over."""
        if self._flows.pop(flow.id, None) is not None:
            number = errno_for_code(flow.error) if flow.error else 0
            body = {"error": int(flow.error), "errno": number, "in": flow.bytes_in, "out": flow.bytes_out}
            self._send(MessageType.CLOSED, flow.id, body | {"reason": flow.reason[:1000]})
        flow.link = None

    def withdraw(self, flow: InterceptedFlow) -> None:
        """The flow goes elsewhere; whatever the provider still says about it is dropped."""
        if self._flows.pop(flow.id, None) is not None:
            body = {"error": FlowErrorCode.ABORTED, "errno": 0, "in": 0, "out": 0, "reason": GIVEN_ON}
            self._send(MessageType.CLOSED, flow.id, body)
        flow.link = None

    def end(self, why: str) -> None:
        """The provider is gone: unopened flows get its policy, flows whose bytes it carried are reset."""
        if self._descriptor < 0:
            return
        self._reactor.unregister(self._descriptor)
        self._descriptor = -1
        self._channel.close()
        if self._pipeline.links.get(self.slot.index, self) is self:  # else the provider is back on another link
            self.slot.state = ProviderState.DEAD
        self._lost(self, why)
        flows, self._flows = list(self._flows.values()), {}
        for flow in flows:
            if flow.state in _UNOPENED:
                self._pipeline.troubled(flow, Trouble.DEAD, why)
            else:
                flow.link = None
                flow.interceptor.orphan(flow)

    def _send(
        self, kind: MessageType, flow: int, body: dict[str, Any] | None = None, fds: tuple[int, ...] = ()
    ) -> None:
        if self._descriptor < 0:
            return
        try:
            self._channel.send(kind, flow, body, fds)
        except (WireError, OSError) as error:
            self._lost_soon(error)
            return
        self._watch()

    def _lost_soon(self, error: Exception) -> None:
        """End the link, but not in the middle of what is being done to a flow."""
        why = f"it does not read its messages: {error}"
        self._reactor.call_soon(lambda: self.end(why))

    def _watch(self) -> None:
        events = READ | WRITE if self._channel.wants_write else READ
        if events != self._events:
            self._events = events
            self._reactor.modify(self._descriptor, events)

    def _event(self, events: int) -> None:
        if events & WRITE:
            self._channel.flush()
            self._watch()
        try:
            messages = self._channel.receive()
        except WireError as error:
            self.end(f"it sent what is not a message: {error}")
            return
        for kind, number, body, fds in messages:
            if self._descriptor >= 0:  # what comes after the message that ended the link is dropped
                self._reactor.guard(partial(self._message, kind, number, body, fds))
            for descriptor in fds:
                os.close(descriptor)
        if self._channel.eof and not messages:
            self.end("its process ended")

    def _message(self, kind: MessageType, number: int, body: dict[str, Any], fds: list[int]) -> None:
        if kind is MessageType.HELLO:
            self._hello(body, fds)
            return
        flow, handler = self._flows.get(number), self._handlers.get(kind)
        if flow is not None and handler is not None:
            handler(flow, body, fds)

    def _hello(self, body: dict[str, Any], fds: list[int]) -> None:
        """Who the provider is and what it wants; comes again when its settings change."""
        try:
            hello = unpack_hello(body, fds)
        except WireError as error:
            self.end(f"its settings were not understood: {error}")
            return
        self.slot.kind = ProviderKind(hello.kind)
        self.slot.matcher = TransparentProxyMatcher(hello.settings) if hello.settings is not None else None
        if self.slot.state is ProviderState.STARTING:
            self.slot.state = ProviderState.RUNNING
            self._running(self)

    def _failed(self, flow: InterceptedFlow, body: dict[str, Any], fds: list[int]) -> None:
        self._pipeline.troubled(flow, Trouble.RAISED, str(body.get("error", ""))[:500])

    def _open(self, flow: InterceptedFlow, body: dict[str, Any], fds: list[int]) -> None:
        self._pipeline.claimed(flow)
        flow.wants_answer = True
        if flow.state is FlowState.OPEN:
            self.opened(flow)
        else:
            flow.interceptor.open(flow)

    def _request_peer(self, flow: InterceptedFlow, body: dict[str, Any], fds: list[int]) -> None:
        remote = body.get("remote")
        if isinstance(remote, list) and len(remote) == 2 and isinstance(remote[0], str) and isinstance(remote[1], int):
            flow.interceptor.request_peer(flow, (remote[0], remote[1]))

    def _relay(self, flow: InterceptedFlow, body: dict[str, Any], fds: list[int]) -> None:
        """Join the flow and the provider's socket; opens the flow if that is still to be done."""
        self._pipeline.claimed(flow)
        if not fds:  # the socket was lost on the way: no descriptor was left here
            reason = "the engine has no descriptor left; raise the limit: ulimit -n"
            self.refused(flow, FlowErrorCode.INTERNAL, reason, MessageType.RELAY)
        elif not stat.S_ISSOCK(os.fstat(fds[0]).st_mode):
            self.refused(flow, FlowErrorCode.INVALID_ARGUMENT, "only a socket can be relayed", MessageType.RELAY)
        else:
            flow.wants_answer = flow.wants_answer or flow.state is not FlowState.OPEN
            flow.interceptor.relay(flow, fds.pop(0))

    def _close(self, flow: InterceptedFlow, body: dict[str, Any], fds: list[int]) -> None:
        self._pipeline.claimed(flow)
        error, direction, reason = body.get("error", 0), body.get("direction", "both"), body.get("reason")
        if isinstance(reason, str) and reason:
            flow.reason = reason[:500]
        flow.interceptor.close(flow, error if isinstance(error, int) else FlowErrorCode.INTERNAL, str(direction))
