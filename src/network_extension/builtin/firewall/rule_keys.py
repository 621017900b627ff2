"""The keys of a `[[rule]]`: what each may hold, and the condition that it becomes."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from typing import Any

from .conditions import Arguments, Condition, During, Interface, OneProcess, Parent, Program, User
from .destinations import Hosts, Listed, Networks, Ports, Protocols, Towards
from .document import Misfit, nearest
from .lists import TargetList, parse_network, plain_name
from .patterns import ProgramPatterns, is_wild, text_pattern
from .places import Way
from .rule_times import time_limits_of
from .rules import Action
from .tables import Table, shown
from .times import TimeLimits

KEYS = (
    *("name", "action", "program", "parent", "arguments", "user", "pid", "start_time"),
    *("host", "domain", "network", "list", "port", "protocol", "direction", "interface"),
    *("from", "until", "hours", "weekdays", "enabled", "note"),
)
_PROTOCOLS = {"tcp": (6,), "udp": (17,), "icmp": (1, 58), "sctp": (132,), "dccp": (33,)}


Lists = Callable[[str, Way], TargetList]


def conditions_of(table: Table, lists: Lists) -> tuple[Condition, ...]:
    """The conditions of a rule's table. Raises Misfit."""
    found: list[Condition] = []
    for key, make in _MAKERS.items():
        if key in table.data:
            condition = make(table)
            if condition is not None:
                found.append(condition)
    if "host" in table.data or "domain" in table.data:
        found.append(_hosts(table))
    if "list" in table.data:
        found.append(Listed(tuple(lists(text, way) for text, way in table.texts("list"))))
    limits = time_limits_of(table)
    if limits != TimeLimits():
        found.append(During(limits))
    return tuple(found)


def action_of(table: Table) -> Action:
    """What a rule does. Raises Misfit."""
    if "action" not in table.data:
        raise Misfit(table.way, f"action is missing; one of {', '.join(Action)} is needed")
    return action_at(table, "action", tuple(Action))


def action_at(table: Table, key: str, allowed: tuple[Action, ...]) -> Action:
    """The action that a key names. Raises Misfit."""
    value = table.data[key]
    if value not in tuple(allowed):
        offer = nearest(value, allowed) if isinstance(value, str) else ""
        raise Misfit((*table.way, key), f"{key}: {shown(value)} is none of {', '.join(allowed)}{offer}")
    return Action(value)


def _program(table: Table) -> Condition:
    return Program(_program_patterns(table, "program"))


def _parent(table: Table) -> Condition:
    return Parent(_program_patterns(table, "parent"))


def _program_patterns(table: Table, key: str) -> ProgramPatterns:
    texts = table.texts(key)
    for text, way in texts:
        if "/" in text and not text.startswith(("/", "*", "~")):
            raise Misfit(way, f"{key}: {text!r} is neither a name nor a full path, which begins with /")
        try:
            ProgramPatterns.of((text,))
        except ValueError as error:
            raise Misfit(way, f"{key}: {text!r} has {error}") from None
    return ProgramPatterns.of(tuple(os.path.expanduser(text) for text, _ in texts))


def _arguments(table: Table) -> Condition:
    texts = tuple(text for text, _ in table.texts("arguments"))
    return Arguments(texts, tuple(map(text_pattern, texts)))


def _interface(table: Table) -> Condition:
    texts = tuple(text for text, _ in table.texts("interface"))
    return Interface(texts, tuple(map(text_pattern, texts)))


def _user(table: Table) -> Condition:
    uids, texts = [], []
    for value, way in table.items("user"):
        uids.append(_uid(value, way))
        texts.append(str(value))
    return User(tuple(uids), tuple(texts))


def _uid(value: Any, way: Way) -> int:
    if type(value) is int and 0 <= value < 2**32 - 1:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise Misfit(way, f"user: a name or a number is needed, not {shown(value)}")
    try:
        return pwd.getpwnam(value).pw_uid
    except (KeyError, ValueError):
        raise Misfit(way, f"user: nobody here is called {value!r}") from None


def _process(table: Table) -> Condition:
    pid = _number(table, "pid", 1, 2**22)
    if "start_time" in table.data:
        return OneProcess(pid, _number(table, "start_time", 0, 2**63))
    return OneProcess(pid, start_time(pid))


