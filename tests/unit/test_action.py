"""The GitHub Action and the pre-commit hooks: what they hand to the command, whatever the inputs hold."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from network_extension.cli.doctor_bundle import _parser
from network_extension.doctor.channels import CHOICES
from network_extension.doctor.reporters import REPORTERS

yaml = pytest.importorskip("yaml", reason="PyYAML comes with mkdocs")
ROOT = Path(__file__).resolve().parents[2]
NASTY = 'build/My App\'s "$(touch owned)" `x`; é.app'


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return found


def _step(action: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(step for step in action["runs"]["steps"] if step.get("name") == name)
    return found


def test_every_input_is_used_and_none_is_read_as_script(action: dict[str, Any]) -> None:
    examine = _step(action, "Examine")
    used = {re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", value)[1] for value in examine["env"].values()}  # type: ignore[index]
    assert used == set(action["inputs"])
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_its_descriptions_name_what_the_command_takes(action: dict[str, Any]) -> None:
    assert all(channel.value in action["inputs"]["channel"]["description"] for channel in CHOICES)
    assert all(name in action["inputs"]["format"]["description"] for name in REPORTERS)
    assert action["inputs"]["format"]["default"] in REPORTERS


@pytest.mark.parametrize("previous", ["", "old 'build'.app"])
@pytest.mark.parametrize("status", [0, 1])
def test_values_arrive_unharmed(action: dict[str, Any], previous: str, status: int, tmp_path: Path) -> None:
    """The step's own script, with a netext that writes down what it was given."""
    (tmp_path / "netext").write_text(
        "#!/usr/bin/env python3\n"
        "import json, os, sys\n"
        "with open(os.environ['GIVEN'], 'a') as file:\n"
        "    file.write(json.dumps(sys.argv[1:]) + '\\n')\n"
        f"sys.exit({status} if 'never' not in sys.argv else 0)\n"
    )
    (tmp_path / "netext").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GIVEN": str(tmp_path / "given"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "RUNNER_TEMP": str(tmp_path),
        "BUNDLE": NASTY,
        "CHANNEL": "developer-id",
        "PREVIOUS": previous,
        "FAIL_ON": "error",
        "FORMAT": "sarif",
    }
    script = _step(action, "Examine")["run"]
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert not (tmp_path / "owned").exists()
    given = [json.loads(line) for line in (tmp_path / "given").read_text().splitlines()]
    assert len(given) == 3 and all(words[0] == "doctor" for words in given)
    for words in given:
        options = _parser().parse_args(words[1:])
        assert options.paths == [NASTY] and options.channel == "developer-id" and options.previous == (previous or None)
    assert f"report={tmp_path}/netext-doctor.sarif" in (tmp_path / "output").read_text()


def test_hooks_call_the_command_with_what_it_takes() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {hook["id"] for hook in hooks} == {"netext-doctor", "netext-doctor-sources"}
    for hook in hooks:
        program, command, *words = shlex.split(hook["entry"])
        assert (program, command) == ("netext", "doctor")
        assert _parser().parse_args([*words, "a", "b"]).paths == ["a", "b"]
        re.compile(hook["files"])
    extra = re.search(r"^doctor = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert extra is not None
    wanted = re.findall(r'"([^"]+)"', extra[1])
    assert all(hook["additional_dependencies"] == wanted for hook in hooks)
