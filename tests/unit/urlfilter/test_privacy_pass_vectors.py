"""Tokens of type 2, byte for byte as another implementation makes them with the key of RFC 9578's appendix A.2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from network_extension.urlfilter.privacy_pass import (
    IssuerKey,
    IssuerKeys,
    Token,
    TokenChallenge,
    TokenClaim,
    check_token,
)
from network_extension.urlfilter.privacy_pass.blind_rsa import BlindSigner
from network_extension.urlfilter.privacy_pass.public_key import encode_public_key

CONTENT = json.loads((Path(__file__).parents[2] / "vectors" / "privacy_pass" / "type2.json").read_text())
TOKENS = pytest.mark.parametrize("vector", CONTENT["tokens"], ids=["with a redemption context", "without"])


class Given:
    """Random numbers that are known: each call takes the next, which must have the length asked for."""

    def __init__(self, *texts: str) -> None:
        self._left = [bytes.fromhex(text) for text in texts]

    def __call__(self, count: int) -> bytes:
        number = self._left.pop(0)
        assert len(number) == count
        return number


@pytest.fixture(scope="module")
def private_key() -> RSAPrivateKey:
    key = load_pem_private_key("\n".join(CONTENT["private_key_pem"]).encode(), None)
    assert isinstance(key, RSAPrivateKey)
    return key


def claim(vector: dict[str, Any]) -> TokenClaim:
    challenge = TokenChallenge.from_bytes(bytes.fromhex(vector["token_challenge"]))
    return TokenClaim.begin(
        bytes.fromhex(CONTENT["public_key"]), challenge, Given(vector["nonce"], vector["salt"], vector["blind"])
    )


def test_the_public_key_on_the_wire(private_key: RSAPrivateKey) -> None:
    assert encode_public_key(private_key.public_key()).hex() == CONTENT["public_key"]


@TOKENS
def test_the_clients_request(vector: dict[str, Any]) -> None:
    assert claim(vector).request.to_bytes().hex() == vector["token_request"]


@TOKENS
def test_the_issuers_response(vector: dict[str, Any], private_key: RSAPrivateKey) -> None:
    blinded = bytes.fromhex(vector["token_request"])[3:]
    assert BlindSigner(private_key).sign(blinded).hex() == vector["token_response"]


@TOKENS
def test_the_token(vector: dict[str, Any], private_key: RSAPrivateKey) -> None:
    """The client makes it, and the origin takes it."""
    token = claim(vector).finish(bytes.fromhex(vector["token_response"]))
    assert token.to_bytes().hex() == vector["token"]
    keys = IssuerKeys((IssuerKey("tier1", private_key, 0),))
    read = Token.from_bytes(bytes.fromhex(vector["token"]))
    assert keys.by_id(read.key_id) is not None
    check_token(keys, read, 1.0)


@TOKENS
def test_the_challenge_there_and_back(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["token_challenge"])
    assert TokenChallenge.from_bytes(data).to_bytes() == data
