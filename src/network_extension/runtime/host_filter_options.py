"""What `netext filter` was asked for. Plain values, cheap to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..core.flow_decision import Policy

DEFAULT_MARK_MASK = 0x70000000


class HostFilterOptions(NamedTuple):
    """The command line of `netext filter`, understood."""

    providers: Sequence[tuple[str, dict[str, Any]]] = ()
    """Specification (FILE[:CLASS] or a module) and configuration of each provider, in order."""
    policy: Policy = Policy.OPEN
    """What flows get while nobody can decide them."""
    established: str = "keep"
    """"keep" lets flows be that are older than the filter, "offer" asks for each at its next packet."""
    inbound: bool = True
    """Whether flows that other hosts begin are asked for."""
    user: str | None = None
    """Whose identity provider processes have; None: the user of sudo, else root without capabilities."""
    mark_mask: int = DEFAULT_MARK_MASK
    """Our three bits of the connection mark."""
    log_mode: str = "lines"
    log_file: str | None = None
    """The file that the log goes to; None: standard error."""
    deadline: float = 10.0
    """Seconds in which a provider must decide a flow."""
    hang_timeout: float = 10.0
    """Seconds after which a provider that answers nothing is started anew; 0: never."""
    grace: float = 5.0
    """Seconds that a provider has to stop."""
    seconds: float = 0.0
    """End by itself after so long; 0: never."""


class HostEngineOptions(NamedTuple):
    """What an engine of the host datapath is told when it is forked."""

    providers: tuple[str, ...]
    policy: Policy
    established: str
    inbound: bool
    mark_mask: int
    log_mode: str
    log_descriptor: int
    deadline: float
    supervisor: int
    """Its pid: flows of it and of what it started are not asked for."""
    restarted: bool = False
    """Whether an engine before it had the rules in force."""
