"""`netext`: one command for everything. Each sub-command's module is imported only when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..errors import ExitCode, NetworkExtensionError

USAGE = """\
netext: Apple's Network Extension framework on Linux

  netext run [--provider FILE[:CLASS]]... -- COMMAND...   run a command behind providers, without root
  netext demo                                             see it work, with servers of its own
  netext filter [--provider FILE[:CLASS]]...              put content filters before this machine's flows, as root
  netext ask                                              answer the firewall's questions, from any terminal
  netext explain 'curl → example.com:443'                 which provider and rule would decide, and why
  netext new KIND NAME                                    write a provider and its test to start from
  netext urlfilter COMMAND                                Apple's URL filter: lists, database, service, client
  netext doctor                                           what this machine allows, and what is missing
  netext doctor PATH                                      why Apple's system will refuse an app's extension

netext COMMAND --help says more. The documentation is in docs/ (make docs).
"""

_COMMANDS = {
    "run": "run",
    "demo": "demo",
    "doctor": "doctor",
    "filter": "main",
    "ask": "main",
    "explain": "main",
    "new": "main",
    "urlfilter": "main",
}
"""The module of each sub-command has its name; here is the function in it, which takes the words after the name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; the exit status. Errors are one line on standard error, never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    status = _try(words)
    if arguments is None and words[:1] == ["run"]:
        _leave(status)
    return status


def _leave(status: int) -> NoReturn:
    """End at once. Taking the interpreter down in order takes another 5 to 10 ms, and nothing is left to be done."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed, or nobody reads it any more
            continue
    os._exit(status)


def _try(words: list[str]) -> int:
    try:
        try:
            return _dispatch(words)
        finally:
            if sys.stdout is not None:  # a reader that has gone is noticed here, and not at the interpreter's end
                sys.stdout.flush()
    except NetworkExtensionError as error:
        print(f"netext: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def _dispatch(words: list[str]) -> int:
    command, rest = (words[0], words[1:]) if words else ("", [])
    if (function := _COMMANDS.get(command)) is not None:
        from importlib import import_module

        return int(getattr(import_module(f"{__package__}.{command}"), function)(rest))
    if command in ("--version", "-V"):
        from .. import __version__

        print(f"netext {__version__}")
        return 0
    if command in ("", "-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if command else ExitCode.USAGE
    print(f"netext: {command}: no such command; netext --help lists them", file=sys.stderr)
    return ExitCode.USAGE


if __name__ == "__main__":
    sys.exit(main())
