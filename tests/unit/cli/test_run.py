"""The command line of `netext run`: what the sandbox is told. No sandbox is made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.cli.run import MOST_CONFIG, read_config, run
from network_extension.core.flow_decision import Policy
from network_extension.errors import ConfigurationError, ExitCode
from network_extension.runtime import sandbox
from network_extension.runtime.options import RunOptions
from network_extension.runtime.wire import MessageType, encode

Capture = pytest.CaptureFixture[str]
Understood = Callable[..., RunOptions]


@pytest.fixture
def understood(monkeypatch: pytest.MonkeyPatch) -> Understood:
    """Gives what the sandbox is told by these words; `run` returns what the sandbox does."""
    told: list[RunOptions] = []

    class Sandbox:
        def __init__(self, options: RunOptions) -> None:
            told.append(options)

        def run(self) -> int:
            return 42

    monkeypatch.setattr(sandbox, "Sandbox", Sandbox)

    def parse(*words: str) -> RunOptions:
        assert run(list(words)) == 42
        return told.pop()

    return parse


def refusal(words: Sequence[str], capsys: Capture) -> str:
    """The one line that refuses these words, without its beginning and end."""
    with pytest.raises(SystemExit) as caught:
        run(list(words))
    output = capsys.readouterr()
    assert caught.value.code == ExitCode.USAGE and output.out == ""
    assert output.err.startswith("netext run: ") and output.err.endswith("; netext run --help says more\n")
    assert output.err.count("\n") == 1
    return output.err.removeprefix("netext run: ").removesuffix("; netext run --help says more\n")


class TestOptions:
    def test_as_they_are(self, understood: Understood) -> None:
        assert understood("--", "true") == RunOptions(["true"], [])

    @pytest.mark.parametrize(
        ("words", "name", "value"),
        [
            (["--json"], "log_mode", "json"),
            (["--quiet"], "log_mode", "quiet"),
            (["-q"], "log_mode", "quiet"),
            (["--json", "-q"], "log_mode", "quiet"),
            (["--log", "flows.log"], "log_file", "flows.log"),
            (["--policy", "open"], "policy", Policy.OPEN),
            (["--policy=closed"], "policy", Policy.CLOSED),
            (["--trace", "x.pcapng"], "trace", "x.pcapng"),
            (["--deadline", "2.5"], "deadline", 2.5),
            (["--hang-timeout", "0"], "hang_timeout", 0.0),
            (["--grace", "86400"], "grace", 86400.0),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_each(self, understood: Understood, words: list[str], name: str, value: object) -> None:
        options = understood(*words, "--", "true")
        assert getattr(options, name) == value
        assert options._replace(**{name: getattr(RunOptions(["true"]), name)}) == RunOptions(["true"], [])

    @pytest.mark.parametrize(
        ("words", "command"),
        [
            (["--", "curl", "-q", "--json"], ["curl", "-q", "--json"]),
            (["curl", "-q", "--json"], ["curl", "-q", "--json"]),
            (["--quiet", "curl", "--quiet"], ["curl", "--quiet"]),
            (["--", "git", "log", "--", "file"], ["git", "log", "--", "file"]),
            (["git", "log", "--", "file"], ["git", "log", "--", "file"]),
            (["--", "--"], ["--"]),
            (["--", ""], [""]),
            (["--", "-x"], ["-x"]),
        ],
        ids=lambda value: " ".join(value),
    )
    def test_where_the_command_begins(self, understood: Understood, words: list[str], command: list[str]) -> None:
        """Its own options are never ours, with `--` before it or without."""
        assert understood(*words).command == command

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            ([], "no command; write it after --"),
            (["--"], "no command; write it after --"),
            (["--provider", "x.py"], "no command; write it after --"),
            (["--provider", "--", "true"], "argument --provider: expected one argument"),
            (["--prov", "x.py", "--", "true"], "unrecognized arguments: --prov"),
            (["--policy", "ajar", "--", "true"], "argument --policy: invalid choice: 'ajar'"),
            (
                ["--deadline", "soon", "--", "true"],
                "argument --deadline: seconds from 0 to 86400 are needed, not 'soon'",
            ),
            (["--deadline", "-1", "--", "true"], "argument --deadline: seconds from 0 to 86400 are needed, not '-1'"),
            (["--grace", "nan", "--", "true"], "argument --grace: seconds from 0 to 86400 are needed, not 'nan'"),
            (["--grace", "inf", "--", "true"], "argument --grace: seconds from 0 to 86400 are needed, not 'inf'"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_what_cannot_be_understood(self, capsys: Capture, words: list[str], text: str) -> None:
        assert refusal(words, capsys).startswith(text)


class TestProviders:
    def test_their_order_and_whose_configuration_is_whose(self, understood: Understood) -> None:
        """Before the first provider: everybody's. After one: its own, and stronger."""
        options = understood(
            *("--config", "all=1", "--config", "color=red"),
            *("--provider", "a.py", "--config", "color=blue", "--config", "own=a"),
            *("--provider", "b.py:B", "--provider", "pkg.module", "--config", "all=2", "--", "true"),
        )
        assert options.providers == [
            ("a.py", {"all": 1, "color": "blue", "own": "a"}),
            ("b.py:B", {"all": 1, "color": "red"}),
            ("pkg.module", {"all": 2, "color": "red"}),
        ]

    def test_the_same_one_twice(self, understood: Understood) -> None:
        options = understood(
            "--provider", "a.py", "--config", "n=1", "--provider", "a.py", "--config", "n=2", "--", "x"
        )
        assert options.providers == [("a.py", {"n": 1}), ("a.py", {"n": 2})]

    def test_runs_do_not_share_them(self, understood: Understood) -> None:
        understood("--config", "a=1", "--provider", "a.py", "--", "true")
        assert understood("--", "true").providers == []
        assert understood("--provider", "b.py", "--", "true").providers == [("b.py", {})]

    def test_what_does_not_fit_a_message_is_said_at_once(self, understood: Understood) -> None:
        with pytest.raises(ConfigurationError, match=r"the configuration of a\.py has \d+ bytes, more than 60000"):
            understood(
                "--config", "x=" + "y" * 40_000, "--provider", "a.py", "--config", "z=" + "y" * 40_000, "--", "t"
            )

    def test_what_fits_can_be_sent(self, understood: Understood) -> None:
        size = MOST_CONFIG - len('{"x":""}')
        options = understood("--provider", "a.py", "--config", "x=" + "y" * size, "--", "true")
        encode(MessageType.START, 0, {"config": options.providers[0][1], "options": None})
        with pytest.raises(ConfigurationError):
            understood("--provider", "a.py", "--config", "x=" + "y" * (size + 1), "--", "true")


