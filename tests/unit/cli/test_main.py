"""`netext` as a person meets it: help, versions, errors of one line, and exit codes that the documentation explains."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import network_extension
from network_extension.cli import main as main_module
from network_extension.cli.main import USAGE, main
from network_extension.errors import (
    ConfigurationError,
    DatapathError,
    ExitCode,
    NetworkExtensionError,
    NetworkSettingsError,
    NetworkSettingsErrorCode,
    ProviderError,
)

Capture = pytest.CaptureFixture[str]
EXIT_CODES = Path(__file__).parents[3] / "docs" / "exit-codes.md"


def netext(*words: str | bytes, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """The real thing, as a process."""
    command = [sys.executable, "-m", "network_extension", *words]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=20,
        check=False,
    )


class TestHelp:
    @pytest.mark.parametrize("word", ["--help", "-h", "help"])
    def test_it_lists_all_there_is(self, capsys: Capture, word: str) -> None:
        assert main([word]) == 0
        assert capsys.readouterr().out == USAGE
        for command in ("run", "demo", "doctor"):
            assert f"netext {command}" in USAGE

    def test_without_words_it_is_wrong_usage(self, capsys: Capture) -> None:
        assert main([]) == ExitCode.USAGE
        assert capsys.readouterr().out == USAGE

    @pytest.mark.parametrize("command", ["run", "demo", "doctor"])
    def test_of_each_command(self, capsys: Capture, command: str) -> None:
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        output = capsys.readouterr()
        assert caught.value.code == 0 and output.err == ""
        assert output.out.startswith(f"usage: netext {command} ")
        assert max(map(len, output.out.splitlines())) <= 120

    @pytest.mark.parametrize("word", ["--version", "-V"])
    def test_version(self, capsys: Capture, word: str) -> None:
        assert main([word]) == 0
        assert capsys.readouterr().out == f"netext {network_extension.__version__}\n"


class TestErrors:
    @pytest.mark.parametrize(
        "words",
        [["fly"], ["--fly"], ["run", "--fly", "--", "true"], ["demo", "--fly"], ["doctor", "--fly"], ["run"]],
        ids=" ".join,
    )
    def test_wrong_usage_is_one_line_and_64(self, capsys: Capture, words: list[str]) -> None:
        try:
            status = main(words)
        except SystemExit as ended:
            status = int(str(ended.code or 0))
        output = capsys.readouterr()
        assert status == ExitCode.USAGE and output.out == ""
        assert re.fullmatch(r"netext[^\n]*--help[^\n]*\n", output.err)

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (NetworkExtensionError("a"), 1),
            (ConfigurationError("b"), ExitCode.CONFIGURATION),
            (ProviderError("c"), ExitCode.PROVIDER_FAILED),
            (ProviderError("d", exit_code=ExitCode.PROVIDER_NOT_FOUND), ExitCode.PROVIDER_NOT_FOUND),
            (DatapathError("e", errno=1), ExitCode.DATAPATH),
            (DatapathError("f", next_step="next step: g", exit_code=ExitCode.UNAVAILABLE), ExitCode.UNAVAILABLE),
            (NetworkSettingsError(NetworkSettingsErrorCode.INVALID, "h"), ExitCode.CONFIGURATION),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_each_of_ours_is_one_line_and_its_status(
        self, monkeypatch: pytest.MonkeyPatch, capsys: Capture, error: NetworkExtensionError, status: int
    ) -> None:
        def fail(words: list[str]) -> int:
            raise error

        monkeypatch.setattr(main_module, "_dispatch", fail)
        assert main(["run"]) == status
        assert capsys.readouterr().err == f"netext: {error}\n"

    def test_control_c(self, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
        def interrupt(words: list[str]) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(main_module, "_dispatch", interrupt)
        assert main(["demo"]) == 130
        assert capsys.readouterr() == ("", "")

    def test_text_that_a_terminal_cannot_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """LC_ALL=C: the message comes, escaped; no traceback."""
        stderr = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
        monkeypatch.setattr(sys, "stderr", stderr)
        assert main(["ünknown"]) == ExitCode.USAGE
        stderr.seek(0)
        assert stderr.read().startswith("netext: \\xfcnknown: no such command")


class TestProcess:
    """What only a process of its own shows: real exit statuses, and streams that are closed."""

    def test_as_a_module(self) -> None:
        done = netext("--version")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"netext {network_extension.__version__}\n", "")

    def test_words_that_are_no_utf8(self) -> None:
        done = netext(b"\xff\xfe")
        assert (done.returncode, done.stderr.partition(";")[0]) == (64, "netext: \\udcff\\udcfe: no such command")

    @pytest.mark.parametrize("word", ["--version", "--help"])
    def test_nobody_reads(self, word: str) -> None:
        """netext --help | true"""
        reader, writer = os.pipe()
        os.close(reader)
        done = netext(word, stdout=writer)
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")

    def test_help_of_a_command_that_nobody_reads(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        done = netext("run", "--help", stdout=writer)
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")

    def test_without_standard_output(self) -> None:
        words = ["sh", "-c", '"$0" -m network_extension --version >&-', sys.executable]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("words", "status", "text"),
        [
            (["run", "--", "/nonexistent"], 127, "netext: command /nonexistent: no such file; next step: "),
            (["run", "--", "/etc/passwd"], 126, "netext: command /etc/passwd: not executable; next step: chmod +x"),
            (["run", "--config", "=1", "--", "true"], 78, "netext: --config =1: a key is missing"),
            (["run", "--log", "/nonexistent/log", "--", "true"], 78, "netext: --log /nonexistent/log: No such file"),
            (["run", "--policy", "ajar", "--", "true"], 64, "netext run: argument --policy: invalid choice: 'ajar'"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_what_is_found_before_anything_is_made(self, words: list[str], status: int, text: str) -> None:
        done = netext(*words)
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.startswith(text) and done.stderr.count("\n") == 1

    def test_help_is_quick(self) -> None:
        """Nobody who asks for help waits for asyncio, and `netext run` has its 120 ms for other things."""
        code = "import sys; from network_extension.cli.main import main; main(['--help']); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
        assert not {"asyncio", "ssl", "argparse", "json", "socket", "subprocess"} & set(done.stdout.split())

    def test_what_run_imports_before_it_runs(self) -> None:
        code = "import sys; import network_extension.cli.run, network_extension.runtime.sandbox; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
        assert not {"asyncio", "ssl", "dataclasses", "inspect", "subprocess", "tomllib"} & set(done.stdout.split())


def documented() -> dict[int, tuple[str, str, str]]:
    """The table of docs/exit-codes.md: status -> name, when, next step."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+?) \| (.+?) \|$", EXIT_CODES.read_text(), re.MULTILINE)
    return {int(status): (name, when, step) for status, name, when, step in rows}


class TestDocumentation:
    def test_the_page_has_each_code_and_no_other(self) -> None:
        assert {status: name for status, (name, _, _) in documented().items()} == {
            code.value: code.name for code in ExitCode
        }

    def test_each_has_a_cause_and_a_next_step(self) -> None:
        assert all(len(when) > 20 and len(step) > 20 for _, when, step in documented().values())

    def test_the_other_codes_are_explained(self) -> None:
        text = EXIT_CODES.read_text().rpartition("|")[2]
        assert {"1", "130", "141"} <= set(re.findall(r"\b\d+\b", text))

    def test_the_help_of_run_names_the_same(self) -> None:
        from network_extension.cli.run import EPILOG

        numbers = re.findall(r"\b\d+\b", EPILOG.rpartition("netext itself fails")[2])
        assert set(map(int, numbers)) == {int(code) for code in ExitCode}
