"""The command line of `netext filter`: what the supervisor is told. No filter is started here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from network_extension.cli import filter as command
from network_extension.core.flow_decision import Policy
from network_extension.errors import ConfigurationError, DatapathError, ExitCode
from network_extension.runtime import host_filter
from network_extension.runtime.host_filter_options import HostFilterOptions
from network_extension.runtime.provider_launch import provider_user

Understood = Callable[..., HostFilterOptions]


@pytest.fixture
def understood(monkeypatch: pytest.MonkeyPatch) -> Understood:
    """Gives what the supervisor is told by these words."""
    told: list[HostFilterOptions] = []

    class HostFilter:
        def __init__(self, options: HostFilterOptions) -> None:
            told.append(options)

        def run(self) -> int:
            return 0

    monkeypatch.setattr(host_filter, "HostFilter", HostFilter)

    def parse(*words: str) -> HostFilterOptions:
        assert command.main(list(words)) == 0
        return told[-1]

    return parse


def test_defaults(understood: Understood) -> None:
    options = understood("--provider", "a.py")
    assert options == HostFilterOptions(providers=[("a.py", {})])
    assert (options.policy, options.established, options.inbound) == (Policy.OPEN, "keep", True)


def test_everything(understood: Understood, tmp_path: Path) -> None:
    words = ["--config", "a=1", "--provider", "x.py:X", "--config", "b=2", "--provider", "y.py", "--policy", "closed"]
    words += ["--established", "offer", "--no-inbound", "--user", "nobody", "--mark-mask", "0x7", "--json"]
    words += ["--log", str(tmp_path / "log"), "--deadline", "1", "--hang-timeout", "2", "--grace", "3", "--for", "4"]
    assert understood(*words) == HostFilterOptions(
        providers=[("x.py:X", {"a": 1, "b": 2}), ("y.py", {"a": 1})],
        policy=Policy.CLOSED,
        established="offer",
        inbound=False,
        user="nobody",
        mark_mask=7,
        log_mode="json",
        log_file=str(tmp_path / "log"),
        deadline=1.0,
        hang_timeout=2.0,
        grace=3.0,
        seconds=4.0,
    )


@pytest.mark.parametrize("mask", ["0", "3", "0x50000000", "0xF0", "0x700000000", "seven", "-7"])
def test_marks_that_are_not_three_bits(mask: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main([f"--mark-mask={mask}"])
    assert caught.value.code == ExitCode.USAGE
    assert "three bits" in capsys.readouterr().err


def test_remove_starts_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(host_filter, "remove", lambda mask: f"removed {mask:#x}")
    assert command.main(["--remove", "--mark-mask", "0x38"]) == 0
    assert capsys.readouterr().out == "removed 0x38\n"
    with pytest.raises(ConfigurationError, match="--remove"):
        command.main(["--remove", "--provider", "a.py"])


def test_only_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["netext", "filter", "--provider", "a.py"])
    with pytest.raises(DatapathError, match=r"sudo netext filter --provider a\.py") as caught:
        command.main(["--provider", "a.py"])
    assert caught.value.exit_code == ExitCode.NOT_PERMITTED


class TestUser:
    """Who runs the providers."""

    def test_who_was_named(self) -> None:
        assert provider_user("root").uid == 0
        with pytest.raises(ConfigurationError, match="no such user"):
            provider_user("nobody-of-that-name")

    def test_who_called_sudo(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SUDO_UID", "65534")
        assert provider_user(None).uid == 65534

    @pytest.mark.parametrize("value", ["", "4294967294", "x"])
    def test_else_root(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("SUDO_UID", value)
        assert provider_user(None).uid == 0
