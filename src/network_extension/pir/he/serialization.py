"""Keys and ciphertexts as Apple writes them, and back (specification §2.5).

What arrives is the other side's: each size is checked before anything is allocated by it, each coefficient must lie
below its modulus, and whatever is wrong raises `SerializationError`.
"""

from __future__ import annotations

import math

import numpy as np

from network_extension.pir.errors import SerializationError
from network_extension.pir.he.context import Context
from network_extension.pir.he.drbg import SEED_SIZE
from network_extension.pir.he.encryption import Ciphertext, seeded_values
from network_extension.pir.he.keys import EvaluationKey, KeySwitchKey, SecretKey, check_galois_element
from network_extension.pir.he.modular import Words, from_montgomery_form, montgomery_form
from network_extension.pir.he.ntt import from_wire_order, inverse_rows, to_wire_order
from network_extension.pir.he.packing import coefficient_bits, pack, packed_size, unpack
from network_extension.pir.proto import he_pb2

_COUNT_SIZE = 2
"""Serialized polynomials open with their number, 16 bits little-endian."""


def serialize_secret_key(context: Context, secret: SecretKey) -> he_pb2.SerializedSecretKey:
    """The secret key, for a file that nobody else reads."""
    rows = _pack_rows(context, to_wire_order(secret.values))
    return he_pb2.SerializedSecretKey(polys=(1).to_bytes(_COUNT_SIZE, "little") + rows)


def parse_secret_key(context: Context, message: he_pb2.SerializedSecretKey) -> SecretKey:
    """The inverse of `serialize_secret_key`."""
    data = _without_count(message.polys, 1, "secret key")
    return SecretKey(from_wire_order(_unpack_rows(context, data, context.level + 1, 0, "secret key")))


def serialize_ciphertext(context: Context, ciphertext: Ciphertext) -> he_pb2.SerializedCiphertext:
    """A ciphertext with all of its bits; with its seed instead of the second polynomial where it has one."""
    if ciphertext.seed is not None:
        seeded = he_pb2.SerializedSeededCiphertext(poly0=_pack_rows(context, ciphertext.polys[0]), seed=ciphertext.seed)
        return he_pb2.SerializedCiphertext(seeded=seeded)
    return _full(context, ciphertext.polys, (0, 0))


def serialize_response(context: Context, ciphertext: Ciphertext) -> he_pb2.SerializedCiphertext:
    """A ciphertext of one modulus for who will decrypt it at once: without the low bits that only hold noise."""
    return _full(context, ciphertext.polys, response_skip_bits(context))


def _full(context: Context, polys: Words, skips: tuple[int, int]) -> he_pb2.SerializedCiphertext:
    packed = [_pack_rows(context, poly, skip) for poly, skip in zip(polys, skips, strict=True)]
    full = he_pb2.SerializedFullCiphertext(
        polys=len(packed).to_bytes(_COUNT_SIZE, "little") + b"".join(packed), skip_lsbs=skips, correction_factor=1
    )
    return he_pb2.SerializedCiphertext(full=full)


