"""The programs that `socket_owners` runs in the kernel: when a socket is made, when it is used, and at its end."""

from __future__ import annotations

from ..errors import DatapathError
from .bpf_instructions import GET_NETWORK_COOKIE, GET_TIME, MAP_DELETE, MAP_UPDATE, R0, R1, R2, R3, R4, R6, R7, R8, R10
from .process_programs import ProcessProgram
from .socket_owner_layout import (
    COOKIE,
    FLOW,
    FLOW_KEY_SIZE,
    FLOW_VALUE,
    KEY,
    LOCAL,
    LOCAL_PORT,
    MAPPED,
    MAX_SOCKET,
    MEMBERS,
    PROTOCOL,
    REMOTE,
    REMOTE_PORT,
    SOCKET,
)

# struct bpf_sock and struct bpf_sock_addr of include/uapi/linux/bpf.h
_SOCK_PROTOCOL, _SOCK_PORT = 12, 44
_TCP, _MPTCP = 6, 262
_ADDRESS_IP4, _ADDRESS_IP6, _ADDRESS_PORT, _ADDRESS_PROTOCOL, _ADDRESS_SOCK = 4, 8, 24, 36, 64
# struct bpf_sock_ops, and what it is called for (BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
_OPS_FAMILY, _OPS_REMOTE_IP4, _OPS_LOCAL_IP4, _OPS_REMOTE_IP6, _OPS_LOCAL_IP6 = 20, 24, 28, 32, 48
_OPS_REMOTE_PORT, _OPS_LOCAL_PORT, _OPS_SOCK = 64, 68, 184
_CONNECTS, _WAS_ACCEPTED = 3, 5


