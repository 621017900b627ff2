"""`netext ask`: the firewall's questions in a terminal, and a person's answers to them."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from functools import partial
from typing import Any

from ..builtin.firewall.answers import ACTIONS, DURATIONS, SCOPES, Answer, domain_of
from ..builtin.firewall.ask_socket import find_sockets
from ..errors import ConfigurationError, ExitCode
from ..linux.processes import printable
from .arguments import ArgumentParser
from .ask_client import Asker, connect

DESCRIPTION = "See what the firewall asks, and answer. Works in any terminal, over SSH as well; needs no desktop."
EPILOG = """\
An answer is: allow, deny (told at once) or drop (silent); then, in any order,
  how long    once, run (until the firewall stops), exit (until that program ends), 15m or 2h or 7d, ever
  how far     exact (this host and port), host, domain or domain=NAME, port (any host), program (everything)
for example: allow ever domain. Without more, it is for the flows that wait now: once, exact.

Several may run this at once: all see the same questions, and the first answer counts. As root, the questions of all
users' firewalls are shown.

Exit status: 0; 1 an answer was not taken; 64 wrong usage; 69 no firewall that asks is running.
"""
_HELP = """\
  allow | deny | drop  [once | run | exit | 15m | ever]  [exact | host | domain[=NAME] | port | program]
  a, d for allow, deny. An identifier before it answers that question, otherwise it is the one above.
  skip: the next question; list: all of them; quit
