"""The control provider of a URL filter (NEURLFilterControlProvider): who brings the prefilter.

    class OurPrefilter(URLFilterControlProvider):
        async def fetch_prefilter(self, existing_prefilter_tag):
            newest = await look_up_the_tag()
            return None if newest == existing_prefilter_tag else read_prefilter("/var/lib/filter/prefilter.plist")

Two are ready-made: `ServicePrefilter` asks the service itself, `PrefilterFile` reads a file.
"""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import NetworkExtensionError
from ..provider import StopReason
from .url_filter_configuration import URLFilterConfiguration
from .url_filter_errors import URLFilterError, URLFilterErrorCode
from .web_exchange import ExchangeLost, Transport, WebRequest

if TYPE_CHECKING:
    from .prefilter import Prefilter


class URLFilterControlProvider:
    """Base of control providers. One instance serves one session."""

    async def start(self) -> None:
        """Get ready. An exception means that the filter cannot run."""

    async def stop(self, reason: StopReason) -> None:
        """The session ends."""

    async def fetch_prefilter(self, existing_prefilter_tag: str | None) -> Prefilter | None:
        """The newest prefilter; None if it is the one of that tag. Called at the start, without a tag, and at every
        `prefilter_fetch_interval`. Without a tag there must be one.
        """
        raise URLFilterError(
            URLFilterErrorCode.EXTENSION_FAILED_TO_LOAD,
            f"{type(self).__name__} brings no prefilter; define fetch_prefilter(existing_prefilter_tag) in it",
        )


class PrefilterFile(URLFilterControlProvider):
    """The prefilter of a file, read again when it is different."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    async def fetch_prefilter(self, existing_prefilter_tag: str | None) -> Prefilter | None:
        """Raises ConfigurationError for a file that is no prefilter."""
        from .prefilter_formats import read_prefilter

        found: Prefilter = await asyncio.to_thread(read_prefilter, self.path)
        return None if found.tag == existing_prefilter_tag else found


class ServicePrefilter(URLFilterControlProvider):
    """The prefilter of the database that the service has now: GET /prefilter, with the tag as entity tag.

    Ours, not Apple's: an app's extension has its own way to its prefilter. It is fetched directly, not obliviously,
    since it is the same for all.
    """

    def __init__(self, server_url: str, transport: Transport) -> None:
        self._url, self._transport = f"{server_url}/prefilter", transport

    async def fetch_prefilter(self, existing_prefilter_tag: str | None) -> Prefilter | None:
        """Raises URLFilterError when the service has none, or what it sends is none."""
        from .prefilter_formats import read_prefilter

        headers = (("If-None-Match", f'"{existing_prefilter_tag}"'),) if existing_prefilter_tag else ()
        try:
            answer = await self._transport.exchange(WebRequest("GET", self._url, headers))
        except ExchangeLost as error:
            raise URLFilterError(URLFilterErrorCode.SERVER_SETUP_INCOMPLETE, f"prefilter: {error}") from error
        if answer.status == 304:
            return None
        if answer.status != 200:
            raise URLFilterError(
                URLFilterErrorCode.SERVER_SETUP_INCOMPLETE,
                f"prefilter: {self._url} answers with {answer.status}; is that `netext urlfilter serve`? Of other"
                " services give the prefilter as a file",
            )
        found: Prefilter = read_prefilter(answer.body)
        return None if found.tag == existing_prefilter_tag else found


def control_provider_for(configuration: URLFilterConfiguration, transport: Transport) -> URLFilterControlProvider:
    """The control provider that a configuration names. Raises URLFilterError, as Apple does for extensions."""
    name = configuration.control_provider
    if name == "service":
        return ServicePrefilter(configuration.pir_server_url, transport)
    if name.startswith("file:"):
        return PrefilterFile(Path(name.removeprefix("file:")).expanduser())
    module, colon, kind_name = name.partition(":")
    codes = URLFilterErrorCode
    if not colon or not kind_name.isidentifier():
        text = f"control provider {name!r}: service, file:PATH or MODULE:CLASS is needed"
        raise URLFilterError(codes.EXTENSION_NOT_FOUND, text)
    try:
        kind = getattr(importlib.import_module(module), kind_name)
    except (ImportError, AttributeError) as error:
        raise URLFilterError(codes.EXTENSION_NOT_FOUND, f"control provider {name}: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, URLFilterControlProvider)):
        text = f"control provider {name}: {kind_name} does not derive from URLFilterControlProvider"
        raise URLFilterError(codes.EXTENSION_FAILED_TO_LOAD, text)
    try:
        return kind()
    except (NetworkExtensionError, ValueError, TypeError, OSError) as error:
        raise URLFilterError(codes.EXTENSION_FAILED_TO_LOAD, f"control provider {name}: {error}") from error
