"""What engine and filter say to each other, several things in one packet. Sans-IO; `runtime/channel` carries it.

A filter is asked for every new flow of a machine, so these messages are binary, and each packet holds as many of them
as there are at the time. The first byte of a packet tells them from the JSON of `runtime/wire`, which goes over the
same channel.

Engine to provider: FILTER_EVENTS, then a list of tuples by `marshal`, which costs a tenth of JSON. `marshal` must be
given nothing from a hostile sender; a provider trusts its engine, which is the same Python. What does not fit one
packet is cut into FILTER_PARTs before it.

    (NEW, id, protocol number, direction, family, local host, local port, remote host, remote port,
          host name, its source, URL, interface, process key or 0)
    (ABOUT, id, host name, its source, URL, remote host, remote port)    what was learned since
    (DATA_OUT or DATA_IN, id, offset, bytes)     (COMPLETE_OUT or COMPLETE_IN, id)
    (REMEDIATION, id, … as NEW)          (CONTROL or CONTROL_REMEDIATION, id, … as NEW: for control providers)
    (REPORT, id, action, event, bytes in, bytes out)
    (GONE, id, allowed)      the filter has nothing more to do with the flow, which goes on if it is allowed
    (RULES_CHANGED, 0)      (PROCESS, key, pid, start time, uid, executable, arguments, parents)
    (PACKET, id, interface, direction, bytes)

Provider to engine: FILTER_ANSWERS, then records of 27 bytes (op, id, kind of verdict, flags, two numbers), with two
texts behind those that need them. A provider is not trusted: `unpack_answers` raises WireError and nothing else.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from struct import Struct
from struct import error as struct_error
from typing import Any, NamedTuple

from ..filter_verdicts import FilterReportFrequency, FilterVerdict, VerdictKind
from .wire import MAX_MESSAGE, MessageType, WireError

# Engine to provider. The answers to the first eight bear the same numbers.
NEW, DATA_OUT, DATA_IN, COMPLETE_OUT, COMPLETE_IN, REMEDIATION, CONTROL, CONTROL_REMEDIATION = range(1, 9)
ABOUT, REPORT, GONE, RULES_CHANGED, PROCESS, PACKET = range(9, 15)
# Provider to engine.
RESUME, UPDATE_ANY, UPDATE_IN, UPDATE_OUT, FAIL = range(16, 21)
NOTIFY_RULES, PACKET_VERDICT, PACKET_ALLOW, UPDATE_FORGOTTEN = range(21, 25)

EVENTS, PART, ANSWERS = (
    bytes((MessageType.FILTER_EVENTS,)),
    bytes((MessageType.FILTER_PART,)),
    bytes((MessageType.FILTER_ANSWERS,)),
)
_EVENTS, _PART, _ANSWERS = EVENTS[0], PART[0], ANSWERS[0]
PIECE = MAX_MESSAGE - 1024
MAX_EVENTS_BYTES = 64 << 20
MAX_TEXT = 1000

_RECORD, _HEAD, _TAIL, _LENGTHS = Struct("<BQBBQQ"), Struct("<BQ"), Struct("<BBQQ"), Struct("<HH")
_SILENT, _FILTER_IN, _FILTER_OUT, _UPDATE_RULES, _REPORT, _FREQUENCY, _TEXTS = 1, 2, 4, 8, 16, 5, 128
_KINDS = tuple(VerdictKind)
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_NO_KIND = 255
_MAX_CACHE = 1024

_NEW_KINDS = frozenset(
    (
        VerdictKind.ALLOW,
        VerdictKind.DROP,
        VerdictKind.PAUSE,
        VerdictKind.FILTER_DATA,
        VerdictKind.NEED_RULES,
        VerdictKind.REMEDIATE,
        VerdictKind.URL_APPEND_STRING,
    )
)
_DATA_KINDS = frozenset(
    (
        VerdictKind.ALLOW,
        VerdictKind.DROP,
        VerdictKind.PAUSE,
        VerdictKind.DATA,
        VerdictKind.NEED_RULES,
        VerdictKind.REMEDIATE,
    )
)
_FINAL_KINDS = frozenset((VerdictKind.ALLOW, VerdictKind.DROP))
_CONTROL_KINDS = frozenset((VerdictKind.ALLOW, VerdictKind.DROP, VerdictKind.UPDATE_RULES))
_UPDATE_KINDS = frozenset((VerdictKind.ALLOW, VerdictKind.DROP, VerdictKind.DATA))

KINDS_OF: dict[int, frozenset[VerdictKind]] = {
    NEW: _NEW_KINDS,
    DATA_OUT: _DATA_KINDS,
    DATA_IN: _DATA_KINDS,
    COMPLETE_OUT: _FINAL_KINDS,
    COMPLETE_IN: _FINAL_KINDS,
    REMEDIATION: frozenset((VerdictKind.ALLOW, VerdictKind.DROP, VerdictKind.NEED_RULES)),
    CONTROL: _CONTROL_KINDS,
    CONTROL_REMEDIATION: _CONTROL_KINDS,
    RESUME: (_NEW_KINDS | _DATA_KINDS) - {VerdictKind.PAUSE},
    UPDATE_ANY: _UPDATE_KINDS,
    UPDATE_IN: _UPDATE_KINDS,
    UPDATE_OUT: _UPDATE_KINDS,
    UPDATE_FORGOTTEN: _UPDATE_KINDS,
}
"""What each question may be answered with."""
_WITHOUT_VERDICT = frozenset((FAIL, NOTIFY_RULES, PACKET_VERDICT, PACKET_ALLOW))


class ForgottenFlow(NamedTuple):
    """A flow that neither end keeps: as the filter remembers it."""

    protocol: int
    direction: int
    local: str
    local_port: int
    remote: str
    remote_port: int
    update: int
    """The direction that the update is for."""


class Answer(NamedTuple):
    """One record: `number` is a flow's or a packet's id, `value` a packet's verdict, `text` why it failed."""

    op: int
    number: int
    verdict: FilterVerdict | None
    value: int = 0
    text: str = ""


