"""Oblivious HTTP, end to end in memory, part by part against pyhpke and `cryptography`, and against bytes that nobody
meant.
"""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from cryptography.hazmat.primitives import hpke as cryptography_hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from network_extension import ConfigurationError
from network_extension.core.variable_length import decode_integer, encode_integer
from network_extension.urlfilter import oblivious_http as oh
from network_extension.urlfilter.oblivious_http import chunked, gateway, hpke
from network_extension.urlfilter.oblivious_http.binary_http import MOST_PIECES
from network_extension.urlfilter.oblivious_http.encapsulation import RESPONSE_TYPE, RequestContext
from network_extension.urlfilter.oblivious_http.key_configurations import KEY_LIFETIME, KEY_OVERLAP
from network_extension.urlfilter.oblivious_http.targets import call_application, in_process

NOW = 1_800_000_000.0
KEYS = oh.GatewayKeys().renewed(NOW)
CONFIGURATION = oh.decode_list(KEYS.public_list)[0]
AEADS = list(hpke.Aead)

NAMES = st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True)
VALUES = st.from_regex(r"([\x21-\x7e]([\x20-\x7e]{0,18}[\x21-\x7e])?)?", fullmatch=True)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=5).map(tuple)
REQUESTS = st.builds(
    oh.BinaryRequest,
    st.sampled_from(["GET", "POST"]),
    st.sampled_from(["https", "http"]),
    st.sampled_from(["", "a.example", "[::1]:8080"]),
    st.from_regex(r"/[a-z0-9/?=]{0,80}", fullmatch=True),
    FIELDS,
    st.binary(max_size=300),
    FIELDS,
)
RESPONSES = st.builds(
    oh.BinaryResponse,
    st.integers(200, 599),
    FIELDS,
    st.binary(max_size=300),
    FIELDS,
    st.lists(st.tuples(st.integers(100, 199), FIELDS), max_size=3).map(tuple),
)


class TestHpke:
    @pytest.mark.parametrize("aead", AEADS)
    def test_pyhpke_opens_what_we_seal_and_exports_the_same(self, aead: hpke.Aead) -> None:
        private = X25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        encapsulated, context = hpke.set_up_sender(public, b"info", aead, X25519PrivateKey.generate())
        suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId(int(aead)))
        theirs = suite.create_recipient_context(encapsulated, KEMKey.from_pyca_cryptography_key(private), b"info")
        for number in range(3):
            assert theirs.open(context.seal(b"message %d" % number, b"aad"), b"aad") == b"message %d" % number
        assert theirs.export(b"label", 40) == context.export(b"label", 40)

    @pytest.mark.parametrize("aead", AEADS)
    def test_we_open_what_pyhpke_seals(self, aead: hpke.Aead) -> None:
        private = X25519PrivateKey.generate()
        suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId(int(aead)))
        encapsulated, theirs = suite.create_sender_context(
            KEMKey.from_pyca_cryptography_key(private.public_key()), b"i"
        )
        ours = hpke.set_up_receiver(encapsulated, private, private.public_key().public_bytes_raw(), b"i", aead)
        for number in range(3):
            assert ours.open(theirs.seal(b"message %d" % number)) == b"message %d" % number
        assert ours.export(b"label", 16) == theirs.export(b"label", 16)

    def test_cryptographys_own_hpke_opens_what_we_seal(self) -> None:
        private = X25519PrivateKey.generate()
        suite = cryptography_hpke.Suite(
            cryptography_hpke.KEM.X25519, cryptography_hpke.KDF.HKDF_SHA256, cryptography_hpke.AEAD.AES_128_GCM
        )
        public = private.public_key().public_bytes_raw()
        encapsulated, context = hpke.set_up_sender(public, b"info", hpke.Aead.AES_128_GCM, X25519PrivateKey.generate())
        assert suite.decrypt(encapsulated + context.seal(b"message"), private, b"info") == b"message"

    def test_a_key_that_is_none(self) -> None:
        """All zeros agree on zeros with everybody (RFC 7748 §6.1)."""
        with pytest.raises(oh.MalformedMessage):
            hpke.set_up_sender(bytes(32), b"", hpke.Aead.AES_128_GCM, X25519PrivateKey.generate())
        private = X25519PrivateKey.generate()
        for bad in (bytes(32), b"short"):
            with pytest.raises(oh.MalformedMessage):
                hpke.set_up_receiver(bad, private, private.public_key().public_bytes_raw(), b"", hpke.Aead.AES_128_GCM)


