"""`netext doctor rules`, `explain` and `logs`: what is known of refused Apple bundles, without a bundle at hand."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO

from ..doctor.catalogue import RULES, rule_named
from ..doctor.example import titles
from ..doctor.examples import EXAMPLES
from ..doctor.log_lines import LONGEST_LINE, Explained, LogLine, explain, read_log
from ..doctor.reporters.records import rule_record
from ..doctor.rule import FAMILIES, Rule
from ..doctor.sources import SOURCES
from ..errors import ConfigurationError
from .arguments import ArgumentParser

NOTHING_KNOWN = 1
_WIDTH = 118
_MOST_SHOWN = 200
"""Lines of a log that are shown; all of them count."""


def rules(arguments: list[str]) -> int:
    """`netext doctor rules [ID]...`"""
    parser = _parser("rules", "All rules for Apple bundles, or what is known of some.")
    parser.add_argument("ids", metavar="ID", nargs="*", help="such as PKG001")
    options = parser.parse_args(arguments)
    chosen = [rule_named(name) for name in options.ids] or list(RULES.values())
    if options.json:
        print(json.dumps([rule_record(rule) for rule in chosen], indent=2))
    elif options.ids:
        print("\n\n".join(rule_text(rule) for rule in chosen))
    else:
        print(_listing(chosen))
    return 0


def explain_line(arguments: list[str]) -> int:
    """`netext doctor explain 'LOG LINE'`; 1 when nothing is known of it."""
    parser = _parser("explain", "What a line of Apple's logs means, and which rules it points to.")
    parser.add_argument("line", metavar="LINE", help="the line, or the words of it that matter, in quotes")
    options = parser.parse_args(arguments)
    found = explain(options.line)
    if options.json:
        print(json.dumps([line_record(line) for line in found], indent=2))
    elif found:
        print("\n\n".join(line_text(line) for line in found))
    else:
        print("Nothing is known of this line. netext doctor logs FILE looks through a whole capture:")
        print(f"  {CAPTURE}")
    return 0 if found else NOTHING_KNOWN


CAPTURE = (
    'log show --last 10m --info --debug --predicate \'process IN {"sysextd", "nesessionmanager", "nehelper",'
    ' "amfid", "taskgated-helper", "pkd", "kernel"}\' > capture.log'
)


def logs(arguments: list[str]) -> int:
    """`netext doctor logs FILE`; 1 when no line of it is known."""
    parser = _parser(
        "logs", f"Which lines of a capture matter, and which rules they point to. On the Mac:\n  {CAPTURE}"
    )
    parser.add_argument("file", metavar="FILE", help="the capture; - for standard input")
    options = parser.parse_args(arguments)
    found: list[Explained] = []
    counts: Counter[str] = Counter()
    for line in _read(options.file):
        if len(found) < _MOST_SHOWN:
            found.append(line)
        counts.update(line.line.rules)
    order = [name for name, _ in counts.most_common()]
    if options.json:
        shown = [{"number": line.number, "text": line.text, **line_record(line.line)} for line in found]
        print(json.dumps({"lines": shown, "rules": order}, indent=2))
    else:
        print(_capture_text(found, order))
    return 0 if found else NOTHING_KNOWN


def _parser(name: str, description: str) -> ArgumentParser:
    parser = ArgumentParser(
        f"netext doctor {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="JSON on standard output")
    return parser


def _read(name: str) -> Iterator[Explained]:
    """The lines of a file that mean something. Raises ConfigurationError for one that cannot be read."""
    try:
        opened = nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb")
        with opened as file:
            yield from read_log(_lines(file))
    except OSError as error:
        raise ConfigurationError(
            f"{name}: {error.strerror}; name a capture of log show, or - for standard input"
        ) from error


def _lines(file: IO[bytes]) -> Iterable[str]:
    """Lines as text; of a very long one only the beginning."""
    while line := file.readline(LONGEST_LINE):
        yield line.decode("utf-8", "replace")
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE)


def line_record(line: LogLine) -> dict[str, object]:
    """A known line for JSON."""
    return {"speaker": line.speaker, "means": line.means, "noise": not line.rules, "rules": list(line.rules)}


def rule_text(rule: Rule) -> str:
    """All that is known of a rule."""
    parts = [f"{rule.id}  {rule.effective_severity.name}  {rule.title}", _wrapped(rule.cause)]
    if rule.fix:
        parts.append(_wrapped(f"→ {rule.fix}"))
    if rule.line:
        parts.append(_wrapped(f"{rule.speaker or 'the log'}: {rule.line}"))
    example = EXAMPLES[rule.id]
    before, after = titles(rule)
    parts.append(_wrapped(f"{before} ({example.what}):" if example.what else f"{before}:"))
    parts.append(textwrap.indent(example.before, "      "))
    parts.append(f"  {after}:\n{textwrap.indent(example.after, '      ')}")
    sources = [": ".join(part for part in SOURCES[key] if part) for key in rule.sources]
    parts += [f"  from {source}" for source in sources or ["experience; a warning until a Mac has confirmed it"]]
    return "\n".join(parts)


def line_text(line: LogLine) -> str:
    """What a line means, and the rules to look at."""
    text = _wrapped(f"{line.speaker}: {line.means}", "")
    if line.rules:
        text += "\nLook at these, in this order:"
    for name in line.rules:
        rule = RULES[name]
        text += f"\n\n  {rule.id}  {rule.effective_severity.name}  {rule.title}"
        if rule.fix:
            text += f"\n{_wrapped(f'→ {rule.fix}', '         ')}"
    return text


def _listing(chosen: list[Rule]) -> str:
    lines: list[str] = []
    family = ""
    for rule in chosen:
        if rule.family != family:
            family = rule.family
            lines += ["", FAMILIES[family]] if lines else [FAMILIES[family]]
        lines.append(f"  {rule.id:8} {rule.effective_severity.name:6} {rule.title}")
    return "\n".join([*lines, "", "netext doctor rules ID says more of one."])


def _capture_text(found: list[Explained], order: list[str]) -> str:
    if not found:
        return f"No line of it is known. On the Mac:\n  {CAPTURE}"
    lines = []
    for line in found:
        mark = "!" if line.line.rules else "·"
        lines.append(f"{mark} line {line.number}: {line.text[:_WIDTH]}")
        lines.append(_wrapped(line.line.means, "    "))
    if len(found) == _MOST_SHOWN:
        lines.append(f"  … only the first {_MOST_SHOWN} are shown")
    if order:
        lines += ["", "Look at these, in this order:"]
        lines += [f"  {RULES[name].id}  {RULES[name].title}" for name in order]
        lines.append("netext doctor rules ID says what to do.")
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
