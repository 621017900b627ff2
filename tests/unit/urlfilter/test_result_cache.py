"""Answers that are remembered: for three days, a thousand of them, the least used goes first."""

from __future__ import annotations

from network_extension.urlfilter.result_cache import MOST_RESULTS, RESULT_LIFETIME, ResultCache


def test_an_answer_is_remembered_for_three_days() -> None:
    cache = ResultCache()
    cache.put("listed", True, 0.0)
    cache.put("other", False, 0.0)
    assert RESULT_LIFETIME == 3 * 86_400
    assert [cache.get(text, RESULT_LIFETIME - 1) for text in ("listed", "other", "unknown")] == [True, False, None]
    assert cache.get("listed", RESULT_LIFETIME) is None and len(cache) == 1


def test_the_least_recently_used_of_a_thousand_goes_first() -> None:
    cache = ResultCache()
    for number in range(MOST_RESULTS):
        cache.put(str(number), True, 0.0)
    assert cache.get("0", 0.0)
    cache.put("one more", True, 0.0)
    assert (len(cache), cache.get("0", 0.0), cache.get("1", 0.0)) == (1000, True, None)


def test_it_can_be_emptied() -> None:
    cache = ResultCache()
    cache.put("a", True, 0.0)
    cache.clear()
    assert cache.get("a", 0.0) is None and len(cache) == 0
