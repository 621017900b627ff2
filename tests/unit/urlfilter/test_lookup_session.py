"""What a client holds, and which step is due: each thing that can be missing, old or forgotten."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.urlfilter.lookup_recovery import Forget, Outcome, Recovery, Retry, Stage
from network_extension.urlfilter.lookup_session import (
    ENOUGH_TOKENS,
    KEY_LIFETIME,
    KEY_ROTATION,
    TOKEN_LIFETIME,
    HeldConfiguration,
    HeldKeys,
    LookupSession,
    Need,
)

Session = LookupSession[str, str, str]


def configuration(identifier: bytes = b"config", key_hash: bytes = b"hash") -> HeldConfiguration[str]:
    return HeldConfiguration(identifier, key_hash, "content")


def keys(identifier: bytes = b"hash", made_at: float = 0.0) -> HeldKeys[str]:
    return HeldKeys(identifier, "material", "pseudonym", made_at)


def ready(*, tokens: int = 10) -> Session:
    """A session that may ask."""
    session = Session()
    session.issuer_key = "issuer"
    for number in range(tokens):
        session.add_token(bytes([number]), 0.0)
    session.configured(configuration())
    session.uploaded(keys())
    return session


def test_the_steps_of_a_first_lookup() -> None:
    session = Session()
    assert session.need(0) is Need.ISSUER_KEY
    session.issuer_key = "issuer"
    assert session.need(0) is Need.TOKENS
    session.add_token(b"1", 0)
    assert session.need(0) is Need.CONFIGURATION
    session.configured(configuration())
    assert session.need(0) is Need.KEYS
    session.keys = keys()
    assert session.need(0) is Need.UPLOAD
    session.uploaded(session.keys)
    assert session.need(0) is Need.NOTHING


def test_without_users_no_token_is_needed() -> None:
    session = Session(uses_tokens=False)
    assert session.need(0) is Need.CONFIGURATION
    assert session.take_token(0) is None and session.wanted_tokens(0) == 0


def test_tokens_are_spent_in_order_and_expire_after_a_day() -> None:
    session = ready(tokens=2)
    assert session.take_token(TOKEN_LIFETIME - 1) == b"\0"
    assert session.need(TOKEN_LIFETIME - 1) is Need.NOTHING
    assert session.need(TOKEN_LIFETIME) is Need.TOKENS


@pytest.mark.parametrize(("left", "wanted"), [(10, 0), (5, 0), (4, 6), (0, ENOUGH_TOKENS)])
def test_the_stock_is_filled_to_ten_when_fewer_than_five_are_left(left: int, wanted: int) -> None:
    assert ready(tokens=left).wanted_tokens(0) == wanted


@pytest.mark.parametrize(
    ("age", "rotates", "need"),
    [
        (0, False, Need.NOTHING),
        (KEY_LIFETIME - KEY_ROTATION - 1, False, Need.NOTHING),
        (KEY_LIFETIME - KEY_ROTATION, True, Need.NOTHING),
        (KEY_LIFETIME - 1, True, Need.NOTHING),
        (KEY_LIFETIME, True, Need.KEYS),
    ],
)
def test_keys_are_renewed_a_day_before_they_expire(age: float, rotates: bool, need: Need) -> None:
    session = ready()
    session.add_token(b"fresh", age)
    assert (session.rotation_is_due(age), session.need(age)) == (rotates, need)


def test_a_configuration_for_other_keys_needs_other_keys() -> None:
    session = ready()
    session.configured(configuration(b"other", b"other hash"))
    assert session.need(0) is Need.KEYS


def test_a_configuration_for_the_same_keys_keeps_them() -> None:
    session = ready()
    session.configured(configuration(b"other"))
    assert session.need(0) is Need.NOTHING


def test_a_refresh_that_brings_the_same_keeps_what_queries_under_way_rest_on() -> None:
    session = ready()
    before = session.configuration
    session.refresh()
    assert session.need(0) is Need.CONFIGURATION
    session.configured(configuration())
    assert session.configuration is before and session.need(0) is Need.NOTHING


def test_a_service_that_says_that_it_lacks_the_key_gets_it_again() -> None:
    session = ready()
    session.server_lacks_keys()
    assert session.need(0) is Need.UPLOAD


@pytest.mark.parametrize(
    ("forgotten", "need"),
    [
        (Forget.TOKENS, Need.ISSUER_KEY),
        (Forget.CONFIGURATION, Need.CONFIGURATION),
        (Forget.UPLOAD, Need.UPLOAD),
        (Forget.NOTHING, Need.NOTHING),
    ],
)
def test_what_is_forgotten_is_due_again(forgotten: Forget, need: Need) -> None:
    session = ready()
    session.forget(forgotten, session.basis())
    assert session.need(0) is need


@pytest.mark.parametrize("forgotten", [Forget.TOKENS, Forget.CONFIGURATION, Forget.UPLOAD])
def test_what_another_lookup_has_renewed_meanwhile_is_kept(forgotten: Forget) -> None:
    """Two queries fail for the same reason; the first has had it mended before the second hears of its failure."""
    session = ready()
    basis = session.basis()
    session.forget(forgotten, basis)
    session.issuer_key = "another"
    session.add_token(b"new", 0.0)
    session.configured(configuration(b"new"))
    assert session.keys is not None
    session.uploaded(session.keys)
    session.forget(forgotten, basis)
    assert session.need(0) is Need.NOTHING


def test_secrets_are_not_shown() -> None:
    assert "material" not in repr(keys()) and "pseudonym" not in repr(keys())


class Service:
    """A service with the state that matters: whose tokens, which configuration, whose keys. Any of it can be lost."""

    def __init__(self) -> None:
        self.epoch = itertools.count()
        self.issuer = self.version = next(self.epoch)
        self.stored: set[str] = set()

    def restart(self, *, loses: Forget) -> None:
        if Forget.TOKENS in loses:
            self.issuer = next(self.epoch)
        if Forget.CONFIGURATION in loses:
            self.version = next(self.epoch)
        if Forget.UPLOAD in loses:
            self.stored.clear()

    def exchange(self, session: LookupSession[int, str, int], need: Need) -> tuple[Stage, Outcome | None]:
        """One step against it, as the driver takes it."""
        if need is Need.ISSUER_KEY:
            session.issuer_key = self.issuer
            return Stage.ISSUER, None
        if need is Need.TOKENS:
            if session.issuer_key != self.issuer:
                return Stage.TOKENS, Outcome.UNPROCESSABLE
            session.add_token(bytes([self.issuer]), 0.0)
            return Stage.TOKENS, None
        if need is Need.KEYS:
            assert session.configuration is not None
            session.keys = HeldKeys(session.configuration.key_hash, "material", "me", 0.0)
            return Stage.KEY, None
        stage = {Need.CONFIGURATION: Stage.CONFIGURATION, Need.UPLOAD: Stage.KEY, Need.NOTHING: Stage.QUERY}[need]
        if session.take_token(0.0) != bytes([self.issuer]):
            return stage, Outcome.UNAUTHORIZED
        return stage, self._accepts(session, need)

    def _accepts(self, session: LookupSession[int, str, int], need: Need) -> Outcome | None:
        if need is Need.CONFIGURATION:
            session.configured(HeldConfiguration(bytes([self.version]), bytes([self.version // 3]), self.version))
            return None
        assert session.configuration is not None and session.keys is not None
        if need is Need.UPLOAD:
            self.stored.add(session.keys.pseudonym)
            session.uploaded(session.keys)
            return None
        if session.configuration.content != self.version:
            return Outcome.GONE
        return None if session.keys.pseudonym in self.stored else Outcome.KEY_MISSING


LOSSES = st.sampled_from([Forget.NOTHING, Forget.TOKENS, Forget.CONFIGURATION, Forget.UPLOAD, ~Forget.NOTHING])


@given(st.dictionaries(st.integers(0, 12), LOSSES, max_size=4))
def test_a_service_that_restarts_between_any_two_steps_is_asked_with_success_and_without_a_pause(
    restarts: dict[int, Forget],
) -> None:
    """Scenario S5, as a model: whatever a restart loses, and whenever it comes, the client ends with an answer."""
    service, session = Service(), LookupSession[int, str, int]()
    tried = Recovery(0.0, 10.0, lambda: 0.5)
    for step in range(60):
        if step in restarts:
            service.restart(loses=restarts[step])
        need, basis = session.need(0.0), session.basis()
        stage, outcome = service.exchange(session, need)
        if need is Need.NOTHING and outcome is None:
            break
        if outcome is not None:
            answer = tried.after(stage, outcome, 0.0)
            assert isinstance(answer, Retry) and answer.delay == 0
            session.forget(answer.forget, basis)
    else:
        pytest.fail("no answer within 60 steps")
