"""nf_tables messages, against bytes typed from include/uapi/linux/netfilter/nf_tables.h (little-endian machine).

The kernel's side is a socket of the test's. The lab tests have the real one, and `nft list` beside our text.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.errors import DatapathError
from network_extension.linux import nft_expressions as ex
from network_extension.linux import nftables
from network_extension.linux.netlink import NLMSG_DONE, NLMSG_ERROR, attribute, attributes, message, messages, nested
from network_extension.linux.nftables import NftError, NftSocket

from .test_netlink import hexadecimal


def expressions(data: bytes) -> list[tuple[str, bytes]]:
    """(name, attributes) of each expression of a part."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("=H", data, at)
        inside = attributes(data[at + 4 : at + length])
        found.append((bytes(inside[1]).rstrip(b"\0").decode(), bytes(inside[2])))
        at += (length + 3) & ~3
    return found


class TestExpressions:
    def test_a_condition_on_the_connection_mark(self) -> None:
        """Loaded into register 1, masked in the machine's byte order, compared."""
        part = ex.ct_mark(0x70000000, 0x10000000)
        assert part.text == "ct mark & 0x70000000 == 0x10000000"
        assert expressions(part.data) == [
            ("ct", hexadecimal("0800 0200 00000003 0800 0100 00000001")),
            (
                "bitwise",
                hexadecimal(
                    "0800 0100 00000001 0800 0200 00000001 0800 0300 00000004"
                    "0c00 0480 0800 0100 00000070 0c00 0580 0800 0100 00000000"
                ),
            ),
            ("cmp", hexadecimal("0800 0100 00000001 0800 0200 00000000 0c00 0380 0800 0100 00000010")),
        ]

    def test_writing_marks_keeps_the_other_bits(self) -> None:
        for part, name in ((ex.set_ct_mark(0x70000000, 0x20000000), "ct"), (ex.clear_meta_mark(0x70000000), "meta")):
            load, change, store = expressions(part.data)
            assert load[0] == store[0] == name
            assert hexadecimal("0c00 0480 0800 0100 ffffff8f") in change[1]
            assert attributes(store[1]).keys() == ({2, 4} if name == "ct" else {2, 3}), "key and source register"

    def test_states_are_one_mask(self) -> None:
        part = ex.ct_state("invalid", "untracked")
        assert part.text == "ct state invalid,untracked"
        assert hexadecimal("0800 0100 41000000") in expressions(part.data)[1][1]

    def test_ports_are_ranges_of_the_transport_header(self) -> None:
        protocol, source, destination = ex.udp_ports((67, 68), (53, 53))
        assert (protocol.text, source.text, destination.text) == ("meta l4proto udp", "udp sport 67-68", "udp dport 53")
        load, low, high = expressions(source.data)
        assert load == (
            "payload",
            hexadecimal("0800 0100 00000001 0800 0200 00000002 0800 0300 00000000 0800 0400 00000002"),
        )
        assert hexadecimal("0600 0100 0043 0000") in low[1] and hexadecimal("0800 0200 00000005") in low[1]
        assert hexadecimal("0600 0100 0044 0000") in high[1] and hexadecimal("0800 0200 00000003") in high[1]
        assert [name for name, _ in expressions(destination.data)] == ["payload", "cmp"]

    def test_the_native_queue_and_the_target_of_xtables_say_the_same(self) -> None:
        native, target = (ex.queue(300, bypass=True, native=native) for native in (True, False))
        assert native.text == target.text == "queue flags bypass to 300"
        assert native.queues and target.queues
        assert expressions(native.data) == [
            ("queue", hexadecimal("0600 0100 012c 0000 0600 0200 0001 0000 0600 0300 0001 0000"))
        ]
        [(name, data)] = expressions(target.data)
        assert name == "target"
        assert bytes(attributes(data)[1]) == b"NFQUEUE\0"
        assert bytes(attributes(data)[2]) == b"\0\0\0\3"
        assert bytes(attributes(data)[3]) == struct.pack("=HHHxx", 300, 1, 1), "struct xt_NFQ_info_v3"
        assert ex.queue(0, bypass=False).text == "queue to 0"

    def test_verdicts(self) -> None:
        assert expressions(ex.DROP.data) == [
            ("immediate", hexadecimal("0800 0100 00000000 1000 0280 0c00 0280 0800 0100 00000000"))
        ]
        [(_, data)] = expressions(ex.goto("there").data)
        assert b"\xff\xff\xff\xfc" in data and b"there\0" in data
        [(_, data)] = expressions(ex.jump("there").data)
        assert b"\xff\xff\xff\xfd" in data

    def test_a_rule_reads_as_its_parts(self) -> None:
        rule = nftables.rule(ex.udp_ports((53, 53)), ex.count("answers"), ex.ACCEPT)
        assert rule.text == 'meta l4proto udp udp sport 53 counter name "answers" accept'


TABLE = nftables.Table(
    "ours",
    ["seen"],
    [
        nftables.Chain("more", [nftables.rule(ex.count("seen"), ex.DROP)], comment="Why\nand how."),
        nftables.Chain("output", [nftables.rule(ex.goto("more"))], ex.OUTPUT, -155),
    ],
    nftables.OWNER | nftables.PERSIST,
)


