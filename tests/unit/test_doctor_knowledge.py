"""`netext doctor rules`, `explain` and `logs` on the command line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from network_extension.cli.main import main


def test_explain_names_rules_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["doctor", "explain", "Signature check failed: code failed to satisfy specified code requirement(s)"]) == 0
    )
    said = capsys.readouterr().out
    assert said.index("PKG001") < said.index("PKG002") < said.index("SIG012")
    assert "system extension" in said and max(map(len, said.splitlines())) <= 118


def test_explain_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "explain", "--json", "MacOS error: -67062"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert line["rules"] == ["SIG001"] and line["noise"] is False


def test_a_line_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "explain", "it does not work"]) == 1
    assert "log show" in capsys.readouterr().out


def test_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "rules"]) == 0
    said = capsys.readouterr().out
    assert said.count("\n  PKG") == 23 and "Provisioning profile\n" in said
    assert main(["doctor", "rules", "pkg004", "INF006"]) == 0
    said = capsys.readouterr().out
    assert "PRODUCT_NAME" in said and "sysextd: invalid mach service name" in said
    assert main(["doctor", "rules", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 123


def test_a_rules_example(capsys: pytest.CaptureFixture[str]) -> None:
    """As text, as JSON; where nothing has to be mended, under other titles."""
    assert main(["doctor", "rules", "ENT010", "ENT015"]) == 0
    said = capsys.readouterr().out
    assert "\n  Before (entitlements):\n      <key>com.apple.developer.networking.networkextension</key>\n" in said
    assert "\n  After:\n" in said
    assert said.index("As it is (entitlements of") < said.index("What one may do:") < said.index("network.client")
    assert main(["doctor", "rules", "ENT010", "--json"]) == 0
    (rule,) = json.loads(capsys.readouterr().out)
    assert sorted(rule["example"]) == ["after", "before", "language", "what"]
    assert rule["example"]["language"] == "xml" and "<array>" not in rule["example"]["before"]


def test_a_rule_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "rules", "PKG999"]) == 78
    assert "did you mean" in capsys.readouterr().err


def test_a_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = tmp_path / "capture.log"
    lines = [b"boring\n"] * 3 + [
        b"x" * 100_000 + b"\n",
        b"\xff\xfe no policy, cannot allow apps outside /Applications\n",
    ]
    capture.write_bytes(b"".join(lines) + b"sysextd MacOS error: -67062 without an end")
    assert main(["doctor", "logs", str(capture)]) == 0
    said = capsys.readouterr().out
    assert "! line 5:" in said and "! line 6:" in said and "boring" not in said
    assert said.index("SIG001", said.index("Look at these")) < said.index("ENT001", said.index("Look at these"))
    assert main(["doctor", "logs", "--json", str(capture)]) == 0
    assert json.loads(capsys.readouterr().out)["rules"][0] == "SIG001"


def test_a_capture_from_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = io.TextIOWrapper(io.BytesIO(b"package type not SYSX\n" * 1000))
    monkeypatch.setattr(sys, "stdin", text)
    assert main(["doctor", "logs", "-"]) == 0
    said = capsys.readouterr().out
    assert "only the first 200 are shown" in said and "PKG005" in said


def test_captures_that_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").touch()
    assert main(["doctor", "logs", str(tmp_path / "empty")]) == 1
    assert "log show" in capsys.readouterr().out
    assert main(["doctor", "logs", str(tmp_path / "absent")]) == 78
    assert "absent: No such file" in capsys.readouterr().err
    assert main(["doctor", "logs", str(tmp_path)]) == 78
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "logs"])
    assert ended.value.code == 64
