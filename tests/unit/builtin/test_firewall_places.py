"""Lines and columns of TOML: the places are those of the values that `tomllib` finds."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.builtin.firewall.places import Spot, Way, find_places
from network_extension.builtin.firewall.toml_text import value_text


def ways(data: Any, way: Way = ()) -> set[Way]:
    """All ways into some data."""
    found = {way} if way else set()
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        found |= ways(value, (*way, key))
    return found


@pytest.mark.parametrize(
    ("text", "way", "spot"),
    [
        ("a = 1", ("a",), (1, 1)),
        ("\n\n  a = 1", ("a",), (3, 3)),
        ("# x = [\na = 1", ("a",), (2, 1)),
        ('a = "#"\nb = 2', ("b",), (2, 1)),
        ('a = "\\"#"\nb = 2', ("b",), (2, 1)),
        ("a = '\\'\nb = 2", ("b",), (2, 1)),
        ('a = """\nb = 1\n\\""" """\nc = 2', ("c",), (4, 1)),
        ('a = """x"""""\nc = 2', ("c",), (2, 1)),
        ("a = '''\n[[x]]'''\nc = 2", ("c",), (3, 1)),
        ("a = [ # ]\n 1, 'x,]',\n 3 ]\nb = 1", ("a", 2), (3, 2)),
        ("a = [ # ]\n 1, 'x,]',\n 3 ]\nb = 1", ("b",), (4, 1)),
        ("a = [[1, 2], [3, 4]]", ("a", 1, 1), (1, 18)),
        ("a = { b = 1, c = { d = 2 } }", ("a", "c", "d"), (1, 20)),
        ("[t]\na = 1", ("t",), (1, 1)),
        ("[t.u]\na = 1", ("t", "u", "a"), (2, 1)),
        ("[[r]]\na = 1\n[[r]]\na = 2", ("r", 1), (3, 1)),
        ("[[r]]\na = 1\n[[r]]\na = 2", ("r", 1, "a"), (4, 1)),
        ("[[r]]\n[r.t]\na = 1\n[[r]]\n[r.t]\na = 2", ("r", 1, "t", "a"), (6, 1)),
        ("[[r]]\n[[r.s]]\na = 1\n[[r.s]]\na = 2", ("r", 0, "s", 1, "a"), (5, 1)),
        ("a.b.c = 1", ("a", "b", "c"), (1, 5)),
        ('"x y".z = 1', ("x y", "z"), (1, 7)),
        ("'a.b' = 1", ("a.b",), (1, 1)),
        ('"\\u00e4" = 1', ("ä",), (1, 1)),
        ("[ t . 'u' ]\nx = 1", ("t", "u", "x"), (2, 1)),
        ("a = 1979-05-27 07:32:00 # x\nb = 1", ("b",), (2, 1)),
        ("a = ['ä', 2]", ("a", 1), (1, 11)),
    ],
)
def test_where_things_stand(text: str, way: Way, spot: tuple[int, int]) -> None:
    tomllib.loads(text)
    assert find_places(text)[way] == Spot(*spot)


NAMES = st.text("abc-_1", min_size=1, max_size=4) | st.text(max_size=4)
SCALARS = st.integers() | st.booleans() | st.text(max_size=8).filter(lambda text: text.isprintable())


def toml(data: dict[str, Any], table: str = "") -> str:
    """Data as TOML, with tables, arrays of tables, and dotted names."""
    lines = [f"{value_text(key)} = {inline(value)}" for key, value in data.items() if not is_table(value)]
    for key, value in data.items():
        name = f"{table}.{value_text(key)}" if table else value_text(key)
        if isinstance(value, dict):
            lines += [f"[{name}]  # {key!r}".replace("\n", " "), toml(value, name)]
        elif is_table(value):
            for each in value:
                lines += [f"  [[ {name} ]]", toml(each, name)]
    return "\n".join(lines)


def is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def inline(value: Any) -> str:
    return f"[ # ,\n {', '.join(map(inline, value))} ]" if isinstance(value, list) else value_text(value)


DATA = st.recursive(
    st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=3), max_size=3),
    lambda tables: st.dictionaries(NAMES, tables | st.lists(tables, min_size=1, max_size=2) | SCALARS, max_size=3),
    max_leaves=6,
)


@given(DATA)
def test_every_value_has_a_place_and_nothing_else_has(data: dict[str, Any]) -> None:
    text = toml(data)
    try:
        loaded = tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # a control character that TOML has no room for
        return
    places = find_places(text)
    assert set(places) == ways(loaded)
    lines = text.split("\n")
    assert all(1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) for line, column in places.values())


@given(st.text("ab=[]{}\"'#.,\n \\1", max_size=60))
def test_a_text_that_is_no_toml_ends_the_search_too(text: str) -> None:
    find_places(text)
