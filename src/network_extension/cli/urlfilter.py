"""`netext urlfilter`: its sub-commands, each of which is imported only when it is used."""

from __future__ import annotations

from importlib import import_module

from ..errors import ExitCode, NetworkExtensionError

USAGE = """\
usage: netext urlfilter COMMAND ...

Apple's URL filter (NEURLFilter): the back end that devices ask, and the same filter for this machine.

  from a block list to a running service
    build LIST... -o DIR      make the database and the prefilter that the service serves
    serve DIR                 answer devices: lookups, tokens, Oblivious HTTP, in one command

  see where a URL goes, and why
    check URL --server URL    ask as a device does; print each step, its time, and the verdict
    forms URL                 the strings that devices look up for a URL
    bloom inspect|test FILE   what a prefilter holds, bit by bit; which hash it was made with

  parts of it alone
    bloom LIST -o FILE        a prefilter, as a property list, JSON or bare bits
    gateway --target ORIGIN   Oblivious HTTP before a service on another machine
    relay --gateway URL       and what hides from that gateway who asks, for trying it out

netext urlfilter COMMAND --help says more. docs/urlfilter/index.md goes through it in five minutes.
"""

_COMMANDS = ("bloom", "build", "serve", "check", "forms", "gateway", "relay")
"""Each has a module of its own, urlfilter_NAME, with a `main` that takes the words after the name."""
EXTRA = "pip install 'network-extension[urlfilter]'"


class ExtraMissing(NetworkExtensionError):
    """A package of the extra `urlfilter` is not installed."""

    exit_code = ExitCode.UNAVAILABLE


def main(arguments: list[str]) -> int:
    """Run one sub-command; the exit status. Raises ExtraMissing."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command in ("", "-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if command else ExitCode.USAGE
    if command not in _COMMANDS:
        import sys

        print(f"netext urlfilter: {command}: no such command; netext urlfilter --help lists them", file=sys.stderr)
        return ExitCode.USAGE
    try:
        return int(import_module(f"{__package__}.urlfilter_{command}").main(rest))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == __package__.partition(".")[0]:
            raise
        raise ExtraMissing(
            f"urlfilter {command} needs {package}, which is not installed; next step: {EXTRA}"
        ) from error
