"""The binary messages between engine and filter, and HELLO of a filter: what goes in comes out; nonsense is refused."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.filter_settings import MAX_RULES, FilterRule, FilterSettings
from network_extension.filter_verdicts import (
    FLOW_BYTES_MAX,
    FilterAction,
    FilterControlVerdict,
    FilterDataVerdict,
    FilterGrade,
    FilterNewFlowVerdict,
    FilterRemediationVerdict,
    FilterReportFrequency,
    FilterVerdict,
    VerdictKind,
)
from network_extension.rules import NetworkRule
from network_extension.runtime import filter_wire as w
from network_extension.runtime.filter_hello import (
    ControlMaps,
    FilterHello,
    pack_filter_hello,
    unpack_filter_hello,
)
from network_extension.runtime.wire import MAX_MESSAGE, WireError

VERDICTS: list[tuple[int, FilterVerdict]] = [
    (w.NEW, FilterNewFlowVerdict.allow()),
    (w.NEW, FilterNewFlowVerdict.allow().reported().with_statistics(FilterReportFrequency.HIGH)),
    (w.NEW, FilterNewFlowVerdict.drop()),
    (w.NEW, FilterNewFlowVerdict.drop(silent=True)),
    (w.NEW, FilterNewFlowVerdict.pause()),
    (w.NEW, FilterNewFlowVerdict.need_rules()),
    (w.NEW, FilterNewFlowVerdict.filter_data(filter_inbound=True, peek_inbound=FLOW_BYTES_MAX)),
    (w.NEW, FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=1).reported()),
    (w.NEW, FilterNewFlowVerdict.remediate("url", "button")),
    (w.NEW, FilterNewFlowVerdict.remediate("schlüssel")),
    (w.NEW, FilterNewFlowVerdict.url_append_string("safe")),
    (w.DATA_OUT, FilterDataVerdict.data(3, FLOW_BYTES_MAX)),
    (w.DATA_IN, FilterDataVerdict.need_rules()),
    (w.COMPLETE_IN, FilterDataVerdict.drop()),
    (w.COMPLETE_OUT, FilterDataVerdict.allow()),
    (w.REMEDIATION, FilterRemediationVerdict.need_rules()),
    (w.CONTROL, FilterControlVerdict.allow().and_update_rules()),
    (w.CONTROL_REMEDIATION, FilterControlVerdict.updating_rules()),
    (w.RESUME, FilterNewFlowVerdict.remediate("a", "b")),
    (w.UPDATE_ANY, FilterDataVerdict.drop(silent=True)),
    (w.UPDATE_IN, FilterDataVerdict.data(0, 5)),
]


@pytest.mark.parametrize(("op", "verdict"), VERDICTS)
def test_a_verdict_arrives_as_it_was(op: int, verdict: FilterVerdict) -> None:
    for _ in range(2):  # the second time it is known
        (packet,) = w.pack_answers([w.pack_verdict(op, 7, verdict)])
        assert w.is_answers(packet)
        (answer,) = w.unpack_answers(packet)
        assert (answer.op, answer.number, answer.verdict) == (op, 7, verdict)


def test_many_of_all_kinds_in_one_packet() -> None:
    records = [w.pack_verdict(op, number, verdict) for number, (op, verdict) in enumerate(VERDICTS)]
    records.insert(3, w.pack_failure(w.NEW, 99, "ValueError: x"))
    records.insert(5, w.pack_plain(w.PACKET_VERDICT, 5, 2))
    records.append(w.pack_plain(w.NOTIFY_RULES, 0))
    (packet,) = w.pack_answers(records)
    answers = list(w.unpack_answers(packet))
    assert [answer.verdict for answer in answers if answer.verdict] == [verdict for _, verdict in VERDICTS]
    assert (answers[3].op, answers[3].number, answers[3].value, answers[3].text) == (w.FAIL, 99, w.NEW, "ValueError: x")
    assert (answers[5].op, answers[5].number, answers[5].value) == (w.PACKET_VERDICT, 5, 2)
    assert answers[-1].op == w.NOTIFY_RULES


def test_more_answers_than_a_packet_holds_are_cut_between_records() -> None:
    records = [w.pack_verdict(w.NEW, number, FilterNewFlowVerdict.remediate("k" * 900)) for number in range(500)]
    packets = w.pack_answers(records)
    assert len(packets) > 1 and all(len(packet) <= MAX_MESSAGE for packet in packets)
    assert [answer.number for packet in packets for answer in w.unpack_answers(packet)] == list(range(500))


def test_events_of_any_size() -> None:
    events: list[tuple[Any, ...]] = [(w.DATA_OUT, 1, 0, bytes(200_000)), (w.GONE, 1), (w.DATA_IN, 2, 0, b"")]
    packets = w.pack_events(events)
    assert len(packets) > 1 and all(len(packet) <= MAX_MESSAGE for packet in packets)
    reader = w.EventReader()
    assert [reader.feed(packet) for packet in packets] == [[]] * (len(packets) - 1) + [events]
    assert reader.feed(w.pack_events(events[1:])[0]) == events[1:]
    assert reader.feed(b"{}") is None


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (FilterVerdict(VerdictKind.DATA, pass_bytes=-1), "cannot be meant"),
        (FilterVerdict(VerdictKind.DATA, pass_bytes="x"), "cannot be meant"),  # type: ignore[arg-type]
        (FilterVerdict("allow"), "cannot be meant"),  # type: ignore[arg-type]
        (FilterVerdict(VerdictKind.REMEDIATE, url_map_key=5), "cannot be meant"),  # type: ignore[arg-type]
        (FilterVerdict(VerdictKind.ALLOW, statistics_report_frequency=9), "cannot be meant"),  # type: ignore[arg-type]
    ],
)
def test_a_verdict_that_is_none_is_not_sent(verdict: FilterVerdict, why: str) -> None:
    with pytest.raises(WireError, match=why):
        w.pack_verdict(w.DATA_OUT, 1, verdict)


@pytest.mark.parametrize(
    ("op", "verdict"),
    [
        (w.NEW, FilterDataVerdict.data(1, 1)),
        (w.COMPLETE_IN, FilterDataVerdict.pause()),
        (w.CONTROL, FilterNewFlowVerdict.pause()),
        (w.UPDATE_ANY, FilterDataVerdict.pause()),
        (w.RESUME, FilterNewFlowVerdict.pause()),
        (w.DATA_OUT, FilterNewFlowVerdict.url_append_string("x")),
    ],
)
def test_an_answer_that_does_not_fit_the_question(op: int, verdict: FilterVerdict) -> None:
    (packet,) = w.pack_answers([w.pack_verdict(op, 1, verdict)])
    with pytest.raises(WireError, match="is no answer to question"):
        list(w.unpack_answers(packet))


@given(st.binary(max_size=200))
def test_whatever_a_filter_sends(data: bytes) -> None:
    """Only WireError comes of it, and what is understood holds numbers and texts of bounded size."""
    try:
        answers = list(w.unpack_answers(w.ANSWERS + data))
    except WireError:
        return
    for answer in answers:
        assert 0 <= answer.number < 2**64 and 0 <= answer.value < 2**64 and len(answer.text) <= 4 * w.MAX_TEXT
        assert (answer.verdict is None) is (answer.op not in w.KINDS_OF)


@given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=6), st.data())
def test_a_changed_byte_or_a_cut(verdicts: list[tuple[int, FilterVerdict]], data: st.DataObject) -> None:
    (packet,) = w.pack_answers([w.pack_verdict(op, 1, verdict) for op, verdict in verdicts])
    broken = bytearray(packet)
    broken[data.draw(st.integers(1, len(packet) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(w.unpack_answers(bytes(broken[: data.draw(st.integers(1, len(packet)))])))
    except WireError:
        pass


@pytest.mark.parametrize("data", [b"", b"N", b"i\x01\0\0\0", b"[\x02\0\0\0N", b"?"])
def test_events_that_are_none(data: bytes) -> None:
    """The engine is trusted, for marshal withstands no hostile sender; a plain fault must be told all the same."""
    with pytest.raises(WireError, match="events"):
        w.EventReader().feed(w.EVENTS + data)


class TestHello:
    def rules(self, count: int) -> FilterSettings:
        rules = [
            FilterRule(NetworkRule.destination_host(f"host-{number}.example.com"), FilterAction.DROP)
            for number in range(count)
        ]
        return FilterSettings(rules, FilterAction.ALLOW)

    @pytest.mark.parametrize("count", [1, MAX_RULES])
    def test_settings_of_any_size(self, count: int) -> None:
        maps = ControlMaps({"a": "http://x"}, {"a": "Büro"}, {"s": "&safe=1"}, "Org", "me")
        hello = FilterHello("F", "filter-data", FilterGrade.INSPECTOR, self.rules(count), maps, 3)
        body, fds = pack_filter_hello(hello)
        assert bool(fds) is (count == MAX_RULES)
        found = unpack_filter_hello(body, fds)
        assert fds == []
        assert found._replace(settings=None) == hello._replace(settings=None)
        assert found.settings is not None and hello.settings is not None
        assert [str(rule) for rule in found.settings.rules] == [str(rule) for rule in hello.settings.rules]
        assert found.settings.default_action is FilterAction.ALLOW

    def test_none_at_all(self) -> None:
        hello = FilterHello("F", "filter-control")
        assert unpack_filter_hello(*pack_filter_hello(hello)) == hello

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"kind": "app-proxy"}, "is not one of filter-data"),
            ({"kind": 5}, "kind: a text"),
            ({"grade": 7}, "grade: a number from 1 to 2"),
            ({"settings": []}, "an object with rules"),
            ({"settings": {"rules": [5], "default": 1}}, r"rules\[0\]: \[rule, action\]"),
            ({"settings": {"rules": [[{}, 9]], "default": 1}}, "action"),
            ({"settings": {"rules": [[{}, 3]], "default": 1}}, "cannot be a rule's"),
            ({"settings": {"rules": [[{"nonsense": 1}, 1]], "default": 1}}, "is not a key of a rule"),
            ({"settings": {"rules": [], "default": 1}}, "needs at least one rule"),
            ({"settings": {"rules": [[{}, 1]] * 1001, "default": 1}}, "1001 rules"),
            ({"maps": [{}, {}, {"a": 5}, "", ""]}, r"maps\[2\]"),
            ({"maps": [{}, {}]}, "maps: three objects"),
            ({"maps": {"a": 1}}, "maps: three objects"),
            ({"serial": -1}, "serial"),
            ({"settings_size": 10}, "one descriptor is needed"),
        ],
    )
    def test_what_is_wrong_is_named(self, change: dict[str, Any], text: str) -> None:
        body, _ = pack_filter_hello(FilterHello("F", "filter-data"))
        with pytest.raises(WireError, match=text):
            unpack_filter_hello(body | change, [])

    @pytest.mark.parametrize("data", [b"", b"5", b"nonsense", b"{", b"[" * 100_000])
    def test_a_file_that_holds_no_settings(self, data: bytes) -> None:
        descriptor = os.memfd_create("x")
        os.write(descriptor, data)
        body = {"name": "F", "kind": "filter-data", "serial": 1, "settings_size": max(1, len(data))}
        with pytest.raises(WireError, match="settings"):
            unpack_filter_hello(body, [descriptor])
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