def start_time(pid: int) -> int:
    """When a process began, in ticks since boot; -1 if there is none (proc(5), field 22 of stat)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read(4096).rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return -1


def _number(table: Table, key: str, least: int, most: int) -> int:
    value = table.data[key]
    if type(value) is not int or not least <= value <= most:
        raise Misfit((*table.way, key), f"{key}: a number from {least} to {most} is needed, not {shown(value)}")
    return value


def _hosts(table: Table) -> Condition:
    texts: list[str] = []
    exact, below, domains, globs = set(), set(), set(), []
    for text, way in table.texts("host") if "host" in table.data else ():
        texts.append(text)
        rest = text[2:] if text.startswith("*.") else ""
        if text == "*":
            globs.append(text_pattern("*"))
        elif rest and not is_wild(rest):
            below.add(_name("host", rest, way))
        elif is_wild(text):
            globs.append(text_pattern(text.lower().rstrip(".")))
        else:
            exact.add(_name("host", text, way))
    for text, way in table.texts("domain") if "domain" in table.data else ():
        texts.append(f"{text} and all below")
        domains.add(_name("domain", text.removeprefix("."), way))
    return Hosts(tuple(texts), frozenset(exact), frozenset(below), frozenset(domains), tuple(globs))


def _name(key: str, text: str, way: Way) -> str:
    name = plain_name(text)
    if name:
        return name
    if parse_network(text) is not None:
        raise Misfit(way, f"{key}: {text!r} is an address; write network = {text!r}".replace("'", '"'))
    hint = "; give the name only, and the port as port = …" if ":" in text or "/" in text else ""
    hint = "; wildcards go into host, as in *.example.com" if is_wild(text) and key == "domain" else hint
    raise Misfit(way, f"{key}: {text[:80]!r} is no host name{hint}")


def _networks(table: Table) -> Condition:
    ranges = []
    for text, way in table.texts("network"):
        network = parse_network(text.strip())
        if network is None:
            raise Misfit(way, f"network: {text[:80]!r} is neither an address nor a network as 192.0.2.0/24")
        ranges.append(network)
    return Networks(tuple(text for text, _ in table.texts("network")), tuple(ranges))


def _ports(table: Table) -> Condition:
    return Ports(tuple(_port_range(value, way) for value, way in table.items("port")))


def _port_range(value: Any, way: Way) -> tuple[int, int]:
    first, dash, last = str(value).partition("-") if isinstance(value, (str, int)) else ("", "", "")
    if type(value) is not bool and _is_port(first.strip()) and (not dash or _is_port(last.strip())):
        pair = int(first), int(last if dash else first)
        if pair[0] <= pair[1]:
            return pair
        raise Misfit(way, f"port: {value!r} ends before it begins")
    raise Misfit(way, f'port: a number from 0 to 65535 or a range as "8000-8999" is needed, not {shown(value)}')


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _protocols(table: Table) -> Condition | None:
    numbers: list[int] = []
    texts = []
    for value, way in table.items("protocol"):
        if value == "any":
            return None
        if type(value) is int and 0 <= value <= 255:
            numbers.append(value)
        elif isinstance(value, str) and value.lower() in _PROTOCOLS:
            numbers += _PROTOCOLS[value.lower()]
        else:
            names = f"{', '.join(_PROTOCOLS)}, any, or a number from 0 to 255"
            raise Misfit(way, f"protocol: {shown(value)} is none of {names}")
        texts.append(str(value).lower())
    return Protocols(tuple(numbers), tuple(texts))


def _direction(table: Table) -> Condition | None:
    value = table.data["direction"]
    if value not in ("outbound", "inbound", "any"):
        raise Misfit((*table.way, "direction"), f"direction: {shown(value)} is none of outbound, inbound, any")
    return None if value == "any" else Towards(value == "outbound")


_MAKERS: dict[str, Callable[[Table], Condition | None]] = {
    "direction": _direction,
    "protocol": _protocols,
    "port": _ports,
    "pid": _process,
    "program": _program,
    "user": _user,
    "network": _networks,
    "interface": _interface,
    "parent": _parent,
    "arguments": _arguments,
}
"""The quick ones first: a rule is given up at the first condition that does not hold."""
