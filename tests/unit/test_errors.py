"""Flow errors and errnos, both ways; the exception tree."""

from __future__ import annotations

import errno
import socket

import pytest

from network_extension import (
    ConfigurationError,
    DatapathError,
    FlowError,
    FlowErrorCode,
    NetworkExtensionError,
    NetworkSettingsError,
    NetworkSettingsErrorCode,
)
from network_extension.errors import code_for_errno, errno_for_code

PAIRS = [
    (FlowErrorCode.REFUSED, errno.ECONNREFUSED),
    (FlowErrorCode.PEER_RESET, errno.ECONNRESET),
    (FlowErrorCode.HOST_UNREACHABLE, errno.EHOSTUNREACH),
    (FlowErrorCode.NETWORK_UNREACHABLE, errno.ENETUNREACH),
    (FlowErrorCode.PROHIBITED, errno.EACCES),
    (FlowErrorCode.TIMED_OUT, errno.ETIMEDOUT),
    (FlowErrorCode.ABORTED, errno.ECONNABORTED),
    (FlowErrorCode.INVALID_ARGUMENT, errno.EINVAL),
    (FlowErrorCode.DATAGRAM_TOO_LARGE, errno.EMSGSIZE),
    (FlowErrorCode.NOT_CONNECTED, errno.ENOTCONN),
    (FlowErrorCode.READ_ALREADY_PENDING, errno.EALREADY),
    (FlowErrorCode.INTERNAL, errno.EIO),
]


@pytest.mark.parametrize(("code", "number"), PAIRS)
def test_each_code_has_an_errno_and_back(code: FlowErrorCode, number: int) -> None:
    assert errno_for_code(code) == number
    assert code_for_errno(number) is code
    assert FlowError(code).errno == number
    assert FlowError.from_errno(number).code is code


def test_every_code_is_in_the_table() -> None:
    assert {code for code, _number in PAIRS} == set(FlowErrorCode)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EPIPE, FlowErrorCode.PEER_RESET),
        (errno.EHOSTDOWN, FlowErrorCode.HOST_UNREACHABLE),
        (errno.ENETDOWN, FlowErrorCode.NETWORK_UNREACHABLE),
        (errno.EMFILE, FlowErrorCode.INTERNAL),
        (socket.EAI_NONAME, FlowErrorCode.HOST_UNREACHABLE),
    ],
)
def test_related_errnos_fold(number: int, code: FlowErrorCode) -> None:
    assert code_for_errno(number) is code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), FlowErrorCode.REFUSED),
        (TimeoutError(), FlowErrorCode.TIMED_OUT),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), FlowErrorCode.HOST_UNREACHABLE),
        (ValueError("x"), FlowErrorCode.INTERNAL),
    ],
)
def test_any_exception_becomes_a_flow_error(error: Exception, code: FlowErrorCode) -> None:
    assert FlowError.from_exception(error).code is code


def test_a_flow_error_stays_itself() -> None:
    error = FlowError(FlowErrorCode.REFUSED, "mine")
    assert FlowError.from_exception(error) is error


def test_an_unknown_code_is_internal_and_said() -> None:
    error = FlowError(4711)
    assert error.code is FlowErrorCode.INTERNAL
    assert "4711" in str(error)


def test_domains_and_messages() -> None:
    settings = NetworkSettingsError(NetworkSettingsErrorCode.INVALID, "why")
    assert (settings.domain, settings.code) == ("NETunnelProviderErrorDomain", 1)
    assert FlowError(1).domain == "NEAppProxyErrorDomain"
    assert isinstance(ConfigurationError("x"), ValueError)
    kernel = DatapathError("nft", errno=1, object="table", next_step="next step: netext doctor")
    assert (kernel.errno, kernel.object) == (1, "table")
    assert str(kernel) == "nft; next step: netext doctor"
    assert isinstance(kernel, NetworkExtensionError)
