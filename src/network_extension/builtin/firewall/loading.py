"""Where the rules come from: a file that the configuration names, the configuration itself, or a place of custom.

Configuration keys (`--config KEY=VALUE`, or a TOML or JSON file):

    rules=FILE          the file of rules
    default, rule, …    or its content, as configuration: --config firewall.toml (then nothing is reloaded)
    answers=FILE        where answers "for ever" are kept; else [ask] answers, else answers.toml beside the rules
    learn=FILE          learn, and write proposed rules there
    ask_socket=PATH     the socket for `netext ask`

Without rules in the configuration: $XDG_CONFIG_HOME/netext/firewall.toml (~/.config), then /etc/netext/firewall.toml.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...errors import ConfigurationError
from .list_cache import ListCache
from .rule_file import Files, RuleBook, load_answers, load_rules, parse_rules
from .rules import Rule
from .watching import Watch

_INLINE = ("default", "rule", "include", "inspect", "ask", "log")


class RuleSource:
    """One configuration's rules, read as often as they change."""

    def __init__(self, configuration: Mapping[str, Any], before: RuleSource | None = None) -> None:
        """`before` is what was in use until now. Raises ConfigurationError."""
        self._options = {key: _path(configuration, key) for key in ("answers", "learn", "ask_socket")}
        self._data: dict[str, Any] | None = None
        self.name = ""
        self._find(configuration)
        self._lists: ListCache = before._lists if before else ListCache()
        self._watch = Watch()
        self._over: set[tuple[Any, ...]] | None = before._over if before else None
        self._answers_file = ""

    def _find(self, configuration: Mapping[str, Any]) -> None:
        given = configuration.get("rules")
        if isinstance(given, str) and given:
            self.name = os.path.expanduser(given)
        elif given is not None:
            raise ConfigurationError(f"configuration: rules is the path of a file, not {type(given).__name__}")
        elif "default" in configuration or "rule" in configuration:
            self.name = "configuration"
            self._data = {key: configuration[key] for key in _INLINE if key in configuration}
            if isinstance(configuration.get("learn"), dict):
                self._data["learn"] = configuration["learn"]
        else:
            places = _customary()
            self.name = next(filter(os.path.isfile, places), "")
            if not self.name:
                raise ConfigurationError(f"the firewall has no rules; give --config rules=FILE, or write {places[0]}")

    def load(self) -> RuleBook:
        """The rules as they are now; from here on, changes are noticed. Raises ConfigurationError."""
        files: Files = {}
        try:
            if self._data is not None:
                book = parse_rules(self._data, self.name, self._lists, files)
            else:
                book = load_rules(self.name, self._lists, files)
        except ConfigurationError:
            self._watch.start(self._watch.files | files)
            raise
        self._lists.forget_unused()
        book = self._with_options(book)
        self._answers_file = book.ask.answers
        self._watch.start(files)
        self._note_restart_rules(book)
        return book

    def load_answers(self) -> tuple[Rule, ...]:
        """The answers that hold for ever. Raises ConfigurationError."""
        files: Files = {}
        try:
            return load_answers(self._answers_file, files) if self._answers_file else ()
        finally:
            self._watch.start(self._watch.files | files)

    def has_changed(self) -> bool:
        """Whether a file is different from when it was read."""
        return self._watch.has_changed()

    def in_force(self, book: RuleBook) -> list[Rule]:
        """The rules without those `until = "restart"` that were there before this session began."""
        return [rule for rule in book.rules if not (rule.until_restart and _content(rule) in (self._over or ()))]

    def _note_restart_rules(self, book: RuleBook) -> None:
        if self._over is None:
            self._over = {_content(rule) for rule in book.rules if rule.until_restart}

    def _with_options(self, book: RuleBook) -> RuleBook:
        options, ask = self._options, book.ask
        answers = options["answers"] or ask.answers
        if not answers and self._data is None:
            answers = os.path.join(os.path.dirname(os.path.abspath(self.name)), "answers.toml")
        ask = ask._replace(answers=answers, socket=options["ask_socket"] or ask.socket)
        return book._replace(ask=ask, learn=options["learn"] or book.learn)


def _content(rule: Rule) -> tuple[Any, ...]:
    """A rule without where it stands."""
    return rule.name, rule.action, rule.conditions


def _path(configuration: Mapping[str, Any], key: str) -> str:
    value = configuration.get(key)
    if key == "learn" and isinstance(value, dict):
        return ""
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigurationError(f"configuration: {key} is the path of a file, not {type(value).__name__}")
    return os.path.abspath(os.path.expanduser(value)) if value else ""


def _customary() -> list[str]:
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return [os.path.join(home, "netext/firewall.toml"), "/etc/netext/firewall.toml"]
