"""All readers over many damaged inputs, in a process of their own whose memory is measured."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from .corpus import wheel
from .fuzzed_readers import MOST_MEMORY, READERS, SLOWEST, VERSION, made_up, seeds

INPUTS = 5_000
"""`make fuzz` and this module's own command go on from here."""
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(180)
def test_no_input_crashes_hangs_or_fills_memory() -> None:
    wheel(VERSION)
    seed = random.randrange(1 << 30)
    command = [sys.executable, "-m", "tests.unit.doctor.fuzzed_readers", "--inputs", str(INPUTS), "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stderr[-3000:]}"
    found = json.loads(done.stdout)
    assert found["inputs"] == INPUTS
    # Neither all nor none of them: the damage reaches into what is read.
    assert INPUTS / 10 < found["refused"] < INPUTS
    assert found["slowest_seconds"] < SLOWEST and found["memory_mib"] < MOST_MEMORY


@pytest.mark.parametrize("name", READERS)
def test_real_bytes_are_read(name: str) -> None:
    for data in seeds()[name]:
        READERS[name](data)


def test_damage_is_of_every_kind() -> None:
    chance = random.Random(1)
    made = [made_up(chance, [bytes(range(200))]) for _ in range(300)]
    assert {len(one) < 200 for one in made} == {True, False}
    assert any(len(one) > 200 for one in made) and any(len(one) == 200 for one in made)
