"""What a filter is told: what is taken, what is refused and why, and how it is kept in a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from network_extension.urlfilter.url_filter_configuration import URLFilterConfiguration
from network_extension.urlfilter.url_filter_errors import LookupFailed, URLFilterError, URLFilterErrorCode
from network_extension.urlfilter.url_filter_status import TRANSITIONS, Status, StatusEvent, status_after
from network_extension.urlfilter.url_filter_store import ConfigurationStore

SERVER = "https://filter.example.org"
APPLE = (
    "configurationUnchanged configurationInvalid configurationDisabled configurationStale"
    " configurationCannotBeRemoved configurationPermissionDenied configurationInternalError configurationNotLoaded"
    " serverSetupIncomplete internalError extensionCancelled extensionNotFound extensionFailedToLoad unknown"
)


def test_errors_have_apples_names_and_numbers() -> None:
    ours = {code.name.replace("_", "").lower(): code.value for code in URLFilterErrorCode}
    assert ours == {name.lower(): number for number, name in enumerate(APPLE.split(), 1)}


def test_statuses_have_apples_numbers() -> None:
    assert [(status.name.lower(), status.value) for status in Status] == [
        ("invalid", 0), ("stopped", 1), ("starting", 2), ("running", 3), ("stopping", 4),
    ]  # fmt: skip


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("event", StatusEvent)
def test_what_the_table_does_not_have_cannot_happen(status: Status, event: StatusEvent) -> None:
    if (status, event) in TRANSITIONS:
        assert status_after(status, event) is TRANSITIONS[status, event]
    else:
        with pytest.raises(URLFilterError, match="cannot happen while"):
            status_after(status, event)


def test_a_life() -> None:
    status, seen = Status.INVALID, list[Status]()
    events = StatusEvent
    for event in (events.CONFIGURED, events.START, events.STARTED, events.STOP, events.STOPPED, events.REMOVED):
        status = status_after(status, event)
        seen.append(status)
    assert seen == [1, 2, 3, 4, 1, 0]


def test_a_lookup_fails_with_error_9_only_if_it_cannot_heal() -> None:
    assert LookupFailed("config", "", is_permanent=True).code is URLFilterErrorCode.SERVER_SETUP_INCOMPLETE
    assert LookupFailed("config", "", is_permanent=False).code is URLFilterErrorCode.INTERNAL_ERROR


def test_defaults_are_apples() -> None:
    made = URLFilterConfiguration(SERVER, app_bundle_identifier="org.example.app")
    assert (made.should_fail_closed, made.prefilter_fetch_interval, made.issuer_url, made.use_case) == (
        False, 86_400, SERVER, "org.example.app.url.filtering",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"pir_server_url": "filter.example.org"}, "no URL of a host"),
        ({"pir_server_url": "http://filter.example.org"}, "https is needed"),
        ({"pir_server_url": "https://filter.example.org/pir"}, "a host alone"),
        ({"pir_server_url": "https://user@filter.example.org"}, "no URL of a host"),
        ({"pir_server_url": "https://[::1"}, "no URL of a host"),
        ({"pir_server_url": "https://a:99999"}, "no URL of a host"),
        ({"pir_server_url": 5}, "no URL of a host"),
        ({"pir_privacy_pass_issuer_url": "https://issuer.example.org/?a"}, "a host alone"),
        ({"pir_authentication_token": "not base64!"}, "no base64"),
        ({"pir_authentication_token": ""}, "no base64"),
        ({"prefilter_fetch_interval": 60}, "2700 seconds at least"),
        ({"system": "25"}, "26.0, 26.4, 27 are known"),
        ({"app_bundle_identifier": "../x"}, "bundle identifier"),
        ({"should_fail_closed": "yes"}, "true or false"),
        ({"control_provider": 1}, "is a text"),
        ({"oblivious_relay_url": "https://relay.example.org/"}, "the gateway"),
        ({"speed": 1}, "no such setting"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_what_no_system_would_take(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(URLFilterError, match=says) as caught:
        URLFilterConfiguration.from_mapping({"pir_server_url": SERVER, **settings})
    assert caught.value.code is URLFilterErrorCode.CONFIGURATION_INVALID


def test_http_will_do_to_this_machine() -> None:
    assert URLFilterConfiguration("http://127.0.0.1:8080/").pir_server_url == "http://127.0.0.1:8080"


def test_the_token_is_not_shown() -> None:
    assert "AAAA" not in repr(URLFilterConfiguration(SERVER, pir_authentication_token="AAAA"))


@given(
    st.binary(max_size=400)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda x: str(x).encode())
)
@example(b"[" * 5000)
@example(b'{"pir_server_url": "https://a", "app_bundle_identifier": null}')
def test_stored_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        URLFilterConfiguration.from_json(data)
    except URLFilterError as error:
        assert error.code is URLFilterErrorCode.CONFIGURATION_INVALID


class TestStore:
    def test_what_is_saved_is_loaded(self, tmp_path: Path) -> None:
        store = ConfigurationStore("app", tmp_path / "new" / "folder")
        assert store.load() == (None, "")
        made = URLFilterConfiguration(SERVER, pir_authentication_token="AAAA", should_fail_closed=True)
        revision = store.save(made)
        assert store.load() == (made, revision) and store.revision() == revision

    def test_only_its_owner_reads_it(self, tmp_path: Path) -> None:
        store = ConfigurationStore("app", tmp_path / "folder")
        store.save(URLFilterConfiguration(SERVER))
        assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
        assert os.listdir(store.path.parent) == ["app.json"]

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        store = ConfigurationStore("app", tmp_path)
        store.path.write_bytes(b"\xff")
        with pytest.raises(URLFilterError, match=r"app\.json: .*remove the file") as caught:
            store.load()
        assert caught.value.code is URLFilterErrorCode.CONFIGURATION_INTERNAL_ERROR

    def test_what_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(URLFilterError) as caught:
            ConfigurationStore("app", tmp_path / "file").save(URLFilterConfiguration(SERVER))
        assert caught.value.code is URLFilterErrorCode.CONFIGURATION_INTERNAL_ERROR

    def test_what_is_not_there_cannot_be_removed(self, tmp_path: Path) -> None:
        with pytest.raises(URLFilterError) as caught:
            ConfigurationStore("app", tmp_path).remove()
        assert caught.value.code is URLFilterErrorCode.CONFIGURATION_CANNOT_BE_REMOVED
