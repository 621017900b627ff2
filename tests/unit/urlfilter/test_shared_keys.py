"""Keys that all instances share: made once, renewed in time, also when several do it at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from network_extension.urlfilter import oblivious_http as oh
from network_extension.urlfilter import privacy_pass as pp
from network_extension.urlfilter.oblivious_http.key_configurations import KEY_LIFETIME
from network_extension.urlfilter.service.gateway_routes import ServiceGateway
from network_extension.urlfilter.service.issuer_gate import IssuerGate
from network_extension.urlfilter.service.refusals import Refusal
from network_extension.urlfilter.stores import Store, open_store
from network_extension.urlfilter.stores.sqlite_store import SQLiteStore

NOW = 1_800_000_000.0


async def _nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError("nobody is asked")


def with_stores(path: Path, work: Callable[[Store, Store], Awaitable[None]]) -> None:
    """Two instances' stores over one file."""

    async def run() -> None:
        first, second = open_store(str(path)), open_store(str(path))
        try:
            await work(first, second)
        finally:
            await first.close()
            await second.close()

    asyncio.run(run())


def test_two_instances_take_each_others_tokens(tmp_path: Path) -> None:
    async def work(first: Store, second: Store) -> None:
        one, two = (IssuerGate(store, "issuer.example", lambda: NOW) for store in (first, second))
        await asyncio.gather(one.open({"tier1"}), two.open({"tier1"}))
        assert one.public_key("tier1") == two.public_key("tier1")
        claim = pp.TokenClaim.begin(one.public_key("tier1"), "issuer.example", lambda size: b"\5" * size)
        header = pp.authorization(claim.finish(await two.issue("tier1", claim.request.to_bytes())))
        await one.redeem(header)
        with pytest.raises(Refusal) as caught:
            await two.redeem(header)
        assert caught.value.status == 401

    with_stores(tmp_path / "state.sqlite", work)


def test_a_key_that_another_instance_has_made_since_is_looked_up(tmp_path: Path) -> None:
    async def work(first: Store, second: Store) -> None:
        now = NOW
        one, two = (IssuerGate(store, "issuer.example", lambda: now) for store in (first, second))
        await one.open({"tier1"})
        await two.open({"tier1"})
        now = NOW + pp.KEY_LIFETIME / 2
        await two.open({"tier1"})  # rotates
        assert one.public_key("tier1") != two.public_key("tier1")
        claim = pp.TokenClaim.begin(two.public_key("tier1"), "issuer.example", lambda size: b"\5" * size)
        token = claim.finish(await two.issue("tier1", claim.request.to_bytes()))
        await one.redeem(pp.authorization(token))

    with_stores(tmp_path / "state.sqlite", work)


def test_tokens_of_keys_that_never_were_cost_one_look_a_second(tmp_path: Path) -> None:
    """Anybody can send them, and each look reads private keys for a tenth of a second."""

    class Counting(SQLiteStore):
        looks = 0

        async def document(self, name: str) -> bytes | None:
            Counting.looks += 1
            return await super().document(name)

    async def run() -> None:
        now = NOW
        store = Counting(tmp_path / "state.sqlite")
        gate = IssuerGate(store, "issuer.example", lambda: now)
        await gate.open({"tier1"})
        before = Counting.looks
        for second in range(1, 3):
            forged = [pp.Token(bytes([n]) * 32, bytes(32), bytes([n]) * 32, bytes(256)) for n in range(50)]
            refused = await asyncio.gather(
                *(gate.redeem(pp.authorization(token)) for token in forged), return_exceptions=True
            )
            assert all(isinstance(error, Refusal) and error.status == 401 for error in refused)
            assert Counting.looks == before + second
            now += 1.0
        await store.close()

    asyncio.run(run())


def test_gateways_share_a_key_and_renew_it(tmp_path: Path) -> None:
    async def work(first: Store, second: Store) -> None:
        now = NOW
        one, two = (ServiceGateway(store, _nothing, lambda: now) for store in (first, second))
        await asyncio.gather(one.open(), two.open())
        assert one._keys.public_list == two._keys.public_list
        before = one._keys.public_list
        now = NOW + KEY_LIFETIME
        await one.open()
        await two.open()
        assert one._keys.public_list == two._keys.public_list != before
        assert len(oh.decode_list(one._keys.public_list)) == 1

    with_stores(tmp_path / "state.sqlite", work)


def test_private_keys_are_readable_for_the_owner_only(tmp_path: Path) -> None:
    async def work(first: Store, second: Store) -> None:
        await IssuerGate(first, "issuer.example", lambda: NOW).open({"tier1"})

    path = tmp_path / "state.sqlite"
    with_stores(path, work)
    assert path.stat().st_mode & 0o077 == 0
