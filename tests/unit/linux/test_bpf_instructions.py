"""The assembler: its bytes are those of RFC 9669."""

from __future__ import annotations

import pytest

from network_extension.errors import ConfigurationError, DatapathError
from network_extension.linux.bpf_instructions import R0, R1, R2, R10, Assembly
from network_extension.linux.socket_owner_layout import MEMBERS, MapNumbers
from network_extension.linux.socket_owner_programs import OwnerProgram


def hexadecimal(code: Assembly) -> list[str]:
    data = code.assemble()
    return [data[at : at + 8].hex() for at in range(0, len(data), 8)]


def test_values() -> None:
    code = Assembly()
    code.set(R0, -1)
    code.set(R1, R10)
    code.calculate("+", R1, -8)
    code.calculate("-", R1, R0)
    code.calculate("&", R1, 255)
    code.set_address(R2, R10, -16)
    code.set_address(R2, R10, 0)
    code.set_map(R1, 7)
    code.swap_bytes(R1, 16)
    assert hexadecimal(code) == [
        "b7000000ffffffff",
        "bfa1000000000000",
        "07010000f8ffffff",
        "1f01000000000000",
        "57010000ff000000",
        "bfa2000000000000",
        "07020000f0ffffff",
        "bfa2000000000000",
        "1811000007000000",
        "0000000000000000",
        "dc01000010000000",
    ]


def test_memory() -> None:
    code = Assembly()
    for size in (1, 2, 4, 8):
        code.load(R0, R1, 4, size)
        code.store(R10, -8, R0, size)
        code.store(R10, -8, 1, size)
    code.exchange(R1, 16, R2)
    assert hexadecimal(code) == [
        *("7110040000000000", "730af8ff00000000", "720af8ff01000000"),
        *("6910040000000000", "6b0af8ff00000000", "6a0af8ff01000000"),
        *("6110040000000000", "630af8ff00000000", "620af8ff01000000"),
        *("7910040000000000", "7b0af8ff00000000", "7a0af8ff01000000"),
        "db211000e1000000",
    ]


def test_jumps_go_forwards_and_backwards() -> None:
    code = Assembly()
    code.label("start")
    code.jump_if("!=", R0, 5, "end")
    code.jump_if("s<", R0, R1, "start")
    code.jump("start")
    code.call(46)
    code.label("end")
    code.exit()
    assert len(code) == 5
    assert hexadecimal(code) == [
        "5500030005000000",
        "cd10feff00000000",
        "0500fdff00000000",
        "850000002e000000",
        "9500000000000000",
    ]


def test_a_label_that_is_absent_or_set_twice_is_named() -> None:
    code = Assembly()
    code.jump("nowhere")
    with pytest.raises(ConfigurationError, match="'nowhere' is jumped to"):
        code.assemble()
    code.label("here")
    with pytest.raises(ConfigurationError, match="'here' is set twice"):
        code.label("here")


def test_the_programs_are_put_together_and_short() -> None:
    """The verifier takes a million instructions, older ones 4096 of one program."""
    offsets = dict.fromkeys(MEMBERS, 8)
    made = [OwnerProgram(MapNumbers(3, 4, 5, 6, 7), offsets) for _ in range(5)]
    programs = [
        made[0].created(),
        made[1].released(),
        made[2].used(4, False),
        made[3].used(6, True),
        made[4].connects(),
    ]
    assert all(0 < len(program) // 8 < 1000 for program in programs)


def test_a_socket_of_another_shape_is_refused() -> None:
    with pytest.raises(DatapathError, match="struct sock_common is larger"):
        OwnerProgram(MapNumbers(3, 4, 5, 6, 7), dict.fromkeys(MEMBERS, 400)).released()