def response_skip_bits(context: Context) -> tuple[int, int]:
    """Low bits that a response leaves out of each polynomial: what rounding them adds stays below the noise that
    decryption takes away (§2.4).
    """
    parameters = context.parameters
    whole = (parameters.moduli[0] // parameters.plaintext_modulus).bit_length() - 1 - 3
    # A rounding error in c1 is multiplied by the secret, which is 8 * sqrt(2N/9) at most but for bad luck.
    growth = int(8 * math.sqrt(2 * parameters.degree / 9))
    second = whole - (growth - 1).bit_length()
    return (whole, second) if second > 1 else (whole + 1, 0)


def parse_ciphertext(context: Context, message: he_pb2.SerializedCiphertext, rows: int | None = None) -> Ciphertext:
    """The inverse of `serialize_ciphertext` and `serialize_response`, for ciphertexts modulo the first `rows` moduli
    (1 … L; default L).
    """
    rows = context.level if rows is None else rows
    if message.WhichOneof("serialized_ciphertext_type") == "seeded":
        polys = np.empty((2, rows, context.degree), np.uint32)
        polys[0] = _unpack_rows(context, message.seeded.poly0, rows, 0, "ciphertext")
        polys[1] = seeded_values(context, _seed(message.seeded), rows)
        inverse_rows(polys[1:], 0, context.tables)
        return Ciphertext(polys, message.seeded.seed)
    return Ciphertext(_parse_full(context, message.full, rows))


def _parse_full(context: Context, full: he_pb2.SerializedFullCiphertext, rows: int) -> Words:
    data = _without_count(full.polys, 2, "ciphertext")
    skips = tuple(full.skip_lsbs) or (0, 0)
    smallest = min(coefficient_bits(q) for q in context.parameters.moduli[:rows])
    if len(skips) != 2 or max(skips) >= smallest:
        raise SerializationError(
            "ciphertext: the bits to skip do not fit its moduli; ask with this server's parameters"
        )
    if full.correction_factor not in (0, 1):
        raise SerializationError(f"ciphertext: correction factor {full.correction_factor} is not BFV's 1")
    cut = min(_rows_size(context, rows, skips[0]), len(data))
    return np.stack(
        [
            _unpack_rows(context, part, rows, skip, "ciphertext")
            for part, skip in zip((data[:cut], data[cut:]), skips, strict=True)
        ]
    )


def serialize_evaluation_key(context: Context, key: EvaluationKey) -> he_pb2.SerializedEvaluationKey:
    """A client's keys for the server; 85 kB for each."""
    message = he_pb2.SerializedEvaluationKey()
    for element, galois_key in key.galois.items():
        message.galois_key.key_switch_keys[element].CopyFrom(_serialize_key_switch_key(context, galois_key))
    if key.relinearisation is not None:
        message.relin_key.relin_key.CopyFrom(_serialize_key_switch_key(context, key.relinearisation))
    return message


def parse_evaluation_key(context: Context, message: he_pb2.SerializedEvaluationKey) -> EvaluationKey:
    """The inverse of `serialize_evaluation_key`. `ParameterError`: a Galois element that is none."""
    elements = message.galois_key.key_switch_keys
    if len(elements) > 2 * context.degree.bit_length():
        raise SerializationError(f"evaluation key: {len(elements)} Galois elements are more than any database wants")
    galois = {}
    for element, key in elements.items():
        check_galois_element(context, element)
        galois[element] = _parse_key_switch_key(context, key)
    has_relin = message.HasField("relin_key")
    relinearisation = _parse_key_switch_key(context, message.relin_key.relin_key) if has_relin else None
    return EvaluationKey(galois, relinearisation)


def _serialize_key_switch_key(context: Context, key: KeySwitchKey) -> he_pb2.SerializedKeySwitchKey:
    message = he_pb2.SerializedKeySwitchKey()
    for factors, seed in zip(key.factors, key.seeds, strict=True):
        plain = np.stack(
            [from_montgomery_form(row, q) for row, q in zip(factors[0], context.parameters.moduli, strict=True)]
        )
        seeded = he_pb2.SerializedSeededCiphertext(poly0=_pack_rows(context, to_wire_order(plain)), seed=seed)
        message.key_switch_key.ciphertexts.add(seeded=seeded)
    return message


def _parse_key_switch_key(context: Context, message: he_pb2.SerializedKeySwitchKey) -> KeySwitchKey:
    ciphertexts = message.key_switch_key.ciphertexts
    level, rows = context.level, context.level + 1
    if len(ciphertexts) != level or any(not ciphertext.HasField("seeded") for ciphertext in ciphertexts):
        raise SerializationError(f"key-switch key: {level} ciphertexts with seeds are wanted; make the key again")
    factors = np.empty((level, 2, rows, context.degree), np.uint32)
    for digit, ciphertext in enumerate(ciphertexts):
        values = _unpack_rows(context, ciphertext.seeded.poly0, rows, 0, "key-switch key")
        polys = (from_wire_order(values), seeded_values(context, _seed(ciphertext.seeded), rows))
        for row, modulus in enumerate(context.parameters.moduli):
            for poly in range(2):
                factors[digit, poly, row] = montgomery_form(polys[poly][row], modulus)
    return KeySwitchKey(factors, tuple(ciphertext.seeded.seed for ciphertext in ciphertexts))


def _seed(seeded: he_pb2.SerializedSeededCiphertext) -> bytes:
    if len(seeded.seed) != SEED_SIZE:
        raise SerializationError(f"ciphertext: seed of {len(seeded.seed)} bytes instead of {SEED_SIZE}")
    return seeded.seed


def _without_count(data: bytes, count: int, what: str) -> memoryview:
    if data[:_COUNT_SIZE] != count.to_bytes(_COUNT_SIZE, "little"):
        raise SerializationError(f"{what}: it does not hold {count} polynomials; was it made for something else?")
    return memoryview(data)[_COUNT_SIZE:]


def _row_sizes(context: Context, rows: int, skip: int) -> list[int]:
    moduli = context.parameters.moduli[:rows]
    return [packed_size(context.degree, coefficient_bits(q, skip)) for q in moduli]


def _rows_size(context: Context, rows: int, skip: int) -> int:
    return sum(_row_sizes(context, rows, skip))


def _pack_rows(context: Context, values: Words, skip: int = 0) -> bytes:
    moduli = context.parameters.moduli[: values.shape[0]]
    return b"".join(pack(row, coefficient_bits(q, skip), skip) for row, q in zip(values, moduli, strict=True))


def _unpack_rows(context: Context, data: bytes | memoryview, rows: int, skip: int, what: str) -> Words:
    sizes = _row_sizes(context, rows, skip)
    if len(data) != sum(sizes):
        raise SerializationError(
            f"{what}: polynomial of {len(data)} bytes instead of {sum(sizes)}; is it of other encryption parameters?"
        )
    values = np.empty((rows, context.degree), np.uint32)
    start = 0
    for row, (size, modulus) in enumerate(zip(sizes, context.parameters.moduli, strict=False)):
        values[row] = unpack(data[start : start + size], context.degree, coefficient_bits(modulus, skip), skip)
        if int(values[row].max()) >= modulus:
            raise SerializationError(f"{what}: a coefficient is not below its modulus; the bytes are damaged")
        start += size
    return values
