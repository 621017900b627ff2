"""A small assembler for the kernel's own machine, eBPF (RFC 9669): from readable calls to the bytes of a program.

    program = Assembly()
    program.load(R0, R1, 4, size=4)     # r0 = *(u32 *)(r1 + 4)
    program.jump_if("!=", R0, 2, "out")
    program.call(GET_SOCKET_COOKIE)
    program.label("out")
    program.set(R0, 1)
    program.exit()
    data = program.assemble()

Ten registers: r0 is the result of a call, r1 to r5 are its arguments and are lost by it, r6 to r9 are kept, r10 is the
end of the stack of 512 bytes, which grows downwards. Labels may be used before they are set. Only what is needed here
is offered, for little-endian machines.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from ..errors import ConfigurationError


class Register(IntEnum):
    """A register of the machine."""

    R0 = 0
    R1 = 1
    R2 = 2
    R3 = 3
    R4 = 4
    R5 = 5
    R6 = 6
    R7 = 7
    R8 = 8
    R9 = 9
    R10 = 10


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Register

# Helper functions, by their numbers in include/uapi/linux/bpf.h.
MAP_LOOKUP, MAP_UPDATE, MAP_DELETE = 1, 2, 3
GET_PROCESSOR, GET_CURRENT_TASK, GET_SOCKET_COOKIE, GET_TIME = 8, 35, 46, 125
PROBE_READ_USER, PROBE_READ_KERNEL, PROBE_READ_KERNEL_STRING, GET_NETWORK_COOKIE = 112, 113, 115, 122

_INSTRUCTION = struct.Struct("<BBhi")
_SIZES = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}
_LOAD, _STORE_IMMEDIATE, _STORE, _WIDE, _ATOMIC = 0x61, 0x62, 0x63, 0x18, 0xC3
_CALL, _EXIT, _JUMP = 0x85, 0x95, 0x05
_EXCHANGE = 0xE1
_PSEUDO_MAP = 1
_FROM_REGISTER = 0x08
_ARITHMETIC = {"+": 0x07, "-": 0x17, "|": 0x47, "&": 0x57, "<<": 0x67, ">>": 0x77, "=": 0xB7}
_CONDITIONS = {"==": 0x15, ">": 0x25, ">=": 0x35, "!=": 0x55, "s>": 0x65, "s>=": 0x75, "<": 0xA5, "<=": 0xB5}
_CONDITIONS |= {"s<": 0xC5, "s<=": 0xD5}

Operand = Register | int


class Assembly:
    """The instructions of one program, in order."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []  # operation, registers, offset, immediate
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def _add(self, operation: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> None:
        self._code.append((operation, target | source << 4, offset, immediate))

    # --- values

    def calculate(self, operator: str, target: Register, operand: Operand) -> None:
        """`target = target <operator> operand`, 64 bits wide; operators are + - | & << >> and =."""
        operation = _ARITHMETIC[operator]
        if isinstance(operand, Register):
            self._add(operation | _FROM_REGISTER, target, operand)
        else:
            self._add(operation, target, immediate=operand)

    def set(self, target: Register, operand: Operand) -> None:
        """`target = operand`; a number is at most 32 bits, with sign."""
        self.calculate("=", target, operand)

    def set_address(self, target: Register, base: Register, offset: int) -> None:
        """`target = base + offset`."""
        self.set(target, base)
        if offset:
            self.calculate("+", target, offset)

    def set_map(self, target: Register, descriptor: int) -> None:
        """`target =` the map behind a descriptor of the loading process."""
        self._add(_WIDE, target, _PSEUDO_MAP, immediate=descriptor)
        self._add(0)

    def swap_bytes(self, target: Register, bits: int) -> None:
        """Make a number of network byte order one of this machine's, or the other way round."""
        self._add(0xDC, target, immediate=bits)

    # --- memory

    def load(self, target: Register, base: Register, offset: int, size: int = 8) -> None:
        """`target = *(base + offset)`, `size` bytes."""
        self._add(_LOAD | _SIZES[size], target, base, offset)

    def store(self, base: Register, offset: int, operand: Operand, size: int = 8) -> None:
        """`*(base + offset) = operand`, `size` bytes."""
        if isinstance(operand, Register):
            self._add(_STORE | _SIZES[size], base, operand, offset)
        else:
            self._add(_STORE_IMMEDIATE | _SIZES[size], base, 0, offset, operand)

    def exchange(self, base: Register, offset: int, source: Register, size: int = 8) -> None:
        """Put `source` to `*(base + offset)` and what stood there into `source`, in one step (Linux 5.12)."""
        self._add(_ATOMIC | _SIZES[size], base, source, offset, _EXCHANGE)

    # --- flow

    def label(self, name: str) -> None:
        """The place that jumps to `name` go to."""
        if name in self._labels:
            raise ConfigurationError(f"label {name!r} is set twice")
        self._labels[name] = len(self._code)

    def jump(self, label: str) -> None:
        """Go on at `label`."""
        self._jumps.append((len(self._code), label))
        self._add(_JUMP)

    def jump_if(self, condition: str, register: Register, operand: Operand, label: str) -> None:
        """Go on at `label` if the condition (== != < <= > >=, s< and so on with sign) holds."""
        self._jumps.append((len(self._code), label))
        operation = _CONDITIONS[condition]
        if isinstance(operand, Register):
            self._add(operation | _FROM_REGISTER, register, operand)
        else:
            self._add(operation, register, immediate=operand)

    def call(self, helper: int) -> None:
        """Call a helper of the kernel: r1 to r5 are its arguments and are lost, r0 is its result."""
        self._add(_CALL, immediate=helper)

    def exit(self) -> None:
        """End with r0 as the result."""
        self._add(_EXIT)

    def assemble(self) -> bytes:
        """The program as the kernel takes it."""
        code = list(self._code)
        for at, name in self._jumps:
            if name not in self._labels:
                raise ConfigurationError(f"label {name!r} is jumped to, and not set")
            operation, registers, _, immediate = code[at]
            code[at] = operation, registers, self._labels[name] - at - 1, immediate
        return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)

    def __len__(self) -> int:
        return len(self._code)
