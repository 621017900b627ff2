"""HELLO of a filter: who it is, its grade, its settings, and a control provider's maps.

As with `runtime/hello`, what does not fit into one message travels as a memfd beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from json import JSONEncoder
from typing import Any, NamedTuple

from ..errors import ConfigurationError
from ..filter_settings import FilterRule, FilterSettings
from ..filter_verdicts import FilterAction, FilterGrade
from ..rules import NetworkRule
from .hello import INLINE_LIMIT, MAX_SETTINGS, open_memfd, read_memfd
from .wire import WireError, int_field, object_field, text_field

FILTER_KINDS = ("filter-data", "filter-control", "filter-packet")
MAX_MAP = 10_000
MAX_MAP_TEXT = 8192


class ControlMaps(NamedTuple):
    """What a control provider knows for block pages and redirects."""

    urls: Mapping[str, str] = {}
    button_texts: Mapping[str, str] = {}
    append_strings: Mapping[str, str] = {}
    organization: str = ""
    username: str = ""


class FilterHello(NamedTuple):
    """A filter as the engine knows it. `serial` counts its HELLOs, and comes back when this one is in force."""

    name: str
    kind: str
    grade: FilterGrade = FilterGrade.FIREWALL
    settings: FilterSettings | None = None
    maps: ControlMaps = ControlMaps()
    serial: int = 0


def pack_filter_hello(hello: FilterHello) -> tuple[dict[str, Any], list[int]]:
    """The body of HELLO and its descriptors, which the caller closes after sending."""
    body: dict[str, Any] = {
        "name": hello.name, "kind": hello.kind, "grade": int(hello.grade), "serial": hello.serial,
    }  # fmt: skip
    maps = hello.maps
    texts: list[object] = [dict(maps.urls), dict(maps.button_texts), dict(maps.append_strings)]
    details = {
        "settings": _settings_data(hello.settings), "maps": [*texts, maps.organization, maps.username],
    }  # fmt: skip
    text = JSONEncoder(separators=(",", ":")).encode(details).encode()
    if len(text) <= INLINE_LIMIT:
        return body | details, []
    return body | {"settings_size": len(text)}, [open_memfd(text)]


def unpack_filter_hello(body: dict[str, Any], fds: list[int]) -> FilterHello:
    """What HELLO says. Closes the descriptors and empties their list. Raises WireError."""
    try:
        details: object = body
        if "settings_size" in body:
            details = read_memfd(int_field(body, "settings_size", None, 1, MAX_SETTINGS), fds)
    finally:
        while fds:
            os.close(fds.pop())
    if type(details) is not dict:
        raise WireError("settings: an object is needed")
    kind = text_field(body, "kind")
    if kind not in FILTER_KINDS:
        raise WireError(f"kind: {kind[:60]!r} is not one of {', '.join(FILTER_KINDS)}")
    grade = FilterGrade(int_field(body, "grade", 1, min(FilterGrade), max(FilterGrade)))
    settings, maps = _settings(details.get("settings")), _maps(details.get("maps"))
    return FilterHello(text_field(body, "name")[:200], kind, grade, settings, maps, int_field(body, "serial", 0))


def _settings_data(settings: FilterSettings | None) -> dict[str, Any] | None:
    if settings is None:
        return None
    rules = [[rule.network_rule.to_dict(), int(rule.action)] for rule in settings.rules]
    return {"rules": rules, "default": int(settings.default_action)}


def _settings(data: object) -> FilterSettings | None:
    if data is None:
        return None
    if type(data) is not dict or type(data.get("rules")) is not list:
        raise WireError("settings: an object with rules is needed")
    try:
        rules = [_rule(index, entry) for index, entry in enumerate(data["rules"])]
        return FilterSettings(rules, _action(data.get("default")))
    except ConfigurationError as error:
        raise WireError(str(error)) from None


def _rule(index: int, entry: object) -> FilterRule:
    if type(entry) is not list or len(entry) != 2:
        raise WireError(f"rules[{index}]: [rule, action] is needed")
    return FilterRule(NetworkRule.from_dict(entry[0], f"rules[{index}]"), _action(entry[1]))


def _action(value: object) -> FilterAction:
    return FilterAction(int_field({"action": value}, "action", None, min(FilterAction), max(FilterAction)))


def _maps(data: object) -> ControlMaps:
    if data is None:
        return ControlMaps()
    if type(data) is not list or len(data) != 5:
        raise WireError("maps: three objects and two texts are needed")
    urls, buttons, strings = (_texts(f"maps[{index}]", data[index]) for index in range(3))
    names = {"organization": data[3], "username": data[4]}
    return ControlMaps(urls, buttons, strings, text_field(names, "organization")[:1000],
                       text_field(names, "username")[:1000])  # fmt: skip


def _texts(place: str, data: object) -> dict[str, str]:
    mapping = object_field({place: data}, place)
    if len(mapping) > MAX_MAP:
        raise WireError(f"{place}: {len(mapping)} entries; at most {MAX_MAP} are allowed")
    for value in mapping.values():
        if type(value) is not str or len(value) > MAX_MAP_TEXT:
            raise WireError(f"{place}: texts of at most {MAX_MAP_TEXT} characters are needed")
    return mapping
