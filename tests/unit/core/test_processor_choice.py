"""On which processors engine and providers run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.processor_choice import Look, ProcessorChoice

FOUR = frozenset(range(4))


def look(own: float, *busy: float, alone: bool = True) -> Look:
    return Look(dict(enumerate(busy)), own, alone)


def together(*busy: float) -> ProcessorChoice:
    """A choice that has put them together on the idlest one."""
    choice = ProcessorChoice(frozenset(range(len(busy))))
    assert len(choice.look(look(0.0, *busy))) == 1
    return choice


def test_they_begin_together_on_the_idlest() -> None:
    assert ProcessorChoice(FOUR).look(look(0.01, 0.5, 0.2, 0.1, 0.4)) == {2}


def test_where_only_one_may_be_used_nothing_is_chosen() -> None:
    choice = ProcessorChoice(frozenset({3}))
    assert choice.look(look(0.5, 1.0, 1.0, 1.0, 1.0)) == {3}
    assert not choice.is_together


def test_apart_when_they_fill_it_and_another_one_is_idle() -> None:
    choice = together(0.0, 0.2)
    assert choice.look(look(0.95, 1.0, 0.3)) == {0, 1}
    assert choice.look(look(1.4, 0.9, 0.8)) == {0, 1}, "and they stay so while they need it"
    assert choice.look(look(0.4, 0.3, 0.4)) == {0}, "and come together again"


def test_together_when_all_are_busy() -> None:
    """Two processors, both full: programs and servers have the other one."""
    choice = together(0.0, 0.2)
    assert choice.look(look(0.95, 1.0, 1.0)) == {0}


def test_they_make_room_for_others() -> None:
    choice = together(0.0, 0.2, 0.2)
    assert choice.look(look(0.3, 1.0, 0.6, 0.1)) == {2}
    assert choice.look(look(0.3, 0.9, 0.6, 0.7)) == {2}, "and do not move for little"


def test_idle_ones_are_left_where_they_are() -> None:
    choice = together(0.0, 0.2)
    assert choice.look(look(0.001, 1.0, 0.0)) == {0}


def test_providers_with_threads_or_processes_of_their_own_run_anywhere() -> None:
    choice = together(0.0, 0.2)
    assert choice.look(look(0.1, 0.1, 0.1, alone=False)) == {0, 1}
    assert not choice.is_together


@given(
    st.sets(st.integers(0, 63), min_size=1),
    st.lists(st.tuples(st.dictionaries(st.integers(0, 63), st.floats(0, 1)), st.floats(0, 64), st.booleans())),
)
def test_only_processors_that_may_be_used(allowed: set[int], looks: list[tuple[dict[int, float], float, bool]]) -> None:
    choice = ProcessorChoice(frozenset(allowed))
    for busy, own, alone in looks:
        chosen = choice.look(Look(busy, own, alone))
        assert chosen <= allowed
        assert len(chosen) in (1, len(allowed))
