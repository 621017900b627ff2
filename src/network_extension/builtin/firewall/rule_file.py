"""From a file of rules, and the files that it includes, to a `RuleBook`.

    default = "allow"              allow, deny, drop, ask, learn: what becomes of flows that no rule matches
    include = ["more.toml"]        their rules come after those of this file
    inspect = true                 look at first bytes where a rule needs a name that is not known
    [ask]                          how questions are asked
    [learn]                        where proposed rules are written
    [[rule]]                       see `rule_keys`

Everything that is wrong is found in one go, and told with file, line and column. Nothing is taken over from a file
with errors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from .document import Document, Misfit, RuleError, RuleFileError, check_keys
from .list_cache import ListCache, Signature, signature_of
from .lists import TargetList
from .places import Way
from .rule_keys import KEYS, action_at, action_of, conditions_of
from .rules import Action, Place, Rule
from .tables import Table, shown

MOST_RULES = 10_000
MOST_FILES = 64
_MAIN_KEYS = ("default", "include", "inspect", "ask", "learn", "log", "rule")
_INCLUDED_KEYS = ("include", "rule")
_ASK_KEYS = ("deadline", "udp_deadline", "unanswered", "answers", "socket")
_LEARN_KEYS = ("file",)
_LOGS = ("denied", "all", "none")
LEARN = "learn"


class AskOptions(NamedTuple):
    """How questions are asked. Seconds; Apple gives a paused UDP flow ten."""

    deadline: float = 30.0
    udp_deadline: float = 9.0
    unanswered: Action = Action.DENY
    answers: str = ""
    """The file that answers "for ever" are appended to; "" is `answers.toml` beside the rules."""
    socket: str = ""


class RuleBook(NamedTuple):
    """Everything that a file of rules says."""

    rules: tuple[Rule, ...]
    default: Action
    ask: AskOptions = AskOptions()
    learn: str = ""
    """The file for proposed rules; "" does not learn."""
    inspect: bool = True
    log: str = "denied"
    warnings: tuple[str, ...] = ()


Files = dict[str, Signature | None]
"""Files that were read, lists as well, and how each was just before."""


def load_rules(path: str, lists: ListCache | None = None, files: Files | None = None) -> RuleBook:
    """The rules in a file. `files` is filled, also when this raises RuleFileError."""
    loader = _Loader(lists, files)
    return loader.main(loader.read(path))


def parse_rules(
    data: Mapping[str, Any], name: str = "configuration", lists: ListCache | None = None, files: Files | None = None
) -> RuleBook:
    """Rules that are given as data. Raises RuleFileError."""
    return _Loader(lists, files).main(Document(name, dict(data), {}, os.getcwd()))


def load_answers(path: str, files: Files | None = None) -> tuple[Rule, ...]:
    """The rules in a file of answers; none if there is no such file. Raises RuleFileError."""
    loader = _Loader(None, files)
    if signature_of(path) is None:
        loader.note(path)
        return ()
    loader.included(path)
    return loader.finish()


class _Loader:
    def __init__(self, lists: ListCache | None, files: Files | None) -> None:
        self._lists = ListCache() if lists is None else lists
        self._files: Files = {} if files is None else files
        self._names: dict[str, Place] = {}
        self._rules: list[Rule] = []
        self._documents: list[Document] = []
        self._warnings: dict[str, None] = {}

    def note(self, path: str) -> str:
        """A file is about to be read."""
        self._files[path] = signature_of(path)
        return path

    def read(self, path: str) -> Document:
        return Document.read(self.note(path))

    def main(self, document: Document) -> RuleBook:
        """Raises RuleFileError with all errors of all files."""
        table = Table(document.data, ())
        self._documents.append(document)
        self._check(document, table, _MAIN_KEYS, "a file of rules")
        default, learns = self._default(document, table)
        ask = self._ask(document)
        inspect = self._one_of(document, table, "inspect", (True, False), True)
        log = self._one_of(document, table, "log", _LOGS, "denied")
        learn = self._learn(document, learns)
        self._rest(document, table, (os.path.realpath(document.name),))
        rules = self.finish()
        return RuleBook(rules, default, ask, learn, inspect, log, tuple(self._warnings))

    def included(self, path: str, chain: tuple[str, ...] = ()) -> None:
        document = self.read(path)
        self._documents.append(document)
        table = Table(document.data, ())
        self._check(document, table, _INCLUDED_KEYS, "an included file")
        self._rest(document, table, (*chain, os.path.realpath(path)))

    def finish(self) -> tuple[Rule, ...]:
        errors = [error for document in self._documents for error in sorted(document.errors, key=_order)]
        if errors:
            raise RuleFileError(errors)
        return tuple(self._rules)

    def _check(self, document: Document, table: Table, keys: tuple[str, ...], what: str) -> None:
        for misfit in check_keys(table.data, keys, table.way, what):
            document.complain(misfit.way, misfit.text)

    def _default(self, document: Document, table: Table) -> tuple[Action, bool]:
        if "default" not in table.data:
            text = 'default is missing: what becomes of flows that no rule matches? Write default = "allow"'
            document.complain((), f"{text}, deny, drop, ask or learn")
        elif table.data["default"] == LEARN:
            return Action.ALLOW, True
        else:
            try:
                allowed = (Action.ALLOW, Action.DENY, Action.DROP, Action.ASK)
                return action_at(table, "default", allowed), False
            except Misfit as misfit:
                document.complain(misfit.way, misfit.text.replace("ask", "ask, learn", 1))
        return Action.DENY, False

    def _one_of(self, document: Document, table: Table, key: str, allowed: tuple[Any, ...], default: Any) -> Any:
        value = table.data.get(key, default)
        if type(value) is not type(default) or value not in allowed:
            document.complain((*table.way, key), f"{key}: {shown(value)} is none of {', '.join(map(shown, allowed))}")
            return default
        return value

    def _table(self, document: Document, key: str, keys: tuple[str, ...]) -> Table:
        value = document.data.get(key, {})
        if not isinstance(value, dict):
            document.complain((key,), f"{key}: a table is needed, not {shown(value)}; write [{key}]")
            value = {}
        table = Table(value, (key,))
        self._check(document, table, keys, f"[{key}]")
        return table

    def _ask(self, document: Document) -> AskOptions:
        table, default = self._table(document, "ask", _ASK_KEYS), AskOptions()
        try:
            unanswered = default.unanswered
            if "unanswered" in table.data:
                unanswered = action_at(table, "unanswered", (Action.ALLOW, Action.DENY, Action.DROP))
            return AskOptions(
                _seconds(table, "deadline", default.deadline, 3600),
                _seconds(table, "udp_deadline", default.udp_deadline, 9.5),
                unanswered,
                document.path(table.text("answers")) if "answers" in table.data else "",
                document.path(table.text("socket")) if "socket" in table.data else "",
            )
        except Misfit as misfit:
            document.complain(misfit.way, misfit.text)
            return default

    def _learn(self, document: Document, learns: bool) -> str:
        table = self._table(document, "learn", _LEARN_KEYS)
        try:
            if "file" in table.data:
                return document.path(table.text("file"))
        except Misfit as misfit:
            document.complain(misfit.way, misfit.text)
        return document.path("learned.toml") if learns or "learn" in document.data else ""

    def _rest(self, document: Document, table: Table, chain: tuple[str, ...]) -> None:
        rules = table.data.get("rule", [])
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            document.complain(("rule",), "rule: tables are needed; write [[rule]]")
            rules = []
        for number, rule in enumerate(rules):
            self._rule(document, Table(rule, ("rule", number)), number + 1)
        if "include" in table.data:
            self._include(document, table, chain)

    def _rule(self, document: Document, table: Table, number: int) -> None:
        misfits = check_keys(table.data, KEYS, table.way, "a rule")
        if len(self._rules) >= MOST_RULES:
            misfits.append(Misfit(table.way, f"more than {MOST_RULES} rules; put names and networks into lists"))
        try:
            if "note" in table.data:
                table.text("note")
            rule = self._made(document, table, number)
        except Misfit as misfit:
            if not misfits or misfit.way != table.way:  # "action is missing" is no news beside a misspelt action
                misfits.append(misfit)
        else:
            if not misfits and self._one_of(document, table, "enabled", (True, False), True):
                self._rules.append(rule)
        for each in misfits:
            document.complain(each.way, each.text)

    def _made(self, document: Document, table: Table, number: int) -> Rule:
        place = Place(document.name, document.spot(table.way).line)
        name = self._name(document, table, number, place)
        action = action_of(table)
        conditions = conditions_of(table, lambda text, way: self._list(document, text, way))
        return Rule(name, action, conditions, place, table.data.get("until") == "restart")

    def _name(self, document: Document, table: Table, number: int, place: Place) -> str:
        if "name" not in table.data:
            return f"rule {number}" if len(self._documents) == 1 else f"{os.path.basename(document.name)} rule {number}"
        name = table.text("name")
        if name in self._names:
            raise Misfit(
                (*table.way, "name"), f"name: {shown(name)} is the name of the rule at {self._names[name]} too"
            )
        self._names[name] = place
        return name

    def _list(self, document: Document, text: str, way: Way) -> TargetList:
        path = document.path(text)
        try:
            found = self._lists.get(self.note(path))
        except RuleFileError as error:
            raise Misfit(way, f"list: {error}") from None
        if found.bad_lines:
            self._warnings[
                f"{path}: {found.bad_lines} lines are neither names nor networks, and are left out; the first is line"
                f" {found.first_bad_line}"
            ] = None
        if not found.entries:
            self._warnings[f"{path}: nothing is on this list"] = None
        return found

    def _include(self, document: Document, table: Table, chain: tuple[str, ...]) -> None:
        try:
            for text, way in table.texts("include"):
                path = document.path(text)
                if os.path.realpath(path) in chain:
                    raise Misfit(way, f"include: {text} includes this file, or is it")
                if len(self._documents) >= MOST_FILES:
                    raise Misfit(way, f"include: more than {MOST_FILES} files")
                try:
                    self.included(path, chain)
                except RuleFileError as error:
                    if error.errors[0].line:  # it says itself where
                        document.errors += error.errors
                    else:
                        raise Misfit(way, f"include: {error}") from None
        except Misfit as misfit:
            document.complain(misfit.way, misfit.text)


def _seconds(table: Table, key: str, default: float, most: float) -> float:
    value = table.data.get(key, default)
    if type(value) not in (int, float) or not 0 < value <= most:
        raise Misfit((*table.way, key), f"{key}: seconds up to {most:g} are needed, not {shown(value)}")
    return float(value)


def _order(error: RuleError) -> tuple[bool, int, int]:
    """From top to bottom; what has no place last."""
    return not error.line, error.line, error.column