def ends_new_flow(verdict: FilterVerdict) -> bool:
    """Whether a filter that answers a new flow so has nothing more to do with it. Both ends of a channel ask this."""
    kind = verdict.kind
    return (kind is VerdictKind.ALLOW or kind is VerdictKind.DROP) and not wants_reports(verdict)


def wants_reports(verdict: FilterVerdict) -> bool:
    """Whether who says this wants to hear of the flow later."""
    return bool(verdict.should_report or verdict.statistics_report_frequency)


def verdict_of(answer: Answer) -> FilterVerdict:
    """The verdict of an answer to a question that has one."""
    assert answer.verdict is not None
    return answer.verdict


def pack_events(events: list[tuple[Any, ...]]) -> list[bytes]:
    """The packets for some events."""
    data = marshal.dumps(events)
    if len(data) <= PIECE:
        return [EVENTS + data]
    packets = [PART + data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    packets[-1] = EVENTS + packets[-1][1:]
    return packets


class EventReader:
    """Puts the packets of `pack_events` together again."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts = bytearray()

    def feed(self, packet: bytes) -> list[tuple[Any, ...]] | None:
        """The events that a packet completes; None when it is of `runtime/wire`. Raises WireError."""
        kind = packet[0]
        if kind == _EVENTS:
            if not self._parts:
                return _loaded(memoryview(packet)[1:])
            self._parts += memoryview(packet)[1:]
            data, self._parts = self._parts, bytearray()
            return _loaded(data)
        if kind == _PART:
            self._parts += memoryview(packet)[1:]
            if len(self._parts) > MAX_EVENTS_BYTES:
                raise WireError(f"events of more than {MAX_EVENTS_BYTES} bytes")
            return []
        return None


def _loaded(data: bytearray | memoryview) -> list[tuple[Any, ...]]:
    try:
        events = marshal.loads(data)
    except (ValueError, EOFError, TypeError) as error:
        raise WireError(f"events cannot be read: {error}") from None
    if type(events) is not list:
        raise WireError("events are not a list")
    return events


def pack_verdict(op: int, number: int, verdict: FilterVerdict) -> bytes:
    """One record. Raises WireError when the verdict holds what no verdict can."""
    if verdict == _ALLOW:  # most are; the identity of their parts makes this comparison quick
        return _HEAD.pack(op, number) + _ALLOW_TAIL
    return _HEAD.pack(op, number) + _tail(verdict)


def pack_failure(op: int, number: int, text: str) -> bytes:
    """The filter raised at question `op`, or answered what is no verdict."""
    return _RECORD.pack(FAIL, number, _NO_KIND, _TEXTS, op, 0) + _texts(text, "")


def pack_forgotten(number: int, verdict: FilterVerdict, flow: ForgottenFlow) -> bytes:
    """Change the verdict of a flow that neither end keeps."""
    return pack_verdict(UPDATE_FORGOTTEN, number, verdict._replace(url_map_key=" ".join(map(str, flow))))


def forgotten_flow(verdict: FilterVerdict) -> ForgottenFlow:
    """Which flow an UPDATE_FORGOTTEN is about. Raises WireError; whether the addresses are some is not looked at."""
    words = verdict.url_map_key.split(" ")
    numbers = [word for index, word in enumerate(words) if index not in (2, 4)]
    if len(words) != 7 or not all(word.isascii() and word.isdigit() and len(word) <= 5 for word in numbers):
        raise WireError("a forgotten flow without its addresses")
    protocol, direction, local_port, remote_port, update = map(int, numbers)
    if protocol > 255 or not 1 <= direction <= 2 or update > 2 or max(local_port, remote_port) > 65535:
        raise WireError("a forgotten flow without its addresses")
    return ForgottenFlow(protocol, direction, words[2], local_port, words[4], remote_port, update)


def pack_plain(op: int, number: int, value: int = 0) -> bytes:
    """A record without a verdict: a packet's, or new rules."""
    return _RECORD.pack(op, number, _NO_KIND, 0, value, 0)


def pack_answers(records: list[bytes]) -> list[bytes]:
    """The packets for some records."""
    data = b"".join(records)
    if len(data) < MAX_MESSAGE:
        return [ANSWERS + data]
    packets: list[bytes] = []
    size, start = 0, 0
    for index, record in enumerate(records):
        if size + len(record) > PIECE:
            packets.append(ANSWERS + b"".join(records[start:index]))
            size, start = 0, index
        size += len(record)
    packets.append(ANSWERS + b"".join(records[start:]))
    return packets


def is_answers(packet: bytes) -> bool:
    """Whether a packet is of `pack_answers`; else it is of `runtime/wire`."""
    return packet[0] == _ANSWERS


def unpack_answers(packet: bytes) -> Iterator[Answer]:
    """The records of one packet. Raises WireError where they end being records."""
    position, end, size = 1, len(packet), _RECORD.size
    known, kinds_of = _verdicts, KINDS_OF
    while position < end:
        if end - position < size:
            raise WireError(f"a record of {end - position} bytes, not {size}")
        op, number = _HEAD.unpack_from(packet, position)
        kinds = kinds_of.get(op)
        tail = packet[position + 9 : position + size]
        position += size
        if kinds is None:
            answer, position = _without_verdict(packet, position, op, number, tail)
            yield answer
            continue
        verdict = known.get(tail)
        if verdict is None:
            verdict, position = _verdict(packet, position, tail)
        if verdict.kind not in kinds:
            raise WireError(f"{verdict.kind.value} is no answer to question {op}")
        yield tuple.__new__(Answer, (op, number, verdict, 0, ""))  # without the frame of its own __new__


def _without_verdict(packet: bytes, position: int, op: int, number: int, tail: bytes) -> tuple[Answer, int]:
    if op not in _WITHOUT_VERDICT:
        raise WireError(f"answer {op} is not known")
    _, flags, value, _ = _TAIL.unpack(tail)
    text = ""
    if flags & _TEXTS:
        text, _, position = _read_texts(packet, position)
    return Answer(op, number, None, value, text), position


def _verdict(packet: bytes, position: int, tail: bytes) -> tuple[FilterVerdict, int]:
    number, flags, first, second = _TAIL.unpack(tail)
    if number >= len(_KINDS):
        raise WireError(f"verdict {number} is not known")
    kind = _KINDS[number]
    filtered = kind is VerdictKind.FILTER_DATA
    verdict = FilterVerdict(
        kind,
        silent=bool(flags & _SILENT),
        filter_inbound=bool(flags & _FILTER_IN),
        peek_inbound=first if filtered else 0,
        filter_outbound=bool(flags & _FILTER_OUT),
        peek_outbound=second if filtered else 0,
        pass_bytes=0 if filtered else first,
        peek_bytes=0 if filtered else second,
        update_rules=bool(flags & _UPDATE_RULES),
        should_report=bool(flags & _REPORT),
        statistics_report_frequency=FilterReportFrequency(flags >> _FREQUENCY & 3),
    )
    if flags & _TEXTS:
        url, button, position = _read_texts(packet, position)
        return verdict._replace(url_map_key=url, button_text_map_key=button), position
    if len(_verdicts) >= _MAX_CACHE:
        _verdicts.clear()
    _verdicts[tail] = verdict
    return verdict, position


def _read_texts(packet: bytes, position: int) -> tuple[str, str, int]:
    if len(packet) - position < _LENGTHS.size:
        raise WireError("a record without its texts")
    first, second = _LENGTHS.unpack_from(packet, position)
    start = position + _LENGTHS.size
    end = start + first + second
    if end > len(packet) or max(first, second) > 4 * MAX_TEXT:
        raise WireError("a record with texts that are too long")
    try:
        return packet[start : start + first].decode(), packet[start + first : end].decode(), end
    except UnicodeDecodeError as error:
        raise WireError(f"a record with texts that are none: {error}") from None


def _texts(first: str, second: str) -> bytes:
    one, two = first[:MAX_TEXT].encode("utf-8", "replace"), second[:MAX_TEXT].encode("utf-8", "replace")
    return _LENGTHS.pack(len(one), len(two)) + one + two


def _tail(verdict: FilterVerdict) -> bytes:
    """Kind, flags, numbers and texts of a verdict."""
    try:
        kind = _NUMBERS[verdict.kind]
        filtered = verdict.kind is VerdictKind.FILTER_DATA
        numbers = (
            (verdict.peek_inbound, verdict.peek_outbound) if filtered else (verdict.pass_bytes, verdict.peek_bytes)
        )
        flags = (
            (_SILENT if verdict.silent else 0)
            | (_FILTER_IN if verdict.filter_inbound else 0)
            | (_FILTER_OUT if verdict.filter_outbound else 0)
            | (_UPDATE_RULES if verdict.update_rules else 0)
            | (_REPORT if verdict.should_report else 0)
            | FilterReportFrequency(verdict.statistics_report_frequency) << _FREQUENCY
        )
        if not (verdict.url_map_key or verdict.button_text_map_key):
            return _TAIL.pack(kind, flags, *numbers)
        texts = _texts(verdict.url_map_key, verdict.button_text_map_key)
        return _TAIL.pack(kind, flags | _TEXTS, *numbers) + texts
    except (KeyError, TypeError, ValueError, AttributeError, struct_error) as error:
        raise WireError(f"a verdict that cannot be meant: {error}") from None


_verdicts: dict[bytes, FilterVerdict] = {}
_ALLOW = FilterVerdict(VerdictKind.ALLOW)
_ALLOW_TAIL = _tail(_ALLOW)