class TestBinaryHttp:
    @given(REQUESTS, st.booleans(), st.integers(0, 20))
    def test_requests(self, request: oh.BinaryRequest, known: bool, padding: int) -> None:
        assert oh.decode_request(oh.encode_request(request, known_length=known, padding=padding)) == request

    @given(RESPONSES, st.booleans(), st.integers(0, 20))
    def test_responses(self, response: oh.BinaryResponse, known: bool, padding: int) -> None:
        assert oh.decode_response(oh.encode_response(response, known_length=known, padding=padding)) == response

    def test_the_bytes_of_a_request(self) -> None:
        """By hand, after RFC 9292 §3.1 and §3.3."""
        data = bytes.fromhex("00 03474554 056874747073 09612e6578616d706c65 042f612f62 05 01610131 00 00")
        data = data.replace(bytes.fromhex("05 01610131"), bytes.fromhex("04 01610131"))
        assert oh.decode_request(data) == oh.BinaryRequest("GET", "https", "a.example", "/a/b", (("a", "1"),))
        assert oh.encode_request(oh.decode_request(data)) == data

    @pytest.mark.parametrize("end", ["", "00", "0000", "000000"])
    def test_cut_off_where_nothing_would_follow(self, end: str) -> None:
        """RFC 9292 §3.8."""
        head = bytes.fromhex("00 03474554 056874747073 00 012f")
        assert oh.decode_request(head + bytes.fromhex(end)) == oh.BinaryRequest("GET", "https", "", "/")
        assert oh.decode_response(bytes.fromhex("01 40c8" + end)) == oh.BinaryResponse(200)

    @pytest.mark.parametrize(
        "data",
        [
            "",
            "05",
            "01 40c8",  # a response is no request
            "00 034745",
            "00 03474554 056874747073 00 012f 05 0161",
            "00 03474554 056874747073 00 012f 02 0161",
            "00 03474554 056874747073 00 012f 00 02 61",
            "00 03474554 056874747073 00 012f 00 00 00 01",  # padding that is none
            "00 03472054 056874747073 00 012f",  # "G T"
            "00 03474554 056874747073 00 022f20",  # a space in the path
            "00 03474554 056874747073 00 012f 04 01410131",  # a name in capitals
            "00 03474554 056874747073 00 012f 04 0161010a",  # a line feed in a value
            "00 03474554 056874747073 00 012f 05 0161022031",  # a space before a value, as no HTTP/2 message has it
            "00 03474554 056874747073 00 012f 05 0161023120",  # and behind it
            "02 03474554 056874747073 00 012f 0161",
            "00 03474554 056874747073 00 012f bfffffff",
        ],
    )
    def test_bad_requests(self, data: str) -> None:
        with pytest.raises(oh.MalformedMessage):
            oh.decode_request(bytes.fromhex(data))

    def test_content_in_far_too_many_pieces(self) -> None:
        """Each costs time, whatever it holds: ten MiB of pieces of one byte held the event loop for two seconds."""
        head = bytes.fromhex("02 03474554 056874747073 00 012f 00")
        most = MOST_PIECES - 1
        assert oh.decode_request(head + b"\x01x" * most + b"\0").content == b"x" * most
        with pytest.raises(oh.MalformedMessage, match="pieces"):
            oh.decode_request(head + b"\x01x" * (most + 1) + b"\0")

    @given(st.binary(max_size=200), st.integers(0, 3))
    def test_any_bytes(self, data: bytes, kind: int) -> None:
        for decode in (oh.decode_request, oh.decode_response):
            try:
                decode(bytes((kind,)) + data)
            except oh.MalformedMessage:
                pass

    def test_what_cannot_be_written(self) -> None:
        with pytest.raises(ValueError, match="HTTP does not allow"):
            oh.encode_request(oh.BinaryRequest("GET\r\n", "https", "", "/"))
        with pytest.raises(ValueError, match="HTTP does not allow"):
            oh.encode_request(oh.BinaryRequest("GET", "https", "", "/", (("a", "1\n"),)))
        with pytest.raises(ValueError, match="status 100"):
            oh.encode_response(oh.BinaryResponse(100))

    @given(st.integers(0, (1 << 62) - 1))
    def test_integers(self, number: int) -> None:
        encoded = encode_integer(number)
        assert decode_integer(encoded, 0) == (number, len(encoded))


