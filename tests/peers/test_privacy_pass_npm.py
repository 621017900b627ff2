"""Our issuer, origin and client against those of @cloudflare/privacypass-ts, every pair."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import serialization

from network_extension.urlfilter import privacy_pass as pp
from network_extension.urlfilter.privacy_pass.public_key import decode_public_key, key_id

from .npm import Peer, decode

pytestmark = pytest.mark.peer
NOW = 1_800_000_000.0
CHALLENGE = pp.TokenChallenge("issuer.example")


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    made = Peer("privacy_pass.mjs")
    yield made
    made.close()


@pytest.fixture(scope="module")
def keys() -> pp.IssuerKeys:
    return pp.IssuerKeys().renewed(("tier1",), NOW)


def test_their_client_our_issuer_our_origin(peer: Peer, keys: pp.IssuerKeys) -> None:
    encoded = pp.public_key(keys, "tier1", NOW)
    request = decode(peer.ask("request", key=encoded, challenge=CHALLENGE.to_bytes())["request"])
    answer = peer.ask("finish", response=pp.issue(keys, "tier1", request, NOW))
    token = pp.read_authorization(answer["header"])
    assert token.to_bytes() == decode(answer["token"])
    pp.check_token(keys, token, NOW, frozenset((CHALLENGE.digest,)))


def test_our_client_their_issuer(peer: Peer) -> None:
    made = peer.ask("generate")
    encoded = decode(made["key"])
    assert key_id(encoded) == decode(made["id"])
    claim = pp.TokenClaim.begin(encoded, CHALLENGE, os.urandom)
    token = claim.finish(decode(peer.ask("issue", request=claim.request.to_bytes())["response"]))
    assert token.key_id == decode(made["id"])


def test_our_client_our_issuer_their_origin(peer: Peer, keys: pp.IssuerKeys) -> None:
    encoded = pp.public_key(keys, "tier1", NOW)
    claim = pp.TokenClaim.begin(encoded, CHALLENGE, os.urandom)
    token = claim.finish(pp.issue(keys, "tier1", claim.request.to_bytes(), NOW))
    plain = decode_public_key(encoded).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert peer.ask("verify", header=pp.authorization(token), key=plain)["good"] is True
    false = pp.Token(bytes(32), token.challenge_digest, token.key_id, token.authenticator)
    assert peer.ask("verify", header=pp.authorization(false), key=plain)["good"] is False


def test_our_challenge_is_read_by_them(peer: Peer, keys: pp.IssuerKeys) -> None:
    encoded = pp.public_key(keys, "tier1", NOW)
    answer = peer.ask("challenge", header=pp.www_authenticate(CHALLENGE, encoded))
    assert decode(answer["challenge"]) == CHALLENGE.to_bytes()
    assert decode(answer["key"]) == encoded
