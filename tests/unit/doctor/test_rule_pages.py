"""The pages about the rules: one for each, with everything in it, and links that lead somewhere; the worked cases."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from network_extension.doctor.catalogue import RULES
from network_extension.doctor.examples import EXAMPLES
from network_extension.doctor.log_lines import LINES
from network_extension.doctor.reporters.text import text
from network_extension.doctor.rule_pages import index_page, rule_page

from .worked_cases import CASES, said_of

ROOT = Path(__file__).resolve().parents[3]
WORKED = (ROOT / "docs" / "refused-bundles-worked.md").read_text()
SHOWN = re.findall(r"^```console\n\$ netext doctor (\S+)\n(.*?)^```$", WORKED, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", RULES)
def test_a_page_has_all_that_is_known(name: str) -> None:
    rule, page = RULES[name], rule_page(RULES[name])
    assert page.startswith(f"# {name}: ")
    assert f"**{rule.effective_severity.name}**" in page
    assert EXAMPLES[name].before in page and EXAMPLES[name].after in page
    assert f"```text\n{rule.line}\n```" in page or not rule.line
    assert f"netext doctor rules {name}" in page
    for target in re.findall(r"\]\(([A-Z]+\d+)\.md\)", page):
        assert target in RULES and target != name
    assert page.count("```") % 2 == 0


def test_words_are_shown_as_they_are() -> None:
    """Titles and sentences with what is markup elsewhere: placeholders, variables, quotes, bars."""
    markdown = pytest.importorskip("markdown", reason="it comes with mkdocs")
    listed = html.unescape(re.sub(r"<[^>]*>", "", markdown.markdown(index_page(), extensions=["tables"])))
    for rule in RULES.values():
        made = markdown.markdown(rule_page(rule), extensions=["tables", "fenced_code"])
        plain = html.unescape(re.sub(r"<[^>]*>", "", made))
        for words in (f"{rule.id}: {rule.title}", rule.cause, rule.fix, EXAMPLES[rule.id].before, rule.line):
            assert words in plain, rule.id
        assert plain.count("```") == 0 and "**" not in plain
        assert f"{rule.id}\n{rule.effective_severity.name}\n{rule.title}\n" in listed


def test_lines_of_the_log_are_listed_where_they_point() -> None:
    for line in LINES:
        for name in RULES:
            assert (f"- `{line.words}` (" in rule_page(RULES[name])) == (name in line.rules)


def test_rules_that_are_named_are_linked() -> None:
    assert "make it a system extension ([PKG001](PKG001.md))" in rule_page(RULES["PKG002"])


def test_the_list_has_every_rule_once() -> None:
    linked = re.findall(r"^\| \[([A-Z]+\d+)\]\(\1\.md\)", index_page(), re.MULTILINE)
    assert linked == list(RULES)


def test_every_case_is_shown() -> None:
    assert {name for name, _ in SHOWN} == set(CASES)


@pytest.mark.parametrize(("name", "shown"), SHOWN, ids=[name for name, _ in SHOWN])
def test_the_worked_cases_print_what_the_page_shows(name: str, shown: str, tmp_path: Path) -> None:
    """Between two ellipses, line by line."""
    said = text(said_of(name, tmp_path))
    at = 0
    for part in shown.split("…\n"):
        found = said.find(part.rstrip("\n"), at)
        assert found >= 0, f"{part}\nis not in\n{said[at:]}"
        at = found + len(part.rstrip("\n"))
    assert shown.split("…\n", 1)[0] == "" or said.startswith(shown.split("…\n", 1)[0].rstrip("\n"))


@pytest.mark.timeout(120)
def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    """As `make docs` makes it; with every page about a rule."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / "site" / "rules" / name / "index.html").is_file() for name in RULES)
    assert "Signature check failed" in (tmp_path / "site" / "rules" / "PKG001" / "index.html").read_text()
