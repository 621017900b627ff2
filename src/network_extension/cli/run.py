"""`netext run`: its arguments."""

from __future__ import annotations

import argparse
import os
from typing import Any, NoReturn

from ..core.flow_decision import Policy
from ..errors import ConfigurationError, ExitCode

DESCRIPTION = "Run a command behind network providers, in a sandbox of its own, without root."
EPILOG = """\
Providers are asked in the order in which they are given: the first to claim a flow has it, a transparent proxy that
returns False passes it on, an app proxy that returns False refuses it, and what nobody claims goes out as it would
without us. --config belongs to the --provider before it; before the first --provider it belongs to all.

The exit status is the command's. If netext itself fails: 64 wrong usage, 65-66 provider file, 69 a tool is missing,
70 provider failed, 71 the kernel refused, 77 user namespaces forbidden, 78 configuration, 126-127 the command.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.USAGE, f"netext run: {message}; netext run --help says more\n")


class _Provider(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        namespace.providers.append((value, dict(namespace.config)))


class _Config(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        (namespace.providers[-1][1] if namespace.providers else namespace.config).update(read_config(value))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "netext run",
        usage="netext run [--provider FILE[:CLASS]]... [options] -- COMMAND...",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--provider", action=_Provider, metavar="FILE[:CLASS]", help="a provider's file or module; repeatable, in order"
    )
    add("--config", action=_Config, metavar="KEY=VALUE|FILE", help="configuration: one value, or a TOML or JSON file")
    add("--json", action="store_const", const="json", dest="log", help="log as JSON Lines on standard error")
    add("--quiet", "-q", action="store_const", const="quiet", dest="log", help="no log")
    add("--log", metavar="FILE", dest="log_file", help="write the log to FILE instead of standard error")
    add("--policy", choices=("open", "closed"), help="what flows get when their provider is in trouble")
    add("--trace", metavar="FILE", help="write all packets, with program and decision, as pcapng")
    add("--deadline", type=_seconds, default=10.0, metavar="S", help="seconds a provider has to decide a flow (10)")
    add(
        "--hang-timeout",
        type=_seconds,
        default=10.0,
        metavar="S",
        help="restart a provider stuck this long; 0: never (10)",
    )
    add("--grace", type=_seconds, default=5.0, metavar="S", help="seconds a provider has to stop (5)")
    add("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(providers=[], config={}, log="lines")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86400:
        raise ValueError
    return value


def read_config(text: str) -> dict[str, Any]:
    """`KEY=VALUE` as one entry (the value is JSON, or else text), or the content of a TOML or JSON file."""
    import json

    key, equals, value = text.partition("=")
    if equals and not os.path.exists(text):
        try:
            return {key: json.loads(value)}
        except ValueError:
            return {key: value}
    try:
        with open(text, "rb") as file:
            content = file.read(1 << 20)
        if text.endswith(".json"):
            data = json.loads(content)
        else:
            import tomllib

            data = tomllib.loads(content.decode())
    except OSError as error:
        raise ConfigurationError(f"--config {text}: {error.strerror}; give KEY=VALUE or a file") from None
    except ValueError as error:
        raise ConfigurationError(f"--config {text}: {error}") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"--config {text}: an object is needed at the top")
    return data


def run(arguments: list[str]) -> int:
    """Parse, run, and give the command's exit status."""
    parser = _parser()
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    parsed = parser.parse_args(words)
    command = arguments[len(words) + 1 :] if "--" in arguments else parsed.command
    if not command:
        parser.error("no command; write it after --")
    from ..runtime.options import RunOptions
    from ..runtime.sandbox import Sandbox

    options = RunOptions(
        command=command,
        providers=parsed.providers,
        log_mode=parsed.log,
        policy=Policy(parsed.policy) if parsed.policy else None,
        deadline=parsed.deadline,
        hang_timeout=parsed.hang_timeout,
        grace=parsed.grace,
        trace=parsed.trace,
        log_file=parsed.log_file,
    )
    return Sandbox(options).run()
