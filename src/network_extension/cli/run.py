"""`netext run`: its arguments."""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import Any

from ..core.flow_decision import Policy
from ..errors import ConfigurationError
from .arguments import ArgumentParser

DESCRIPTION = "Run a command behind network providers, in a sandbox of its own, without root."
EPILOG = """\
Providers are asked in the order in which they are given: the first to claim a flow has it, a transparent proxy that
returns False passes it on, an app proxy that returns False refuses it, and what nobody claims goes out as it would
without us. --config belongs to the --provider before it; before the first --provider it belongs to all.

The exit status is the command's. If netext itself fails: 64 wrong usage, 65-66 provider file, 69 a tool is missing,
70 provider failed, 71 the kernel refused, 77 user namespaces forbidden, 78 configuration, 126-127 the command.
"""


MOST_CONFIG, MOST_CONFIG_FILE = 60_000, 1 << 20  # bytes; a message to a provider holds 64 KiB


class _Provider(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        namespace.providers.append((value, dict(namespace.config)))


class _Config(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        (namespace.providers[-1][1] if namespace.providers else namespace.config).update(read_config(value))


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        "netext run",
        usage="netext run [--provider FILE[:CLASS]]... [options] -- COMMAND...",
        description=DESCRIPTION,
        epilog=EPILOG,
        # argparse makes one for each argument; left to ask for the terminal's width, it imports shutil: 2 ms.
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=100),
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
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"seconds from 0 to 86400 are needed, not {text!r}")
    return value


def read_config(text: str) -> dict[str, Any]:
    """`KEY=VALUE` as one entry (the value is JSON, or else text), or the content of a TOML or JSON file.

    Raises ConfigurationError for what cannot be read, or is more than JSON can say: a provider gets it as JSON.
    """
    key, equals, value = text.partition("=")
    if not equals or os.path.exists(text):
        return _read_config_file(text)
    if not key:
        raise ConfigurationError(f"--config {text}: a key is missing before the equals sign")
    import json

    try:
        data = json.loads(value)
        json.dumps(data, allow_nan=False)
    except (ValueError, RecursionError):
        return {key: value}
    return {key: data}


def _read_config_file(path: str) -> dict[str, Any]:
    import json

    try:
        with open(path, "rb") as file:
            content = file.read(MOST_CONFIG_FILE + 1)
        if len(content) > MOST_CONFIG_FILE:
            raise ConfigurationError(f"--config {path}: more than {MOST_CONFIG_FILE} bytes")
        if path.endswith(".json"):
            data = json.loads(content)
        else:
            import tomllib

            data = tomllib.loads(content.decode())
        if not isinstance(data, dict):
            raise ConfigurationError(f"--config {path}: an object is needed at the top")
        json.dumps(data, allow_nan=False)
    except OSError as error:
        raise ConfigurationError(f"--config {path}: {error.strerror}; give KEY=VALUE or a file") from None
    except ConfigurationError:
        raise
    except TypeError as error:  # TOML has dates and times
        raise ConfigurationError(f"--config {path}: {error}; write it as text") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--config {path}: {error}") from None
    return data


def _check_size(spec: str, config: dict[str, Any]) -> None:
    """A provider's configuration travels as one message."""
    import json

    if (size := len(json.dumps(config, separators=(",", ":")))) > MOST_CONFIG:
        raise ConfigurationError(
            f"the configuration of {spec} has {size} bytes, more than {MOST_CONFIG}; put what is large into a file"
            " that the provider reads itself"
        )


def run(arguments: list[str]) -> int:
    """Parse, run, and give the command's exit status."""
    parser = _parser()
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    parsed = parser.parse_args(words)
    # A command that began before `--` has it as an argument of its own: netext run git log -- FILE
    command = [*parsed.command, *arguments[len(words) :]] if parsed.command else arguments[len(words) + 1 :]
    if not command:
        parser.error("no command; write it after --")
    for spec, config in parsed.providers:
        if config:
            _check_size(spec, config)
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
