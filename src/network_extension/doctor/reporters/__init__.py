"""How a report is shown, by the name of the format."""

from __future__ import annotations

from collections.abc import Callable

from ..report import Report
from .json_text import json_text
from .junit import junit
from .markdown import markdown
from .sarif import sarif
from .text import text

__all__ = ["REPORTERS"]

REPORTERS: dict[str, Callable[[Report], str]] = {
    "text": text,
    "json": json_text,
    "sarif": sarif,
    "junit": junit,
    "markdown": markdown,
}
"""Each makes a text of a report."""
