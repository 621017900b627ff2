"""What the doctor makes of findings; that the findings are true is shown in tests/lab/test_doctor.py."""

from __future__ import annotations

import errno
import os
import time

import pytest

from network_extension.errors import DatapathError
from network_extension.linux import ruleset, user_namespaces
from network_extension.linux.probes import Finding, Probe, State
from network_extension.runtime import doctor
from network_extension.runtime.doctor import Check, exit_status


def check(state: State, needed: bool = True) -> Check:
    return Check("something", state, needed, "")


def test_the_exit_status_tells_what_kind_of_trouble_it_is() -> None:
    well, poor = check(State.OK), check(State.DEGRADED)
    optional = check(State.MISSING, needed=False)
    assert exit_status([well, poor, optional], [well]) == 0
    assert exit_status([well, check(State.MISSING)], []) == 69
    assert exit_status([well, check(State.UNKNOWN)], []) == 69
    assert exit_status([well], [well, check(State.MISSING)]) == 71


def examine(monkeypatch: pytest.MonkeyPatch, *some: Probe) -> list[Check]:
    monkeypatch.setattr(doctor, "ALL_PROBES", some)
    said: list[Check] = []
    assert doctor.examine(said.append) == said
    return said


def test_a_finding_goes_through_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe("x", lambda: Finding(State.DEGRADED, "slow", "hurry"), needed=False)
    assert examine(monkeypatch, probe) == [Check("x", State.DEGRADED, False, "slow", "hurry")]


def test_a_probe_that_raises_is_missing_and_keeps_its_own_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Finding:
        raise ruleset.unavailable("no tool", "get it")

    plain = Probe(
        "x", lambda: Finding(State.OK, os.listdir("/nonexistent")[0]), without="nothing works", next_step="mkdir"
    )
    told, own = examine(monkeypatch, plain, Probe("y", fail, without="nothing works", next_step="other"))
    assert told[1:] == (State.MISSING, True, "/nonexistent: No such file or directory; nothing works", "mkdir")
    assert own[1:] == (State.MISSING, True, "no tool; nothing works", "get it")


def test_a_probe_that_hangs_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_TIMEOUT", 0.1)
    import threading

    def hang() -> Finding:
        threading.Event().wait()
        raise AssertionError

    started = time.monotonic()
    (found,) = examine(monkeypatch, Probe("x", hang, next_step="wait"))
    assert (found.state, found.next_step) == (State.MISSING, "wait")
    assert time.monotonic() - started < 5


def test_every_probe_that_can_be_missing_names_a_next_step() -> None:
    names = [probe.name for probe in doctor.ALL_PROBES]
    assert len(set(names)) == len(names)
    for probe in doctor.ALL_PROBES:
        assert probe.try_it.__doc__
        assert not probe.flags or probe.without, probe.name


def test_tools_are_looked_for_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert ruleset.find_tool("sysctl") or ruleset.find_tool("ip") or ruleset.find_tool("modprobe")
    monkeypatch.setenv("NETEXT_TOOLS_PATH", "/nonexistent:")
    assert ruleset.find_tool("nft") is None
    with pytest.raises(DatapathError, match="next step: apt-get install nftables") as caught:
        ruleset.install("netext0", "192.0.0.1:1", "[64:ff9b:1::1]:1")
    assert caught.value.exit_code == 69


@pytest.mark.parametrize("setting", user_namespaces.SETTINGS, ids=lambda setting: setting.name)
def test_the_setting_that_forbids_namespaces_is_named(
    setting: user_namespaces.Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(user_namespaces, "parameter", {setting.name: setting.forbids}.get)
    reason, step = user_namespaces.why_forbidden()
    assert setting.name in reason and setting.name in step


def test_without_such_a_setting_there_is_a_next_step_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_namespaces, "parameter", lambda name: None)
    assert all(user_namespaces.why_forbidden())


def test_forbidden_namespaces_get_their_own_exit_code() -> None:
    from network_extension.runtime.sandbox import forbidden

    told = forbidden(DatapathError("new namespaces: No space left on device", errno=errno.ENOSPC))
    assert told.exit_code == 77 and "next step: " in str(told) and "\n" not in str(told)
    other = DatapathError("something else", errno=errno.EINVAL)
    assert forbidden(other) is other
