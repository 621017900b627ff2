"""`netext new`: a provider and its test, to start from."""

from __future__ import annotations

import argparse
import keyword
import os
import re
import sys
from functools import partial

from ..errors import ConfigurationError
from .arguments import ArgumentParser
from .new_templates import FILES, KINDS

DESCRIPTION = "Write a provider with its test into a new folder: small, complete, and passing."
EPILOG = """\
  netext new filter my_filter && cd my_filter && pytest

The same file runs in memory (the test), around a command (netext run), and on the machine (netext filter, for filters).
"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        "netext new",
        usage=f"netext new {{{','.join(KINDS)}}} NAME",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=100),
        allow_abbrev=False,
    )
    parser.add_argument("kind", choices=KINDS, help="what the provider shall be")
    parser.add_argument("name", help="its name, as of a Python module: my_filter")
    parser.add_argument("--in", dest="folder", default=".", metavar="DIR", help="make the folder in DIR")
    return parser


def main(arguments: list[str]) -> int:
    """Parse, write, and say what to do next."""
    parsed = _parser().parse_args(arguments)
    folder = write(parsed.kind, parsed.name, parsed.folder)
    print(f"{folder}:")
    for name in sorted(os.listdir(folder)):
        print(f"  {name}")
    print(f"Next: cd {folder} && pytest")
    return 0


def write(kind: str, name: str, parent: str) -> str:
    """Write the files; the new folder's path. Nothing is overwritten, and nothing is left of what fails.

    Raises ConfigurationError.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigurationError(f"netext new: {name!r} is no name for a Python module; letters, digits and _ make one")
    if name in sys.stdlib_module_names or name in ("network_extension", "pytest") or name.startswith("test_"):
        why = "pytest would take it for tests" if name.startswith("test_") else "it would hide the module of that name"
        raise ConfigurationError(f"netext new: {name!r}: {why}; choose another name")
    folder = os.path.join(parent, name)
    words = {"name": name, "class": class_name(name), "kind": kind}
    try:
        os.mkdir(folder)
    except FileExistsError:
        raise ConfigurationError(f"netext new: {folder} exists already; choose another name") from None
    except OSError as error:
        raise ConfigurationError(f"netext new: {folder}: {error.strerror}") from None
    try:
        for pattern, text in FILES[kind].items():
            with open(os.path.join(folder, _filled(pattern, words)), "x") as file:
                file.write(_filled(text, words))
    except OSError as error:
        _remove(folder)
        raise ConfigurationError(f"netext new: {folder}: {error.strerror}") from None
    return folder


def class_name(name: str) -> str:
    """`my_filter` as a class: `MyFilter`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_") if part) or "Provider"


def _filled(text: str, words: dict[str, str]) -> str:
    for key, value in words.items():
        text = text.replace(f"@{key}@", value)
    return text


def _remove(folder: str) -> None:
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)
