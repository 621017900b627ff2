"""From a person's answer to a rule.

An answer says what (allow, deny, drop), for how long, and how far it reaches:

    once        these flows only, no rule
    run         until the firewall stops
    exit        until the program that asked ends
    15m, 2h     for that time
    ever        for ever: the rule is appended to the file of answers

    exact       this program, this host, this port
    host        this program, this host, any port
    domain      this program, the host's whole domain
    port        this program, this port, any host
    program     this program, everything
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ...errors import ConfigurationError
from .facts import FlowFacts
from .patterns import literal
from .rules import Action

ACTIONS = (Action.ALLOW, Action.DENY, Action.DROP)
DURATIONS = ("once", "run", "exit", "ever")
SCOPES = ("exact", "host", "domain", "port", "program")
_TIME = re.compile(r"(\d{1,6})([smhd])\Z")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHORT_SECOND_LEVELS = frozenset(
    (
        "ac",
        "co",
        "com",
        "edu",
        "gob",
        "gov",
        "go",
        "gen",
        "gv",
        "ltd",
        "mil",
        "ne",
        "net",
        "nom",
        "or",
        "org",
        "plc",
        "sch",
    )
)


class Answer(NamedTuple):
    """What a person said. `domain` says which domain is meant; "" is a guess from the host's name."""

    action: Action
    duration: str = "once"
    scope: str = "exact"
    domain: str = ""

    @classmethod
    def parse(cls, action: str, duration: str = "once", scope: str = "exact") -> Answer:
        """From words; the scope may be `domain=example.co.uk`. Raises ConfigurationError."""
        if action not in tuple(ACTIONS):
            raise ConfigurationError(f"answer: {action[:40]!r} is none of {', '.join(ACTIONS)}")
        if duration not in DURATIONS and _TIME.match(duration) is None:
            raise ConfigurationError(f"answer: {duration[:40]!r} is none of {', '.join(DURATIONS)}, nor a time as 15m")
        scope, _, domain = scope.partition("=")
        if scope not in SCOPES or (domain and scope != "domain"):
            raise ConfigurationError(f"answer: {scope[:40]!r} is none of {', '.join(SCOPES)}, domain=NAME")
        return cls(Action(action), duration, scope, domain.lower().strip("."))

    @property
    def seconds(self) -> int:
        """Of a duration that is a time; else 0."""
        match = _TIME.match(self.duration)
        return int(match[1]) * _UNITS[match[2]] if match else 0


def rule_data(answer: Answer, facts: FlowFacts, name: str, now: datetime) -> dict[str, Any] | None:
    """The rule that an answer makes, as keys of a `[[rule]]`; None for "once". Raises ConfigurationError."""
    if answer.duration == "once":
        return None
    if not facts.program:
        raise ConfigurationError("the program of this question is not known: answer it once, or write a rule yourself")
    data: dict[str, Any] = {"name": name, "action": str(answer.action), "program": literal(facts.program)}
    data["direction"] = "outbound" if facts.is_outbound else "inbound"
    data |= _far_side(answer, facts)
    if answer.scope in ("exact", "port"):
        data["protocol"] = facts.protocol_name if facts.protocol_name in ("tcp", "udp", "icmp") else facts.protocol
        if facts.port >= 0:
            data["port"] = facts.port
    if answer.duration == "exit":
        if facts.process is None or not facts.process.pid:
            raise ConfigurationError("the process of this question is not known, so its end will not be")
        data |= {"pid": facts.process.pid, "start_time": facts.process.start_time, "until": "exit"}
    if answer.seconds:
        data["until"] = now + timedelta(seconds=answer.seconds)
    return data


def _far_side(answer: Answer, facts: FlowFacts) -> dict[str, Any]:
    if answer.scope in ("exact", "host"):
        if facts.host:
            return {"host": facts.host}
        if facts.version:
            return {"network": facts.address_text}
        raise ConfigurationError("neither name nor address of the far side are known; answer for the port or program")
    if answer.scope == "domain":
        if not facts.host:
            raise ConfigurationError("the host's name is not known, so it has no domain; answer for the host")
        domain = answer.domain or domain_of(facts.host)
        if facts.host != domain and not facts.host.endswith("." + domain):
            raise ConfigurationError(f"{facts.host} is not in the domain {domain}")
        return {"domain": domain}
    return {}


def domain_of(host: str) -> str:
    """The domain that a host most likely belongs to: its last two labels, or three below the likes of co.uk.

    A guess, for the list of public suffixes is as long as all the rest of the firewall. What it leads to is shown
    before it is answered, and `domain=NAME` says it better.
    """
    labels = host.split(".")
    short = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SHORT_SECOND_LEVELS
    return ".".join(labels[-3 if short else -2 :])
