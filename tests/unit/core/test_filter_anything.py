"""The verdict machine under whatever comes: a model that knows nothing of its insides watches every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension import FLOW_BYTES_MAX, Direction, FilterControlVerdict, FilterNewFlowVerdict, FilterVerdict
from network_extension.core.filter_decision import (
    AppendString,
    AskComplete,
    AskControl,
    AskData,
    AskNewFlow,
    Drop,
    FilterMisuse,
    FlowFilter,
    Hold,
    Open,
    Pass,
    Remediate,
    Step,
)
from network_extension.core.flow_decision import Policy, Trouble
from network_extension.filter_verdicts import VerdictKind

from .filter_talk import IN, OUT, flow, verdict

BOTH = (OUT, IN)
Question = AskNewFlow | AskData | AskComplete
ALLOW = FilterNewFlowVerdict.allow()
SENSE = [verdict(text) for text in ("allow", "pause", "need rules", "looks out 3", "looks out all in 2", "looks in 0")]
SENSE += [verdict(text) for text in ("pass 0, peek 5", "pass 2, peek 0", "pass 7, peek 1", "pass all, peek 0")]
ANYTHING = [*SENSE, verdict("drop"), verdict("page"), verdict("append"), FilterControlVerdict.updating_rules()]
NUMBERS, WAYS = st.integers(0, 2), st.sampled_from(BOTH)
BYTES = st.tuples(st.just("received"), WAYS, st.binary(min_size=1, max_size=9))
ENDS = st.tuples(st.just("ended"), WAYS)
CONTROL = st.sampled_from([FilterControlVerdict.allow(), FilterControlVerdict.updating_rules()])
WAIT = st.tuples(st.just("wait"), st.floats(0, 4))


def actions(verdicts: list[FilterVerdict]) -> Any:
    """What filters and programs do: bytes often, ends seldom."""
    answers = st.tuples(st.just("answer"), st.sampled_from(verdicts))
    resumes = st.tuples(st.just("resume"), NUMBERS, st.sampled_from(verdicts))
    control = st.tuples(st.just("control"), CONTROL)
    return st.one_of(answers, answers, answers, BYTES, BYTES, BYTES, ENDS, resumes, WAIT, control)


LOOKS = [verdict(text) for text in ("looks out 3", "looks out all in 2", "looks in 0", "looks out 1 in all", "allow")]
BEGINNINGS = st.lists(st.sampled_from(LOOKS), min_size=3, max_size=3)
"""What the filters say about the new flow."""


class Model:
    """The datapath and the filters; `passed` is what each filter has said, in words of its own."""

    def __init__(self, machine: FlowFilter, count: int) -> None:
        self.machine, self.count, self.now = machine, count, 0.0
        self.asked: list[Question] = []
        self.control: list[int] = []
        self.content = {way: bytearray() for way in BOTH}
        self.ended: set[Direction] = set()
        self.is_open = self.is_over = False
        self.released = dict.fromkeys(BOTH, 0)
        self.passed = {(index, way): FLOW_BYTES_MAX for index in range(count) for way in BOTH}
        self.shown: dict[tuple[int, Direction], int] = {}
        self.paused: dict[int, Question] = {}
        self.needy: dict[int, Question] = {}

    def take(self, steps: list[Step]) -> None:
        for step in steps:
            assert not self.is_over, f"{step} after the end"
            if isinstance(step, Question):
                self.question(step)
            elif isinstance(step, AskControl):
                self.control.append(step.slot)
            elif isinstance(step, Open):
                self.is_open = True
                for way, held in ((IN, step.hold_inbound), (OUT, step.hold_outbound)):
                    self.released[way] = 0 if held else FLOW_BYTES_MAX
            elif isinstance(step, Pass):
                is_paused = any(self.machine.is_paused(index) for index in range(self.count))
                assert not is_paused or step.up_to == self.released[step.direction], "moves while paused"
                assert step.up_to >= self.released[step.direction]
                self.released[step.direction] = step.up_to
            elif isinstance(step, Hold):
                assert self.released[step.direction] == FLOW_BYTES_MAX
                self.released[step.direction] = len(self.content[step.direction])
            elif isinstance(step, (Drop, Remediate, AppendString)):
                self.is_over = True
        assert self.is_over == (self.machine.outcome in ("dropped", "remediated"))
        assert self.machine.is_final or not self.is_over

    def question(self, step: Question) -> None:
        # A late answer about the new flow cannot be taken for one about bytes: it is a method of its own.
        is_new = isinstance(step, AskNewFlow)
        others = [one for one in self.asked if one.slot == step.slot and isinstance(one, AskNewFlow) == is_new]
        assert not others, "asked twice at the same time"
        self.asked.append(step)
        if isinstance(step, AskData):
            content, start = self.content[step.direction], step.offset
            assert step.data
            assert content[start : start + len(step.data)] == step.data
            self.shown[step.slot, step.direction] = start + len(step.data)

    def act(self, action: tuple[Any, ...]) -> None:
        name, *rest = action
        try:
            self.take(getattr(self, f"do_{name}")(*rest))
        except FilterMisuse:
            pass

    def do_received(self, way: Direction, data: bytes) -> list[Step]:
        if not self.is_open or self.is_over or way in self.ended:
            return []
        before = self.machine.given(way)
        steps = self.machine.received(way, data, self.now)
        self.content[way] += data[: self.machine.given(way) - before]
        return steps

    def do_ended(self, way: Direction) -> list[Step]:
        if not self.is_open or self.is_over:
            return []
        self.ended.add(way)
        return self.machine.ended(way, self.now)

    def do_answer(self, given: FilterVerdict) -> list[Step]:
        if not self.asked:
            return []
        question = self.asked.pop(0)
        self.note(question, given)
        return self.answer(question, given)

    def answer(self, question: Question, given: FilterVerdict) -> list[Step]:
        if isinstance(question, AskNewFlow):
            return self.machine.answer_new_flow(question.slot, given, self.now)
        if isinstance(question, AskData):
            return self.machine.answer_data(question.slot, question.direction, given, self.now)
        return self.machine.answer_complete(question.slot, question.direction, given, self.now)

    def note(self, question: Question, given: FilterVerdict) -> None:
        """What an answer means for `passed`."""
        index, kind = question.slot, given.kind
        if kind is VerdictKind.PAUSE:
            self.paused[index] = question
        elif kind is VerdictKind.NEED_RULES:
            self.needy[index] = question
        elif isinstance(question, AskNewFlow):
            for way, wanted in ((IN, given.filter_inbound), (OUT, given.filter_outbound)):
                self.passed[index, way] = 0 if wanted else FLOW_BYTES_MAX
        elif isinstance(question, AskComplete) or kind is not VerdictKind.DATA:
            self.passed[index, question.direction] = FLOW_BYTES_MAX
        else:
            passed = min(self.passed[index, question.direction] + given.pass_bytes, FLOW_BYTES_MAX)
            self.passed[index, question.direction] = passed

    def do_resume(self, index: int, given: FilterVerdict) -> list[Step]:
        if self.machine.is_paused(index % self.count):
            index %= self.count
        steps = self.machine.resume(index, given, self.now)
        self.note(self.paused.pop(index), given)
        return steps

    def do_control(self, given: FilterVerdict) -> list[Step]:
        if not self.control:
            return []
        index = self.control.pop(0)
        steps = self.machine.control_answer(index, given, self.now)
        question = self.needy.pop(index)
        if given.kind is VerdictKind.ALLOW:
            self.note(question, given)
        return steps

    def do_update(self, index: int, given: FilterVerdict, way: Direction) -> list[Step]:
        return self.machine.update(index, given, way, self.now)

    def do_trouble(self, index: int, trouble: Trouble) -> list[Step]:
        return self.machine.trouble(index, trouble, "", self.now)

    def do_wait(self, seconds: float) -> list[Step]:
        self.now += seconds
        return self.machine.tick(self.now)

    def holds_what_is_not_passed(self) -> None:
        """Nothing moves that any filter has not passed, and nobody sees what one before it has not passed."""
        if self.is_over or not self.is_open:
            return
        for way in BOTH:
            ready = min(self.passed[index, way] for index in range(self.count))
            assert self.released[way] <= ready
            if not self.paused:
                assert self.released[way] == ready, "kept although all have passed it"
        for (index, way), end in self.shown.items():
            assert all(end <= self.passed[before, way] for before in range(index))
        for step in self.asked:
            if isinstance(step, AskData):
                assert step.offset == self.passed[step.slot, step.direction]

    def ends(self) -> None:
        """Time alone brings every question to an end."""
        for _ in range(60):
            deadline = self.machine.next_deadline
            if deadline is None:
                return
            self.now = max(self.now, deadline)
            self.take(self.machine.tick(self.now))
        raise AssertionError("deadlines without end")


def sensible(question_kind: type, given: FilterVerdict) -> bool:
    is_new = given.kind in (VerdictKind.FILTER_DATA, VerdictKind.ALLOW, VerdictKind.PAUSE, VerdictKind.NEED_RULES)
    return is_new if question_kind is AskNewFlow else given.kind is not VerdictKind.FILTER_DATA


@settings(max_examples=1000, deadline=None)
@given(st.integers(1, 3), st.booleans(), BEGINNINGS, st.lists(actions(SENSE), min_size=15, max_size=60))
def test_filters_that_make_sense(
    count: int, udp: bool, beginning: list[FilterVerdict], todo: list[tuple[Any, ...]]
) -> None:
    """Answers are of the right kind and come in time, so that the model knows what every filter has passed."""
    model = Model(flow(count, udp=udp), count)
    model.take(model.machine.start(0.0))
    for given_first in beginning:
        model.act(("answer", given_first))
    for name, *rest in todo:
        if name == "answer" and model.asked and not sensible(type(model.asked[0]), rest[0]):
            continue
        if name == "resume" and rest[0] in model.paused and not sensible(type(model.paused[rest[0]]), rest[1]):
            continue
        if name == "wait":
            rest = [min(rest[0], 0.1)]
        model.act((name, *rest))
        if not udp:
            model.holds_what_is_not_passed()
        elif model.is_open and not model.is_over:
            assert all(model.released[way] <= min(model.passed[i, way] for i in range(count)) for way in BOTH)
    allow_all(model)


def allow_all(model: Model) -> None:
    """Everybody allows everything at last: the flow is finally allowed."""
    for _ in range(200):
        if model.is_over or model.machine.is_final:
            break
        if model.paused:
            model.act(("resume", next(iter(model.paused)), ALLOW))
        elif model.control:
            model.act(("control", FilterControlVerdict.allow()))
        elif model.asked:
            model.act(("answer", ALLOW))
        else:
            model.act(("ended", OUT))
            model.act(("ended", IN))
    assert model.machine.is_final
    assert model.is_over or model.released == dict.fromkeys(BOTH, FLOW_BYTES_MAX)


TROUBLES = st.tuples(st.just("trouble"), NUMBERS, st.sampled_from(list(Trouble)))
UPDATES = st.tuples(st.just("update"), NUMBERS, st.sampled_from(ANYTHING), st.sampled_from([*BOTH, Direction.ANY]))
WAITS = st.tuples(st.just("wait"), st.floats(0, 12))


@settings(max_examples=1500, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from(list(Policy)),
    st.booleans(),
    st.booleans() | BEGINNINGS,
    st.lists(st.one_of(actions(ANYTHING), TROUBLES, UPDATES, UPDATES, WAITS), min_size=5, max_size=50),
)
def test_filters_that_do_anything(
    count: int, policy: Policy, udp: bool, beginning: bool | list[FilterVerdict], todo: list[tuple[Any, ...]]
) -> None:
    model = Model(flow(count, policy=policy, udp=udp), count)
    model.take(model.machine.start(0.0))
    for given_first in beginning if isinstance(beginning, list) else ():
        model.act(("answer", given_first))
    for action in todo:
        model.act(action)
    is_paused = any(model.machine.is_paused(index) for index in range(count))
    model.ends()
    if model.is_over:
        assert model.machine.is_final
    elif not is_paused and not model.machine.is_final:
        model.paused.clear()  # of questions that were not answered in time
        model.asked.clear()  # nobody has been asked for longer than the deadline: the flow waits for bytes, or ends
        allow_all(model)


def test_the_model_sees_a_leak(monkeypatch: Any) -> None:
    """A machine that releases one byte too many does not get past it."""
    release: Callable[..., None] = FlowFilter._release

    def leaky(self: FlowFilter, stream: Any, steps: list[Step]) -> None:
        before = len(steps)
        release(self, stream, steps)
        steps[before:] = [
            Pass(step.direction, min(step.up_to + 1, FLOW_BYTES_MAX)) if isinstance(step, Pass) else step
            for step in steps[before:]
        ]

    monkeypatch.setattr(FlowFilter, "_release", leaky)
    model = Model(flow(), 1)
    model.take(model.machine.start(0.0))
    model.act(("answer", verdict("looks out 1")))
    model.act(("received", OUT, b"abc"))
    model.act(("answer", verdict("pass 1, peek 1")))
    try:
        model.holds_what_is_not_passed()
    except AssertionError:
        return
    raise AssertionError("the leak was not seen")
