"""`netext doctor`, and `netext run` on the machines that it complains about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from network_extension.linux.ruleset import find_tool
from tests.netlab import open_folder

pytestmark = pytest.mark.lab

NETEXT = (sys.executable, "-m", "network_extension")
NO_NAMESPACES = ("unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh")


@pytest.fixture
def tools() -> Iterator[Path]:
    """A folder in which all tools are looked for."""
    with open_folder() as path:
        yield path


def netext(*words: str, tools: Path | None = None, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, **({"NETEXT_TOOLS_PATH": str(tools)} if tools else {}))
    return subprocess.run(
        [*prefix, *NETEXT, *words], capture_output=True, text=True, timeout=50, check=False, env=environment, cwd="/"
    )


def checks(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert not result.stderr, result.stderr
    data = json.loads(result.stdout)
    assert data["status"] == result.returncode
    return {check["name"]: check for check in data["checks"]}


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.stderr.startswith("netext: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_all_is_well_here(user: str, as_ordinary_user: list[str]) -> None:
    found = checks(netext("doctor", "--json", prefix=() if user == "root" else tuple(as_ordinary_user)))
    assert [name for name, check in found.items() if check["needed"] and check["state"] != "ok"] == []
    assert "claimed the TCP and the UDP flow" in found["self-check: this host"]["means"]
    assert "web.example" in found["self-check: by name"]["means"]


def test_the_report_for_people_says_the_same(as_ordinary_user: list[str]) -> None:
    result = netext("doctor", prefix=tuple(as_ordinary_user))
    assert result.returncode == 0
    assert result.stdout.endswith("\nAll that is needed is there, and a sandbox works.\n")
    assert max(len(line) for line in result.stdout.splitlines() if "next step" not in line) <= 118


def test_without_nft(tools: Path, as_ordinary_user: list[str]) -> None:
    prefix = tuple(as_ordinary_user)
    result = netext("doctor", "--json", tools=tools, prefix=prefix)
    assert result.returncode == 69
    found = checks(result)
    assert (found["nft"]["state"], found["nft"]["next_step"]) == ("missing", "apt-get install nftables")
    assert "self-check: this host" not in found
    run = netext("run", "--", "true", tools=tools, prefix=prefix)
    assert run.returncode == 69
    assert one_line(run) == "netext: nft is not installed; next step: apt-get install nftables\n"


def test_without_iptables(tools: Path, as_ordinary_user: list[str]) -> None:
    """A matter of kernels: where nft has a queue expression of its own, nothing is missing."""
    nft = find_tool("nft")
    assert nft is not None
    (tools / "nft").symlink_to(nft)
    prefix = tuple(as_ordinary_user)
    found = checks(netext("doctor", "--json", tools=tools, prefix=prefix))
    run = netext("run", "--", "true", tools=tools, prefix=prefix)
    if "nft's own" in found["packet queue"]["means"]:
        assert run.returncode == 0
        return
    assert (found["packet queue"]["state"], found["packet queue"]["next_step"]) == (
        "missing",
        "apt-get install iptables",
    )
    assert found["nft"]["state"] == "ok"
    assert run.returncode == 69 and one_line(run).endswith("next step: apt-get install iptables\n")


def test_without_user_namespaces() -> None:
    result = netext("doctor", "--json", prefix=NO_NAMESPACES)
    assert result.returncode == 69
    found = checks(result)
    assert found["user namespaces"]["state"] == "missing"
    assert "user.max_user_namespaces = 0" in found["user namespaces"]["means"]
    assert found["user namespaces"]["next_step"] == "sudo sysctl -w user.max_user_namespaces=10000"
    assert found["nft"]["state"] == "unknown"
    run = netext("run", "--", "true", prefix=NO_NAMESPACES)
    assert run.returncode == 77
    assert "next step: sudo sysctl -w user.max_user_namespaces=10000" in one_line(run)


def test_an_nft_that_complains(tools: Path, as_ordinary_user: list[str]) -> None:
    nft = tools / "nft"
    nft.write_text("#!/bin/sh\necho 'Error: Could not process rule: Not supported' >&2\nexit 1\n")
    nft.chmod(0o755)
    prefix = tuple(as_ordinary_user)
    found = checks(netext("doctor", "--json", tools=tools, prefix=prefix))
    assert "Not supported" in found["nft"]["means"] and "modprobe" in found["nft"]["next_step"]
    run = netext("run", "--", "true", tools=tools, prefix=prefix)
    assert run.returncode == 69 and "Not supported; next step: netext doctor" in one_line(run)


def test_a_datapath_that_sees_nothing_fails_the_self_check(tools: Path, as_ordinary_user: list[str]) -> None:
    """All parts seem to be there, but nft lies: it says yes to every rule and makes none."""
    nft = tools / "nft"
    nft.write_text("#!/bin/sh\ncat >/dev/null\n")
    nft.chmod(0o755)
    result = netext("doctor", "--json", tools=tools, prefix=tuple(as_ordinary_user))
    assert result.returncode == 71
    assert checks(result)["self-check: this host"]["state"] == "missing"
