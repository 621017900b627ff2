"""Apple's processed database as the specification's text describes it, read without any of our code.

Plain Python: bits, one modulus, an inverse transform by its definition in steps, 4 bits for each coefficient. It knows
the parameters n_4096_logq_27_28_28_logt_5 only (specification §2.1, §2.2, §2.5-2.7).
"""

from __future__ import annotations

from hashlib import sha256

DEGREE, PLAIN, MODULUS, ROOT = 4096, 17, 134176769, 24149
ROW_BITS, PACKED = 27, 4096 * (27 + 28) // 8


def plaintexts(data: bytes) -> list[bytes]:
    """The 2,048 bytes of each plaintext; zeros for one that is nil."""
    assert data[0] == 1
    count, at, found = int.from_bytes(data[1:5], "little"), 5, list[bytes]()
    for _ in range(count):
        tag, at = data[at], at + 1
        assert tag in (0, 1)
        found.append(_decoded(data[at : at + PACKED]) if tag else bytes(DEGREE // 2))
        at += PACKED if tag else 0
    assert at == len(data)
    return found


def _decoded(packed: bytes) -> bytes:
    bits = int.from_bytes(packed[: DEGREE * ROW_BITS // 8], "big")  # the first modulus' row tells all
    row = [bits >> (DEGREE - 1 - i) * ROW_BITS & (1 << ROW_BITS) - 1 for i in range(DEGREE)]
    coefficients = [(value if value <= MODULUS // 2 else value - MODULUS) % PLAIN for value in _inverse(row)]
    assert max(coefficients) < 16
    return bytes(high << 4 | low for high, low in zip(coefficients[::2], coefficients[1::2], strict=True))


def _inverse(values: list[int]) -> list[int]:
    """From values at the odd powers of the root, in bit-reversed order, to coefficients.

    Two neighbours are a polynomial of degree below n modulo X^n - w and modulo X^n + w; together they are one modulo
    X^2n - w^2 (the Chinese remainder theorem, from the leaves up).
    """
    polynomials = [([value], pow(ROOT, 2 * _reversed_bits(i) + 1, MODULUS)) for i, value in enumerate(values)]
    half = pow(2, -1, MODULUS)
    while len(polynomials) > 1:
        joined = list[tuple[list[int], int]]()
        for (first, w), (second, minus_w) in zip(polynomials[::2], polynomials[1::2], strict=True):
            assert (w + minus_w) % MODULUS == 0
            by_w = half * pow(w, -1, MODULUS)
            low = [(a + b) * half % MODULUS for a, b in zip(first, second, strict=True)]
            high = [(a - b) * by_w % MODULUS for a, b in zip(first, second, strict=True)]
            joined.append((low + high, w * w % MODULUS))
        polynomials = joined
    return polynomials[0][0]


def _reversed_bits(number: int) -> int:
    return int(f"{number:012b}"[::-1], 2)


def lookup(  # the arguments are what params.txtpb says
    pages: list[bytes], keyword: bytes, buckets: int, entry_size: int, sides: tuple[int, int]
) -> bytes | None:
    """What the two candidate buckets of a keyword hold for it, where an entry is not larger than a plaintext."""
    hashed = int.from_bytes(sha256(keyword).digest()[:8], "little")
    rows, columns = sides
    chosen = list[int]()
    for table in range(2):
        counter = 0
        while (bucket := _candidate(hashed, counter, buckets)) in chosen and counter < 10:
            counter += 1
        chosen.append(bucket)
        page, place = divmod(bucket, 2048 // entry_size)
        row, column = divmod(page, columns)
        data = pages[table * rows * columns + column * rows + row][place * entry_size :]
        at = 1
        for _ in range(data[0]):
            size = int.from_bytes(data[at + 8 : at + 10], "little")
            if int.from_bytes(data[at : at + 8], "little") == hashed:
                return data[at + 10 : at + 10 + size]
            at += 10 + size
    return None


def _candidate(hashed: int, counter: int, buckets: int) -> int:
    return int.from_bytes(sha256(hashed.to_bytes(8, "big") + bytes([counter])).digest()[:8], "little") % buckets
