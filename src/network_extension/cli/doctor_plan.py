"""`netext doctor plan`: what a new Network Extension starts from, as ready files."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path

from ..doctor.deployment_table import Channel, Packaging, Platform
from ..doctor.plan import Plan, make_plan
from ..doctor.provider_kinds import KINDS
from ..errors import ConfigurationError
from .arguments import ArgumentParser

_WIDTH = 118
_PACKAGINGS = {"appex": Packaging.APP_EXTENSION, "sysex": Packaging.SYSTEM_EXTENSION}


def plan(arguments: list[str]) -> int:
    """Print the plan, and write its files where that is asked for; the exit status."""
    parser = ArgumentParser(
        "netext doctor plan", description="Packaging, entitlements and Info.plist keys to start from.",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--provider", required=True, choices=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--platform", required=True, choices=list(Platform), help="what the build is for")
    parser.add_argument("--channel", choices=list(Channel), default=Channel.DEVELOPMENT, help="(development)")
    parser.add_argument("--packaging", choices=list(_PACKAGINGS), help="where there is a choice")
    parser.add_argument("--id", default="com.example.app", metavar="BUNDLE-ID", help="the app's (com.example.app)")
    parser.add_argument("--team", default="$(TeamIdentifierPrefix)", metavar="TEAM", help="ten characters")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write the files there; none is replaced")
    parser.add_argument("--json", action="store_true", help="JSON on standard output")
    options = parser.parse_args(arguments)
    made = make_plan(
        options.provider, Platform(options.platform), Channel(options.channel), bundle_id=options.id, team=options.team,
        packaging=_PACKAGINGS.get(options.packaging),
    )  # fmt: skip
    if options.output is not None:
        write_files(made, options.output)
    print(json.dumps(plan_record(made), indent=2) if options.json else plan_text(made, options.output))
    return 0


def write_files(made: Plan, folder: Path) -> None:
    """Write a plan's files into a folder, which is made. Raises ConfigurationError; no file is ever replaced."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if there := [name for name in made.files if (folder / name).exists()]:
            raise ConfigurationError(f"{folder / there[0]} is there already; name another folder")
        for name, content in made.files.items():
            with (folder / name).open("xb") as file:
                file.write(content)
    except OSError as error:
        raise ConfigurationError(f"{error.filename or folder}: {error.strerror}; name another folder") from error


def plan_record(made: Plan) -> dict[str, object]:
    """A plan for JSON."""
    row = made.deployment
    return {
        "provider": row.provider,
        "platform": row.platform.value,
        "channel": made.channel.value,
        "packaging": row.packaging.value,
        "place": made.place,
        "since": row.since,
        "needs": row.needs,
        "instead": made.instead,
        "steps": list(made.steps),
        "files": {name: content.decode() for name, content in made.files.items()},
    }


def plan_text(made: Plan, folder: Path | None) -> str:
    """A plan for people."""
    row = made.deployment
    lines = [
        f"{row.provider} on {row.platform.value} {row.since} and later, {made.channel.value}: {row.packaging.value}"
    ]
    if made.place:
        lines.append(f"  lies in       {made.place}")
    if row.needs:
        lines.append(f"  runs on       {row.needs}")
    if made.instead:
        lines.append(f"  instead       {made.instead}")
    for number, step in enumerate(made.steps, 1):
        lines.append(textwrap.fill(step, _WIDTH, initial_indent=f"  {number}. ", subsequent_indent="     "))
    for name, content in made.files.items():
        lines += ["", f"{name}:", content.decode().rstrip()] if folder is None else [f"  wrote         {folder / name}"]
    return "\n".join(lines)
