"""`netext doctor PATH`: why Apple's system will refuse what is in a bundle, and how to mend it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ..doctor.bundle_files import BundleFiles
from ..doctor.certificates import Certificate, read_certificate
from ..doctor.channels import CHOICES, SigningChannel
from ..doctor.errors import UnreadableFile
from ..doctor.examination import examine, read_product
from ..doctor.examined_path import examined_path, is_profile
from ..doctor.lone_profile import report_on_profile
from ..doctor.report import Report, joined
from ..doctor.reporters import REPORTERS
from ..doctor.rule import Severity
from ..errors import ConfigurationError
from .arguments import ArgumentParser

FOUND = 1
_NEVER = "never"
_LEVELS = {severity.name.lower(): severity for severity in Severity}
_PEM_BEGIN, _PEM_END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"

DESCRIPTION = """\
Why Apple's system will refuse the Network Extension in an app, by whom, and how to mend it. Reads an .app, .appex,
.systemextension, .ipa, .pkg, .xcarchive, a zip, tar or wheel with one of them, a provisioning profile, or
.entitlements files and Info.plists of the sources. Nothing is executed, nothing is sent.
"""
EPILOG = """\
Exit status: 0 nothing as bad as --fail-on; 1 something is; 64 the command line; 78 the path cannot be examined.

  netext doctor 'Example.app'                           what will be refused, and why
  netext doctor build.xcarchive --channel developer-id  what the export will have to change
  netext doctor new.pkg --previous old.pkg              whether the new build replaces the old one
  netext doctor Example.app --format sarif -o out.sarif for code scanning
"""


def doctor_bundle(arguments: list[str]) -> int:
    """Examine paths; the exit status. Raises ConfigurationError."""
    options = _parser().parse_args(arguments)
    reports = [_examined(path, options) for path in options.paths]
    report = reports[0] if len(reports) == 1 else joined(reports)
    text = _text(report, options)
    if options.output is None:
        print(text)
    else:
        try:
            Path(options.output).write_text(text if text.endswith("\n") else f"{text}\n")
        except OSError as error:
            raise ConfigurationError(f"{options.output}: {error.strerror}; name a file that can be written") from error
    if options.fail_on == _NEVER or report.worst is None:
        return 0
    return FOUND if report.worst >= _LEVELS[options.fail_on] else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "netext doctor",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", help="an app, an archive, or a folder that holds some")
    parser.add_argument(
        "--channel",
        choices=[channel.value for channel in CHOICES],
        help="what the build is meant for, where that is not what it was signed for",
    )
    parser.add_argument("--previous", metavar="PATH", help="the build that users have: is this one taken for another?")
    parser.add_argument(
        "--udid", metavar="ID", action="append", default=[], help="a device that the build is meant for (repeatable)"
    )
    parser.add_argument("--format", choices=REPORTERS, default="text", help="how to show it (text)")
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it there, and not to standard output")
    parser.add_argument(
        "--fail-on",
        choices=[*_LEVELS, _NEVER],
        default="error",
        help="the least severity that makes the status 1 (error)",
    )
    parser.add_argument(
        "--trust-anchor",
        metavar="FILE",
        action="append",
        default=[],
        help="a root certificate (PEM or DER) to trust besides Apple's, for tests of signing tools (repeatable)",
    )
    return parser


def _examined(path: str, options: argparse.Namespace) -> Report:
    now = datetime.now(UTC)
    anchors = [one for name in options.trust_anchor for one in _certificates(Path(name))]
    channel = SigningChannel(options.channel) if options.channel else None
    with ExitStack() as stack:
        try:
            if is_profile(Path(path)):
                return report_on_profile(BundleFiles.of_file(Path(path)).read(Path(path).name), path, now, anchors)
            previous = None
            if options.previous is not None:
                before = stack.enter_context(examined_path(Path(options.previous)))
                previous = read_product(before.files, now, anchors=anchors)
            found = stack.enter_context(examined_path(Path(path)))
            report = examine(
                path,
                found.files,
                now,
                anchors=anchors,
                channel=channel,
                packages=found.packages,
                in_stapled_package=found.in_stapled_package,
                devices=options.udid,
                previous=previous,
            )
        except UnreadableFile as error:
            raise ConfigurationError(f"doctor: {error}") from error
        if previous is not None and not previous.extensions:
            raise ConfigurationError(f"doctor: {options.previous}: no Network Extension in it to compare with")
        return replace(report, notes=(*report.notes, *found.notes))


def _text(report: Report, options: argparse.Namespace) -> str:
    if options.format == "text" and options.output is None and sys.stdout.isatty():
        from ..doctor.reporters.text import text

        return text(report, colour=True)
    return REPORTERS[options.format](report)


def _certificates(path: Path) -> Sequence[Certificate]:
    """Of a PEM file, or of DER. Raises ConfigurationError."""
    import base64
    import binascii

    try:
        data = path.read_bytes()
        if _PEM_BEGIN not in data:
            return [read_certificate(data, str(path))]
        parts = [part.partition(_PEM_END)[0] for part in data.split(_PEM_BEGIN)[1:]]
        return [read_certificate(base64.b64decode(part), str(path)) for part in parts]
    except (OSError, UnreadableFile, binascii.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"--trust-anchor {path}: {reason}; name a certificate in PEM or DER") from error