"""
_SHORT = {"a": "allow", "d": "deny", "s": "skip", "l": "list", "q": "quit", "?": "help", "h": "help"}


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        "netext ask",
        usage="netext ask [--list] [--json] [--socket PATH]\n"
        "       netext ask --answer ID {allow,deny,drop} [--for TIME] [--scope SCOPE]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=100),
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("action", nargs="?", choices=tuple(map(str, ACTIONS)), help="the answer, with --answer")
    add("--list", action="store_true", help="print the open questions, and end")
    add("--json", action="store_true", help="questions as JSON: with --list one array, else a line for each event")
    add("--answer", metavar="ID", help="answer one question, and end")
    add("--for", default="once", dest="duration", metavar="TIME", help=f"{', '.join(DURATIONS)}, or a time as 15m")
    add("--scope", default="exact", metavar="SCOPE", help=f"{', '.join(SCOPES)}, domain=NAME")
    add("--socket", metavar="PATH", help="the firewall's socket; else all that may be answered are found")
    return parser


def main(words: list[str]) -> int:
    """Parse, connect, and talk; the exit status."""
    parser = _parser()
    parsed = parser.parse_args(words)
    if (parsed.answer is None) != (parsed.action is None):
        parser.error("an answer needs both: --answer ID allow")
    if parsed.action:
        Answer.parse(parsed.action, parsed.duration, parsed.scope)
    askers = connect([parsed.socket] if parsed.socket else find_sockets())
    if not askers:
        print(
            'netext ask: no firewall that asks is running; start one whose rules have default = "ask" or a rule with'
            ' action = "ask"',
            file=sys.stderr,
        )
        return ExitCode.UNAVAILABLE
    try:
        if parsed.answer:
            return _answer(askers, parsed.answer, parsed.action, parsed.duration, parsed.scope)
        if parsed.list:
            return _list(askers, parsed.json)
        return _stream(askers) if parsed.json else _Terminal(askers).run()
    finally:
        for asker in askers:
            asker.close()


def _answer(askers: list[Asker], identifier: str, action: str, duration: str, scope: str) -> int:
    found = _find(askers, identifier)
    if found is None:
        print(f"netext ask: no open question {printable(identifier)}; netext ask --list shows them", file=sys.stderr)
        return 1
    asker, question = found
    asker.answer(question["id"], action, duration, scope)
    reply = asker.reply(question["id"])
    is_taken = reply.get("type") == "answered"
    print(printable(str(reply.get("text", ""))), file=sys.stdout if is_taken else sys.stderr)
    return 0 if is_taken else 1


def _find(askers: list[Asker], identifier: str) -> tuple[Asker, dict[str, Any]] | None:
    """A question by its identifier, or by the part after the dot if that is clear."""
    all_of_them = [(asker, question) for asker in askers for question in asker.questions.values()]
    exact = [each for each in all_of_them if each[1]["id"] == identifier]
    short = [each for each in all_of_them if str(each[1]["id"]).rpartition(".")[2] == identifier]
    found = exact or (short if len(short) == 1 else [])
    return found[0] if found else None


def _list(askers: list[Asker], as_json: bool) -> int:
    questions = [question for asker in askers for question in asker.questions.values()]
    if as_json:
        print(
            json.dumps([{key: value for key, value in each.items() if key != "type"} for each in questions], indent=2)
        )
    elif not questions:
        print("no open questions")
    for question in () if as_json else questions:
        print(describe(question))
    return 0


def _stream(askers: list[Asker]) -> int:
    """Questions as they are, and as they come and go, one JSON object a line."""
    for asker in askers:
        for question in asker.questions.values():
            print(json.dumps(question), flush=True)
    while askers:
        for asker in select.select(askers, [], [])[0]:
            for message in asker.receive():
                if message.get("type") in ("question", "gone"):
                    print(json.dumps(message), flush=True)
            if asker.has_ended:
                askers.remove(asker)
    return 0


def describe(question: dict[str, Any]) -> str:
    """A question, in three or four lines that no program can make look like something else."""
    program, process = str(question.get("program", "")), question.get("pid")
    name = program.rpartition("/")[2] or "an unknown program"
    host, address = question.get("host") or question.get("address") or "?", question.get("address")
    port = question.get("port", -1)
    target = f"{host}{f':{port}' if port >= 0 else ''} {question.get('protocol')}"
    arrow = "→" if question.get("direction") == "outbound" else "←"
    where = f" ({address})" if address and address != host else ""
    lines = [f"{question['id']}  {name} {arrow} {target}{where}"]
    lines.append(f"    {program or '?'}, process {process or '?'}, user {_user(question.get('uid', -1))}")
    if question.get("arguments"):
        lines.append(f"    {' '.join(map(str, question['arguments']))[:300]}")
    if question.get("parents"):
        lines.append(f"    started by {' ← '.join(str(path).rpartition('/')[2] for path in question['parents'])}")
    flows = question.get("flows", 1)
    lines.append(
        f"    {flows} flow{'s wait' if flows != 1 else ' waits'}, {question.get('seconds_left', 0):.0f} s left"
    )
    return "\n".join(printable(line) for line in lines)


def _user(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})" if uid >= 0 else "?"
    except (KeyError, OverflowError):
        return str(uid)


class _Terminal:
    """Shows one question after the other, and reads answers, both as they come."""

    def __init__(self, askers: list[Asker]) -> None:
        self._askers = askers
        self._shown: dict[str, Any] | None = None
        self._skipped: set[str] = set()
        self._typed = b""

    def run(self) -> int:
        if not any(asker.questions for asker in self._askers):
            print("No open questions; they appear here when there are some. ? for help, Ctrl-C to leave.", flush=True)
        while self._askers:
            self._show_next()
            readable = select.select([*self._askers, sys.stdin.buffer], [], [])[0]
            for source in readable:
                if isinstance(source, Asker):
                    self._hear(source)
                elif not self._read():
                    return 0
        print("The firewall has stopped.")
        return 0

    def _open(self) -> list[tuple[Asker, dict[str, Any]]]:
        found = [(asker, each) for asker in self._askers for each in asker.questions.values()]
        return [pair for pair in found if pair[1]["id"] not in self._skipped]

    def _show_next(self) -> None:
        if self._shown is None and (waiting := self._open()):
            self._shown = waiting[0][1]
            print(f"\n{describe(self._shown)}", flush=True)
            domain = domain_of(self._shown["host"]) if self._shown.get("host") else ""
            hint = f", domain ({printable(domain)})" if domain else ""
            print(f"  allow, deny, drop; once, run, exit, 15m, ever; exact, host{hint}, port, program", flush=True)
            if len(waiting) > 1:
                print(f"  {len(waiting) - 1} more: list", flush=True)

    def _hear(self, asker: Asker) -> None:
        for message in asker.receive():
            kind, identifier = message.get("type"), message.get("id")
            if kind == "gone" and self._shown is not None and identifier == self._shown["id"]:
                print(printable(f"  {identifier}: {message.get('how')}, {message.get('by')}"), flush=True)
                self._shown = None
            elif kind == "answered":
                print(printable(f"  {message.get('text')}"), flush=True)
            elif kind == "error":
                print(printable(f"  not taken: {message.get('text')}"), flush=True)
        if asker.has_ended:
            self._askers.remove(asker)
            self._shown = None

    def _read(self) -> bool:
        """Take what was typed; False at its end."""
        data = os.read(sys.stdin.fileno(), 4096)
        self._typed += data
        *lines, self._typed = self._typed.split(b"\n")
        return all(self._obey(line.decode("utf-8", "replace").split()) for line in lines) and bool(data)

    def _obey(self, words: list[str]) -> bool:
        """Carry out one line; False to leave."""
        found = _find(self._askers, words[0]) if words and words[0] not in _SHORT else None
        words = [_SHORT.get(word, word) for word in (words[1:] if found else words)]
        question = found[1] if found else self._shown
        if words[:1] == ["quit"]:
            return False
        if words[:1] == ["list"]:
            for _, each in self._open():
                print(describe(each), flush=True)
        elif words[:1] == ["skip"] and question is not None:
            self._skipped.add(question["id"])
            self._shown = None
        elif words[:1] == ["help"]:
            print(_HELP, end="", flush=True)
        elif words:
            self._answer(question, words)
        return True

    def _answer(self, question: dict[str, Any] | None, words: list[str]) -> None:
        if question is None:
            print("  nothing is asked at the moment", flush=True)
            return
        try:
            answer = parse_answer(words)
        except ConfigurationError as error:
            print(f"  {error}", flush=True)
            return
        asker = next(asker for asker in self._askers if question["id"] in asker.questions)
        asker.answer(question["id"], *answer)


def parse_answer(words: list[str]) -> tuple[str, str, str]:
    """Action, duration and scope, from words in any order after the action. Raises ConfigurationError."""
    action, duration, scope = words[0], "once", "exact"
    for word in words[1:]:
        if word.partition("=")[0] in SCOPES:
            scope = word
        elif word != "for":
            duration = word
    Answer.parse(action, duration, scope)
    return action, duration, scope
