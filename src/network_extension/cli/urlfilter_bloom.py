"""`netext urlfilter bloom`: make a prefilter from block lists, look into one, and test URLs against it.

netext urlfilter bloom LIST... -o FILE     make one (.plist, .json, or the bare bits)
netext urlfilter bloom inspect FILE        its numbers; with --list, which hash it was made with
netext urlfilter bloom test FILE URL...    each string that devices test, bit by bit
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .arguments import ArgumentParser

if TYPE_CHECKING:
    from ..urlfilter.block_list import CompiledList
    from ..urlfilter.bloom import Explanation, Prefilter

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_FORMATS = ("plist", "json", "raw")
_SHOWN_REFUSALS = 10


def main(arguments: list[str]) -> int:
    """Dispatch; the exit status."""
    commands = {"inspect": _inspect, "test": _test}
    if arguments and arguments[0] in commands:
        return commands[arguments[0]](arguments[1:])
    return _make(arguments)


def _parser(name: str, description: str) -> ArgumentParser:
    return ArgumentParser(
        f"netext urlfilter bloom{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _make(arguments: list[str]) -> int:
    parser = _parser("", __doc__ or "")
    parser.add_argument("lists", nargs="+", type=Path, metavar="LIST", help="hosts file, domains, URLs, Adblock rules")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="where the prefilter goes")
    parser.add_argument("--format", choices=_FORMATS, help="of FILE; by its suffix otherwise, else a property list")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rate", type=float, default=0.001, metavar="P", help="of false positives, default 0.001")
    size.add_argument("--size", type=_size, metavar="BYTES", help="instead of a rate, such as 512K or 4M")
    parser.add_argument("--seed", type=_seed, metavar="N", help="of MurmurHash3, 1 to 4294967295; random otherwise")
    parser.add_argument("--case", choices=("both", "keep", "lower"), default="both", help="of paths with capitals")
    parser.add_argument("--refused", type=Path, metavar="FILE", help="write all refused lines there")
    options = parser.parse_args(arguments)

    from ..urlfilter.bloom import build_prefilter_from_blocks
    from ..urlfilter.storage import storage_errors

    with storage_errors("cannot make the prefilter", options.output), _compiled(options) as rows:
        prefilter = build_prefilter_from_blocks(
            rows.blocks(),
            tolerance=options.rate,
            byte_count=options.size,
            item_count=rows.row_count,
            murmur_seed=options.seed,
        )
        _write(prefilter, options.output, options.format or _format_of(options.output))
        _say_refused(rows)
    print(f"{options.output}: {prefilter.item_count} rows, {_numbers(prefilter)}")
    if not prefilter.item_count:
        print("the lists hold no row: this filter lets every URL through", file=sys.stderr)
    return 0


def _size(text: str) -> int:
    unit = text[-1:].lower() if text[-1:].isalpha() else ""
    number = text[: len(text) - len(unit)]
    if unit not in _UNITS or not number.isdecimal() or not int(number):
        raise argparse.ArgumentTypeError(f"{text} is no size, such as 100000, 512K or 4M")
    return int(number) * _UNITS[unit]


def _seed(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 0xFFFFFFFF:
        raise argparse.ArgumentTypeError(f"{text} is no seed: 1 to 4294967295; devices refuse 0")
    return int(text)


@contextmanager
def _compiled(options: argparse.Namespace) -> Iterator[CompiledList]:
    from ..urlfilter.block_list import Refusal, compile_list
    from ..urlfilter.block_list_lines import PathCase

    with ExitStack() as stack:
        file = None if options.refused is None else stack.enter_context(options.refused.open("w", encoding="utf-8"))

        def write(refusal: Refusal) -> None:
            if file is not None:
                file.write(f"{refusal.path}:{refusal.line}: {refusal.reason}: {refusal.text}\n")

        rows = stack.enter_context(compile_list(options.lists, case=PathCase(options.case), on_refusal=write))
        if file is not None:
            file.flush()  # a disk that is full is noticed before anything is made of the rows
        yield rows


def _say_refused(rows: CompiledList) -> None:
    for refusal in rows.refusals[:_SHOWN_REFUSALS]:
        print(f"{refusal.path}:{refusal.line}: refused: {refusal.reason}: {refusal.text}", file=sys.stderr)
    if (count := rows.refused.total()) > _SHOWN_REFUSALS:
        print(f"{count} lines refused in all; the most for these reasons:", file=sys.stderr)
        for reason, lines in rows.refused.most_common(5):
            print(f"{lines:9d}  {reason}", file=sys.stderr)


def _format_of(path: Path) -> str:
    return {".json": "json", ".bin": "raw", ".raw": "raw"}.get(path.suffix, "plist")


def _write(prefilter: Prefilter, path: Path, kind: str) -> None:
    from ..urlfilter.bloom import raw_parameters, to_json, to_plist, to_raw
    from ..urlfilter.storage import write_whole

    if kind == "raw":
        write_whole(raw_parameters(path), to_json(prefilter, has_data=False).encode())
        write_whole(path, to_raw(prefilter))
    else:
        write_whole(path, to_json(prefilter).encode() if kind == "json" else to_plist(prefilter))


def _numbers(prefilter: Prefilter) -> str:
    return (
        f"{len(prefilter.data)} bytes, bitCount {prefilter.bit_count}, hashCount {prefilter.hash_count},"
        f" murmurSeed {prefilter.murmur_seed}, tag {prefilter.tag}"
    )


def _read(path: Path) -> Prefilter:
    from ..urlfilter.bloom import read_prefilter
    from ..urlfilter.storage import storage_errors

    with storage_errors("cannot read the prefilter", path):
        return read_prefilter(path)


def _inspect(arguments: list[str]) -> int:
    parser = _parser(
        " inspect", "What a prefilter holds. Exit status 1 if devices will not find in it what was put in."
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--list", action="append", type=Path, metavar="LIST", help="that it was made of: which hash?")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(arguments)
    prefilter = _read(options.file)
    facts: dict[str, object] = {
        "hash": f"{prefilter.hash} and MurmurHash3",
        "bitCount": prefilter.bit_count,
        "byteCount": len(prefilter.data),
        "hashCount": prefilter.hash_count,
        "murmurSeed": prefilter.murmur_seed,
        "itemCount": prefilter.item_count,
        "falsePositiveTolerance": prefilter.tolerance,
        "bits set": f"{prefilter.fill:.2%}",
        "false positives": f"{prefilter.false_positive_rate:.4%} by the bits that are set",
        "tag": prefilter.tag,
    }
    is_sound = True
    if options.list:
        facts["diagnosis"], is_sound = _diagnosed(prefilter, options.list)
    elif prefilter.hash.value != "FNV-1a":
        facts["diagnosis"] = "its keys are those of the beta's sample, which used FNV-1; --list LIST makes sure"
        is_sound = False
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name:24}{'not said' if value is None else value}")
    return 0 if is_sound else 1


def _diagnosed(prefilter: Prefilter, lists: list[Path]) -> tuple[str, bool]:
    from ..urlfilter.block_list import compile_list
    from ..urlfilter.bloom import diagnose
    from ..urlfilter.storage import storage_errors

    with storage_errors("cannot read the list", lists[0]), compile_list(lists) as rows:
        diagnosis = diagnose(prefilter, rows.rows())
    return diagnosis.verdict, diagnosis.is_sound


def _test(arguments: list[str]) -> int:
    parser = _parser(" test", "Test URLs as a device does. Exit status 0 if each would be asked about, else 1.")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--system", choices=("26.0", "26.4", "27"), default="26.4", help="default 26.4")
    parser.add_argument("--exact", action="store_true", help="test the texts as they are, not the forms of URLs")
    options = parser.parse_args(arguments)
    from ..urlfilter.url_forms import candidates

    prefilter = _read(options.file)
    print(f"{options.file}: {prefilter.hash} and MurmurHash3, {_numbers(prefilter)}")
    are_members = True
    for url in options.urls:
        try:
            forms = (url,) if options.exact else candidates(url, options.system)
        except ConfigurationError as error:
            raise ConfigurationError(f"{url}: {error}") from error
        are_members &= _show(url, [prefilter.explain(form) for form in forms])
    return 0 if are_members else 1


def _show(url: str, explanations: list[Explanation]) -> bool:
    print(f"\n{url}: {len(explanations)} strings")
    for explanation in explanations:
        marks = "".join("1" if bit.is_set else "0" for bit in explanation.bits)
        print(f"  {marks}  {explanation.text}")
        if explanation.is_member:
            _show_bits(explanation)
    members = sum(explanation.is_member for explanation in explanations)
    if members:
        print(f"  → {members} may be on the list: the device asks the server")
    else:
        print("  → none is on the list for certain: allowed, and nobody is asked")
    return members > 0


def _show_bits(explanation: Explanation) -> None:
    print(f"    h1 {explanation.first_hash:#010x}, h2 {explanation.second_hash:#010x}")
    for bit in explanation.bits:
        print(f"    bit {bit.number:3d}  index {bit.index:10d}  byte {bit.byte:10d}  mask {bit.mask:#04x}  set")
