"""Rules as TOML text, and files replaced in one step: for answers that hold for ever, and for what was learned."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def rule_text(data: Mapping[str, Any]) -> str:
    """A `[[rule]]` with these keys."""
    return "[[rule]]\n" + "".join(f"{key} = {value_text(value)}\n" for key, value in data.items())


def value_text(value: Any) -> str:
    """A text, a number, a boolean, a moment, or a list of these."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, str):
        # JSON's escapes are all TOML's as well; TOML wants one more character escaped, and no half characters
        text = value.encode("utf-8", "replace").decode()
        return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(value_text, value))}]"


def replace_file(path: str, content: bytes, mode: int = 0o600) -> None:
    """Give a file new content, so that at any moment, a power cut included, it is the old or the new. Raises OSError.

    A symbolic link stays, and what it leads to is replaced; owner and mode are kept.
    """
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
        mode, owner = status.st_mode & 0o7777, (status.st_uid, status.st_gid)
    except FileNotFoundError:
        owner = None
    directory = os.path.dirname(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                try:
                    os.fchown(file.fileno(), *owner)
                except PermissionError:
                    pass  # it was another's in a directory of ours: it becomes ours
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_directory(directory)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