class TestEncapsulation:
    @pytest.mark.parametrize("aead", AEADS)
    @given(st.binary(max_size=100), st.binary(max_size=100))
    @settings(max_examples=10)
    def test_there_and_back(self, aead: hpke.Aead, request: bytes, response: bytes) -> None:
        sealed, client = oh.seal_request(CONFIGURATION, request, X25519PrivateKey.generate(), aead)
        opened, context = oh.open_request(KEYS, sealed)
        assert opened == request
        assert client.open(context.seal(response, os.urandom(max(12, aead.key_size)))) == response

    @pytest.mark.parametrize("aead", AEADS)
    @given(st.lists(st.binary(max_size=50), max_size=5), st.lists(st.binary(max_size=50), max_size=5))
    @settings(max_examples=10)
    def test_in_pieces(self, aead: hpke.Aead, request: list[bytes], response: list[bytes]) -> None:
        sealed, client = chunked.seal_request(CONFIGURATION, request, X25519PrivateKey.generate(), aead)
        opened, context = chunked.open_request(KEYS, sealed)
        assert opened == b"".join(request)
        answer = context.seal_response(response, os.urandom(max(12, aead.key_size)))
        assert client.open_response(answer) == b"".join(response)

    def test_pieces_that_were_cut_off(self) -> None:
        sealed, client = chunked.seal_request(CONFIGURATION, [b"one", b"two"], X25519PrivateKey.generate())
        for end in range(len(sealed)):
            with pytest.raises(oh.ObliviousError):
                chunked.open_request(KEYS, sealed[:end])
        _, context = chunked.open_request(KEYS, sealed)
        answer = context.seal_response([b"one", b"two"], os.urandom(16))
        for end in range(len(answer)):
            with pytest.raises(oh.ObliviousError):
                client.open_response(answer[:end])

    @settings(max_examples=80)
    @given(st.integers(0, 10_000))
    def test_any_flipped_bit_is_found(self, bit: int) -> None:
        data = bytearray(_SEALED)
        bit %= len(data) * 8
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(oh.ObliviousError):
            oh.open_request(KEYS, bytes(data))

    @given(st.binary(max_size=100))
    def test_any_bytes(self, data: bytes) -> None:
        for opener in (oh.open_request, chunked.open_request):
            with pytest.raises(oh.ObliviousError):
                opener(KEYS, data)
        with pytest.raises(oh.ObliviousError):
            _CLIENT.open(data)

    def test_the_answer_to_another_request(self) -> None:
        _, other = oh.open_request(KEYS, oh.seal_request(CONFIGURATION, b"x", X25519PrivateKey.generate())[0])
        with pytest.raises(oh.DecryptionFailed):
            _CLIENT.open(other.seal(b"answer", os.urandom(16)))

    def test_nothing_secret_is_shown(self) -> None:
        _, context = oh.open_request(KEYS, _SEALED)
        assert isinstance(context, RequestContext) and "key=" not in repr(context).replace("exporter", "")


_SEALED, _CLIENT = oh.seal_request(CONFIGURATION, b"request", X25519PrivateKey.generate())