def test_a_table_reads_as_nft_writes_it() -> None:
    assert TABLE.text == (
        "table inet ours {\n"
        "  flags owner,persist;\n"
        "  counter seen { }\n"
        "  # Why\n"
        "  # and how.\n"
        "  chain more {\n"
        '    counter name "seen" drop\n'
        "  }\n"
        "  chain output {\n"
        "    type filter hook output priority -155; policy accept;\n"
        "    goto more\n"
        "  }\n"
        "}\n"
    )


class TestTransactions:
    def test_a_table_is_one_datagram_between_begin_and_end(self) -> None:
        data = nftables.transaction(nftables.table_changes(TABLE), 100)
        kinds = [(kind, sequence) for kind, sequence, _ in messages(data)]
        assert [kind for kind, _ in kinds] == [0x10, 0xA00, 0xA12, 0xA03, 0xA03, 0xA06, 0xA06, 0x11]
        assert [sequence for _, sequence in kinds] == list(range(100, 108))
        flags = [struct.unpack_from("=H", data, place)[0] for place in _places(data)]
        assert [bool(flag & 4) for flag in flags] == [False] * 6 + [True, False], "the last change is acknowledged"

    def test_a_base_chain(self) -> None:
        body = nftables.add_chain("ours", TABLE.chains[1]).body
        hook = nested(4, attribute(1, b"\0\0\0\3"), attribute(2, struct.pack(">i", -155)))
        assert body == (
            attribute(1, b"ours\0")
            + attribute(3, b"output\0")
            + hook
            + attribute(5, b"\0\0\0\1")
            + attribute(7, b"filter\0")
        )


def _places(data: bytes) -> Iterator[int]:
    """Where the flags of each message are."""
    at = 0
    while at < len(data):
        yield at + 6
        at += (int.from_bytes(data[at : at + 4], "little") + 3) & ~3


class Kernel:
    """The other end of an NftSocket."""

    def __init__(self) -> None:
        self.ours, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.nft = NftSocket(self.ours)

    def answers(self, *errors: tuple[int, int]) -> None:
        """(sequence, errno) of each."""
        for sequence, number in errors:
            self.end.send(message(NLMSG_ERROR, 0, sequence, struct.pack("=i", -number)))


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.nft.close()
    kernel.end.close()


class TestAnswers:
    def test_an_acknowledgement_of_the_last_change_is_success(self, kernel: Kernel) -> None:
        kernel.answers((6, 0))
        kernel.nft.apply(nftables.table_changes(TABLE))

    def test_a_refusal_names_the_object_and_the_errno(self, kernel: Kernel) -> None:
        kernel.answers((5, errno.ENOENT), (6, 0))
        with pytest.raises(NftError, match="No such file or directory") as caught:
            kernel.nft.apply(nftables.table_changes(TABLE))
        assert caught.value.object == 'nft rule inet ours more: counter name "seen" drop'
        assert caught.value.object in str(caught.value)
        assert caught.value.errno == errno.ENOENT
        assert caught.value.change is not None and caught.value.change.kind == nftables.NEWRULE

    def test_what_is_left_of_a_refused_one_is_not_taken_for_the_next(self, kernel: Kernel) -> None:
        kernel.answers((1, errno.EEXIST), (2, errno.ENOENT), (6, errno.ENOENT))
        with pytest.raises(NftError, match="nft table inet ours: File exists"):
            kernel.nft.apply(nftables.table_changes(TABLE))
        kernel.answers((9, 0))
        kernel.nft.apply([nftables.delete_table("ours")])

    def test_without_privilege_the_whole_transaction_is_refused(self, kernel: Kernel) -> None:
        """nfnetlink_rcv() answers the first message of the batch."""
        kernel.answers((0, errno.EPERM))
        with pytest.raises(NftError, match=r"nft transaction: Operation not permitted; next step: .*root"):
            kernel.nft.apply([nftables.delete_table("ours")])

    def test_a_kernel_that_is_silent_is_given_up(self, kernel: Kernel) -> None:
        kernel.ours.settimeout(0.01)
        with pytest.raises(DatapathError, match="has not answered"):
            kernel.nft.apply([nftables.delete_table("ours")])

    def test_counters(self, kernel: Kernel) -> None:
        body = nftables.add_counter("ours", "seen").body[: -len(nested(4))]
        body += nested(4, attribute(1, struct.pack(">Q", 5000)), attribute(2, struct.pack(">Q", 42)))
        kernel.end.send(message(0xA12, 2, 1, b"\1\0\0\0" + body) + message(0xA12, 2, 1, b"\1\0\0\0"))
        kernel.end.send(message(NLMSG_DONE, 2, 1, bytes(4)))
        assert kernel.nft.counters("ours") == {"seen": (42, 5000)}


@given(st.binary(max_size=200))
def test_any_answer_is_read_or_passed_over(data: bytes) -> None:
    found = nftables.parse_counter(data)
    assert found is None or len(found[1]) == 2
