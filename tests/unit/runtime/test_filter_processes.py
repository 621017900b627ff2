"""Filters in processes of their own, under the real supervisor, with the real stage: what misbehaviour costs, and what
it does not. The test is the datapath."""

from __future__ import annotations

import os
import random
import signal
import socket
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from network_extension.core.flow_decision import Policy, ProviderState
from network_extension.errors import ExitCode
from network_extension.rules import Direction
from network_extension.runtime import provider_supervisor
from network_extension.runtime.channel import Channel
from network_extension.runtime.filter_stage import FilterStage
from network_extension.runtime.provider_supervisor import ProviderSupervisor
from tests.unit.linux.driving import Driver, driving

from .filtering import TCP, Flow

FREE, REFUSED = ("open", False, False), ("drop", False)


class Run:
    """A supervisor and a stage in one reactor."""

    def __init__(self, driver: Driver, files: list[str], policy: Policy | None, deadline: float, hang: float) -> None:
        self.driver = driver
        self.lines: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.flows = 0
        self.supervisor = ProviderSupervisor(
            driver.reactor,
            [(file, {"word": "given"}) for file in files],
            hang_timeout=hang,
            signal_mask=set(),
            report=lambda kind, text, **details: self.lines.append(text),
            attach=self._attach,
            state_changed=lambda index, state: self.stage.set_state(index, ProviderState(state)),
            engine_is_there=lambda: True,
            progressed=lambda: None,
        )
        self.new_engine(policy, deadline)

    def new_engine(self, policy: Policy | None = None, deadline: float = 60.0) -> None:
        """A stage, which knows nothing of flows before."""
        self.running: list[str] = []
        self.stage = FilterStage(self.driver.reactor, deadline=deadline, policy=policy, log=lambda *words, **more: None)

    def _attach(self, index: int, body: dict[str, Any], descriptor: int) -> None:
        self.bodies.append(body)
        channel = Channel(socket.socket(fileno=os.dup(descriptor)))
        self.stage.attach(
            index, body["name"], body["kind"], channel, body["pid"],
            running=lambda link: self.running.append(link.slot.name),
        )  # fmt: skip

    def started(self) -> Run:
        self.supervisor.start()
        count = len(self.supervisor.providers)
        self.until(lambda: len(self.running) == count)
        self.supervisor.command_started = True
        return self

    def until(self, condition: Callable[[], object], timeout: float = 20) -> None:
        def holds() -> object:
            for provider in self.supervisor.providers:
                if provider.pid and (found := os.waitpid(provider.pid, os.WNOHANG))[0]:
                    self.supervisor.reaped(*found)
            return condition()

        self.driver.until(holds, timeout)

    def flow(self, port: int = 80) -> Flow:
        self.flows += 1
        flow = Flow(self.flows, TCP, port, Direction.OUTBOUND)
        self.stage.admit(flow)
        return flow

    def outcome(self, flow: Flow, timeout: float = 20) -> tuple[Any, ...]:
        """What the datapath was told first."""
        self.until(lambda: flow.told, timeout)
        first: tuple[Any, ...] = flow.told[0]
        return first

    def close(self) -> None:
        for index, provider in enumerate(self.supervisor.providers):
            if provider.pid:
                os.kill(provider.pid, signal.SIGKILL)
                os.waitpid(provider.pid, 0)
            provider._close_channel()
            self.stage.forget(index)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Starts filters, each given by the body of its class."""
    monkeypatch.setattr(provider_supervisor, "FIRST_PAUSE", 0.01)
    made: list[Run] = []
    with driving() as driver:

        def start(*bodies: str, policy: Policy | None = None, deadline: float = 60.0, hang: float = 0.0) -> Run:
            files = []
            for number, body in enumerate(bodies):
                base, _, rest = body.partition("\n") if body.startswith("Filter") else ("FilterDataProvider", "", body)
                file = tmp_path / f"filter_{number}.py"
                head = "import asyncio, os, time\nfrom network_extension import *\n"
                file.write_text(f"{head}class P{number}({base}):\n{textwrap.indent(textwrap.dedent(rest), '    ')}\n")
                files.append(str(file))
            made.append(Run(driver, files, policy, deadline, hang))
            return made[-1]

        yield start
        for one in made:
            one.close()


def new_flow(line: str) -> str:
    """A filter that does this with every flow, but allows port 443."""
    return f"""
    def handle_new_flow(self, flow):
        if flow.remote_endpoint.port == 443:
            return FilterNewFlowVerdict.allow()
        {line}
    """


MISBEHAVIOUR = {
    "raises": ("raise ValueError('no')", "raised an exception (handle_new_flow raised ValueError: no (filter_0.py:"),
    "returns nonsense": ("return 'allow'", "handle_new_flow returned str; a FilterNewFlowVerdict is needed"),
    "allocates": ("return bytes(10 ** 15)", "handle_new_flow raised MemoryError"),
    "recurses": ("return self.handle_new_flow(flow)", "handle_new_flow raised RecursionError"),
    "never returns": ("return asyncio.sleep(3600)", "did not decide in time"),
    "exits": ("os._exit(3)", "has died (its process ended)"),
    "leaves": ("raise SystemExit(3)", "has died (its process ended)"),
    "is killed": ("os.kill(os.getpid(), 9)", "has died (its process ended)"),
    "loops": ("time.sleep(3600)", "did not decide in time"),
}


class TestMisbehaviour:
    @pytest.mark.parametrize("policy", [Policy.OPEN, Policy.CLOSED])
    @pytest.mark.parametrize("how", MISBEHAVIOUR)
    def test_it_costs_the_flow_and_no_other(self, run: Callable[..., Run], how: str, policy: Policy) -> None:
        line, words = MISBEHAVIOUR[how]
        deadline = 0.3 if "in time" in words else 30.0
        here = run(new_flow(line), policy=policy, deadline=deadline).started()
        flow = here.flow()
        assert here.outcome(flow) == (FREE if policy is Policy.OPEN else REFUSED)
        assert words in flow.reason and f"policy {policy.value}" in flow.reason
        if how == "loops":
            return
        if words.startswith("has died"):
            here.until(lambda: len(here.running) == 2)
        assert here.outcome(here.flow(443)) == FREE
        assert not here.stage._flows

    def test_one_that_loops_is_replaced(self, run: Callable[..., Run]) -> None:
        here = run(new_flow("time.sleep(3600)"), policy=Policy.CLOSED, deadline=0.2, hang=1.0).started()
        assert here.outcome(here.flow()) == REFUSED
        here.until(lambda: len(here.running) == 2)
        assert here.outcome(here.flow(443)) == FREE
        assert any("event loop has been stuck" in line for line in here.lines)

    def test_a_hanging_coroutine_stops_no_other_flow(self, run: Callable[..., Run]) -> None:
        here = run(new_flow("return asyncio.sleep(3600)")).started()
        stuck = here.flow()
        for _ in range(50):
            assert here.outcome(here.flow(443)) == FREE
        assert stuck.told == []


class TestLife:
    def test_what_the_engine_is_told_of_it(self, run: Callable[..., Run]) -> None:
        here = run(
            new_flow("return FilterNewFlowVerdict.drop()"),
            "FilterControlProvider\ndef handle_new_flow(self, flow): return FilterControlVerdict.drop()",
            "FilterPacketProvider\ndef handle_packet(self, c, i, d, data): return FilterPacketVerdict.DROP",
        ).started()
        bodies = sorted(here.bodies, key=lambda body: str(body["name"]))
        assert [(body["name"], body["kind"]) for body in bodies] == [
            ("P0", "filter-data"), ("P1", "filter-control"), ("P2", "filter-packet"),
        ]  # fmt: skip
        assert bodies[0]["pid"] == here.supervisor.providers[0].pid
        assert here.outcome(here.flow()) == REFUSED
        seen: list[object] = []
        here.stage.packets.decide(b"E", "lo", Direction.OUTBOUND, seen.append)
        here.until(lambda: seen)
        assert seen == [1]

    def test_start_filter_comes_before_any_flow(self, run: Callable[..., Run]) -> None:
        here = run(
            """
            async def start_filter(self):
                await asyncio.sleep(0.05)
                rule = FilterRule(NetworkRule.destination_network("192.0.2.0/24", port=80), FilterAction.DROP)
                await self.apply_settings(FilterSettings([rule]))
                self.word = self.filter_configuration["word"]
            async def stop_filter(self, reason):
                self.log(f"stopped: {reason.name}, {self.word}")
            def handle_new_flow(self, flow):
                return FilterNewFlowVerdict.allow()
            """,
            policy=Policy.CLOSED,
        ).started()
        assert here.flow(80).told == [REFUSED]  # by its rules, without a call
        assert here.outcome(here.flow(443)) == FREE
        here.supervisor.stop(1, 5.0)
        here.until(lambda: here.supervisor.all_stopped)
        assert any("stopped: USER_INITIATED, given" in line for line in here.lines)

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ("async def start_filter(self): raise OSError('no rules')", "start_filter raised OSError: no rules"),
            ("x = 1", "overrides nothing: define handle_new_flow(self, flow) in it"),
            ("FilterPacketProvider\nx = 1", "overrides nothing: define handle_packet(self, context, interface"),
            ("FilterControlProvider\nx = 1", "overrides nothing: define handle_new_flow(self, flow)"),
            ("FilterProvider\nx = 1", "derive it from TransparentProxyProvider, AppProxyProvider, FilterDataProvider"),
        ],
    )
    def test_one_that_cannot_start(self, run: Callable[..., Run], body: str, text: str) -> None:
        here = run(body)
        here.supervisor.start()
        here.until(lambda: here.supervisor.failure)
        assert here.supervisor.failure is not None and text in str(here.supervisor.failure)
        assert here.supervisor.failure.exit_code in (ExitCode.PROVIDER_FAILED, ExitCode.PROVIDER_INVALID)

    def test_a_new_engine(self, run: Callable[..., Run]) -> None:
        """The filter's process lives on; what was paused in the old engine has ended."""
        here = run(
            """
            paused = []
            def handle_new_flow(self, flow):
                for other in self.paused:
                    try:
                        self.resume_flow(other, FilterNewFlowVerdict.allow())
                    except ProviderError as error:
                        self.log(str(error))
                if flow.remote_endpoint.port == 443:
                    return FilterNewFlowVerdict.allow()
                self.paused.append(flow)
                return FilterNewFlowVerdict.pause()
            """
        ).started()
        here.flow()
        assert here.outcome(here.flow(443)) == FREE
        pid = here.supervisor.providers[0].pid
        paused = here.flow()
        here.until(lambda: here.stage._links[0].flows)
        here.stage.forget(0)
        here.outcome(paused)
        here.new_engine()
        here.supervisor.connect_all()
        here.until(lambda: here.running)
        assert here.outcome(here.flow(443)) == FREE
        assert here.supervisor.providers[0].pid == pid
        here.until(lambda: any("has ended" in line for line in here.lines))

    def test_the_rules_of_a_control_provider(self, run: Callable[..., Run]) -> None:
        here = run(
            """
            known = False
            def handle_rules_changed(self):
                self.known = True
            def handle_new_flow(self, flow):
                return FilterNewFlowVerdict.allow() if self.known else FilterNewFlowVerdict.need_rules()
            """,
            """FilterControlProvider
            async def handle_new_flow(self, flow):
                await asyncio.sleep(0.01)
                return FilterControlVerdict.updating_rules()
            """.replace("            ", ""),
        ).started()
        assert here.outcome(here.flow()) == FREE


