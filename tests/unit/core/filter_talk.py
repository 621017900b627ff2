"""Flows under filters as transcripts: `>>` is what comes to the verdict machine, `<<` what it decides.

    plays('''
        >> new flow
        << F0? new flow
        >> F0: looks out 4
        << open, out held
        >> out: abcd
        << F0? out at 0: abcd
        >> F0: allow
        << out is free
    ''')

A line of what comes is `F0: verdict` (an answer to what F0 was asked first), `F0 resumes: verdict`, `F0 updates out:
verdict`, `out: bytes`, `out ends`, `control of F0: verdict`, `F0 is in trouble: DEAD`, `at 1.5` (the clock), `closed`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest

from network_extension import (
    FLOW_BYTES_MAX,
    Direction,
    FilterControlVerdict,
    FilterDataVerdict,
    FilterNewFlowVerdict,
    FilterVerdict,
    Protocol,
)
from network_extension.core.filter_decision import (
    AppendString,
    AskComplete,
    AskControl,
    AskData,
    AskNewFlow,
    Drop,
    FilterMisuse,
    FilterSlot,
    FlowFilter,
    Hold,
    Open,
    Pass,
    Remediate,
    Report,
    Step,
)
from network_extension.core.flow_decision import Policy, ProviderState, Trouble
from network_extension.core.rule_matching import FlowFacts
from network_extension.filter_verdicts import FilterGrade

OUT, IN, ALL = Direction.OUTBOUND, Direction.INBOUND, FLOW_BYTES_MAX
WAYS = {"out": OUT, "in": IN, "both": Direction.ANY}
NAMES = {OUT: "out", IN: "in"}
FACTS = FlowFacts(Protocol.TCP, bytes([192, 0, 2, 1]), 443)


def flow(count: int = 1, *, policy: Policy | None = None, udp: bool = False, **options: Any) -> FlowFilter:
    """A machine with filters F0, F1, …, which are running."""
    slots = [FilterSlot(index, f"F{index}", FilterGrade.FIREWALL, policy) for index in range(count)]
    for slot in slots:
        slot.state = ProviderState.RUNNING
    return FlowFilter(slots, options.pop("facts", FACTS), is_datagram=udp, protocol=17 if udp else 6, **options)


def looks(out: int | None = None, into: int | None = None) -> FilterNewFlowVerdict:
    """Filter data."""
    return FilterNewFlowVerdict.filter_data(
        filter_outbound=out is not None,
        peek_outbound=out or 0,
        filter_inbound=into is not None,
        peek_inbound=into or 0,
    )


def plays(script: str, machine: FlowFilter | None = None, **options: Any) -> FlowFilter:
    """Play a transcript, and show where it went differently."""
    talk = Talk(machine or flow(**options))
    wanted = dedent(script).strip().splitlines()
    for line in wanted:
        if line.startswith(">> "):
            talk.come(line.removeprefix(">> "))
    if talk.lines != wanted:
        pytest.fail("\n".join(difflib.ndiff(wanted, talk.lines)), pytrace=False)
    return talk.machine


class Talk:
    """A machine, its clock, and what was said."""

    def __init__(self, machine: FlowFilter) -> None:
        self.machine, self.now = machine, 0.0
        self.asked: list[AskNewFlow | AskData | AskComplete] = []
        self.lines: list[str] = []

    def come(self, line: str) -> None:
        self.lines.append(f">> {line}")
        try:
            steps = self._come(line)
        except FilterMisuse as error:
            self.lines.append(f"<< misuse: {error}")
            return
        for step in steps:
            if isinstance(step, (AskNewFlow, AskData, AskComplete)):
                self.asked.append(step)
            self.lines.append(f"<< {said(step)}")

    def _come(self, line: str) -> list[Step]:
        machine, now = self.machine, self.now
        subject, _, rest = line.partition(": ")
        words = subject.split()
        if words[0] == "at":
            self.now = float(words[1])
            return machine.tick(self.now)
        if words[0] in WAYS:
            return (
                machine.ended(WAYS[words[0]], now) if not rest else machine.received(WAYS[words[0]], rest.encode(), now)
            )
        if words[0] == "control":
            return machine.control_answer(int(words[2][1:]), CONTROL[rest](), now)
        if line in ("new flow", "closed"):
            return machine.start(now) if line == "new flow" else machine.closed(now)
        return self._filter(int(words[0][1:]), words[1:], rest)

    def _filter(self, index: int, words: list[str], rest: str) -> list[Step]:
        machine, now = self.machine, self.now
        if words[:1] == ["resumes"]:
            return machine.resume(index, verdict(rest), now)
        if words[:1] == ["updates"]:
            return machine.update(index, verdict(rest), WAYS[words[1]], now)
        if words[:1] == ["is"]:
            trouble, _, detail = rest.partition(" ")
            return machine.trouble(index, Trouble[trouble], detail, now)
        question = next((one for one in self.asked if one.slot == index), AskNewFlow(index))
        if question in self.asked:
            self.asked.remove(question)
        if isinstance(question, AskNewFlow):
            return machine.answer_new_flow(index, verdict(rest), now)
        if isinstance(question, AskData):
            return machine.answer_data(index, question.direction, verdict(rest), now)
        return machine.answer_complete(index, question.direction, verdict(rest), now)


SIMPLE: dict[str, Callable[[], FilterVerdict]] = {
    "allow": FilterNewFlowVerdict.allow,
    "drop": FilterNewFlowVerdict.drop,
    "drop silently": lambda: FilterNewFlowVerdict.drop(silent=True),
    "pause": FilterNewFlowVerdict.pause,
    "need rules": FilterNewFlowVerdict.need_rules,
    "page": lambda: FilterNewFlowVerdict.remediate("url", "button"),
    "append": lambda: FilterNewFlowVerdict.url_append_string("safe"),
}
CONTROL: dict[str, Callable[[], FilterVerdict]] = {
    "allow": FilterControlVerdict.allow,
    "drop": FilterControlVerdict.drop,
    "new rules": FilterControlVerdict.updating_rules,
    "need rules": FilterControlVerdict.need_rules,
}


def verdict(text: str) -> FilterVerdict:
    """`allow`, `looks out 4 in all`, `pass 3, peek 4`; `reported` behind it asks for reports."""
    if text.endswith(" reported"):
        return verdict(text.removesuffix(" reported")).reported()
    if text in SIMPLE:
        return SIMPLE[text]()
    words = text.replace(",", "").split()
    numbers = {
        words[at]: ALL if words[at + 1] == "all" else int(words[at + 1]) for at in range(len(words) % 2, len(words), 2)
    }
    if words[0] == "looks":
        return looks(numbers.get("out"), numbers.get("in"))
    return FilterDataVerdict.data(numbers["pass"], numbers["peek"])


def said(step: Step) -> str:
    """A step as a line."""
    if isinstance(step, AskNewFlow):
        return f"F{step.slot}? new flow"
    if isinstance(step, AskData):
        return f"F{step.slot}? {NAMES[step.direction]} at {step.offset}: {step.data.decode()}"
    if isinstance(step, AskComplete):
        return f"F{step.slot}? {NAMES[step.direction]} complete"
    if isinstance(step, AskControl):
        return f"control of F{step.slot}?"
    if isinstance(step, Open):
        held = {
            (False, False): "",
            (False, True): ", out held",
            (True, False): ", in held",
            (True, True): ", both held",
        }
        return f"open{held[step]}"
    if isinstance(step, Pass):
        way = NAMES[step.direction]
        return f"{way} is free" if step.up_to >= ALL else f"{way} passes to {step.up_to}"
    if isinstance(step, Hold):
        return f"{NAMES[step.direction]} is held"
    if isinstance(step, Drop):
        return f"drop{' silently' if step.silent else ''} by {step.by}: {step.reason}"
    if isinstance(step, Remediate):
        return f"page {step.url_map_key}, {step.button_text_map_key} by {step.by}"
    if isinstance(step, AppendString):
        return f"append {step.map_key} by {step.by}"
    assert isinstance(step, Report)
    return f"report to F{step.slot}: {step.action.name} {step.event.name}"
