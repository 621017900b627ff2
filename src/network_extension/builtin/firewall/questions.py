"""The questions that are open: which flows wait for which, and until when. Sans-IO.

Flows of the same program to the same host and port are one question. A question lives as long as flows wait for it;
each flow waits for its own time, so a program that tries again keeps its question up. What exceeds the bounds is not
asked: the caller gives it the policy's action.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .facts import FlowFacts

MOST_QUESTIONS = 256
MOST_WAITING = 4096


class Question:
    """One question. `waiting` are the tokens of its flows, with the time at which each has waited long enough."""

    __slots__ = ("asked", "facts", "id", "waiting")

    def __init__(self, identifier: str, facts: FlowFacts, asked: float) -> None:
        self.id, self.facts, self.asked = identifier, facts, asked
        self.waiting: dict[Any, float] = {}

    @property
    def deadline(self) -> float:
        """When the last of its flows gives up: the one that came last, as all are of one protocol."""
        return next(reversed(self.waiting.values()), self.asked)

    def __repr__(self) -> str:
        return f"<Question {self.id}: {self.facts}, {len(self.waiting)} flows>"


class Expired(NamedTuple):
    """Flows that waited long enough; `is_over` when no other flow waits for the question."""

    question: Question
    tokens: list[Any]
    is_over: bool


class QuestionBook:
    """All open questions. `now` is in seconds of any clock that never goes back."""

    def __init__(
        self, prefix: str = "", most_questions: int = MOST_QUESTIONS, most_waiting: int = MOST_WAITING
    ) -> None:
        self._prefix = prefix
        self._most_questions, self._most_waiting = most_questions, most_waiting
        self._by_id: dict[str, Question] = {}
        self._by_key: dict[tuple[object, ...], Question] = {}
        self._count = self._waiting = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Question]:
        return iter(list(self._by_id.values()))

    @property
    def waiting(self) -> int:
        """How many flows wait."""
        return self._waiting

    def get(self, identifier: str) -> Question | None:
        """The open question with this identifier."""
        return self._by_id.get(identifier)

    def add(self, token: Any, facts: FlowFacts, now: float, patience: float) -> Question | None:
        """Have a flow wait for `patience` seconds; None when there are too many already."""
        key = _key(facts)
        question = self._by_key.get(key)
        if self._waiting >= self._most_waiting or (question is None and len(self._by_id) >= self._most_questions):
            return None
        if question is None:
            self._count += 1
            question = Question(f"{self._prefix}{self._count}", facts, now)
            self._by_id[question.id] = self._by_key[key] = question
        question.waiting[token] = now + patience
        self._waiting += 1
        return question

    def close(self, question: Question) -> list[Any]:
        """The question is answered: its flows."""
        tokens = list(question.waiting)
        question.waiting.clear()
        self._waiting -= len(tokens)
        self._by_id.pop(question.id, None)
        self._by_key.pop(_key(question.facts), None)
        return tokens

    def expire(self, now: float) -> list[Expired]:
        """Flows that have waited long enough."""
        found = []
        for question in self:
            tokens = [token for token, deadline in question.waiting.items() if deadline <= now]
            if tokens:
                self._waiting -= len(tokens)
                for token in tokens:
                    del question.waiting[token]
                if not question.waiting:
                    self.close(question)
                found.append(Expired(question, tokens, not question.waiting))
        return found

    @property
    def next_deadline(self) -> float | None:
        """When `expire` has something to do next."""
        return min((deadline for question in self for deadline in question.waiting.values()), default=None)


def _key(facts: FlowFacts) -> tuple[object, ...]:
    return facts.program, facts.target, facts.port, facts.protocol, facts.is_outbound
