"""`netext urlfilter build`: from block lists to a folder that `netext urlfilter serve` serves."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import ArgumentParser
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from ..urlfilter.database_build import BuildOptions, Manifest

EPILOG = """\
Lists are hosts files, plain domains, plain URLs and the network rules of Adblock syntax, also mixed. Run it again after
a list has changed: only the shards that changed are made anew, and the new version takes the old one's place at once.
A build that was interrupted goes on where it stopped.

  netext urlfilter build list.txt -o db && netext urlfilter serve db
"""
_SHOWN_REFUSALS = 10


def main(arguments: list[str]) -> int:
    """Parse, build, and say what there is now; the exit status."""
    options = _parser().parse_args(arguments)

    from ..urlfilter.database_build import build

    with ExitStack() as stack:
        bar = stack.enter_context(ProgressBar(sys.stderr))
        remote = None
        if options.scheduler is not None:
            from ..urlfilter.cluster import ClusterRunner

            remote = stack.enter_context(ClusterRunner(options.scheduler))
        manifest = build(
            options.lists,
            options.output,
            _build_options(options),
            now=datetime.now(UTC).timestamp(),
            progress=bar.show,
            remote=remote,
        )
    _say(manifest, options.output)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "netext urlfilter build",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("lists", nargs="+", type=Path, metavar="LIST")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="the database's folder")
    parser.add_argument("--usecase", metavar="NAME", help="<app bundle id>.url.filtering; default netext.url.filtering")
    parser.add_argument("--query-ms", type=float, default=150.0, metavar="MS", help="a query's time on one thread")
    parser.add_argument("--shard-mb", type=int, default=256, metavar="MB", help="the largest file of a shard")
    parser.add_argument("--shards", type=int, metavar="N", help="as many, whatever the two targets say")
    parser.add_argument("--headroom", type=float, default=0.1, metavar="PART", help="for rows to come, default 0.1")
    parser.add_argument("--rate", type=float, default=0.001, metavar="P", help="the prefilter's false positives")
    parser.add_argument("--case", choices=("both", "keep", "lower"), default="both", help="of paths with capitals")
    parser.add_argument("--retention", type=int, default=86_400, metavar="S", help="seconds that rows which went stay")
    parser.add_argument("--versions", type=int, default=3, metavar="N", help="that are kept, default 3")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="process shards on a dask.distributed cluster")
    return parser


def _build_options(options: argparse.Namespace) -> BuildOptions:
    from ..urlfilter.block_list_lines import PathCase
    from ..urlfilter.database_build import DEFAULT_USECASE, BuildOptions
    from ..urlfilter.database_build_plan import Target

    return BuildOptions(
        usecase=options.usecase or DEFAULT_USECASE,
        target=Target(options.query_ms, options.shard_mb << 20, options.shards, options.headroom),
        tolerance=options.rate,
        case=PathCase(options.case),
        retention=options.retention,
        kept_versions=options.versions,
    )


def _say(manifest: Manifest, directory: Path) -> None:
    print(
        f"{directory}: version {manifest.version}, {manifest.row_count} rows (+{manifest.added_count}"
        f" −{manifest.removed_count}) in {manifest.shard_count} shards, prefilter {manifest.prefilter.tag[:16]}"
    )
    if manifest.pending_removals:
        print(f"{manifest.retired_count} rows that went stay in the database until devices have the new prefilter")
    if total := sum(manifest.refused.values()):
        print(f"{total} lines were refused:", file=sys.stderr)
        for reason, count in sorted(manifest.refused.items(), key=lambda item: -item[1])[:_SHOWN_REFUSALS]:
            print(f"{count:9d}  {reason}", file=sys.stderr)
        print("netext urlfilter bloom LIST -o FILE --refused FILE names each line", file=sys.stderr)
    if not manifest.row_count:
        print("the lists hold no row: this database blocks nothing", file=sys.stderr)
