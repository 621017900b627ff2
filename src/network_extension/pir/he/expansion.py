"""Query expansion: one ciphertext becomes many, each of which encrypts one coefficient (specification §2.7).

A query is one plaintext with a few coefficients set. A step turns a ciphertext of p(X) into one of its even and one of
its odd coefficients: with X -> X^g for g = N / 2^(step-1) + 1, p(X) + p(X^g) keeps the coefficients at even places
doubled, and p(X) - p(X^g) those at odd places, which a shift by 2^(step-1) places moves to even ones. After log2 steps
each ciphertext holds one coefficient, times a power of two that the client has divided out beforehand.

The tree is computed in place: the node for the places that are `offset` modulo `stride` lies at `offset`; its even half
stays there, its odd half goes to `offset + stride`. A node for one place only has no halves: it is doubled, to have the
same factor as the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from network_extension.pir.errors import ParameterError
from network_extension.pir.he.compiled import compiled
from network_extension.pir.he.context import Context
from network_extension.pir.he.encryption import Ciphertext
from network_extension.pir.he.galois import expansion_element, substitute, substitution
from network_extension.pir.he.key_switching import switch_key
from network_extension.pir.he.keys import EvaluationKey
from network_extension.pir.he.modular import Words, below
from network_extension.pir.he.ntt import NttTables
from network_extension.pir.he.parallel import Workers
from network_extension.pir.he.rounding import RoundingTables, rounding_tables


def expand_query(
    context: Context, ciphertexts: Sequence[Ciphertext], count: int, key: EvaluationKey, workers: Workers
) -> Words:
    """(count, 2, L, N) Coeff: ciphertexts of the first `count` coefficients; each of `ciphertexts` holds N of them.

    `ParameterError`: the number of ciphertexts does not fit `count`, or the key lacks a Galois element.
    """
    degree = context.degree
    if len(ciphertexts) != -(-count // degree):
        raise ParameterError(f"query: {len(ciphertexts)} ciphertexts do not hold {count} coefficients; ask again")
    nodes = np.empty((count, 2, context.level, degree), np.uint32)
    for index, ciphertext in enumerate(ciphertexts):
        _expand(context, ciphertext.polys, nodes[index * degree : (index + 1) * degree], key, workers)
    return nodes


def _expand(context: Context, polys: Words, nodes: Words, key: EvaluationKey, workers: Workers) -> None:
    """`polys` (2, L, N) to all of `nodes`."""
    rounding = rounding_tables(context.parameters, context.level)
    nodes[0] = polys
    for step in range(1, (len(nodes) - 1).bit_length() + 1):
        way = substitution(expansion_element(step, context.degree), key.galois, context.degree)
        factors = key.galois[way.element].factors

        def level(
            first: int,
            last: int,
            step: int = step,
            element: int = way.element,
            repeats: int = way.repeats,
            factors: Words = factors,
        ) -> None:
            _expand_level(nodes, step, first, last, element, repeats, factors, rounding, context.tables)

        workers.run(level, min(1 << (step - 1), len(nodes)))


@compiled
def _expand_level(
    nodes: Words,
    step: int,
    first: int,
    last: int,
    element: int,
    repeats: int,
    factors: Words,
    rounding: RoundingTables,
    tables: NttTables,
) -> None:
    """Nodes number `first` … `last` of a step, by the key `factors` for `element`, which is applied `repeats` times."""
    stride = 1 << (step - 1)
    image = np.empty(nodes.shape[1:], np.uint32)
    update = np.empty(nodes.shape[1:], np.uint32)
    for offset in range(first, last):
        node = nodes[offset]
        if offset + stride >= nodes.shape[0]:
            _double(node, tables)
            continue
        update[:] = node
        for _ in range(repeats):
            _apply_substitution(update, element, factors, image, update, rounding, tables)
        _fork(node, update, stride, nodes[offset + stride], tables)


@compiled
def _apply_substitution(
    source: Words,
    element: int,
    factors: Words,
    image: Words,
    target: Words,
    rounding: RoundingTables,
    tables: NttTables,
) -> None:
    """Ciphertext `source` of p(X) to `target` of p(X^element), which may be `source`; `image` is room for another."""
    for poly in range(2):
        for row in range(source.shape[1]):
            substitute(source[poly, row], element, tables.moduli[row], image[poly, row])
    switch_key(image[1], factors, target, rounding, tables)
    for row in range(source.shape[1]):
        modulus = tables.moduli[row]
        place, addend = target[0, row], image[0, row]
        for k in range(place.size):
            place[k] = below(np.uint32(place[k] + addend[k]), modulus)


@compiled
def _double(node: Words, tables: NttTables) -> None:
    for poly in range(2):
        for row in range(node.shape[1]):
            modulus = tables.moduli[row]
            place = node[poly, row]
            for k in range(place.size):
                place[k] = below(np.uint32(place[k] + place[k]), modulus)


@compiled
def _fork(node: Words, image: Words, stride: int, odd: Words, tables: NttTables) -> None:
    """`node` becomes node + image, and `odd` (node - image) * X^-stride."""
    for poly in range(2):
        for row in range(node.shape[1]):
            modulus = tables.moduli[row]
            size = node.shape[2] - stride
            # X^-stride moves coefficients down; the lowest come out on top with the other sign.
            _fork_row(image[poly, row, :stride], node[poly, row, :stride], odd[poly, row, size:], modulus, True)
            _fork_row(image[poly, row, stride:], node[poly, row, stride:], odd[poly, row, :size], modulus, False)


@compiled
def _fork_row(image: Words, node: Words, odd: Words, modulus: np.uint32, negated: bool) -> None:
    if negated:
        for k in range(image.size):
            value, other = node[k], image[k]
            node[k] = below(np.uint32(value + other), modulus)
            odd[k] = below(np.uint32(other + modulus - value), modulus)
    else:
        for k in range(image.size):
            value, other = node[k], image[k]
            node[k] = below(np.uint32(value + other), modulus)
            odd[k] = below(np.uint32(value + modulus - other), modulus)
