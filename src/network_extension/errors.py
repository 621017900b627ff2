"""Every exception of the package, and the exit codes that the command line makes of them.

    NetworkExtensionError
    ├── ConfigurationError      what was asked for cannot be meant; also a ValueError
    ├── NetworkSettingsError    NETunnelProviderErrorDomain: settings that a provider set were not accepted
    ├── ProviderError           the provider's own code is at fault
    ├── DatapathError           the kernel refused; carries the errno, the object, the next step
    ├── PeerError               the other end of a protocol broke its rules
    └── FlowError               NEAppProxyErrorDomain: how one flow ended; maps to an errno and back

`domain` and `code` are Apple's where Apple has them (reference §2.7, §2.11), ours elsewhere.
"""

from __future__ import annotations

import errno as _errno
import os
from enum import IntEnum

NE_APP_PROXY_ERROR_DOMAIN = "NEAppProxyErrorDomain"
NE_TUNNEL_PROVIDER_ERROR_DOMAIN = "NETunnelProviderErrorDomain"


class ExitCode(IntEnum):
    """Exit status of `netext` when it fails itself; otherwise it mirrors the command. After sysexits(3) and
    env(1).
    """

    USAGE = 64
    PROVIDER_INVALID = 65
    """The provider's file was read, but holds nothing that can be run as a provider."""
    PROVIDER_NOT_FOUND = 66
    UNAVAILABLE = 69
    """A tool or a part of the kernel that is needed is absent."""
    PROVIDER_FAILED = 70
    """The provider's constructor or `start_proxy` raised, or it ended by itself."""
    DATAPATH = 71
    NOT_PERMITTED = 77
    """User namespaces, or what else must be allowed, are forbidden here."""
    CONFIGURATION = 78
    COMMAND_NOT_EXECUTABLE = 126
    COMMAND_NOT_FOUND = 127


class NetworkExtensionError(Exception):
    """Base of all errors of this package. `str()` is one line; `domain` and `code` identify it to
    programs.
    """

    domain: str = "NetworkExtensionErrorDomain"
    code: int = 0
    exit_code: int = 1


class ConfigurationError(NetworkExtensionError, ValueError):
    """A value that the caller gave cannot be meant; the message names it and the place where it stands."""

    exit_code = ExitCode.CONFIGURATION


