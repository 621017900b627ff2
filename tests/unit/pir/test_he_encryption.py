"""What encryption promises: plaintexts come back, sums and substitutions too, and the noise budget tells how long."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.pir.errors import ParameterError, SerializationError
from network_extension.pir.he.context import Context
from network_extension.pir.he.encryption import Ciphertext, decrypt, encrypt, noise_budget
from network_extension.pir.he.galois import substituted
from network_extension.pir.he.key_switching import switch_key
from network_extension.pir.he.keys import SecretKey, generate_evaluation_key, generate_secret_key
from network_extension.pir.he.modular import Words
from network_extension.pir.he.parameters import PARAMETER_SETS, WIDE_PARAMETER_SETS, parameters_named
from network_extension.pir.he.rounding import rounding_tables
from network_extension.pir.he.serialization import (
    parse_ciphertext,
    parse_evaluation_key,
    parse_secret_key,
    serialize_ciphertext,
    serialize_evaluation_key,
    serialize_secret_key,
)
from network_extension.pir.proto import he_pb2

SETS = pytest.mark.parametrize("name", sorted(PARAMETER_SETS))
SMALL = "n_4096_logq_27_28_28_logt_5"


class Chance:
    """Random bytes that are the same in each run."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def __call__(self, count: int) -> bytes:
        return self._generator.bytes(count)


def made(name: str, seed: int = 1) -> tuple[Context, SecretKey, Chance]:
    context, chance = Context.of(parameters_named(name)), Chance(seed)
    return context, generate_secret_key(context, chance), chance


def plaintext(context: Context, seed: int) -> Words:
    generator = np.random.default_rng(seed)
    return generator.integers(0, context.parameters.plaintext_modulus, context.degree, dtype=np.uint32)


@SETS
def test_what_is_encrypted_comes_back(name: str) -> None:
    context, secret, chance = made(name)
    for message in (plaintext(context, 3), np.zeros(context.degree, np.uint32)):
        ciphertext = encrypt(context, message, secret, chance)
        assert (decrypt(context, ciphertext, secret) == message).all()
        assert noise_budget(context, ciphertext, secret) > 20


def test_another_secret_reads_noise() -> None:
    context, secret, chance = made(SMALL)
    message = plaintext(context, 3)
    ciphertext = encrypt(context, message, secret, chance)
    other = generate_secret_key(context, chance)
    assert (decrypt(context, ciphertext, other) == message).mean() < 0.5
    assert noise_budget(context, ciphertext, other) < 1


def test_two_ciphertexts_of_one_plaintext_have_nothing_in_common() -> None:
    context, secret, chance = made(SMALL)
    first, second = (encrypt(context, plaintext(context, 3), secret, chance) for _ in range(2))
    assert (first.polys == second.polys).mean() < 0.001 and first.seed != second.seed


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 40), st.integers(0, 1000))
def test_sums(count: int, seed: int) -> None:
    """The sum of ciphertexts is a ciphertext of the sum, with less budget."""
    context, secret, chance = made(SMALL, seed)
    messages = [plaintext(context, seed + index) for index in range(count)]
    ciphertexts = [encrypt(context, message, secret, chance) for message in messages]
    moduli = context.tables.moduli[: context.level, None].astype(np.uint64)
    total = sum(ciphertext.polys.astype(np.uint64) for ciphertext in ciphertexts) % moduli
    added = Ciphertext(np.array(total, np.uint32))
    expected = sum(message.astype(np.uint64) for message in messages) % context.parameters.plaintext_modulus
    assert (decrypt(context, added, secret) == expected).all()
    assert noise_budget(context, added, secret) < noise_budget(context, ciphertexts[0], secret)


@SETS
def test_the_budget_ends_where_decryption_does(name: str) -> None:
    """Noise is doubled step by step: each costs a bit of the budget, and all comes back until it is used up.

    Beyond that the budget says nothing: noise of a whole plaintext step looks like none.
    """
    context, secret, chance = made(name)
    message = plaintext(context, 5)
    fresh = encrypt(context, message, secret, chance)
    moduli = np.array(context.parameters.ciphertext_moduli, object)[:, None]
    signs = np.array([(-1) ** index for index in range(context.degree)], object)
    budgets = [noise_budget(context, fresh, secret)]
    for bits in range(10, 60):
        polys = fresh.polys.astype(object)
        polys[0] = (polys[0] + signs * 2**bits) % moduli
        noisy = Ciphertext(polys.astype(np.uint32))
        if not (decrypt(context, noisy, secret) == message).all():
            break
        budgets.append(noise_budget(context, noisy, secret))
    assert budgets[-1] < 1.1 and len(budgets) > 10
    assert all(0.8 < before - after < 1.1 for before, after in itertools.pairwise(budgets[-10:]))