ANYTHING = """
import random
rng = random.Random(5)
def any_data(self):
    return self.rng.choice([
        FilterDataVerdict.allow(), FilterDataVerdict.drop(), FilterDataVerdict.data(3, 5), FilterDataVerdict.data(0, 9),
        FilterDataVerdict.data(100, FLOW_BYTES_MAX), FilterDataVerdict.pause(), FilterDataVerdict.need_rules(),
        FilterDataVerdict.allow().reported(), "nonsense",
    ])
def any_new(self):
    return self.rng.choice([
        FilterNewFlowVerdict.allow(), FilterNewFlowVerdict.allow().reported(), FilterNewFlowVerdict.drop(),
        FilterNewFlowVerdict.pause(), FilterNewFlowVerdict.need_rules(), FilterNewFlowVerdict.remediate("x"),
        FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=4),
        FilterNewFlowVerdict.filter_data(filter_inbound=True, peek_inbound=FLOW_BYTES_MAX, filter_outbound=True),
        FilterNewFlowVerdict.filter_data(filter_inbound=True, peek_inbound=4).with_statistics(3), None,
    ])
async def later(self, flow, verdict):
    await asyncio.sleep(self.rng.random() / 100)
    return verdict
async def wake_up(self, flow):
    for _ in range(3):
        await asyncio.sleep(self.rng.random() / 50)
        for work in (lambda: self.resume_flow(flow, self.any_new()), lambda: self.resume_flow(flow, self.any_data()),
                     lambda: self.update_flow(flow, self.any_data(), self.rng.choice(list(Direction)))):
            try:
                work()
            except ProviderError:
                pass
def answer(self, flow, verdict):
    if self.rng.random() < 0.2:
        self.spawn(self.wake_up(flow))
    if self.rng.random() < 0.05:
        raise OSError("just so")
    return self.later(flow, verdict) if self.rng.random() < 0.2 else verdict
def handle_new_flow(self, flow):
    if flow.remote_endpoint.port == 9999:
        self.log(f"{len(self._stage.flows.flows) - 1} flows are left")
        return FilterNewFlowVerdict.drop()
    return self.answer(flow, self.any_new())
def handle_outbound_data(self, flow, offset, data):
    return self.answer(flow, self.any_data())
handle_inbound_data = handle_outbound_data
def handle_outbound_data_complete(self, flow):
    return self.answer(flow, self.rng.choice([FilterDataVerdict.allow(), FilterDataVerdict.drop(), self.any_data()]))
handle_inbound_data_complete = handle_outbound_data_complete
"""
ANY_CONTROL = """FilterControlProvider
async def handle_new_flow(self, flow):
    await asyncio.sleep(0.001)
    return FilterControlVerdict.allow() if flow.local_endpoint.port % 3 else FilterControlVerdict.updating_rules()
"""


