"""`netext filter`: its arguments."""

from __future__ import annotations

import argparse
from functools import partial

from ..core.flow_decision import Policy
from ..errors import ConfigurationError
from .arguments import ArgumentParser
from .run import _check_size, _Config, _Provider, _seconds

DESCRIPTION = "Put content filters before all flows of this machine (of this network namespace). As root, foreground."
EPILOG = """\
A flow goes through only if every filter allows it; firewalls are asked before inspectors, each in the order of the
command line. --config belongs to the --provider before it; before the first --provider it belongs to all.

Policy open: what nobody can decide passes, and everything is as before when netext ends, however it ends. Policy
closed: it does not pass, not even after a kill -9; then netext filter --remove, or another netext filter, ends that.

Exit status: 0 after Ctrl-C, SIGTERM or --for. 64 wrong usage, 65-66 provider file, 69 a part of the kernel is missing,
70 provider failed, 71 the kernel refused, another filter runs, or no traffic is seen, 77 not root, 78 configuration.
"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        "netext filter",
        usage="netext filter [--provider FILE[:CLASS]]... [options]\n       netext filter --remove",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=100),
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--provider", action=_Provider, metavar="FILE[:CLASS]", help="a filter's file or module; repeatable, in order")
    add("--config", action=_Config, metavar="KEY=VALUE|FILE", help="configuration: one value, or a TOML or JSON file")
    add("--policy", choices=("open", "closed"), default="open", help="what flows get that nobody can decide (open)")
    add("--established", choices=("keep", "offer"), default="keep", help="flows older than the filter (keep)")
    add("--inbound", action=argparse.BooleanOptionalAction, default=True, help="flows that other hosts begin (asked)")
    add("--user", metavar="NAME", help="who runs the providers (the user of sudo, else root without capabilities)")
    add("--mark-mask", type=_mask, default=0x70000000, metavar="M", help="our bits of the connection mark (0x70000000)")
    add("--json", action="store_const", const="json", dest="log", help="log as JSON Lines on standard error")
    add("--quiet", "-q", action="store_const", const="quiet", dest="log", help="no log")
    add("--log", metavar="FILE", dest="log_file", help="write the log to FILE instead of standard error")
    add("--deadline", type=_seconds, default=10.0, metavar="S", help="seconds a filter has to decide a flow (10)")
    add("--hang-timeout", type=_seconds, default=10.0, metavar="S",
        help="restart a provider stuck this long; 0: never (10)")  # fmt: skip
    add("--grace", type=_seconds, default=5.0, metavar="S", help="seconds a provider has to stop (5)")
    add("--for", type=_seconds, default=0.0, dest="seconds", metavar="S", help="end by itself after S seconds")
    add("--remove", action="store_true", help="take away what a filter with policy closed has left, and end")
    parser.set_defaults(providers=[], config={}, log="lines")
    return parser


def _mask(text: str) -> int:
    """Three bits beside each other."""
    try:
        mask = int(text, 0)
    except ValueError:
        mask = 0
    shift = (mask & -mask).bit_length() - 1
    if mask <= 0 or mask >> 32 or mask != 7 << shift:
        raise argparse.ArgumentTypeError(f"three bits beside each other are needed, as 0x70000000, not {text!r}")
    return mask


def main(words: list[str]) -> int:
    """Parse and run; the exit status."""
    parser = _parser()
    parsed = parser.parse_args(words)
    if parsed.remove:
        if parsed.providers:
            raise ConfigurationError("--remove starts no filter; give --provider in a command of its own")
        from ..runtime.host_filter import remove

        print(remove(parsed.mark_mask))
        return 0
    for spec, config in parsed.providers:
        if config:
            _check_size(spec, config)
    from ..runtime.host_filter import HostFilter
    from ..runtime.host_filter_options import HostFilterOptions

    options = HostFilterOptions(
        providers=parsed.providers,
        policy=Policy(parsed.policy),
        established=parsed.established,
        inbound=parsed.inbound,
        user=parsed.user,
        mark_mask=parsed.mark_mask,
        log_mode=parsed.log,
        log_file=parsed.log_file,
        deadline=parsed.deadline,
        hang_timeout=parsed.hang_timeout,
        grace=parsed.grace,
        seconds=parsed.seconds,
    )
    return HostFilter(options).run()
