"""Trials: a shard that was just processed is asked for some of its own rows, as a device would ask.

Apple's tool does the same (`trialsPerShard`). It shows, before anybody is served, that rows are found where clients
look for them and that the noise leaves room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .client import KeywordClient
from .errors import DatabaseError, NoiseError
from .he.context import Context
from .he.encryption import noise_budget
from .he.serialization import parse_ciphertext, parse_evaluation_key
from .processing import ProcessedShard
from .service_configuration import pir_config

LEAST_BUDGET = 1.0
"""Bits of noise that must be left in an answer: below, some answers would not decrypt."""


def try_lookups(
    made: ProcessedShard,
    keywords: Sequence[bytes],
    values: Sequence[bytes],
    count: int,
    random: Callable[[int], bytes],
) -> float | None:
    """Ask for `count` rows, spread over all; the least noise budget of an answer in bits, None without a trial.

    `DatabaseError`: a row has another value than it should; `NoiseError`: an answer with too little room. Both are
    faults of the program, not of the rows.
    """
    chosen = range(0, len(keywords), max(1, len(keywords) // count))[:count] if count and keywords else range(0)
    if not chosen:
        return None
    client = KeywordClient(pir_config([made.parameters]))
    context, shard = Context.of(made.parameters.encryption), made.shard
    keys = client.new_keys(random)
    key, budgets = parse_evaluation_key(context, keys.evaluation_key), []
    for row in chosen:
        query = client.query(keywords[row], keys, random)
        answer = shard.answer(query.message, key)
        for reply in answer.replies:
            for message in reply.ciphertexts:
                budgets.append(noise_budget(context, parse_ciphertext(context, message, rows=1), keys.secret))
        if client.value(query, keys, answer) != values[row]:
            raise DatabaseError(f"shard: row {row} is not found again after processing; please report it")
    if min(budgets) < LEAST_BUDGET:
        raise NoiseError(f"shard: answers keep {min(budgets):.1f} bits of noise budget; use more shards, and report it")
    return min(budgets)


__all__ = ["LEAST_BUDGET", "try_lookups"]
