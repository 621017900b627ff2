"""The firewall: rules from a file, questions to people, proposals from what it saw.

    file ── load_rules ──▶ RuleIndex ── decide ──▶ allow, deny, drop
                               │ ask                 ▲
                               ▼                     │
                           answers (a second RuleIndex: for ever, this run, …)
                               │ none                │
                               ▼                     │
                           QuestionBook ── AskServer ┘  `netext ask`, in any terminal

An answer never outweighs a rule: answers are looked at where the rules say "ask". A flow whose rules need a name that
is not known is let open, its first bytes held, and decided when they tell the name, or cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ...content_filter import FilterDataProvider
from ...errors import ConfigurationError, ProviderError
from ...filter_flow import FilterFlow
from ...filter_settings import FilterRule, FilterSettings
from ...filter_verdicts import FLOW_BYTES_MAX, FilterAction, FilterDataVerdict, FilterNewFlowVerdict
from ...provider import StopReason
from ...rules import NetworkRule
from .asking import Asking
from .destinations import Networks
from .explaining import Explanation, explain
from .facts import FlowFacts, facts_of
from .first_bytes import PATIENCE, FirstBytes
from .index import RuleIndex
from .learned_file import LearnedFile
from .loading import RuleSource
from .rule_file import RuleBook
from .rules import Action, Decision
from .watching import INTERVAL

WRITE_LEARNED = 5.0  # seconds between two writings of what was learned
MOST_LOGGED = 20  # lines a second
_LOOPBACK = (("127.0.0.0/8", 4, 127 << 24, 128 << 24), ("::1/128", 6, 1, 2))


class Firewall(FilterDataProvider):
    """Decides flows by rules in a file; see docs/firewall.md. Configuration: `rules`, or the rules themselves."""

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._source: RuleSource | None = None
        self._asking = Asking(self)
        self._looking: dict[FilterFlow, FirstBytes] = {}
        self._learned: LearnedFile | None = None
        self._index = RuleIndex((), Action.DENY)
        self._book = RuleBook((), Action.DENY)
        self._now = now_here()
        self._work: list[asyncio.Task[Any]] = []
        self._logged = [0.0, 0.0]  # start of the second, lines in it

    # Life cycle

    async def start_filter(self) -> None:
        """Read the rules, then watch their files. Raises ConfigurationError."""
        self.loop = asyncio.get_running_loop()
        self._source = RuleSource(self.configuration)
        self._use(self._source.load())
        self._use_answers(self._source.load_answers())
        self._start_learning()
        if self._asks:
            await self._asking.start()
        await self._claim_loopback()
        self.log(f"{self._source.name}: {_count(len(self._book.rules), 'rule')}, default {self._default_text}")
        self.observe("configuration", lambda _new: self._configuration_changed())
        self._work = [self.spawn(self._watch(), name="watch rules"), self.spawn(self._write_learned(), name="learn")]

    async def stop_filter(self, reason: StopReason) -> None:
        """Paused flows get the policy's action; what was learned is written."""
        for task in self._work:
            task.cancel()
        await self._asking.stop()
        self._save_learned()

    # Flows

    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
        """Decide by the rules; look at the first bytes if they need a name."""
        facts = facts_of(flow, may_look=self._book.inspect)
        decision = self.decide(facts)
        if decision.needs_name:
            return FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX)
        verdict: FilterNewFlowVerdict = self._verdict(FilterNewFlowVerdict, flow, facts, decision)
        return verdict

    def handle_outbound_data(self, flow: FilterFlow, offset: int, data: bytes) -> FilterDataVerdict:
        """Decide as soon as the bytes tell the name, or cannot tell it any more."""
        facts = facts_of(flow, may_look=False)
        if not facts.has_own_name:
            seen = self._looking.setdefault(flow, FirstBytes(flow))
            if seen.look(data):
                if seen.timer is None:
                    seen.timer = self.loop.call_later(PATIENCE, self._looked_long_enough, flow)
                return FilterDataVerdict.data(0, FLOW_BYTES_MAX)
            if seen.name is not None:
                facts = facts._replace(host=seen.name, has_own_name=True)
        return self._after_looking(flow, facts)

    def handle_outbound_data_complete(self, flow: FilterFlow) -> FilterDataVerdict:
        """The program sends nothing that could tell a name: decide without."""
        return self._after_looking(flow, facts_of(flow, may_look=False))

    def _after_looking(self, flow: FilterFlow, facts: FlowFacts) -> FilterDataVerdict:
        seen = self._looking.pop(flow, None)
        if seen is not None and seen.timer is not None:
            seen.timer.cancel()
        verdict: FilterDataVerdict = self._verdict(FilterDataVerdict, flow, facts, self.decide(facts))
        return verdict

    def _looked_long_enough(self, flow: FilterFlow) -> None:
        """Half a hello, and nothing more comes. There is no callback to pause in: who should be asked is not."""
        self._looking.pop(flow, None)
        facts = facts_of(flow, may_look=False)
        decision = self.decide(facts)
        action = self._book.ask.unanswered if decision.action is Action.ASK else decision.action
        self._log_decision(facts, f"{action} by {decision}, as its first bytes are only half of a hello", action)
        try:
            self.update_flow(flow, verdict_of(FilterDataVerdict, action))
        except ProviderError:
            pass  # it has ended

    def decide(self, facts: FlowFacts) -> Decision:
        """What the rules, and where they say "ask" the answers, make of a flow."""
        index, answers = self._index, self._asking.answers
        if index.has_times or answers.has_times:
            self._now = now_here()
        decision = index.decide(facts, self._now)
        if decision.action is Action.ASK:
            answered = answers.decide(facts, self._now)
            if answered.rule is not None or answered.needs_name:
                return answered
        return decision

    def _verdict(self, kind: Any, flow: FilterFlow, facts: FlowFacts, decision: Decision) -> Any:
        action = decision.action
        if action is Action.ASK:
            if self._asking.ask(flow, facts, kind):
                return kind.pause()
            action = self._book.ask.unanswered
            self._log_decision(facts, f"{action} by policy: too many flows wait for answers already", action)
        elif self._book.log != "none":
            self._log_decision(facts, f"{action} by {decision}", action)
        if self._learned is not None and decision.rule is None:
            self._learned.learner.note(facts, self._now)
        return verdict_of(kind, action)

    def _log_decision(self, facts: FlowFacts, text: str, action: Action) -> None:
        if action is Action.ALLOW and self._book.log != "all":
            return
        now = self.loop.time()
        if now - self._logged[0] >= 1:
            if self._logged[1] > MOST_LOGGED:
                self.log(f"{int(self._logged[1]) - MOST_LOGGED} more decisions were not logged")
            self._logged = [now, 0]
        self._logged[1] += 1
        if self._logged[1] <= MOST_LOGGED:
            self.log(f"{facts}: {text}")

    # Rules that change

    def _use(self, book: RuleBook) -> None:
        assert self._source is not None
        self._index = RuleIndex(self._source.in_force(book), book.default)
        self._book = book
        self._asking.options = book.ask
        for warning in book.warnings:
            self.log(warning, "warning")

    def _use_answers(self, rules: Sequence[Any]) -> None:
        self._asking.use_saved(rules)

    @property
    def _asks(self) -> bool:
        return self._book.default is Action.ASK or any(rule.action is Action.ASK for rule in self._book.rules)

    @property
    def _default_text(self) -> str:
        return f"{self._book.default}{', learning' if self._book.learn else ''}"

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            assert self._source is not None
            if self._source.has_changed():
                await self._reload()

    async def _reload(self) -> None:
        """Read the rules again, beside the flows. Errors keep the rules that there are."""
        assert self._source is not None
        try:
            book = await asyncio.to_thread(self._source.load)
            answers = await asyncio.to_thread(self._source.load_answers)
        except ConfigurationError as error:
            self.log(f"{error}; the rules from before stay in force", "error")
            return
        had = self._book.learn
        self._use(book)
        self._use_answers(answers)
        if book.learn != had:
            self._save_learned()
            self._start_learning()
        if self._asks:
            try:
                await self._asking.start()
            except ConfigurationError as error:
                self.log(str(error), "error")
        await self._claim_loopback()
        self._asking.reconsider()
        self.log(f"{self._source.name}: read again, {_count(len(book.rules), 'rule')}, default {self._default_text}")

    def _configuration_changed(self) -> None:
        try:
            self._source = RuleSource(self.configuration, self._source)
        except ConfigurationError as error:
            self.log(f"{error}; the rules from before stay in force", "error")
            return
        self._work.append(self.spawn(self._reload(), name="reload"))

    async def _claim_loopback(self) -> None:
        """Have loopback flows shown if a rule is about them; they pass unseen otherwise."""
        rules = [
            FilterRule(NetworkRule.remote_and_local(text), FilterAction.FILTER_DATA)
            for text, version, first, end in _LOOPBACK
            if self._is_about(version, first, end)
        ]
        try:
            await self.apply_settings(FilterSettings(rules) if rules else None)
        except ProviderError as error:
            self.log(f"rules about loopback: {error}", "warning")

    def _is_about(self, version: int, first: int, end: int) -> bool:
        """Whether a rule names a network within this range."""
        conditions = (condition for rule in self._book.rules for condition in rule.conditions)
        return any(
            of == version and first <= start and last < end
            for condition in conditions
            if isinstance(condition, Networks)
            for of, start, last in condition.ranges
        )

    # Learning

    def _start_learning(self) -> None:
        assert self._source is not None
        self._learned = None
        if self._book.learn:
            try:
                self._learned = LearnedFile(self._book.learn, now_here())
            except ConfigurationError as error:
                self.log(f"nothing is learned: {error}", "error")

    async def _write_learned(self) -> None:
        while True:
            await asyncio.sleep(WRITE_LEARNED)
            self._save_learned()

    def _save_learned(self) -> None:
        if self._learned is not None and (problem := self._learned.save()):
            self.log(problem, "error")

    # Explanations

    def explain(self, flow: FilterFlow) -> str:
        """One line; `explanation` says more."""
        return str(self.explanation(flow))

    def explanation(self, flow: FilterFlow) -> Explanation:
        """Which rule decides a flow, and why. Reads the rules if it does not run. Raises ConfigurationError."""
        if self._source is None:
            self._source = RuleSource(self.configuration)
            self._use(self._source.load())
            self._use_answers(self._source.load_answers())
        facts, now = facts_of(flow, may_look=self._book.inspect), now_here()
        for _, version, first, end in _LOOPBACK:
            if facts.version == version and first <= facts.address < end and not self._is_about(version, first, end):
                return Explanation(
                    facts, Decision(Action.ALLOW), (), "loopback is not asked about, as no rule names it"
                )
        found = explain(self._index.rules, self._book.default, facts, now)
        if found.decision.action is not Action.ASK:
            return found
        answered = explain(self._asking.answers.rules, Action.ASK, facts, now)
        if answered.decision.rule is None and not answered.decision.needs_name:
            unanswered = f"{self._book.ask.unanswered} if nobody answers"
            return found._replace(then=f"no answer that is kept fits, so the question is put; {unanswered}")
        return answered._replace(
            looked_at=found.looked_at + answered.looked_at, then=f"an answer, as {found.decision} asks"
        )


def verdict_of(kind: Any, action: Action) -> Any:
    """The verdict for an action, of the kind that a callback returns."""
    return kind.allow() if action is Action.ALLOW else kind.drop(silent=action is Action.DROP)


def now_here() -> datetime:
    """The time, in the machine's zone."""
    return datetime.now(UTC).astimezone()


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
