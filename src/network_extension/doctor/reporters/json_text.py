"""JSON: one object, whose keys stay as they are."""

from __future__ import annotations

import json

from ..report import Report
from .records import report_record

__all__ = ["json_text"]


def json_text(report: Report) -> str:
    """The report as `records.report_record` has it, indented. ASCII: what is hidden in a text is escaped by JSON."""
    return json.dumps(report_record(report), indent=2)
