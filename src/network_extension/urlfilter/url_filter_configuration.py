"""What a URL filter is told (NEURLFilterManager's properties), checked, and as a file."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self
from urllib.parse import urlsplit

from .url_filter_errors import URLFilterError, URLFilterErrorCode
from .url_forms import SYSTEMS, System

LEAST_FETCH_INTERVAL, DEFAULT_FETCH_INTERVAL = 2700.0, 86_400.0
"""Seconds between two fetches of the prefilter (prefilterFetchInterval)."""
DEFAULT_IDENTIFIER = "netext"
MOST_BYTES = 65_536
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,154}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class URLFilterConfiguration:
    """One filter's configuration. Raises URLFilterError (CONFIGURATION_INVALID) for what no system would take.

    URLs are https and nothing but a host and a port; to this machine itself http will do, for development. The
    authentication token is base64, as it stands behind "Bearer": None for a development service without users.
    """

    pir_server_url: str
    pir_privacy_pass_issuer_url: str | None = None
    """None: the same as `pir_server_url`."""
    pir_authentication_token: str | None = field(default=None, repr=False)
    control_provider: str = "service"
    """Where the prefilter comes from: "service", "file:PATH", or MODULE:CLASS of a URLFilterControlProvider."""
    app_bundle_identifier: str = DEFAULT_IDENTIFIER
    localized_description: str = ""
    is_enabled: bool = True
    should_fail_closed: bool = False
    prefilter_fetch_interval: float = DEFAULT_FETCH_INTERVAL
    oblivious_gateway_url: str | None = None
    """The gateway whose keys requests are encrypted to; None asks the service directly, as development builds do."""
    oblivious_relay_url: str | None = None
    """The relay that requests go through; None gives them to the gateway itself. Only with a gateway."""
    system: System = "26.4"
    """Whose strings of URLs are looked up: "26.0", "26.4" or "27"."""

    def __post_init__(self) -> None:
        if not _IDENTIFIER.fullmatch(str(self.app_bundle_identifier)):
            raise _invalid(f"app bundle identifier {str(self.app_bundle_identifier)[:80]!r}: letters, digits, dots")
        object.__setattr__(self, "pir_server_url", _origin("PIR server URL", self.pir_server_url))
        if self.pir_privacy_pass_issuer_url is not None:
            url = _origin("Privacy Pass issuer URL", self.pir_privacy_pass_issuer_url)
            object.__setattr__(self, "pir_privacy_pass_issuer_url", url)
        for name in ("oblivious_gateway_url", "oblivious_relay_url"):
            if (given := getattr(self, name)) is not None:
                _check_url(name.replace("_", " ").removesuffix(" url") + " URL", given)
        if self.oblivious_relay_url is not None and self.oblivious_gateway_url is None:
            raise _invalid("an oblivious relay is of no use without the gateway whose keys are needed; name that too")
        _check_token(self.pir_authentication_token)
        self._check_rest()

    def _check_rest(self) -> None:
        if not isinstance(self.prefilter_fetch_interval, (int, float)) or not (
            LEAST_FETCH_INTERVAL <= self.prefilter_fetch_interval <= 366 * 86_400
        ):
            raise _invalid(f"prefilter fetch interval {self.prefilter_fetch_interval!r}: 2700 seconds at least")
        if self.system not in SYSTEMS:
            raise _invalid(f"system {str(self.system)[:20]!r}: {', '.join(SYSTEMS)} are known")
        for name in ("is_enabled", "should_fail_closed"):
            if not isinstance(getattr(self, name), bool):
                raise _invalid(f"{name} is true or false, not {type(getattr(self, name)).__name__}")
        for name in ("control_provider", "localized_description"):
            if not isinstance(getattr(self, name), str):
                raise _invalid(f"{name} is a text, not {type(getattr(self, name)).__name__}")

    @property
    def issuer_url(self) -> str:
        """Where tokens are fetched."""
        return self.pir_privacy_pass_issuer_url or self.pir_server_url

    @property
    def use_case(self) -> str:
        """The name of the database at the service (§1.2)."""
        return f"{self.app_bundle_identifier}.url.filtering"

    def to_json(self) -> bytes:
        """As it is stored. It has the token in it: keep the file to its owner."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what `to_json` wrote. Raises URLFilterError (CONFIGURATION_INVALID)."""
        try:
            content = json.loads(data[:MOST_BYTES]) if len(data) <= MOST_BYTES else None
        except (ValueError, RecursionError) as error:
            raise _invalid(f"the stored configuration is no JSON: {error}") from None
        if not isinstance(content, dict):
            raise _invalid("the stored configuration is no object, or too large")
        return cls.from_mapping(content)

    @classmethod
    def from_mapping(cls, content: dict[str, Any]) -> Self:
        """From names and values, as --config gives them. Raises URLFilterError (CONFIGURATION_INVALID)."""
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(map(str, content)) - known):
            raise _invalid(f"{', '.join(unknown)[:200]}: no such setting; known are {', '.join(sorted(known))}")
        if "pir_server_url" not in content:
            raise _invalid("pir_server_url is missing: the service that lookups go to")
        return cls(**content)


def _origin(what: str, url: object) -> str:
    """A URL of nothing but scheme, host and port, without a slash at its end."""
    parts = _check_url(what, url)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _invalid(f"{what} {str(url)[:200]!r}: a host alone is needed, without path, query and fragment")
    return str(url).removesuffix("/")


def _check_url(what: str, url: object) -> Any:
    try:
        parts = urlsplit(url) if isinstance(url, str) and len(url) <= 2048 and url.isprintable() else None
        host, _port = (parts.hostname, parts.port) if parts else (None, None)
    except ValueError:
        parts = host = None
    if parts is None or not host or " " in str(url) or parts.username is not None:
        raise _invalid(f"{what} {str(url)[:200]!r} is no URL of a host; write https://filter.example.org")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise _invalid(f"{what} {str(url)[:200]!r}: https is needed (http only to this machine, for development)")
    return parts


def _check_token(token: object) -> None:
    """Devices decode it, and encode it again: what is no base64 becomes another token, or none (§1.4, §7.4)."""
    if token is None:
        return
    try:
        if not isinstance(token, str) or not token or not base64.b64decode(token, validate=True):
            raise ValueError
    except (ValueError, binascii.Error):
        raise _invalid(
            "the authentication token is no base64: devices decode it and send something else; give the service and"
            " the filter the base64 form, for instance of `openssl rand -base64 24`"
        ) from None


def _invalid(message: str) -> URLFilterError:
    return URLFilterError(URLFilterErrorCode.CONFIGURATION_INVALID, f"URL filter: {message}")
