"""What the processes of a run are told when they start. Plain values, cheap to import: every process has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.flow_decision import Policy

if TYPE_CHECKING:
    from .trace_file import TraceFile


class RunOptions(NamedTuple):
    """The command line of `netext run`, understood."""

    command: list[str]
    providers: Sequence[tuple[str, dict[str, Any]]] = ()
    """Specification (FILE[:CLASS] or a module) and configuration of each provider, in order."""
    log_mode: str = "lines"
    policy: Policy | None = None
    """None: by kind of provider."""
    deadline: float = 10.0
    """Seconds in which a provider must decide a flow."""
    hang_timeout: float = 10.0
    """Seconds after which a provider that answers nothing is started anew; 0: never."""
    grace: float = 5.0
    """Seconds that a provider has to stop."""
    trace: str | None = None
    """The pcapng file to write."""
    log_file: str | None = None
    """The file that the log goes to; None: standard error."""


class EngineOptions(NamedTuple):
    """What an engine is told when it is forked."""

    providers: tuple[str, ...] = ()
    """The names of the providers, in order; their channels come later."""
    kinds: tuple[str, ...] = ()
    """Their kinds, as far as they are known: "" for those that have not been ready yet."""
    policy: Policy | None = None
    deadline: float = 10.0
    log_mode: str = "lines"
    log_descriptor: int = 2
    trace: TraceFile | None = None
    """Open, with its headers written."""
    ipv6: bool = True
    grace: float = 5.0
    """Seconds that flows carried by providers have to end when the command has ended."""
    resolv_conf: str = ""
    """The host's, whose servers are asked."""


class SandboxOptions(NamedTuple):
    """What a sandbox shall look like."""

    ipv6: bool = True
    """Whether the host has IPv6 beyond its own link: without it the sandbox must not pretend."""
    resolv_conf: str | None = None
    """Content of /etc/resolv.conf inside; None leaves the host's."""
    trace: bool = False
    overflow_open: bool = False
    """Let flows in that did not fit the queue (policy open), rather than drop their first packet."""