@pytest.mark.parametrize("element", [3, 5, 4097, 8191])
def test_a_galois_key_brings_a_substituted_ciphertext_back_to_its_secret(element: int) -> None:
    context, secret, chance = made(SMALL)
    t, level = context.parameters.plaintext_modulus, context.level
    message = plaintext(context, 7)
    ciphertext = encrypt(context, message, secret, chance)
    key = generate_evaluation_key(context, secret, [element], False, chance)
    image = np.empty_like(ciphertext.polys)
    for poly, row in np.ndindex(2, level):
        modulus = int(context.tables.moduli[row])
        image[poly, row] = substituted(ciphertext.polys[poly, row].astype(np.int32), element) % modulus
    switched = np.empty_like(image)
    rounding = rounding_tables(context.parameters, level)
    switch_key(image[1], key.galois[element].factors, switched, rounding, context.tables)
    switched[0] = (switched[0].astype(np.uint64) + image[0]) % context.tables.moduli[:level, None]
    result = Ciphertext(switched)
    assert (decrypt(context, result, secret) == substituted(message.astype(np.int32), element) % t).all()
    assert noise_budget(context, result, secret) > 10


@pytest.mark.parametrize("element", [0, 1, 2, 4, 8192, 8193, -3])
def test_what_is_no_galois_element(element: int) -> None:
    context, secret, chance = made(SMALL)
    with pytest.raises(ParameterError, match="odd number between 3 and 8191"):
        generate_evaluation_key(context, secret, [element], False, chance)


@pytest.mark.parametrize("message", [np.zeros(10, np.uint32), np.full(4096, 2**20, np.uint32)])
def test_what_is_no_plaintext(message: Words) -> None:
    context, secret, chance = made(SMALL)
    with pytest.raises(ParameterError, match="4096 coefficients below"):
        encrypt(context, message, secret, chance)


class TestOnTheWire:
    @SETS
    def test_there_and_back(self, name: str) -> None:
        context, secret, chance = made(name)
        message = plaintext(context, 11)
        read_secret = parse_secret_key(context, serialize_secret_key(context, secret))
        assert (read_secret.values == secret.values).all()
        fresh = encrypt(context, message, secret, chance)
        for ciphertext in (fresh, Ciphertext(fresh.polys)):  # with its seed, and with both polynomials
            wire = serialize_ciphertext(context, ciphertext)
            read = parse_ciphertext(context, he_pb2.SerializedCiphertext.FromString(wire.SerializeToString()))
            assert (decrypt(context, read, secret) == message).all()
        assert serialize_ciphertext(context, fresh).WhichOneof("serialized_ciphertext_type") == "seeded"

    def test_evaluation_keys(self) -> None:
        context, secret, chance = made(SMALL)
        key = generate_evaluation_key(context, secret, [3, 4097], True, chance)
        wire = serialize_evaluation_key(context, key).SerializeToString()
        read = parse_evaluation_key(context, he_pb2.SerializedEvaluationKey.FromString(wire))
        assert set(read.galois) == {3, 4097}
        for element in (3, 4097):
            assert (read.galois[element].factors == key.galois[element].factors).all()
        assert read.relinearisation is not None and key.relinearisation is not None
        assert (read.relinearisation.factors == key.relinearisation.factors).all()

    @settings(max_examples=30, deadline=None)
    @given(st.data())
    def test_damaged_bytes_are_refused_or_read_as_something_else(self, data: st.DataObject) -> None:
        context, secret, chance = made(SMALL)
        message = serialize_ciphertext(
            context, Ciphertext(encrypt(context, plaintext(context, 1), secret, chance).polys)
        )
        polys = bytearray(message.full.polys)
        kind = data.draw(st.sampled_from(["cut", "longer", "flip", "count"]))
        if kind == "cut":
            del polys[data.draw(st.integers(0, len(polys) - 1)) :]
        elif kind == "longer":
            polys += bytes(data.draw(st.integers(1, 9)))
        elif kind == "count":
            polys[0] ^= data.draw(st.integers(1, 255))
        else:
            polys[data.draw(st.integers(2, len(polys) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        message.full.polys = bytes(polys)
        if kind == "flip":
            try:
                read = parse_ciphertext(context, message)
            except SerializationError:
                return  # a coefficient that is not below its modulus
            assert (read.polys < context.tables.moduli[: context.level, None]).all()
        else:
            with pytest.raises(SerializationError):
                parse_ciphertext(context, message)


@pytest.mark.parametrize("name", WIDE_PARAMETER_SETS)
def test_sets_that_are_not_computed_here_are_refused_by_name(name: str) -> None:
    with pytest.raises(ParameterError, match=name):
        parameters_named(name)
