"""Privacy Pass: signatures that `cryptography` verifies, messages of the right size, keys that come and go, each token
once.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
from functools import cache

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension import ConfigurationError
from network_extension.urlfilter import privacy_pass as pp
from network_extension.urlfilter.privacy_pass.blind_rsa import BlindSigner, blind, finalize, pss_encode
from network_extension.urlfilter.privacy_pass.issuer_keys import generate_private_key
from network_extension.urlfilter.privacy_pass.public_key import decode_public_key, encode_public_key, key_id

NOW = 1_800_000_000.0
ISSUER = "issuer.example"
DAY = 24 * 3600.0
NAMES = st.from_regex(r"[a-z0-9.,]{1,40}", fullmatch=True)


@cache
def keys() -> pp.IssuerKeys:
    return pp.IssuerKeys().renewed(("tier1", "tier2"), NOW)


def token(tier: str = "tier1", given_keys: pp.IssuerKeys | None = None, now: float = NOW) -> pp.Token:
    owner = given_keys or keys()
    claim = pp.TokenClaim.begin(pp.public_key(owner, tier, now), ISSUER, os.urandom)
    return claim.finish(pp.issue(owner, tier, claim.request.to_bytes(), now))


def redeem(
    shown: pp.Token, spent: pp.SpentNonces | None = None, now: float = NOW, owner: pp.IssuerKeys | None = None
) -> str:
    return asyncio.run(pp.redeem(owner or keys(), shown, spent or pp.MemorySpentNonces(), now))


class TestBlindSignatures:
    def test_cryptography_verifies_what_was_signed_blindly(self) -> None:
        key = generate_private_key()
        message = b"a message"
        blinded, state = blind(key.public_key(), message, os.urandom)
        signature = finalize(key.public_key(), state, BlindSigner(key).sign(blinded))
        pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
        key.public_key().verify(signature, message, pss, hashes.SHA384())

    def test_the_same_message_is_blinded_differently_each_time(self) -> None:
        key = generate_private_key().public_key()
        assert blind(key, b"m", os.urandom)[0] != blind(key, b"m", os.urandom)[0]

    def test_the_encoding_is_what_cryptography_signs(self) -> None:
        """A plain RSA-PSS signature, raised to e, is the encoding with the salt that it carries."""
        key = generate_private_key()
        signature = key.sign(b"m", padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())
        numbers = key.public_key().public_numbers()
        encoded = pow(int.from_bytes(signature, "big"), numbers.e, numbers.n).to_bytes(256, "big")
        from network_extension.urlfilter.privacy_pass.blind_rsa import _mgf1

        block = bytes(a ^ b for a, b in zip(encoded[:207], _mgf1(encoded[207:255], 207), strict=True))
        assert pss_encode(b"m", block[-48:], numbers.n.bit_length() - 1) == encoded

    def test_another_key_is_noticed(self) -> None:
        key, other = generate_private_key(), generate_private_key()
        blinded, state = blind(key.public_key(), b"m", os.urandom)
        if int.from_bytes(blinded, "big") < other.public_key().public_numbers().n:
            with pytest.raises(pp.PrivacyPassError, match="not of the issuer's key"):
                finalize(key.public_key(), state, BlindSigner(other).sign(blinded))
        with pytest.raises(pp.PrivacyPassError, match="5 bytes instead of 256"):
            finalize(key.public_key(), state, b"short")

    def test_what_is_not_below_the_modulus_is_refused(self) -> None:
        signer = BlindSigner(generate_private_key())
        for bad in (b"\xff" * 256, b"", bytes(255)):
            with pytest.raises(pp.WrongRequest):
                signer.sign(bad)
        assert signer.sign(bytes(256)) == bytes(256)

    def test_a_key_of_another_size(self) -> None:
        small = rsa.generate_private_key(65537, 1024)
        with pytest.raises(ValueError, match="1024 bits"):
            BlindSigner(small)
        with pytest.raises(ValueError, match="1024 bits"):
            encode_public_key(small.public_key())

    def test_a_broken_source_of_chance(self) -> None:
        with pytest.raises(ValueError, match="source is broken"):
            blind(generate_private_key().public_key(), b"m", lambda size: b"\xff" * size)


class TestPublicKeys:
    def test_342_bytes_that_openssl_reads_as_rsassa_pss(self) -> None:
        key = generate_private_key().public_key()
        encoded = encode_public_key(key)
        assert len(encoded) == 342 and len(key_id(encoded)) == 32
        loaded = serialization.load_der_public_key(encoded)
        assert isinstance(loaded, rsa.RSAPublicKey) and loaded.public_numbers() == key.public_numbers()
        assert decode_public_key(encoded).public_numbers() == key.public_numbers()

    def test_another_encoding_of_the_same_key_is_another_key(self) -> None:
        plain = (
            generate_private_key()
            .public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        with pytest.raises(pp.MalformedMessage, match="294 bytes"):
            decode_public_key(plain)

    @given(st.binary(max_size=400))
    def test_any_bytes(self, data: bytes) -> None:
        with pytest.raises(pp.MalformedMessage):
            decode_public_key(data)


class TestMessages:
    def test_sizes_are_apples(self) -> None:
        claim = pp.TokenClaim.begin(pp.public_key(keys(), "tier1", NOW), ISSUER, os.urandom)
        assert len(claim.request.to_bytes()) == 259
        assert len(pp.issue(keys(), "tier1", claim.request.to_bytes(), NOW)) == 256
        assert len(token().to_bytes()) == 354
        header = pp.authorization(token())
        assert len(header.removeprefix("PrivateToken token=")) == 472 and "=" not in header[20:]

    @given(st.binary(max_size=400))
    def test_any_bytes(self, data: bytes) -> None:
        for parse, error in (
            (pp.Token.from_bytes, pp.MalformedMessage),
            (pp.TokenRequest.from_bytes, pp.WrongRequest),
            (pp.TokenChallenge.from_bytes, pp.MalformedMessage),
        ):
            try:
                assert parse(data).to_bytes() == data
            except error:
                pass

    @given(
        st.from_regex(r"[a-z0-9.]{1,40}", fullmatch=True),
        st.booleans(),
        st.from_regex(r"[a-z.,]{0,40}", fullmatch=True),
    )
    def test_challenges(self, issuer: str, context: bool, origin: str) -> None:
        challenge = pp.TokenChallenge(issuer, bytes(32) if context else b"", origin)
        assert pp.TokenChallenge.from_bytes(challenge.to_bytes()) == challenge

    @given(st.text(max_size=100))
    def test_any_header(self, text: str) -> None:
        for value in (text, "PrivateToken " + text, "PrivateToken token=" + text):
            with pytest.raises(pp.MalformedMessage):
                pp.read_authorization(value)
            with pytest.raises(pp.MalformedMessage):
                pp.read_www_authenticate(value)

    def test_headers_as_others_write_them(self) -> None:
        shown = token()
        plain = base64.b64encode(shown.to_bytes()).decode()
        for value in (
            pp.authorization(shown),
            f'PrivateToken token="{base64.urlsafe_b64encode(shown.to_bytes()).decode()}"',
            f"privatetoken extra=1, token={plain}",
            f"PrivateToken  token = {plain} ",
        ):
            assert pp.read_authorization(value) == shown

    def test_the_challenge_header(self) -> None:
        encoded = pp.public_key(keys(), "tier1", NOW)
        challenge = pp.TokenChallenge(ISSUER)
        assert pp.read_www_authenticate(pp.www_authenticate(challenge, encoded)) == (challenge, encoded)

    def test_nothing_secret_is_shown(self) -> None:
        shown = token()
        assert shown.nonce.hex() not in repr(shown) and repr(shown.nonce) not in repr(shown)
        assert "PRIVATE" not in repr(keys())


class TestIssuer:
    def test_each_user_gets_tokens_of_the_own_tier(self) -> None:
        assert redeem(token("tier1")) == "tier1"
        assert redeem(token("tier2")) == "tier2"

    def test_the_directory(self) -> None:
        listed = pp.directory(keys())
        assert listed["issuer-request-uri"] == "/issue"
        encoded = {base64.urlsafe_b64decode(item["token-key"]) for item in listed["token-keys"]}
        assert encoded == {pp.public_key(keys(), tier, NOW) for tier in ("tier1", "tier2")}
        assert {item["token-type"] for item in listed["token-keys"]} == {2}

    def test_a_request_for_another_tiers_key(self) -> None:
        claim = pp.TokenClaim.begin(pp.public_key(keys(), "tier1", NOW), ISSUER, os.urandom)
        with pytest.raises(pp.WrongRequest, match="not one of the user's tier"):
            pp.issue(keys(), "tier2", claim.request.to_bytes(), NOW)

    @pytest.mark.parametrize(
        "data", [b"", b"\x00\x01" + bytes(257), b"\x00\x02" + bytes(256), b"\x00\x02" + bytes(258)]
    )
    def test_another_type_or_size(self, data: bytes) -> None:
        with pytest.raises(pp.WrongRequest) as caught:
            pp.issue(keys(), "tier1", data, NOW)
        assert caught.value.status == 422

    def test_a_tier_without_a_key(self) -> None:
        with pytest.raises(pp.RefusedToken, match="tier3 has no key"):
            pp.public_key(keys(), "tier3", NOW)

    def test_truncated_ids_differ(self) -> None:
        first = generate_private_key()
        taken = key_id(encode_public_key(first.public_key()))[-1]
        other = next(key for key in iter(generate_private_key, None) if pp.IssuerKey("b", key, 0).id[-1] != taken)
        drawn = iter([first, first, first, other])  # a key drawn twice has the same truncated id
        made = pp.IssuerKeys().renewed(("a", "b"), NOW, lambda: next(drawn))
        assert [key.private for key in made.keys] == [first, other]
        with pytest.raises(ConfigurationError, match="truncated id"):
            pp.IssuerKeys().renewed(("a", "b"), NOW, lambda: first)


class TestKeysInTime:
    def test_kept_and_restored(self) -> None:
        again = pp.IssuerKeys.from_bytes(keys().to_bytes())
        assert [key.id for key in again.keys] == [key.id for key in keys().keys]
        assert redeem(token(), owner=again) == "tier1"

    @pytest.mark.parametrize("data", [b"", b"{}", b'{"format": 2, "keys": []}', b'{"format": 1, "keys": [{}]}', b"[]"])
    def test_damaged(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="issuer keys"):
            pp.IssuerKeys.from_bytes(data)

    def test_nothing_changes_while_keys_are_young(self) -> None:
        assert keys().renewed(("tier1", "tier2"), NOW + DAY) is keys()

    def test_a_new_key_takes_over_and_old_tokens_count_on(self) -> None:
        old = token()
        later = NOW + pp.KEY_LIFETIME / 2
        renewed = keys().renewed(("tier1",), later)
        assert len(renewed.keys) == 3
        assert pp.public_key(renewed, "tier1", later) != pp.public_key(keys(), "tier1", NOW)
        assert redeem(old, now=later, owner=renewed) == redeem(token("tier1", renewed, later), now=later, owner=renewed)

    def test_a_request_for_the_key_before_is_still_met(self) -> None:
        claim = pp.TokenClaim.begin(pp.public_key(keys(), "tier1", NOW), ISSUER, os.urandom)
        rotated = keys().rotated("tier1", NOW + 1)
        assert claim.finish(pp.issue(rotated, "tier1", claim.request.to_bytes(), NOW + 2))

    def test_after_its_last_use_a_key_is_gone_and_so_are_its_tokens(self) -> None:
        old, end = token(), NOW + pp.KEY_LIFETIME + pp.TOKEN_LIFETIME
        with pytest.raises(pp.RefusedToken, match="No token key found"):
            redeem(old, now=end)
        assert all(key.not_before == end for key in keys().renewed(("tier1", "tier2"), end).keys)


class TestTokensCountOnce:
    def test_the_second_time_it_is_refused(self) -> None:
        shown, spent = token(), pp.MemorySpentNonces()
        assert redeem(shown, spent) == "tier1"
        with pytest.raises(pp.RefusedToken, match="used before"):
            redeem(shown, spent)

    def test_nonces_are_remembered_as_long_as_the_key_counts(self) -> None:
        shown, spent = token(), pp.MemorySpentNonces()
        redeem(shown, spent)
        last = keys().keys[0].last_use
        assert spent.expire(last - 1) == 0
        with pytest.raises(pp.RefusedToken, match="used before"):
            redeem(shown, spent, last - 1)
        assert spent.expire(last) == 1
        with pytest.raises(pp.RefusedToken, match="No token key found"):
            redeem(shown, spent, last)

    def test_a_false_token_spends_nothing(self) -> None:
        shown, spent = token(), pp.MemorySpentNonces()
        false = pp.Token(shown.nonce, shown.challenge_digest, shown.key_id, bytes(256))
        with pytest.raises(pp.RefusedToken, match="signature is false"):
            redeem(false, spent)
        assert redeem(shown, spent) == "tier1"

    def test_an_answer_to_another_challenge(self) -> None:
        shown = token()
        right, wrong = (frozenset((pp.TokenChallenge(name).digest,)) for name in (ISSUER, "other.example"))
        assert pp.check_token(keys(), shown, NOW, right)
        with pytest.raises(pp.RefusedToken, match="another challenge"):
            pp.check_token(keys(), shown, NOW, wrong)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 8 * 354 - 1))
    def test_any_flipped_bit_is_found(self, bit: int) -> None:
        data = bytearray(_SHOWN.to_bytes())
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(pp.PrivacyPassError):
            pp.check_token(keys(), pp.Token.from_bytes(bytes(data)), NOW)


_SHOWN = token()


class TestStock:
    def test_one_then_three_then_full(self) -> None:
        stock, chance = pp.TokenStock(), random.Random(1)
        asked = []
        for _ in range(4):
            asked.append(stock.wanted(NOW))
            stock.add([_SHOWN] * asked[-1], NOW)
        assert asked == [1, 3, 6, 0] and len(stock) == 10
        for _ in range(chance.randrange(6, 9)):
            assert stock.take(NOW) is _SHOWN
        assert stock.wanted(NOW) == 10 - len(stock)

    def test_tokens_expire(self) -> None:
        stock = pp.TokenStock()
        stock.add([_SHOWN], NOW)
        assert stock.take(NOW + pp.TOKEN_LIFETIME) is None

    def test_after_a_refusal_it_begins_anew(self) -> None:
        stock = pp.TokenStock()
        stock.add([_SHOWN] * 10, NOW)
        stock.clear()
        assert stock.take(NOW) is None and stock.wanted(NOW) == 1
