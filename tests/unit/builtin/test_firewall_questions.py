"""The book of questions: whatever flows come and go, each is answered once, and the bounds hold."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from network_extension.builtin.firewall.facts import FlowFacts
from network_extension.builtin.firewall.questions import QuestionBook

HOSTS = ["a.example", "b.example", "c.example", "d.example"]


class Book(RuleBasedStateMachine):
    """Against a list of what waits: (token, host, deadline)."""

    def __init__(self) -> None:
        super().__init__()
        self.book = QuestionBook("x.", most_questions=3, most_waiting=6)
        self.now, self.number = 0.0, 0
        self.waiting: dict[int, tuple[str, float]] = {}

    @rule(host=st.sampled_from(HOSTS), patience=st.sampled_from([9.0, 30.0]))
    def add(self, host: str, patience: float) -> None:
        """UDP is impatient; a host's TCP and UDP are two questions."""
        self.number += 1
        kind = f"{host} {patience}"
        open_kinds = {text for text, _ in self.waiting.values()}
        fits = len(self.waiting) < 6 and (kind in open_kinds or len(open_kinds) < 3)
        facts = FlowFacts("/usr/bin/curl", host=host, port=443, protocol=17 if patience == 9.0 else 6)
        assert (self.book.add(self.number, facts, self.now, patience) is not None) == fits
        if fits:
            self.waiting[self.number] = (kind, self.now + patience)

    @rule(seconds=st.sampled_from([0.0, 1.0, 8.0, 10.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        expired = {token for each in self.book.expire(self.now) for token in each.tokens}
        assert expired == {token for token, (_, deadline) in self.waiting.items() if deadline <= self.now}
        for token in expired:
            del self.waiting[token]

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        questions = list(self.book)
        if questions:
            question = data.draw(st.sampled_from(questions))
            identifier = question.id
            for token in self.book.close(question):
                del self.waiting[token]
            assert self.book.get(identifier) is None

    @invariant()
    def counts_agree(self) -> None:
        assert self.book.waiting == len(self.waiting) <= 6
        assert len(self.book) == len({text for text, _ in self.waiting.values()}) <= 3
        assert self.book.next_deadline == min((deadline for _, deadline in self.waiting.values()), default=None)
        for question in self.book:
            assert question.deadline == max(question.waiting.values())


TestBook = Book.TestCase
TestBook.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
