"""Apple's manager surface: loading, saving and removing with its errors, and what stops or starts the filter."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from network_extension.urlfilter.bloom import Prefilter, build_prefilter
from network_extension.urlfilter.client import (
    Status,
    URLFilter,
    URLFilterControlProvider,
    URLFilterError,
    URLFilterErrorCode,
    Verdict,
)

SERVER = "https://127.0.0.1:9"  # nobody listens there: a service that is away for the moment
Code = URLFilterErrorCode


class Control(URLFilterControlProvider):
    """Brings one prefilter, or fails."""

    def __init__(self, prefilter: Prefilter | Exception | None) -> None:
        self.prefilter = prefilter
        self.tags: list[str | None] = []

    async def fetch_prefilter(self, existing_prefilter_tag: str | None) -> Prefilter | None:
        self.tags.append(existing_prefilter_tag)
        if isinstance(self.prefilter, Exception):
            raise self.prefilter
        if self.prefilter is not None and self.prefilter.tag == existing_prefilter_tag:
            return None
        return self.prefilter


PREFILTER = build_prefilter(["blocked.example", *(f"{number}.example" for number in range(99))], murmur_seed=7)


def manager(folder: Path, control: URLFilterControlProvider | None = None) -> URLFilter:
    return URLFilter("org.example.app", control_provider=control or Control(PREFILTER), directory=folder, patience=0.0)


def fails(code: URLFilterErrorCode, work: Coroutine[Any, Any, None]) -> None:
    with pytest.raises(URLFilterError) as caught:
        asyncio.run(work)
    assert caught.value.code is code, caught.value


async def saved(filters: URLFilter, *, is_enabled: bool = False) -> None:
    await filters.load_from_preferences()
    filters.set_configuration(SERVER)
    filters.change(is_enabled=is_enabled)
    await filters.save_to_preferences()


class TestErrors:
    def test_nothing_is_loaded(self, tmp_path: Path) -> None:
        fails(Code.CONFIGURATION_NOT_LOADED, manager(tmp_path).save_to_preferences())

    def test_nothing_is_set(self, tmp_path: Path) -> None:
        async def work() -> None:
            filters = manager(tmp_path)
            await filters.load_from_preferences()
            await filters.save_to_preferences()

        fails(Code.CONFIGURATION_INVALID, work())

    def test_nothing_has_changed(self, tmp_path: Path) -> None:
        async def work() -> None:
            filters = manager(tmp_path)
            await saved(filters)
            await filters.save_to_preferences()

        fails(Code.CONFIGURATION_UNCHANGED, work())

    def test_somebody_else_has_saved(self, tmp_path: Path) -> None:
        async def work() -> None:
            filters = manager(tmp_path)
            await saved(filters)
            other = manager(tmp_path)
            await other.load_from_preferences()
            other.change(should_fail_closed=True)
            await other.save_to_preferences()
            await other.close()
            filters.change(localized_description="mine")
            await filters.save_to_preferences()

        fails(Code.CONFIGURATION_STALE, work())

    def test_it_is_switched_off(self, tmp_path: Path) -> None:
        async def work() -> None:
            filters = manager(tmp_path)
            await saved(filters)
            await filters.start()

        fails(Code.CONFIGURATION_DISABLED, work())

    def test_a_setting_that_there_is_not(self, tmp_path: Path) -> None:
        async def work() -> None:
            filters = manager(tmp_path)
            await saved(filters)
            filters.change(speed=1)

        fails(Code.CONFIGURATION_INVALID, work())


class TestLife:
    def test_saving_starts_it_and_removing_stops_it(self, tmp_path: Path) -> None:
        async def work() -> Status:
            filters = manager(tmp_path)
            await saved(filters, is_enabled=True)
            assert filters.status is Status.RUNNING  # a service that is away for the moment is no reason to stop
            assert await filters.verdict_for("https://other.example/") is Verdict.ALLOW
            assert await filters.verdict_for("https://blocked.example/") is Verdict.UNKNOWN
            await filters.remove_from_preferences()
            return filters.status

        assert asyncio.run(work()) is Status.INVALID

    def test_a_filter_that_fails_closed_denies_what_cannot_be_found_out(self, tmp_path: Path) -> None:
        async def work() -> None:
            filters = manager(tmp_path)
            await filters.load_from_preferences()
            filters.set_configuration(SERVER)
            filters.change(should_fail_closed=True)
            await filters.save_to_preferences()
            assert await filters.verdict_for("https://blocked.example/") is Verdict.DENY
            await filters.close()

        asyncio.run(work())

    def test_a_control_provider_that_raises_keeps_it_from_starting(self, tmp_path: Path) -> None:
        async def work() -> None:
            filters = manager(tmp_path, Control(OSError("disk gone")))
            await saved(filters, is_enabled=True)
            error = filters.last_disconnect_error
            assert isinstance(error, URLFilterError) and error.code is Code.EXTENSION_FAILED_TO_LOAD
            assert filters.status is Status.STOPPED and "disk gone" in str(error)

        asyncio.run(work())

    def test_without_a_prefilter_it_does_not_start(self, tmp_path: Path) -> None:
        async def work() -> None:
            filters = manager(tmp_path, Control(None))
            await saved(filters, is_enabled=True)
            assert filters.status is Status.STOPPED

        asyncio.run(work())

    def test_a_new_prefilter_is_asked_for_by_the_tag_of_the_old_one(self, tmp_path: Path) -> None:
        async def work() -> None:
            control = Control(PREFILTER)
            filters = manager(tmp_path, control)
            await saved(filters, is_enabled=True)
            assert not await filters.refresh_prefilter()
            control.prefilter = build_prefilter(["new.example"], murmur_seed=7)
            assert await filters.refresh_prefilter()
            assert control.tags == [None, PREFILTER.tag, PREFILTER.tag]
            assert await filters.verdict_for("https://new.example/") is Verdict.UNKNOWN
            await filters.close()

        asyncio.run(work())
