"""The targets of `make fuzz` stand up to a few hundred inputs each; the millions are for `make fuzz` itself."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz.py"


def fuzz() -> Any:
    spec = importlib.util.spec_from_file_location("netext_fuzz", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TARGETS = fuzz().targets()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_no_input_is_more_than_it_can_take(name: str) -> None:
    chance = random.Random(name)
    for size in (0, 1, 2, 3, 4, 8, 20, 40, 100, 300) * 20:
        TARGETS[name](chance.randbytes(size))
        TARGETS[name](bytes(chance.choice((0, 1, 22, 3, 255)) for _ in range(size)))


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_long_inputs_cost_no_square(name: str) -> None:
    """What repeats is where a walk that begins again for each piece shows itself. The limit is pytest's own."""
    for head in (b"", b"u", bytes(4)):
        for piece in (b"\x16\x03\x01\x00\x01\x01", b"\x00", b"\x01", b"GET / HTTP/1.1\r\n", b"a.", b"\xc0\x0c"):
            TARGETS[name](head + piece * (60_000 // len(piece)))
