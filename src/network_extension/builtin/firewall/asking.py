"""Questions to people, from the paused flow to the answer that became a rule."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import ConfigurationError, ProviderError
from ...filter_flow import FilterFlow
from .answers import Answer, rule_data
from .ask_server import AskServer
from .ask_socket import describe
from .document import MOST_BYTES, Misfit, read_bounded
from .facts import FlowFacts
from .index import RuleIndex
from .list_cache import signature_of
from .questions import Question, QuestionBook
from .rule_file import AskOptions
from .rule_keys import action_of, conditions_of, start_time
from .rules import Action, Place, Rule
from .tables import Table
from .toml_text import replace_file, rule_text

if TYPE_CHECKING:
    from .provider import Firewall

MOST_SESSION_RULES = 1000
FEW = 16
"""So many flows of one question are told one by one, more by the dozen."""
STEP = 0.05  # seconds between two looks at who has waited long enough
_HEADER = """\
# Answers given for ever in `netext ask`. The firewall only appends; what is above, and how it is written, stays yours.
"""


class _Paused(NamedTuple):
    """A flow that waits, and which kind of verdict ends its pause."""

    flow: FilterFlow
    kind: Any


class Asking:
    """The open questions, their socket, and the rules that answers made."""

    def __init__(self, firewall: Firewall) -> None:
        self._firewall = firewall
        self.options = AskOptions()
        self._book = QuestionBook(f"{os.getpid()}.")
        self._server = AskServer(self, firewall.log)
        self._session: list[Rule] = []
        self._saved: tuple[Rule, ...] = ()
        self._answered = 0
        self._timer: asyncio.TimerHandle | None = None
        self.answers = RuleIndex((), Action.ASK)
        """The rules that answers made."""

    async def start(self) -> None:
        """Listen for askers, if we do not already. Raises ConfigurationError."""
        if not self._server.path:
            await self._server.start(self.options.socket)
            self._firewall.log(f"questions are asked on {self._server.path}; netext ask answers them")

    async def stop(self) -> None:
        """Give every paused flow the policy's action, and take the socket away."""
        for question in self._book:
            self._resume(self._book.close(question), self.options.unanswered)
        if self._timer is not None:
            self._timer.cancel()
        await self._server.stop()

    # Questions

    def ask(self, flow: FilterFlow, facts: FlowFacts, kind: Any) -> bool:
        """Put a question for a flow that is going to be paused; False if there are too many already."""
        patience = self.options.udp_deadline if facts.protocol == socket.IPPROTO_UDP else self.options.deadline
        question = self._book.add(_Paused(flow, kind), facts, self._time(), patience)
        if question is None:
            return False
        count = len(question.waiting)
        if count == 1:
            self._firewall.log(f"question {question.id}: {facts}; netext ask answers")
        if self._server.askers and (count <= FEW or count % FEW == 0):
            self._server.tell(self._described(question))
        self._set_timer(self._time() + patience)
        return True

    def open_questions(self) -> list[dict[str, Any]]:
        """As the server sends them."""
        return [self._described(question) for question in self._book]

    def _described(self, question: Question) -> dict[str, Any]:
        return describe(question.id, question.facts, len(question.waiting), question.deadline - self._time())

    def _time(self) -> float:
        return self._firewall.loop.time()

    def _set_timer(self, due: float | None) -> None:
        if due is not None and (self._timer is None or due < self._timer.when()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._firewall.loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        action = self.options.unanswered
        for question, tokens, is_over in self._book.expire(self._time()):
            self._resume(tokens, action)
            if is_over:
                self._firewall.log(f"question {question.id}: {question.facts}: unanswered, {action} by policy")
                self._gone(question, "unanswered", str(action))
        due = self._book.next_deadline
        self._set_timer(None if due is None else max(due, self._time() + STEP))

    def _gone(self, question: Question, how: str, by: str) -> None:
        self._server.tell({"type": "gone", "id": question.id, "how": how, "by": by})

    def _resume(self, tokens: Sequence[_Paused], action: Action) -> None:
        for flow, kind in tokens:
            verdict = kind.allow() if action is Action.ALLOW else kind.drop(silent=action is Action.DROP)
            try:
                self._firewall.resume_flow(flow, verdict)
            except ProviderError:
                continue  # the program did not wait

    # Answers

    def answer(self, identifier: str, answer: Answer, by: str) -> str:
        """Answer a question; what became of it. Raises ConfigurationError."""
        question = self._book.get(identifier)
        if question is None:
            raise ConfigurationError(
                f"question {identifier[:40]!r} is not open; it was answered, or nobody waits any more"
            )
        text = self._keep(answer, question)
        self._resume(self._book.close(question), answer.action)
        self._firewall.log(f"question {question.id}: {question.facts}: {answer.action} {text}, said {by}")
        self._gone(question, "answered", f"{answer.action}, by {by}")
        self.reconsider()
        return f"{answer.action} {text}"

    def _keep(self, answer: Answer, question: Question) -> str:
        """Make the answer's rule, if it makes one; how long it holds, in words."""
        self._answered += 1
        now = datetime.now(UTC).astimezone()
        data = rule_data(answer, question.facts, f"answer {now:%Y-%m-%d %H:%M:%S} {question.id}", now)
        if data is None:
            return "once"
        place = self.options.answers if answer.duration == "ever" else "this session"
        try:
            table = Table(data, ())
            rule = Rule(data["name"], action_of(table), conditions_of(table, _no_list), Place(place))
        except Misfit as misfit:
            raise ConfigurationError(f"this answer makes no rule: {misfit.text}") from None
        duration = _duration_text(answer)
        if answer.duration == "ever" and (problem := self._save(rule_text(data))):
            duration = f"until the firewall stops, as it cannot be kept for ever ({problem})"
        self._session = [*(each for each in self._session if not _is_over(each, now)), rule][-MOST_SESSION_RULES:]
        self._make_index()
        return f"{duration}: {', '.join(map(str, rule.conditions))}"

    def _save(self, text: str) -> str:
        """Append to the file of answers; what is in the way, or ""."""
        path = self.options.answers
        if not path:
            return "no file for answers is configured"
        try:
            before = read_bounded(path, MOST_BYTES) if signature_of(path) else _HEADER.encode()
            separator = b"\n" if before.endswith(b"\n") else b"\n\n"
            after = before + separator + text.encode("utf-8", "replace")
            if len(after) > MOST_BYTES:
                return f"{path} is full"
            replace_file(path, after)
        except ConfigurationError as error:
            return str(error)
        except OSError as error:
            return f"{path}: {error.strerror}"
        return ""

    def use_saved(self, rules: Sequence[Rule]) -> None:
        """The rules in the file of answers have changed."""
        self._saved = tuple(rules)
        saved = {rule.name for rule in rules}
        # What has arrived in the file counts there from now on: who deletes it there deletes it for good.
        self._session = [rule for rule in self._session if rule.name not in saved]
        self._make_index()

    def _make_index(self) -> None:
        self.answers = RuleIndex((*self._session, *self._saved), Action.ASK)

    def reconsider(self) -> None:
        """Rules have changed: questions that they answer are none any more."""
        for question in self._book:
            decision = self._firewall.decide(question.facts._replace(may_look=False))
            if decision.action is not Action.ASK:
                self._resume(self._book.close(question), decision.action)
                self._gone(question, "decided", f"{decision.action} by {decision}")


def _no_list(name: str, _way: object) -> Any:
    raise ConfigurationError(f"an answer names no list ({name})")


def _is_over(rule: Rule, now: datetime) -> bool:
    """Whether a rule will never match again: its time is over, or its process has ended."""
    from .conditions import During, OneProcess

    for condition in rule.conditions:
        if isinstance(condition, During) and condition.limits.is_over(now):
            return True
        if isinstance(condition, OneProcess) and start_time(condition.pid) != condition.start_time:
            return True
    return False


def _duration_text(answer: Answer) -> str:
    words = {"run": "until the firewall stops", "exit": "until the program ends", "ever": "for ever"}
    return words.get(answer.duration, f"for {answer.duration}")
