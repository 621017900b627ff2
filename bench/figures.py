"""What is measured becomes a table: medians, ratios, spread, and whether the goal was reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

NATIVE, OURS = "native", "netext run"


class Row:
    """One measure: for each way the values of all rounds.

    `goal` is what has to be reached, in words; `reached` decides by the row itself.
    """

    def __init__(self, name: str, unit: str, goal: str, reached: Callable[[Row], bool | None], digits: int = 0) -> None:
        self.name, self.unit, self.goal, self._reached, self.digits = name, unit, goal, reached, digits
        self.values: dict[str, list[float]] = {}
        self.missing: dict[str, str] = {}
        self.proofs: dict[str, str] = {}
        self.notes: list[str] = []
        self.less_is_more = False

    def add(self, way: str, value: float, proof: str) -> None:
        """One measurement, and what shows that it was one."""
        self.values.setdefault(way, []).append(value)
        self.proofs[way] = proof

    def median(self, way: str) -> float | None:
        """The median of a way's rounds."""
        values = self.values.get(way)
        return median(values) if values else None

    def ratio(self, way: str) -> float | None:
        """The median of a way, in units of native's."""
        own, native = self.median(way), self.median(NATIVE)
        return own / native if own is not None and native else None

    @property
    def verdict(self) -> str:
        """`reached`, `missed`, or nothing for a row without a goal."""
        reached = self._reached(self)
        return "" if reached is None else "reached" if reached else "missed"

    def text(self, way: str) -> str:
        """A way's median with its spread, for the table."""
        value = self.median(way)
        if value is None:
            return "-"
        values = self.values[way]
        spread = f" ({min(values):.{self.digits}f}-{max(values):.{self.digits}f})" if len(values) > 1 else ""
        return f"{value:.{self.digits}f}{spread}"

    def ratio_text(self, way: str) -> str:
        """A way's ratio to native, two digits."""
        ratio = self.ratio(way)
        return "-" if ratio is None else f"{ratio:.2f}"

    def to_dict(self) -> dict[str, Any]:
        """Everything, for --json."""
        return {
            "name": self.name,
            "unit": self.unit,
            "goal": self.goal,
            "verdict": self.verdict,
            "values": self.values,
            "medians": {way: self.median(way) for way in self.values},
            "ratios": {way: self.ratio(way) for way in self.values},
            "missing": self.missing,
            "proofs": self.proofs,
            "notes": self.notes,
        }


def at_least_ratio(goal: float) -> Callable[[Row], bool | None]:
    """Ours is at least `goal` of native, and ahead of every peer in the row."""

    def reached(row: Row) -> bool | None:
        own, ratio = row.median(OURS), row.ratio(OURS)
        if own is None or ratio is None:
            return None
        return ratio >= goal and ahead_of_peers(row)

    return reached


def ahead_of_peers(row: Row) -> bool:
    """Whether ours is the best of all but native."""
    own = row.median(OURS) or 0.0
    peers = [row.median(way) or 0.0 for way in row.values if way not in (NATIVE, OURS)]
    return all(own < peer for peer in peers) if row.less_is_more else all(own > peer for peer in peers)


def table(rows: Sequence[Row], ours: str = OURS) -> str:
    """The results as Markdown: ours against native, then the peers as ratios to native."""
    head = ("measure", "unit", "native", ours, "ratio", "must reach", "")
    lines = [
        (row.name, row.unit, row.text(NATIVE), row.text(ours), row.ratio_text(ours), row.goal, row.verdict)
        for row in rows
    ]
    text = _markdown(head, lines)
    peers = sorted({way for row in rows for way in row.values} - {NATIVE, ours})
    if peers:
        with_peers = [row for row in rows if {*row.values} - {NATIVE, ours}]
        body = [(row.name, *(_peer_text(row, peer) for peer in (ours, *peers))) for row in with_peers]
        text += "\n" + _markdown(("median, in units of native's", ours, *peers), body)
    return text


def _peer_text(row: Row, way: str) -> str:
    if way in row.values:
        return f"{row.ratio_text(way)} ({row.median(way):.{row.digits}f} {row.unit})"
    return "missing" if way in row.missing else "-"


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return "".join(
        "| " + " | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) + " |\n"
        for line in (head, rule, *lines)
    )