class TestKeys:
    def test_lists_of_others(self) -> None:
        """Configurations with algorithms that are not ours are passed over; a list of nothing else is refused."""
        foreign = bytes.fromhex("07 0010") + bytes(65) + bytes.fromhex("0004 0001 0001")
        both = len(foreign).to_bytes(2, "big") + foreign + KEYS.public_list
        assert oh.decode_list(both) == (CONFIGURATION,)
        with pytest.raises(oh.MalformedMessage, match="none with X25519"):
            oh.decode_list(len(foreign).to_bytes(2, "big") + foreign)

    @given(st.binary(max_size=120))
    def test_any_bytes(self, data: bytes) -> None:
        try:
            oh.decode_list(data)
        except oh.MalformedMessage:
            pass

    def test_kept_and_restored(self) -> None:
        assert oh.GatewayKeys.from_bytes(KEYS.to_bytes()).public_list == KEYS.public_list
        for bad in (b"", b"{}", b'{"format": 1, "keys": [{"id": 1}]}', b'{"format": 9, "keys": []}'):
            with pytest.raises(ConfigurationError, match="gateway keys"):
                oh.GatewayKeys.from_bytes(bad)

    def test_old_keys_open_for_a_while(self) -> None:
        assert KEYS.renewed(NOW + KEY_LIFETIME - 1) is KEYS
        renewed = KEYS.renewed(NOW + KEY_LIFETIME)
        assert len(renewed.keys) == 2 and oh.decode_list(renewed.public_list) != (CONFIGURATION,)
        assert oh.open_request(renewed, _SEALED)[0] == b"request"
        later = renewed.renewed(NOW + KEY_LIFETIME + KEY_OVERLAP)
        assert len(later.keys) == 1
        with pytest.raises(oh.UnknownKey):
            oh.open_request(later, _SEALED)

    def test_ids_are_used_again_but_not_while_they_are_in_use(self) -> None:
        keys = KEYS
        for _ in range(254):
            keys = keys.rotated(NOW)
        assert len({key.key_id for key in keys.keys}) == 255


async def _echo(request: Request) -> Response:
    body = (await request.body()).decode()
    seen = dict(request.headers.items())
    return JSONResponse(
        {"path": request.url.path, "query": request.url.query, "body": body, "headers": seen},
        headers={"connection": "x-hop", "x-hop": "1", "x-kept": "2"},
    )


class World:
    """A gateway before a target, and a client that reaches it without a network."""

    def __init__(self) -> None:
        self.keys = KEYS
        target = Starlette(routes=[Route("/{path:path}", _echo, methods=["GET", "POST"])])
        self.gateway = gateway.Gateway(lambda: self.keys, {"a.example": in_process(target)})
        self.outer = Starlette(
            routes=[
                Route("/gateway", self.gateway.exchange, methods=["POST"]),
                Route(gateway.KEYS_PATH, self.gateway.key_list),
            ]
        )
        self.asked: list[str] = []
        self.client = oh.ObliviousClient("/gateway", gateway.KEYS_PATH, self.carry)

    async def carry(self, method: str, url: str, content_type: str, body: bytes) -> tuple[int, str, bytes]:
        self.asked.append(url)
        fields = (("content-type", content_type), ("cookie", "secret"))
        answer = await call_application(self.outer, oh.BinaryRequest(method, "https", "relay", url, fields, body))
        return answer.status, dict(answer.headers).get("content-type", ""), answer.content

    def ask(self, request: oh.BinaryRequest) -> oh.BinaryResponse:
        return asyncio.run(self.client.exchange(request))


ASK = oh.BinaryRequest(
    "POST",
    "https",
    "a.example",
    "/p?x=1",
    (("user-agent", "d/1"), ("authorization", "t"), ("connection", "close")),
    b"hi",
)