class OwnerProgram(ProcessProgram):
    """Writes one of the programs; r6 is what the kernel calls it with."""

    # --- the programs

    def created(self) -> bytes:
        """sock_create: who calls socket() owns it."""
        code = self.code
        code.set(R6, R1)
        self._current_process("out")
        self._cookie()
        self._update_owner()
        return self._end("out")

    def used(self, family: int, notes_flow: bool) -> bytes:
        """connect and sendmsg: who calls it owns the socket from now on; `notes_flow` for sendmsg, by addresses."""
        code = self.code
        code.set(R6, R1)
        self._current_process("out")
        self._cookie()
        self._look_up(self._maps.owners, COOKIE)
        code.jump_if("==", R0, 0, "changed")
        for offset in (0, 8, 16):
            code.load(R1, R0, offset)
            code.load(R2, R10, KEY + offset)
            code.jump_if("!=", R1, R2, "changed")
        code.jump("known owner")
        code.label("changed")
        self._update_owner()
        code.label("known owner")
        if notes_flow:
            self._note_sent(family)
        return self._end("out")

    def released(self) -> bytes:
        """sock_release: what was known by the socket is known by its addresses from now on."""
        code = self.code
        code.set(R6, R1)
        self._cookie()
        self._look_up(self._maps.owners, COOKIE)
        code.jump_if("==", R0, 0, "out")
        for offset in (0, 8, 16):
            code.load(R1, R0, offset)
            code.store(R10, KEY + offset, R1)
        self._socket_addresses()
        self._update_flow()
        code.label("forget")
        self._arguments(self._maps.owners, COOKIE)
        code.call(MAP_DELETE)
        return self._end("out")

    def connects(self) -> bytes:
        """sock_ops: a TCP connection begins, all of its addresses and ports chosen, no packet of it sent.

        Whose socket it is was noted in connect() a moment ago. A note of the same addresses that is left from another
        connection goes whenever it cannot be replaced: where the socket is nobody's (the kernel's own, MPTCP's), bound
        to an interface (another may have the same addresses on another one), or of a connection that came in.
        """
        code = self.code
        code.set(R6, R1)
        code.load(R7, R6, 0, 4)
        code.jump_if("==", R7, _CONNECTS, "connection")
        code.jump_if("!=", R7, _WAS_ACCEPTED, "out")
        code.label("connection")
        self._connection_addresses()
        code.jump_if("==", R7, _WAS_ACCEPTED, "forget")
        code.load(R1, R6, _OPS_SOCK)
        code.jump_if("==", R1, 0, "forget")
        code.load(R1, R1, 0, 4)  # the interface that it is bound to
        code.jump_if("!=", R1, 0, "forget")
        self._cookie()
        self._look_up(self._maps.owners, COOKIE)
        code.jump_if("==", R0, 0, "forget")
        code.set(R8, R0)
        self._arguments(self._maps.connects, FLOW)
        code.set(R3, R8)
        code.set(R4, 0)
        code.call(MAP_UPDATE)
        code.jump_if("==", R0, 0, "out")
        code.label("forget")
        self._arguments(self._maps.connects, FLOW)
        code.call(MAP_DELETE)
        return self._end("out")

    # --- which flow

    def _connection_addresses(self) -> None:
        """FLOW of a TCP connection that sock_ops describes."""
        code = self.code
        self._new_flow_key()
        code.store(R10, FLOW + PROTOCOL, _TCP, 4)
        code.load(R1, R6, _OPS_LOCAL_PORT, 4)
        code.store(R10, FLOW + LOCAL_PORT, R1, 2)
        code.load(R1, R6, _OPS_REMOTE_PORT, 4)
        code.calculate(">>", R1, 16)
        code.store(R10, FLOW + REMOTE_PORT, R1, 2)
        code.load(R1, R6, _OPS_FAMILY, 4)
        code.jump_if("==", R1, 2, "IPv4")
        for member, place in ((_OPS_LOCAL_IP6, LOCAL), (_OPS_REMOTE_IP6, REMOTE)):
            for offset in range(0, 16, 4):
                code.load(R1, R6, member + offset, 4)
                code.store(R10, FLOW + place + offset, R1, 4)
        code.jump("addresses are known")
        code.label("IPv4")
        for member, place in ((_OPS_LOCAL_IP4, LOCAL), (_OPS_REMOTE_IP4, REMOTE)):
            code.load(R1, R6, member, 4)
            code.store(R10, FLOW + place + 12, R1, 4)
            code.store(R10, FLOW + place + 8, MAPPED, 4)
        code.label("addresses are known")

    def _new_flow_key(self) -> None:
        """FLOW with the namespace, and zeros for the rest."""
        code = self.code
        code.set(R1, R6)
        code.call(GET_NETWORK_COOKIE)
        code.store(R10, FLOW, R0)
        for offset in range(8, FLOW_KEY_SIZE, 8):
            code.store(R10, FLOW + offset, 0)

    def _update_flow(self) -> None:
        """flows[FLOW] = KEY with its USER, COOKIE, now."""
        code = self.code
        code.call(GET_TIME)
        code.store(R10, FLOW_VALUE + 32, R0)
        for source, offset in ((KEY, 0), (KEY + 8, 8), (KEY + 16, 16), (COOKIE, 24)):
            code.load(R1, R10, source)
            code.store(R10, FLOW_VALUE + offset, R1)
        self._arguments(self._maps.flows, FLOW)
        code.set_address(R3, R10, FLOW_VALUE)
        code.set(R4, 0)
        code.call(MAP_UPDATE)

    def _note_sent(self, family: int) -> None:
        """One datagram of a socket that is not connected: its flow is noted unless it is already."""
        code = self.code
        code.load(R7, R6, _ADDRESS_SOCK)
        code.load(R7, R7, _SOCK_PORT, 4)
        code.jump_if("==", R7, 0, "out")
        self._new_flow_key()
        code.store(R10, FLOW + LOCAL_PORT, R7, 2)
        code.load(R1, R6, _ADDRESS_PORT, 4)
        code.store(R10, FLOW + REMOTE_PORT, R1, 2)
        code.load(R1, R6, _ADDRESS_PROTOCOL, 4)
        code.store(R10, FLOW + PROTOCOL, R1, 4)
        if family == 4:
            code.store(R10, FLOW + REMOTE + 8, MAPPED, 4)
            code.load(R1, R6, _ADDRESS_IP4, 4)
            code.store(R10, FLOW + REMOTE + 12, R1, 4)
        else:
            for offset in range(0, 16, 4):
                code.load(R1, R6, _ADDRESS_IP6 + offset, 4)
                code.store(R10, FLOW + REMOTE + offset, R1, 4)
        self._look_up(self._maps.flows, FLOW)
        code.jump_if("==", R0, 0, "new flow")
        for offset, source in ((0, KEY), (8, KEY + 8), (16, KEY + 16), (24, COOKIE)):
            code.load(R1, R0, offset)
            code.load(R2, R10, source)
            code.jump_if("!=", R1, R2, "new flow")
        code.set(R7, R0)
        code.call(GET_TIME)
        code.store(R7, 32, R0)
        code.jump("out")
        code.label("new flow")
        self._update_flow()

    def _socket_addresses(self) -> None:
        """FLOW of the socket that r6 describes; a socket without a port has sent nothing."""
        code, offsets = self.code, self._offsets
        members = [name for name in MEMBERS if name.startswith("sock_common.")]
        size = max(offsets[name] + (16 if "v6" in name else 4) for name in members)
        if size > MAX_SOCKET:
            raise DatapathError(f"struct sock_common is larger than a program can read: {size} bytes")
        self._new_flow_key()
        base = SOCKET - MAX_SOCKET
        self._read_at(base, R6, 0, size)

        def load(member: str, length: int, offset: int = 0) -> None:
            code.load(R1, R10, base + offsets[f"sock_common.{member}"] + offset, length)

        load("skc_num", 2)
        code.jump_if("==", R1, 0, "forget")
        code.store(R10, FLOW + LOCAL_PORT, R1, 2)
        load("skc_dport", 2)
        code.store(R10, FLOW + REMOTE_PORT, R1, 2)
        code.load(R1, R6, _SOCK_PROTOCOL, 4)
        code.jump_if("!=", R1, _MPTCP, "protocol")
        code.set(R1, _TCP)  # which it is on the way
        code.label("protocol")
        code.store(R10, FLOW + PROTOCOL, R1, 4)
        load("skc_family", 2)
        code.jump_if("==", R1, 2, "IPv4")
        for member, place in (("skc_v6_rcv_saddr", LOCAL), ("skc_v6_daddr", REMOTE)):
            for offset in range(0, 16, 4):
                load(member, 4, offset)
                code.store(R10, FLOW + place + offset, R1, 4)
        code.jump("addresses are known")
        code.label("IPv4")
        for member, place in (("skc_rcv_saddr", LOCAL), ("skc_daddr", REMOTE)):
            load(member, 4)
            code.jump_if("==", R1, 0, f"no {member}")
            code.store(R10, FLOW + place + 12, R1, 4)
            code.store(R10, FLOW + place + 8, MAPPED, 4)
            code.label(f"no {member}")
        code.label("addresses are known")
