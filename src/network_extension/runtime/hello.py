"""HELLO, the first message on a flow channel: who the provider is and which flows it wants.

Rules by the thousand do not fit into one message. Settings over `INLINE_LIMIT` travel as a memfd beside a
body that has {"settings_size": n} instead of "settings"; both ends go through this file, so neither sees the
difference.
"""

from __future__ import annotations

import os
from json import JSONDecoder, JSONEncoder
from typing import Any, NamedTuple

from ..errors import ConfigurationError
from ..network_settings import TransparentProxyNetworkSettings
from .wire import WireError, int_field, text_field

INLINE_LIMIT = 32768
MAX_SETTINGS = 32 << 20

KINDS = ("app-proxy", "transparent-proxy")


class Hello(NamedTuple):
    """A provider as the engine knows it. `settings` is None while it has set none."""

    name: str
    kind: str
    settings: TransparentProxyNetworkSettings | None


def pack_hello(
    name: str, kind: str, settings: TransparentProxyNetworkSettings | None
) -> tuple[dict[str, Any], list[int]]:
    """The body of HELLO and its descriptors, which the caller closes after sending."""
    data = None if settings is None else settings.to_dict()
    text = JSONEncoder(separators=(",", ":")).encode(data).encode()
    if len(text) <= INLINE_LIMIT:
        return {"name": name, "kind": kind, "settings": data}, []
    return {"name": name, "kind": kind, "settings_size": len(text)}, [open_memfd(text)]


def unpack_hello(body: dict[str, Any], fds: list[int]) -> Hello:
    """What HELLO says. Closes the descriptors and empties their list.

    Raises WireError, which names the rule that is wrong.
    """
    try:
        data = body.get("settings")
        if "settings_size" in body:
            data = read_memfd(int_field(body, "settings_size", None, 1, MAX_SETTINGS), fds)
    finally:
        while fds:
            os.close(fds.pop())
    kind = text_field(body, "kind")
    if kind not in KINDS:
        raise WireError(f"kind: {kind[:60]!r} is not one of {', '.join(KINDS)}")
    try:
        settings = None if data is None else TransparentProxyNetworkSettings.from_dict(data)
    except ConfigurationError as error:
        raise WireError(str(error)) from None
    return Hello(text_field(body, "name")[:200], kind, settings)


def open_memfd(text: bytes) -> int:
    """A file in memory that holds `text`; the caller closes it."""
    fd = os.memfd_create("netext-settings", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(text)
    return fd


def read_memfd(size: int, fds: list[int]) -> object:
    """The JSON of `size` bytes in the only one of `fds`. Raises WireError."""
    if len(fds) != 1:
        raise WireError(f"settings_size: one descriptor is needed, not {len(fds)}")
    try:
        data = os.pread(fds[0], size, 0)
        return JSONDecoder().decode(data.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise WireError(f"settings: cannot be read: {error}") from None
