"""Where compiled kernels are kept, for a program whose user may write neither to this package nor to a home of its own.

numba keeps them beside the source, else in the user's cache folder, and refuses to work where neither can be written. A
provider that runs as `nobody` has such a user, and so has a service without a home. It gets a folder of its own for
temporary files, which nobody else can write to, so that nobody else's code is ever loaded from it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

_VARIABLE = "NUMBA_CACHE_DIR"


def folder_for_kernels(package: Path = Path(__file__).parent, temporary: str | None = None) -> str | None:
    """The folder to name to numba, which would find none; None: it finds one, or there is none."""
    if _VARIABLE in os.environ or _may_write(package) or _may_write(_user_cache()):
        return None
    folder = Path(temporary or tempfile.gettempdir()) / f"netext-kernels-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        folder = Path(tempfile.mkdtemp(prefix="netext-kernels-", dir=temporary))  # somebody else was there first
    return str(folder)


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))


def _may_write(folder: Path) -> bool:
    """Whether files can be made in a folder, or in the nearest one above it that exists."""
    while not os.path.exists(folder) and folder != folder.parent:  # Path.exists raises where it may not look
        folder = folder.parent
    return os.access(folder, os.W_OK)
