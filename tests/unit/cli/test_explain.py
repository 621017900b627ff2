"""`netext explain`: who would decide, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from network_extension.cli.main import main

RULES = """\
default = "allow"
[[rule]]
name = "builds"
action = "drop"
parent = "make"
[[rule]]
name = "no ads"
action = "deny"
host = "ads.*"
[[rule]]
name = "mail"
action = "ask"
port = 25
[[rule]]
name = "nobody comes in"
action = "deny"
direction = "inbound"
port = 22
"""
PROVIDERS = {
    "by_settings": """
from network_extension import *
class BySettings(FilterDataProvider):
    async def start_filter(self):
        rule = NetworkRule.destination_host(self.configuration.get("host", "example.com"))
        await self.apply_settings(FilterSettings([FilterRule(rule, FilterAction.DROP)]))
    def handle_new_flow(self, flow):
        return FilterNewFlowVerdict.pause()
""",
    "by_words": """
from network_extension import *
class ByWords(FilterDataProvider):
    grade = FilterGrade.INSPECTOR
    def explain(self, flow):
        return f"deny {flow.source_app_identifier} by whim"
    def handle_new_flow(self, flow):
        return FilterNewFlowVerdict.drop()
""",
    "raising": """
from network_extension import *
class Raising(FilterDataProvider):
    async def handle_new_flow(self, flow):
        raise ValueError("no")
""",
    "proxy": """
from network_extension import *
class Proxy(AppProxyProvider):
    async def handle_new_flow(self, flow):
        return True
""",
}


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in PROVIDERS.items():
        (tmp_path / f"{name}.py").write_text(text)
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def explained(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = main(["explain", *words])
    return status, capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("curl → ads.example:443",), 1, "deny by rule 'no ads' (rules.toml:6): host ads.*"),
        (("curl -> example.com",), 0, "allow by the default; none of 4 rules matches"),
        (("curl to example.com:443/udp",), 0, "allow by the default"),
        (("cc → example.com", "--parent", "/usr/bin/make"), 1, "drop by rule 'builds' (rules.toml:2): parent make"),
        (("curl → example.com:25",), 2, "ask by rule 'mail' (rules.toml:10): port 25; no answer that is kept fits, so"),
        (("curl → 192.0.2.1:443",), 2, "the first bytes are looked at for a name; without one in them, allow by the"),
        (("curl → ads.x", "--address", "192.0.2.1", "--no-name"), 2, "the first bytes are looked at for a name"),
        (("sshd ← 192.0.2.1:22",), 1, "deny by rule 'nobody comes in'"),
    ],
)
def test_the_firewall(
    rules: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, text: str
) -> None:
    found, output = explained(capsys, *words, "--rules", "rules.toml")
    assert found == status
    assert text in output


def test_the_rules_that_did_not_match_and_why(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, output = explained(capsys, "curl → example.com", "--rules", "rules.toml", "--verbose")
    assert output.splitlines()[2:] == [
        "      builds (rules.toml:2): parent make does not fit: parents are not known",
        "      no ads (rules.toml:6): host ads.* does not fit: host is example.com",
        "      mail (rules.toml:10): port 25 does not fit: port is 443",
        "      nobody comes in (rules.toml:14): direction inbound does not fit: direction is outbound",
    ]


def test_json(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, output = explained(capsys, "curl → ads.example", "--rules", "rules.toml", "--json")
    data = json.loads(output)
    assert (data["flow"], data["verdict"]) == ("curl → ads.example:443 tcp", "deny")
    assert data["providers"][0]["looked_at"][0]["rule"] == "builds"


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("by_settings.py",), 1, "BySettings: deny by its settings: "),
        (("by_settings.py", "--config", "host=example.org"), 2, "BySettings: its handle_new_flow answers pause"),
        (("by_words.py",), 1, "ByWords: deny curl by whim"),
        (("raising.py",), 2, "Raising: raised ValueError: no"),
        (("proxy.py",), 0, "Proxy: is no content filter"),
        (("network_extension.builtin.firewall", "--config", "rules=rules.toml"), 0, "Firewall: allow by the default"),
    ],
)
def test_other_providers(
    rules: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, text: str
) -> None:
    found, output = explained(capsys, "curl → example.com", "--provider", *words)
    assert found == status
    assert text in output


def test_firewalls_come_before_inspectors_and_all_must_allow(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    providers = ("--provider", "by_words.py", "--provider", "by_settings.py")
    _, output = explained(capsys, "curl → example.org", *providers, "--config", "host=example.com")
    assert [line.split(":")[0].strip() for line in output.splitlines()[1:]] == ["BySettings", "ByWords"]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("curl → a b",), 78, "one target is needed"),
        (("curl → x", "--address", "y", "--rules", "rules.toml"), 78, "--address y: it is no IP address"),
        (("curl → x", "--no-name", "--rules", "rules.toml"), 78, "--no-name: give the address"),
        (("curl → x", "--rules", "none.toml"), 78, "none.toml: cannot be read: No such file"),
        (("curl → x", "--provider", "none.py"), 66, "none.py does not exist"),
    ],
)
def test_errors_are_one_line(
    rules: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, text: str
) -> None:
    assert main(["explain", *words]) == status
    output = capsys.readouterr()
    assert text in output.err
    assert output.err.count("\n") == 1


def test_rules_and_provider_exclude_each_other(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", "curl → x", "--rules", "a", "--provider", "b"])
    assert ended.value.code == 64


def test_a_program_cannot_move_the_cursor(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, output = explained(capsys, "/bin/\x1b[31mred → example.com", "--rules", "rules.toml")
    assert "\x1b" not in output
