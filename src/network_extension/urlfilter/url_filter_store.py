"""Where configurations are kept: one file for each app, for its owner's eyes only, since the token is in it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from .url_filter_configuration import MOST_BYTES, URLFilterConfiguration
from .url_filter_errors import URLFilterError, URLFilterErrorCode


class ConfigurationStore:
    """The file of one app. `revision` names what is in it: two revisions differ if the content does."""

    def __init__(self, app_bundle_identifier: str, directory: Path | None = None) -> None:
        """The directory is $XDG_CONFIG_HOME/netext/url-filter unless one is named; it is made when first written."""
        self.path = (directory or _default_directory()) / f"{app_bundle_identifier}.json"

    def load(self) -> tuple[URLFilterConfiguration | None, str]:
        """The configuration (None: there is none) and its revision. Raises URLFilterError."""
        data = self._read()
        if data is None:
            return None, ""
        try:
            return URLFilterConfiguration.from_json(data), _revision(data)
        except URLFilterError as error:
            raise URLFilterError(
                URLFilterErrorCode.CONFIGURATION_INTERNAL_ERROR,
                f"{self.path}: {error}; remove the file, and save the configuration again",
            ) from None

    def revision(self) -> str:
        """The revision of what is stored now; "" without any. Raises URLFilterError."""
        data = self._read()
        return _revision(data) if data is not None else ""

    def save(self, configuration: URLFilterConfiguration) -> str:
        """Replace the file in one step; the new revision. Raises URLFilterError."""
        data = configuration.to_json()
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp makes files that only their owner may read (0600).
            descriptor, name = tempfile.mkstemp(prefix=".saving-", dir=self.path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            raise self._error("save", error) from error
        return _revision(data)

    def remove(self) -> None:
        """Remove the file. Raises URLFilterError (CONFIGURATION_CANNOT_BE_REMOVED) if it cannot be, or is not there."""
        try:
            self.path.unlink()
        except OSError as error:
            raise URLFilterError(
                URLFilterErrorCode.CONFIGURATION_CANNOT_BE_REMOVED, f"remove {self.path}: {error.strerror}"
            ) from error

    def _read(self) -> bytes | None:
        try:
            with open(self.path, "rb") as file:
                return file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error("load", error) from error

    def _error(self, what: str, error: OSError) -> URLFilterError:
        codes = URLFilterErrorCode
        is_denied = isinstance(error, PermissionError)
        code = codes.CONFIGURATION_PERMISSION_DENIED if is_denied else codes.CONFIGURATION_INTERNAL_ERROR
        step = "; who runs this may not" if is_denied else ""
        return URLFilterError(code, f"{what} {self.path}: {error.strerror}{step}")


def _revision(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _default_directory() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "netext" / "url-filter"
