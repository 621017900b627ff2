"""The parts of the examples that need no network: they are ordinary Python, loaded as `netext run` loads them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import Endpoint
from network_extension.runtime.loader import load_provider_class

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """An example's module."""
    kind: type[Any] = load_provider_class(str(EXAMPLES / f"{name}.py"))
    return sys.modules[kind.__module__]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_each_example_loads_and_says_how_to_run_it(path: Path) -> None:
    """Its docstring has the command line, which names the file."""
    module = load(path.stem)
    assert module.__doc__ is not None
    assert f"    netext run --provider examples/{path.name} " in module.__doc__


class TestReplacer:
    """The heart of the rewriting proxy."""

    Replacer = load("rewriting_proxy").Replacer

    @given(st.lists(st.text("ab", max_size=6)), st.text("ab", min_size=1, max_size=4), st.text("abc", max_size=4))
    def test_pieces_or_whole_makes_no_difference(self, pieces: list[str], find: str, replace: str) -> None:
        """Wherever the network cuts, the result is that of `bytes.replace` over everything."""
        replacer = self.Replacer(find.encode(), replace.encode())
        out = b"".join(replacer.feed(piece.encode()) for piece in pieces) + replacer.rest()
        assert out == "".join(pieces).encode().replace(find.encode(), replace.encode())

    def test_only_what_may_be_a_match_waits(self) -> None:
        """Nothing is held back without need: a reader sees a sentence as soon as it is there."""
        replacer = self.Replacer(b"lion", b"cat")
        assert replacer.feed(b"a li") == b"a "
        assert replacer.feed(b"st of lio") == b"list of "
        assert replacer.feed(b"ns") == b"cats"


class TestStore:
    """The memory of the caching proxy."""

    module = load("caching_proxy")

    def entry(self, size: int, at: float = 0.0, lifetime: int = 60) -> Any:
        return self.module.Entry([], bytes(size), at, lifetime)

    def test_fresh_until_its_lifetime_is_over(self) -> None:
        store = self.module.Store(10_000)
        store.put("key", self.entry(10, at=100.0, lifetime=5))
        assert store.get("key", 104.9) is not None
        assert store.get("key", 105.0) is None
        assert store.size == 0

    def test_the_least_recently_used_goes_first(self) -> None:
        store = self.module.Store(5_000)
        for name in "abcd":
            store.put(name, self.entry(1_000))
        assert store.get("a", 1.0) is not None
        store.put("e", self.entry(1_000))
        assert [name for name in "abcde" if store.get(name, 1.0)] == ["a", "c", "d", "e"]
        assert store.size <= 5_000

    def test_too_large_is_not_kept_and_replaces_what_was(self) -> None:
        store = self.module.Store(1_000)
        store.put("a", self.entry(10))
        store.put("a", self.entry(900))
        assert store.get("a", 1.0) is None

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ([(b"cache-control", b"max-age=60")], 60),
            ([(b"cache-control", b"Public, Max-Age=60")], 60),
            ([(b"cache-control", b"max-age=60"), (b"age", b"20")], 40),
            ([(b"cache-control", b"max-age=60"), (b"age", b"90")], 0),
            ([(b"cache-control", b"max-age=60"), (b"cache-control", b"no-store")], 0),
            ([(b"cache-control", b"max-age=60, private")], 0),
            ([(b"cache-control", b"max-age=60"), (b"vary", b"Accept")], 0),
            ([(b"cache-control", b"max-age=60"), (b"set-cookie", b"a=b")], 0),
            ([(b"cache-control", b"max-age=soon")], 0),
            ([(b"cache-control", b"max-age=-1")], 0),
            ([], 0),
        ],
    )
    def test_how_long_a_response_is_fresh(self, headers: list[tuple[bytes, bytes]], seconds: int) -> None:
        response = self.module.h11.Response(status_code=200, headers=headers)
        assert self.module.freshness(response) == seconds


class TestRoutes:
    """The table of the SNI router."""

    def test_the_longest_pattern_wins(self) -> None:
        router = load("sni_router").SNIRouter()
        wanted, host, domain, parent = (Endpoint("192.0.2.1", port) for port in (443, 1, 2, 3))
        router.routes = {"www.example.org": host, "*.example.org": domain, "*.org": parent, "no.example.org": None}
        for name, target in {
            "www.example.org": host,
            "api.example.org": domain,
            "a.b.example.org": domain,
            "example.org": parent,
            "no.example.org": None,
            "example.com": wanted,
            None: wanted,
        }.items():
            assert router.route(name, wanted) == target


class TestSOCKS:
    """How destinations are written for a SOCKS server (RFC 1928 §5)."""

    @pytest.mark.parametrize(
        ("target", "encoded"),
        [
            (Endpoint("192.0.2.1", 80), b"\x01\xc0\x00\x02\x01\x00\x50"),
            (Endpoint("2001:db8::1", 443), b"\x04" + bytes.fromhex("20010db8000000000000000000000001") + b"\x01\xbb"),
            (Endpoint("a.example", 80), b"\x03\x09a.example\x00\x50"),
        ],
    )
    def test_destination(self, target: Endpoint, encoded: bytes) -> None:
        assert load("socks5_upstream").encode(target) == encoded
