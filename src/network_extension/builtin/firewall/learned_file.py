"""The file of proposed rules."""

from __future__ import annotations

from datetime import datetime

from .document import MOST_BYTES, read_bounded
from .learning import Learner
from .list_cache import signature_of
from .rule_file import load_answers
from .toml_text import replace_file


class LearnedFile:
    """What was learned, and where it is written. A file that is no rules is left alone."""

    def __init__(self, path: str, session: datetime) -> None:
        """Raises RuleFileError."""
        self._path = path
        rules = load_answers(path)
        before = read_bounded(path, MOST_BYTES).decode() if signature_of(path) else ""
        self.learner = Learner(session, before, rules)

    def save(self) -> str:
        """Write what is new; what was in the way, or ""."""
        if not self.learner.is_changed:
            return ""
        try:
            replace_file(self._path, self.learner.text().encode("utf-8", "replace"))
        except OSError as error:
            return f"{self._path}: what was learned cannot be written: {error.strerror}"
        return ""
