"""A page of the documentation for each rule, and one that lists them: Markdown, made of the catalogue."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from .catalogue import RULES
from .example import titles
from .examples import EXAMPLES
from .log_lines import LINES
from .rule import FAMILIES, Grade, Rule, Severity
from .sources import SOURCES

__all__ = ["index_page", "rule_page"]

_IDS = re.compile(r"\b([A-Z]{3,4}\d{3})\b")
_KNOWN = {
    Grade.APPLE: "from Apple's documentation, or from Apple's engineers",
    Grade.REPORTED: "from several reports of developers",
    Grade.SEEN: "from products that ship, or from the file formats themselves",
    Grade.EXPERIENCE: "from experience alone; it warns at most, until a Mac has confirmed it",
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|])")


def rule_page(rule: Rule) -> str:
    """All that is known of a rule, with a before and an after."""
    return "\n".join([*_head(rule), *_example(rule), *_known_from(rule)]) + "\n"


def _head(rule: Rule) -> Iterator[str]:
    yield f"# {rule.id}: {_plain(rule.title)}\n"
    yield f"**{rule.effective_severity.name}** · {FAMILIES[rule.family]}\n"
    yield f"{_linked(rule, rule.cause)}\n"
    if rule.fix:
        yield f"**What to do:** {_linked(rule, rule.fix)}\n"
    if rule.speaker or rule.line:
        who = f"`{rule.speaker}`" if rule.speaker else "The log"
        does = "refuses it" if rule.effective_severity > Severity.INFO else "speaks of it"
        yield f"{who} {does}{':' if rule.line else '.'}\n"
    if rule.line:
        yield f"```text\n{rule.line}\n```\n"


def _example(rule: Rule) -> Iterator[str]:
    example = EXAMPLES[rule.id]
    before, after = titles(rule)
    yield f"## {before}\n"
    if example.what:
        yield f"{_plain(example.what[0].upper() + example.what[1:])}:\n"
    yield f"```{example.language}\n{example.before}\n```\n"
    yield f"## {after}\n\n```{example.language}\n{example.after}\n```\n"


def _known_from(rule: Rule) -> Iterator[str]:
    lines = [line for line in LINES if rule.id in line.rules]
    if lines:
        yield "## Lines of the log that point here\n"
        yield from (f"- `{line.words}` ({line.speaker}): {_linked(rule, line.means)}" for line in lines)
        yield ""
    yield f"## How it is known\n\nThis rule is known {_KNOWN[rule.grade]}.\n"
    for key in rule.sources:
        title, address = SOURCES[key]
        yield f"- [{_plain(title)}]({address})" if address else f"- {_plain(title)}"
    yield f"\n`netext doctor rules {rule.id}` says the same in a terminal. [All rules](index.md)."


def index_page() -> str:
    """All rules by family."""
    parts = ["# Rules of the doctor\n"]
    parts.append(
        f"What refuses a Network Extension: {len(RULES)} rules, each with a page of its own."
        " `FATAL` is refused everywhere, `ERROR` on some channel or platform; `WARN` may fail,"
        " `INFO` is worth knowing.\n"
    )
    for family, title in FAMILIES.items():
        parts.append(f"## {title}\n\n| rule | severity | |\n|---|---|---|")
        parts += [
            f"| [{rule.id}]({rule.id}.md) | {rule.effective_severity.name} | {_plain(rule.title)} |"
            for rule in RULES.values()
            if rule.family == family
        ]
        parts.append("")
    return "\n".join(parts)


def _linked(rule: Rule, words: str) -> str:
    """The ids of other rules in it lead to their pages."""

    def link(match: re.Match[str]) -> str:
        name = match[1]
        return f"[{name}]({name}.md)" if name in RULES and name != rule.id else name

    return _IDS.sub(link, _plain(words))


def _plain(words: str) -> str:
    """Words that Markdown leaves as they are. Python-Markdown knows no backslash before < and &."""
    return html.escape(_SPECIAL.sub(r"\\\1", words), quote=False)
