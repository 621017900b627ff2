"""Variable-length integers (RFC 9000 §16): the first two bits say whether there are 1, 2, 4 or 8 bytes."""

from __future__ import annotations


def encode_integer(number: int) -> bytes:
    """A number below 2^62, in its shortest form."""
    for exponent, size in enumerate((1, 2, 4, 8)):
        if number < 1 << (8 * size - 2):
            return (number | exponent << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(f"{number} is too large for a variable-length integer")


def decode_integer(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where it ends. `IndexError`: it is cut off."""
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        raise IndexError(at)
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


def sized(data: bytes) -> bytes:
    """Bytes behind their length."""
    return encode_integer(len(data)) + data