class ProviderError(NetworkExtensionError):
    """A provider's own code is at fault: it raised, returned a wrong type, or cannot be loaded."""

    def __init__(self, message: str, *, exit_code: int = ExitCode.PROVIDER_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class DatapathError(NetworkExtensionError):
    """The kernel refused something.

    `errno` is the kernel's (0 when there is none), `object` what it was about ("nft table netext",
    "/dev/net/tun") and `next_step` what the user can do; either may be empty.
    """

    def __init__(
        self,
        message: str,
        *,
        errno: int | None = None,
        object: str = "",
        next_step: str = "",
        exit_code: int = ExitCode.DATAPATH,
    ) -> None:
        super().__init__(f"{message}; {next_step}" if next_step else message)
        self.errno = errno or 0
        self.code = self.errno
        self.object = object
        self.next_step = next_step
        self.exit_code = exit_code


class PeerError(NetworkExtensionError):
    """The other end of a protocol sent something that its rules forbid. Never raised for what the caller
    did.
    """


class NetworkSettingsErrorCode(IntEnum):
    """NETunnelProviderError, the errors of `set_tunnel_network_settings`."""

    INVALID = 1
    CANCELED = 2
    FAILED = 3


class NetworkSettingsError(NetworkExtensionError):
    """Settings that were not accepted; `code` is a `NetworkSettingsErrorCode`."""

    domain = NE_TUNNEL_PROVIDER_ERROR_DOMAIN
    exit_code = ExitCode.CONFIGURATION

    def __init__(self, code: NetworkSettingsErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class FlowErrorCode(IntEnum):
    """NEAppProxyFlowError by Apple's numbers; from 101 on what only Linux tells apart."""

    NOT_CONNECTED = 1
    """Read or written before `open`."""
    PEER_RESET = 2
    HOST_UNREACHABLE = 3
    INVALID_ARGUMENT = 4
    ABORTED = 5
    """Given up by this side: the provider stopped, or closed the flow without a better reason."""
    REFUSED = 6
    TIMED_OUT = 7
    INTERNAL = 8
    DATAGRAM_TOO_LARGE = 9
    READ_ALREADY_PENDING = 10
    NETWORK_UNREACHABLE = 101
    """Apple reports hostUnreachable; programs here tell ENETUNREACH from EHOSTUNREACH
    (docs/differences.md).
    """
    PROHIBITED = 102
    """A firewall or a route forbids it: EACCES, as IPv6 programs see it; over IPv4 no packet can say more than
    EHOSTUNREACH.
    """


_ERRNO_BY_CODE: dict[int, int] = {
    FlowErrorCode.NOT_CONNECTED: _errno.ENOTCONN,
    FlowErrorCode.PEER_RESET: _errno.ECONNRESET,
    FlowErrorCode.HOST_UNREACHABLE: _errno.EHOSTUNREACH,
    FlowErrorCode.INVALID_ARGUMENT: _errno.EINVAL,
    FlowErrorCode.ABORTED: _errno.ECONNABORTED,
    FlowErrorCode.REFUSED: _errno.ECONNREFUSED,
    FlowErrorCode.TIMED_OUT: _errno.ETIMEDOUT,
    FlowErrorCode.INTERNAL: _errno.EIO,
    FlowErrorCode.DATAGRAM_TOO_LARGE: _errno.EMSGSIZE,
    FlowErrorCode.READ_ALREADY_PENDING: _errno.EALREADY,
    FlowErrorCode.NETWORK_UNREACHABLE: _errno.ENETUNREACH,
    FlowErrorCode.PROHIBITED: _errno.EACCES,
}
_CODE_BY_ERRNO: dict[int, FlowErrorCode] = {number: FlowErrorCode(code) for code, number in _ERRNO_BY_CODE.items()} | {
    _errno.EPIPE: FlowErrorCode.PEER_RESET,
    _errno.EPERM: FlowErrorCode.PROHIBITED,
    _errno.EHOSTDOWN: FlowErrorCode.HOST_UNREACHABLE,
    _errno.ENETDOWN: FlowErrorCode.NETWORK_UNREACHABLE,
}


def errno_for_code(code: int) -> int:
    """The errno that a program sees for a flow error; EIO for a code that is not known."""
    return _ERRNO_BY_CODE.get(code, _errno.EIO)


def code_for_errno(number: int) -> FlowErrorCode:
    """The flow error for an errno; INTERNAL for one that has no counterpart.

    Negative numbers are getaddrinfo's (EAI_*, <netdb.h>): the name leads to no host, hence HOST_UNREACHABLE.
    """
    if number < 0:
        return FlowErrorCode.HOST_UNREACHABLE
    return _CODE_BY_ERRNO.get(number, FlowErrorCode.INTERNAL)


class FlowError(NetworkExtensionError):
    """How a flow, or one operation on it, failed. `code` is a `FlowErrorCode`; `errno` what the program sees
    for it.
    """

    domain = NE_APP_PROXY_ERROR_DOMAIN
    code: FlowErrorCode

    def __init__(self, code: FlowErrorCode | int, message: str = "") -> None:
        try:
            self.code = FlowErrorCode(code)
        except ValueError:
            self.code = FlowErrorCode.INTERNAL
            message = message or f"flow error {code}"
        super().__init__(message or os.strerror(errno_for_code(self.code)))

    @property
    def errno(self) -> int:
        """The errno for this code (EHOSTDOWN reads back as EHOSTUNREACH, and so on)."""
        return errno_for_code(self.code)

    @classmethod
    def from_errno(cls, number: int, context: str = "") -> FlowError:
        """The flow error for an errno; `context` ("connect to 192.0.2.1:80") opens its message."""
        text = os.strerror(number) if number >= 0 else "name does not resolve"
        return cls(code_for_errno(number), f"{context}: {text}" if context else text)

    @classmethod
    def from_exception(cls, error: BaseException, context: str = "") -> FlowError:
        """The flow error for any exception: itself, an OSError by its errno, a timeout, else INTERNAL."""
        if isinstance(error, FlowError):
            return error
        if isinstance(error, OSError) and error.errno is not None:
            if error.errno < 0 and not context:
                context = str(error.strerror)
            return cls.from_errno(error.errno, context)
        prefix = f"{context}: " if context else ""
        if isinstance(error, TimeoutError):
            return cls(FlowErrorCode.TIMED_OUT, f"{prefix}timed out")
        return cls(FlowErrorCode.INTERNAL, f"{prefix}{type(error).__name__}: {error}")
