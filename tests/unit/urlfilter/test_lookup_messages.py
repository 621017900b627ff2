"""What a service sends is read, or refused with the one error that says so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from network_extension.pir.proto import api_pb2
from network_extension.urlfilter.lookup_exchange import message_of
from network_extension.urlfilter.lookup_messages import UnreadableAnswer, read_configuration, read_responses

USE_CASE = "netext.url.filtering"
GOOD = api_pb2.ConfigResponse()
GOOD.configs[USE_CASE].config_id = bytes(32)
GOOD.configs[USE_CASE].pir_config.evaluation_key_config_hash = bytes(32)
SEED = GOOD.SerializeToString()


def test_a_good_configuration() -> None:
    found = read_configuration(SEED, USE_CASE, None)
    assert (found.identifier, found.key_hash, found.has_key) == (bytes(32), bytes(32), None)


@given(
    st.binary(max_size=300)
    | st.integers(0, len(SEED)).map(lambda end: SEED[:end])
    | st.integers(0, 8 * len(SEED) - 1).map(lambda bit: (int.from_bytes(SEED) ^ (1 << bit)).to_bytes(len(SEED)))
)
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    for existing in (None, bytes(32)):
        try:
            assert len(read_configuration(data, USE_CASE, existing).identifier) == 32
        except UnreadableAnswer:
            continue
    try:
        assert len(read_responses(data, 1)) == 1
    except UnreadableAnswer:
        pass
    assert message_of(data).isprintable() and len(message_of(data)) <= 200