class TestConfiguration:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("k=5", 5),
            ("k=-0.5", -0.5),
            ("k=true", True),
            ("k=null", None),
            ('k="5"', "5"),
            ("k=[1, 2]", [1, 2]),
            ('k={"a": {"b": 1}}', {"a": {"b": 1}}),
            ("k=http://192.0.2.1:80/?a=b", "http://192.0.2.1:80/?a=b"),
            ("k=", ""),
            ("k= spaced ", " spaced "),
            ("k=True", "True"),
            ("k=[1, 2", "[1, 2"),
            ("k=NaN", "NaN"),  # Python's json would read it, and no message could carry it
            ("k=[Infinity]", "[Infinity]"),
            ("k=1e999", "1e999"),
            ("k=" + "[" * 100_000, "[" * 100_000),
            ("k=" + "9" * 5000, "9" * 5000),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_values_are_json_or_text(self, text: str, value: object) -> None:
        assert read_config(text) == {"k": value}

    @given(st.text(min_size=1).filter(lambda key: "=" not in key and "\0" not in key), st.text())
    def test_any_value_can_be_sent(self, key: str, value: str) -> None:
        config = read_config(f"{key}={value}") if "\0" not in value else {key: value}
        assert list(config) == [key]
        json.dumps(config, allow_nan=False)

    @pytest.mark.parametrize(
        ("name", "content", "config"),
        [
            ("c.toml", 'a = 1\n[b]\nc = ["x", 2.5, true]\n', {"a": 1, "b": {"c": ["x", 2.5, True]}}),
            ("c.json", '{"a": null}', {"a": None}),
            ("c.json", '\ufeff{"a": "\\u00fc"}', {"a": "ü"}),
            ("config", "a = 'no suffix is TOML'", {"a": "no suffix is TOML"}),
            ("a=b.toml", "a = 'an equals sign in a file name'", {"a": "an equals sign in a file name"}),
            ("empty.toml", "", {}),
        ],
    )
    def test_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, config: dict[str, Any]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path(name).write_text(content)
        assert read_config(name) == config

    @pytest.mark.parametrize(
        ("name", "content", "text"),
        [
            ("absent.toml", None, "No such file or directory; give KEY=VALUE or a file"),
            ("folder", "", "Is a directory; give KEY=VALUE or a file"),
            ("c.toml", b"a = ", "at end of document"),
            ("c.toml", b"a = 1\na = 2\n", "Cannot overwrite a value"),
            ("c.toml", b"\xff", "codec can't decode"),
            ("c.toml", b"a = inf", "Out of range float"),
            ("c.toml", b"a = 2024-01-01", "date is not JSON serializable; write it as text"),
            ("c.json", b"[1]", "an object is needed at the top"),
            ("c.json", b"{", "Expecting property name"),
            ("c.json", b'{"a": NaN}', "Out of range float"),
            ("c.json", b"[" * 100_000, "recursion"),
            ("c.json", b'{"a": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
            ("c.json", b" " * (1 << 20) + b"{}", "more than 1048576 bytes"),
        ],
        ids=lambda value: str(value)[:16],
    )
    def test_files_that_cannot_be_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | str | None, text: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        if isinstance(content, bytes):
            Path(name).write_bytes(content)
        elif content is not None:
            Path(name).mkdir()
        with pytest.raises(ConfigurationError) as caught:
            read_config(name)
        message = str(caught.value)
        assert message.startswith(f"--config {name}: ") and text in message and "\n" not in message

    def test_without_a_key(self) -> None:
        with pytest.raises(ConfigurationError, match="--config =5: a key is missing"):
            read_config("=5")

    @given(st.binary(max_size=80), st.sampled_from(["c.toml", "c.json"]))
    def test_any_file(self, tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(content)
        try:
            config = read_config(str(path))
        except ConfigurationError as error:
            assert str(error).startswith(f"--config {path}: ") and "\n" not in str(error)
        else:
            json.dumps(config, allow_nan=False)
