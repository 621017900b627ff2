"""`netext doctor`: what this machine allows; or of a path, why Apple's system will refuse the Network Extension in it.

Bundles are examined on any system: what belongs to Linux is imported for this machine's own examination alone.
"""

from __future__ import annotations

from ..errors import ExitCode, NetworkExtensionError


def doctor(arguments: list[str]) -> int:
    """Run what the words ask for; the exit status."""
    if arguments[:1] == ["plan"]:
        from .doctor_plan import plan

        return plan(arguments[1:])
    if arguments and arguments[0] in ("rules", "explain", "logs"):
        from . import doctor_knowledge

        name, *rest = arguments
        commands = {"explain": doctor_knowledge.explain_line, "logs": doctor_knowledge.logs}
        return commands.get(name, doctor_knowledge.rules)(rest)
    if _names_a_path(arguments):
        return _bundle(arguments)
    from .doctor_host import doctor_host

    return doctor_host(arguments)


_WITH_VALUES = ("--channel", "--previous", "--udid", "--format", "-o", "--output", "--fail-on", "--trust-anchor")
EXTRA = "pip install 'network-extension[doctor]'"


class ExtraMissing(NetworkExtensionError):
    """A package of the extra `doctor` is not installed."""

    exit_code = ExitCode.UNAVAILABLE


def _names_a_path(arguments: list[str]) -> bool:
    words = iter(arguments)
    for word in words:
        if word == "--":
            return next(words, None) is not None
        if word in _WITH_VALUES:
            next(words, None)
        elif not word.startswith("-") or word == "-":
            return True
    return False


def _bundle(arguments: list[str]) -> int:
    try:
        from .doctor_bundle import doctor_bundle

        return doctor_bundle(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == __package__.partition(".")[0]:
            raise
        raise ExtraMissing(f"doctor PATH needs {package}, which is not installed; next step: {EXTRA}") from error
