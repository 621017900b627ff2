"""A query's answer from a processed database: the server's whole work (specification §2.7).

expand the query → first dimension: column sums → second dimension: sum of products → relinearise → one modulus.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from network_extension.pir.errors import ParameterError
from network_extension.pir.he.base_extension import extension_tables
from network_extension.pir.he.context import Context
from network_extension.pir.he.encryption import Ciphertext
from network_extension.pir.he.expansion import expand_query
from network_extension.pir.he.inner_products import column_sums
from network_extension.pir.he.keys import EvaluationKey
from network_extension.pir.he.modular import Words
from network_extension.pir.he.multiplication import add_products, finish_products, reduce_sums
from network_extension.pir.he.ntt import forward_rows
from network_extension.pir.he.parallel import Workers
from network_extension.pir.he.rounding import rounding_tables


def answer_query(
    context: Context, plaintexts: Words, ciphertexts: Sequence[Ciphertext], key: EvaluationKey, threads: int = 1
) -> list[list[Ciphertext]]:
    """For each table of `plaintexts` the answer's ciphertexts, one for each chunk, of one modulus each.

    `plaintexts` is (tables, chunks, columns, rows, L, N): Eval in memory order, in the order of Apple's files, nil
    plaintexts as zeros; it may be a memory map. `ciphertexts` is the query: a coefficient for each row and column of
    each table. Runs without the GIL, in `threads` threads.

    `ParameterError`: query, key and database do not fit each other.
    """
    tables, _, columns, rows, level, degree = plaintexts.shape
    if (level, degree) != (context.level, context.degree):
        raise ParameterError("database: it was processed for other encryption parameters")
    relinearisation = key.relinearisation_factors()
    per_table = rows + columns
    answers = []
    with Workers(threads) as workers:
        expanded = expand_query(context, ciphertexts, tables * per_table, key, workers)
        for table in range(tables):
            selectors = expanded[table * per_table : (table + 1) * per_table]
            _selectors_to_eval(context, selectors[:rows], workers)
            answers.append(
                [
                    Ciphertext(_answer_chunk(context, chunk, selectors, relinearisation, workers))
                    for chunk in plaintexts[table]
                ]
            )
    return answers


def _selectors_to_eval(context: Context, selectors: Words, workers: Workers) -> None:
    """In place: ciphertexts (count, 2, L, N) to Eval form."""
    polys = selectors.reshape(-1, *selectors.shape[2:])
    workers.run(lambda first, last: forward_rows(polys[first:last], 0, context.tables), len(polys))


def _answer_chunk(context: Context, chunk: Words, selectors: Words, relinearisation: Words, workers: Workers) -> Words:
    """(2, 1, N) Coeff: the answer of `chunk` (columns, rows, L, N) to the `selectors` of its rows and columns."""
    columns, rows, level, degree = chunk.shape
    extension = extension_tables(context.parameters)
    partial_sums = []

    def part(first: int, last: int) -> None:
        sums = np.zeros((3, level + 3, degree), np.uint64)
        partial_sums.append(sums)
        results = np.empty((last - first, 2, level, degree), np.uint32)
        column_sums(chunk[first:last], selectors[:rows], results, context.tables)
        add_products(results, selectors[rows + first : rows + last], sums, extension, context.tables)

    workers.run(part, columns)
    sums = partial_sums[0]
    for other in partial_sums[1:]:
        sums += other
    reduce_sums(sums, extension, context.tables)
    answer = np.empty((2, level - 1, degree), np.uint32)
    finish_products(
        sums,
        relinearisation,
        answer,
        extension,
        rounding_tables(context.parameters, level),
        rounding_tables(context.parameters, level - 1),
        context.tables,
    )
    return answer
