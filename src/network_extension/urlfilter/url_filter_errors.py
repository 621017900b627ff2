"""The errors of the URL filter's manager, with Apple's names and numbers (specification §3.3)."""

from __future__ import annotations

from enum import IntEnum

from ..errors import ExitCode, NetworkExtensionError


class URLFilterErrorCode(IntEnum):
    """NEURLFilterManager.Error by its raw values."""

    CONFIGURATION_UNCHANGED = 1
    """Saved, and nothing was different from what is stored."""
    CONFIGURATION_INVALID = 2
    CONFIGURATION_DISABLED = 3
    """Asked of a filter that is switched off."""
    CONFIGURATION_STALE = 4
    """Somebody else has saved since this was loaded: load again."""
    CONFIGURATION_CANNOT_BE_REMOVED = 5
    CONFIGURATION_PERMISSION_DENIED = 6
    CONFIGURATION_INTERNAL_ERROR = 7
    """The stored configuration cannot be read or written."""
    CONFIGURATION_NOT_LOADED = 8
    SERVER_SETUP_INCOMPLETE = 9
    """The service, its issuer or the relay does not work, and will not until somebody changes something."""
    INTERNAL_ERROR = 10
    EXTENSION_CANCELLED = 11
    """The control provider ended itself."""
    EXTENSION_NOT_FOUND = 12
    EXTENSION_FAILED_TO_LOAD = 13
    UNKNOWN = 14


class URLFilterError(NetworkExtensionError):
    """What went wrong; `code` is a `URLFilterErrorCode`."""

    domain = "NEURLFilterManager.Error"
    code: URLFilterErrorCode

    def __init__(self, code: URLFilterErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = (
            ExitCode.UNAVAILABLE if code >= URLFilterErrorCode.SERVER_SETUP_INCOMPLETE else (ExitCode.CONFIGURATION)
        )


class LookupFailed(URLFilterError):
    """A private lookup ended without an answer. `stage` names the step at fault (a `Stage` of lookup_recovery).

    `code` is SERVER_SETUP_INCOMPLETE if it cannot heal by itself, else INTERNAL_ERROR: try again later.
    """

    def __init__(self, stage: str, message: str, *, is_permanent: bool) -> None:
        codes = URLFilterErrorCode
        super().__init__(codes.SERVER_SETUP_INCOMPLETE if is_permanent else codes.INTERNAL_ERROR, message)
        self.stage = stage
        self.is_permanent = is_permanent
