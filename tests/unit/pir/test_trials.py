"""A processed shard is asked for its own rows before anybody is served."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from network_extension.pir import trials
from network_extension.pir.errors import DatabaseError, NoiseError
from network_extension.pir.processing import process_shard
from network_extension.pir.processing_configuration import ProcessingConfiguration
from network_extension.pir.trials import try_lookups

KEYWORDS = [b"%d" % number for number in range(300)]
VALUES = [b"1"] * 300
MADE = process_shard(KEYWORDS, VALUES, ProcessingConfiguration())


def test_what_is_left_of_the_noise_budget() -> None:
    budget = try_lookups(MADE, KEYWORDS, VALUES, 3, os.urandom)
    assert budget is not None and 1 < budget < 6


def test_no_trial() -> None:
    assert try_lookups(MADE, KEYWORDS, VALUES, 0, os.urandom) is None
    assert try_lookups(MADE, [], [], 5, os.urandom) is None


def test_a_shard_without_its_rows() -> None:
    empty = replace(MADE, plaintexts=np.zeros_like(MADE.plaintexts))
    with pytest.raises(DatabaseError, match="row 0 is not found again"):
        try_lookups(empty, KEYWORDS, VALUES, 1, os.urandom)


def test_too_much_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "LEAST_BUDGET", 20.0)
    with pytest.raises(NoiseError, match="bits of noise budget"):
        try_lookups(MADE, KEYWORDS, VALUES, 1, os.urandom)