class TestGateway:
    def test_the_target_sees_what_the_client_sealed_and_nothing_of_the_way(self) -> None:
        answer = World().ask(ASK)
        seen = json.loads(answer.content)
        assert (seen["path"], seen["query"], seen["body"]) == ("/p", "x=1", "hi")
        assert seen["headers"] == {
            "user-agent": "d/1", "authorization": "t", "host": "a.example", "content-length": "2"
        }  # fmt: skip
        assert dict(answer.headers).keys() == {"content-type", "x-kept"}

    def test_no_open_proxy(self) -> None:
        answer = World().ask(oh.BinaryRequest("GET", "https", "b.example", "/"))
        assert answer.status == 403 and b"does not lead to that target" in answer.content

    def test_a_rotated_key_costs_one_more_round(self) -> None:
        world = World()
        assert world.ask(ASK).status == 200
        world.keys = oh.GatewayKeys().rotated(NOW).rotated(NOW)
        assert world.ask(ASK).status == 200
        assert world.asked == [gateway.KEYS_PATH, "/gateway", "/gateway", gateway.KEYS_PATH, "/gateway"]

    def test_requests_of_the_same_time_fetch_the_keys_once(self) -> None:
        """At the start, and when the gateway has rotated."""
        world = World()

        async def slowly(method: str, url: str, content_type: str, body: bytes) -> tuple[int, str, bytes]:
            await asyncio.sleep(0)  # the others' turn
            return await world.carry(method, url, content_type, body)

        world.client = oh.ObliviousClient("/gateway", gateway.KEYS_PATH, slowly)

        async def several() -> None:
            answers = await asyncio.gather(*(world.client.exchange(ASK) for _ in range(8)))
            assert [answer.status for answer in answers] == [200] * 8

        async def before_and_after() -> None:
            await several()
            world.keys = oh.GatewayKeys().rotated(NOW).rotated(NOW)
            await several()

        asyncio.run(before_and_after())
        assert world.asked.count(gateway.KEYS_PATH) == 2 and world.asked.count("/gateway") == 24

    def test_a_gateway_that_never_knows_the_key(self) -> None:
        world = World()
        assert world.ask(ASK).status == 200

        async def stale(request: Request) -> Response:
            return Response(KEYS.public_list)

        world.outer.routes[1] = Route(gateway.KEYS_PATH, stale)
        world.keys = oh.GatewayKeys().rotated(NOW).rotated(NOW)
        with pytest.raises(oh.ObliviousError, match="answers 400"):
            world.ask(ASK)

    def post(self, body: bytes, kind: str = "message/ohttp-req") -> oh.BinaryResponse:
        request = oh.BinaryRequest("POST", "https", "gateway", "/gateway", (("content-type", kind),), body)
        return asyncio.run(call_application(World().outer, request))

    def test_refusals(self) -> None:
        assert self.post(_SEALED, "text/plain").status == 415
        assert self.post(b"short").status == 400
        assert self.post(bytes(gateway.LARGEST_BODY + 1)).status == 413
        unknown = self.post(bytes((99,)) + _SEALED[1:])
        assert unknown.status == 400 and gateway.KEY_PROBLEM.encode() in unknown.content
        assert dict(unknown.headers)["content-type"] == "application/problem+json"

    def test_what_is_sealed_but_no_http(self) -> None:
        answer = self.post(_SEALED)
        assert answer.status == 200 and dict(answer.headers)["content-type"] == RESPONSE_TYPE
        inner = oh.decode_response(_CLIENT.open(answer.content))
        assert inner.status == 400

    def test_in_pieces(self) -> None:
        message = oh.encode_request(ASK, known_length=False)
        sealed, client = chunked.seal_request(CONFIGURATION, [message[:9], message[9:]], X25519PrivateKey.generate())
        answer = self.post(sealed, chunked.REQUEST_TYPE)
        assert dict(answer.headers)["content-type"] == chunked.RESPONSE_TYPE
        assert oh.decode_response(client.open_response(answer.content)).status == 200

    def test_a_target_that_is_gone(self) -> None:
        async def gone(request: oh.BinaryRequest) -> oh.BinaryResponse:
            raise ConnectionRefusedError("no")

        world = World()
        world.gateway._targets["a.example"] = gone
        assert world.ask(ASK).status == 502