def test_anything_goes_and_nothing_is_left(run: Callable[..., Run]) -> None:
    """Two filters and a control provider that answer at random, and a datapath that does: neither end keeps a flow."""
    here = run(ANYTHING, ANYTHING.replace("Random(5)", "Random(6)"), ANY_CONTROL, deadline=0.5).started()
    rng = random.Random(7)
    flows, closed = list[Flow](), set[int]()
    for _ in range(300):
        flows.append(here.flow(rng.choice([80, 443])))
        for flow in rng.choices(flows, k=4):
            direction = rng.choice([Direction.INBOUND, Direction.OUTBOUND])
            what = rng.random()
            if what < 0.7:
                here.stage.received(flow, direction, rng.randbytes(rng.randint(1, 30)))
            elif what < 0.8:
                here.stage.ended(flow, direction)
            elif what < 0.85:
                here.stage.closed(flow)
                closed.add(flow.id)
        if rng.random() < 0.2:
            here.driver.quiet(0.005)
    here.driver.quiet(0.8)
    assert [flow.id for flow in flows if not flow.told and flow.filter is None and flow.id not in closed] == []
    for flow in flows:
        here.stage.closed(flow)
    assert not here.stage._flows and not here.stage._over and not here.stage._touched
    assert here.outcome(here.flow(9999)) in (FREE, REFUSED)
    here.until(lambda: any("0 flows are left" in line for line in here.lines))
    here.driver.quiet(0.05)
    assert all(not link.flows for link in here.stage._links.values())
    assert [line for line in here.lines if " dead " in line] == []
