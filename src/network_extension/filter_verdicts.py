"""What a content filter answers (NEFilterVerdict and its kinds, reference §2.16, §3.1), and what it is told afterwards.

Verdicts are immutable values. Make them with their class methods, and say with `reported` and `with_statistics` what
the filter wants to hear of the flow later:

    FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX).reported()
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple, Self

FLOW_BYTES_MAX = 2**64 - 1
"""NEFilterFlowBytesMax: as a peek, as much as there is; as a pass, all that is still to come."""


class FilterAction(IntEnum):
    """NEFilterAction."""

    INVALID = 0
    ALLOW = 1
    DROP = 2
    REMEDIATE = 3
    FILTER_DATA = 4


class FilterReportEvent(IntEnum):
    """NEFilterReportEvent."""

    NEW_FLOW = 1
    DATA_DECISION = 2
    FLOW_CLOSED = 3
    STATISTICS = 4


class FilterReportFrequency(IntEnum):
    """NEFilterReportFrequency: how often byte counts are reported. Apple names no times; ours are in `seconds`."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3

    @property
    def seconds(self) -> float:
        """The interval: 60, 15 or 5; 0 for none."""
        return (0.0, 60.0, 15.0, 5.0)[self]


class FilterGrade(IntEnum):
    """NEFilterManagerGrade: every firewall is asked before any inspector."""

    FIREWALL = 1
    INSPECTOR = 2


class VerdictKind(Enum):
    """What a verdict says."""

    ALLOW = "allow"
    DROP = "drop"
    PAUSE = "pause"
    FILTER_DATA = "filter-data"
    DATA = "data"
    NEED_RULES = "need-rules"
    REMEDIATE = "remediate"
    URL_APPEND_STRING = "url-append-string"
    UPDATE_RULES = "update-rules"


class FilterVerdict(NamedTuple):
    """Any verdict. Only the fields that belong to its `kind` mean something."""

    kind: VerdictKind
    silent: bool = False
    """DROP: say nothing to the program, rather than refuse (RST, ICMP) at once."""
    filter_inbound: bool = False
    peek_inbound: int = 0
    filter_outbound: bool = False
    peek_outbound: int = 0
    pass_bytes: int = 0
    peek_bytes: int = 0
    url_map_key: str = ""
    button_text_map_key: str = ""
    update_rules: bool = False
    """A control provider's verdict: the data provider's rules have changed (`handle_rules_changed` is called)."""
    should_report: bool = False
    statistics_report_frequency: FilterReportFrequency = FilterReportFrequency.NONE

    def reported(self) -> Self:
        """The same verdict, and `handle_report` hears when it is applied and when the flow closes (shouldReport)."""
        return self._replace(should_report=True)

    def with_statistics(self, frequency: FilterReportFrequency) -> Self:
        """The same verdict, and `handle_report` hears the flow's byte counts from time to time."""
        return self._replace(statistics_report_frequency=FilterReportFrequency(frequency))


class _SharedVerdicts(FilterVerdict):
    __slots__ = ()

    @classmethod
    def allow(cls) -> Self:
        """Let it pass: the whole flow (new flow), or the rest of this direction (data)."""
        return cls(VerdictKind.ALLOW)

    @classmethod
    def drop(cls, *, silent: bool = False) -> Self:
        """End the whole flow. The program is refused at once; with `silent` nobody is told and it times out."""
        return cls(VerdictKind.DROP, silent=silent)

    @classmethod
    def need_rules(cls) -> Self:
        """Ask the control provider; without one the flow is dropped."""
        return cls(VerdictKind.NEED_RULES)


class _Answerable(_SharedVerdicts):
    __slots__ = ()

    @classmethod
    def pause(cls) -> Self:
        """Nothing moves until `resume_flow`. TCP waits without limit, UDP for 10 s."""
        return cls(VerdictKind.PAUSE)

    @classmethod
    def remediate(cls, remediation_url_map_key: str, remediation_button_text_map_key: str = "") -> Self:
        """Show a block page (plain HTTP only; anything else is dropped), by the control provider's maps."""
        return cls(
            VerdictKind.REMEDIATE,
            url_map_key=remediation_url_map_key,
            button_text_map_key=remediation_button_text_map_key,
        )


class FilterNewFlowVerdict(_Answerable):
    """The answer of `FilterDataProvider.handle_new_flow`."""

    __slots__ = ()

    @classmethod
    def filter_data(
        cls,
        *,
        filter_inbound: bool = False,
        peek_inbound: int = 0,
        filter_outbound: bool = False,
        peek_outbound: int = 0,
    ) -> Self:
        """Open the flow, and show the bytes of the directions named, held until then. Peeks are in bytes."""
        return cls(
            VerdictKind.FILTER_DATA,
            filter_inbound=bool(filter_inbound),
            peek_inbound=_bytes("peek_inbound", peek_inbound),
            filter_outbound=bool(filter_outbound),
            peek_outbound=_bytes("peek_outbound", peek_outbound),
        )

    @classmethod
    def url_append_string(cls, map_key: str) -> Self:
        """Redirect a plain HTTP request to its URL with a string of the control provider's map appended."""
        return cls(VerdictKind.URL_APPEND_STRING, url_map_key=map_key)


class FilterDataVerdict(_Answerable):
    """The answer of the data callbacks, and what `update_flow` puts into force."""

    __slots__ = ()

    @classmethod
    def data(cls, pass_bytes: int, peek_bytes: int) -> Self:
        """Pass that many bytes of this direction, and call again with `peek_bytes` bytes that follow them."""
        return cls(
            VerdictKind.DATA, pass_bytes=_bytes("pass_bytes", pass_bytes), peek_bytes=_bytes("peek_bytes", peek_bytes)
        )


class FilterRemediationVerdict(_SharedVerdicts):
    """The answer of `handle_remediation`: allow, drop or need rules."""

    __slots__ = ()


class FilterControlVerdict(_SharedVerdicts):
    """The answer of a control provider: allow or drop, with or without new rules, or only new rules."""

    __slots__ = ()

    @classmethod
    def updating_rules(cls) -> Self:
        """Ask the data provider again: its rules have changed (NEFilterControlVerdict.updateRules)."""
        return cls(VerdictKind.UPDATE_RULES, update_rules=True)

    def and_update_rules(self) -> Self:
        """The same verdict, and the data provider's rules have changed."""
        return self._replace(update_rules=True)


class FilterPacketVerdict(IntEnum):
    """NEFilterPacketProviderVerdict."""

    ALLOW = 0
    DROP = 1
    DELAY = 2


def _bytes(name: str, count: int) -> int:
    """A count of bytes that is one, at most FLOW_BYTES_MAX. Raises ValueError or TypeError."""
    if type(count) is not int:
        raise TypeError(f"{name}: a number of bytes is needed, not {type(count).__name__}")
    if count < 0:
        raise ValueError(f"{name}: {count} is no number of bytes; 0 to FLOW_BYTES_MAX are allowed")
    return min(count, FLOW_BYTES_MAX)
