"""S9 and S12: the status says running and nothing is blocked; the check names the step at fault, and the way out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from network_extension.urlfilter.bloom import BloomHash, Prefilter, build_prefilter
from network_extension.urlfilter.bloom_hashes import bit_indices, hash_pair
from network_extension.urlfilter.checking import Checked, CheckStatus, check, odd_rows
from network_extension.urlfilter.deciding import Decider
from network_extension.urlfilter.verdicts import StepName, Verdict

from .fake_service import Clock, FakeService, lookup_client, lost, refused

URL = "https://www.blocked.example/path"
OTHERS = tuple(f"{number}.example" for number in range(50))


def prefilter(rows: Iterable[str]) -> Prefilter:
    return build_prefilter(rows, murmur_seed=7)


def checked(
    service: FakeService,
    rows: Iterable[str] | Prefilter | None,
    url: str = URL,
    *,
    fails_closed: bool = False,
    looks_further: bool = True,
) -> Checked:
    client = lookup_client(service, patience=0.0)
    decider = Decider(client, Clock(), fails_closed=fails_closed)
    decider.prefilter = rows if isinstance(rows, Prefilter) or rows is None else prefilter(rows)
    return asyncio.run(check(decider, client, url, "26.4", looks_further=looks_further))


def test_a_blocked_url_has_no_findings() -> None:
    found = checked(FakeService(["blocked.example"]), ["blocked.example", *OTHERS])
    assert (found.status, found.report.matched, found.findings) == (CheckStatus.BLOCKED, "blocked.example", ())


def test_an_allowed_url_has_none_either() -> None:
    found = checked(FakeService(["blocked.example"]), ["blocked.example", *OTHERS], "https://allowed.example/")
    assert (found.status, found.findings) == (CheckStatus.ALLOWED, ())


def test_a_prefilter_that_is_older_than_the_database() -> None:
    found = checked(FakeService(["blocked.example"]), OTHERS)
    assert (found.status, found.report.verdict) == (CheckStatus.AT_FAULT, Verdict.ALLOW)
    [finding] = found.findings
    assert finding.step is StepName.PREFILTER and "the prefilter rules it out, so no device asks" in finding.text


def test_a_database_that_is_older_than_the_prefilter() -> None:
    found = checked(FakeService(), ["blocked.example", *OTHERS])
    [finding] = found.findings
    assert finding.step is StepName.QUERY and "older than the prefilter" in finding.text


def test_a_prefilter_that_was_made_with_the_wrong_hash() -> None:
    """Apple's beta and tools of its time have FNV-1 where the release has FNV-1a."""
    right = prefilter(["blocked.example", *OTHERS])
    bits = bytearray(len(right.data))
    for row in ("blocked.example", *OTHERS):
        first, second = hash_pair(row.encode(), right.murmur_seed, BloomHash.FNV_1)
        for index in bit_indices(first, second, right.hash_count, right.bit_count):
            bits[index >> 3] |= 1 << (index & 7)
    wrong = Prefilter(bytes(bits), right.bit_count, right.hash_count, right.murmur_seed)
    [finding] = checked(FakeService(["blocked.example"]), wrong).findings
    assert finding.step is StepName.PREFILTER and "FNV-1" in finding.text and "bloom" in finding.next_step


def test_a_prefilter_that_matches_everything() -> None:
    full = Prefilter(b"\xff" * 100, 800, 10, 7)
    found = checked(FakeService(["blocked.example"]), full)
    [finding] = found.findings
    assert found.report.verdict is Verdict.DENY and "devices ask about nearly every URL" in finding.text


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("www.blocked.example", "strip www."),
        ("*.blocked.example", "no wildcards"),
        ("||blocked.example^", "Adblock"),
        ("https://blocked.example", "without the scheme"),
        (".blocked.example", "bare domain"),
    ],
)
def test_rows_that_no_system_looks_up(row: str, says: str) -> None:
    found = checked(FakeService([row]), [row, *OTHERS])
    [finding] = found.findings
    assert finding.step is StepName.FORMS and row in finding.text and says in finding.text


def test_a_filter_that_fails_open_hides_its_errors_and_the_check_does_not() -> None:
    service = FakeService(["blocked.example"])
    service.next_answers["/token-key-for-user-token"] = [refused(401, "unknown user")]
    found = checked(service, ["blocked.example", *OTHERS])
    assert (found.status, found.report.verdict) == (CheckStatus.UNKNOWN, Verdict.UNKNOWN)
    [finding] = found.findings
    assert finding.step is StepName.ISSUER and "unknown user" in finding.text
    assert "fails open lets everything through now, and still says running" in finding.text
    assert "--token-file" in finding.next_step


def test_a_service_that_takes_tokens_and_a_filter_without_a_user() -> None:
    client = lookup_client(FakeService(["blocked.example"]), tokens=False)
    found = asyncio.run(check(Decider(client, Clock()), client, URL, "26.4"))
    assert found.findings[0].step is StepName.TOKEN and "--token-file" in found.findings[0].next_step


def test_a_filter_that_fails_closed() -> None:
    service = FakeService(["blocked.example"])
    service.next_answers["/config"] = [refused(404, "no such use case")]
    found = checked(service, ["blocked.example", *OTHERS], fails_closed=True)
    assert (found.status, found.report.verdict) == (CheckStatus.UNKNOWN, Verdict.DENY)
    assert found.findings[0].step is StepName.CONFIGURATION and "--use-case" in found.findings[0].next_step


def test_a_service_that_is_not_there() -> None:
    service = FakeService()
    service.next_answers["/token-key-for-user-token"] = [lost() for _ in range(9)]
    [finding] = checked(service, ["blocked.example", *OTHERS]).findings
    assert "is the service running" in finding.next_step


def test_a_url_that_is_none() -> None:
    found = checked(FakeService(), OTHERS, "mailto:someone")
    assert (found.status, found.findings[0].step) == (CheckStatus.UNKNOWN, StepName.FORMS)


def test_quickly_only_what_a_device_asks_is_asked() -> None:
    service = FakeService(["blocked.example"])
    assert checked(service, OTHERS, looks_further=False).status is CheckStatus.ALLOWED
    assert service.requests == []


def test_odd_rows_are_named_once_with_their_mistake() -> None:
    rows = {one.row for one in odd_rows("https://Bücher.example/A/", "26.4")}
    assert {"*.xn--bcher-kva.example", "Bücher.example/A/", "www.xn--bcher-kva.example"} <= rows
