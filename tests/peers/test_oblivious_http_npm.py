"""Our HPKE against hpke-js, our Binary HTTP against bhttp-js, both ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from network_extension.urlfilter import oblivious_http as oh
from network_extension.urlfilter.oblivious_http import hpke

from .npm import Peer, decode, encode

pytestmark = pytest.mark.peer
AEAD = hpke.Aead.AES_128_GCM


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    made = Peer("oblivious_http.mjs")
    yield made
    made.close()


def test_hpke_js_opens_what_we_seal(peer: Peer) -> None:
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    enc, context = hpke.set_up_sender(public, b"info", AEAD, X25519PrivateKey.generate())
    sealed = context.seal(b"message")
    answer = peer.ask(
        "open", privateKey=private.private_bytes_raw(), enc=enc, info=b"info", sealed=sealed, label=b"label", size=32
    )
    assert decode(answer["message"]) == b"message"
    assert decode(answer["secret"]) == context.export(b"label", 32)


def test_we_open_what_hpke_js_seals(peer: Peer) -> None:
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    answer = peer.ask("seal", publicKey=public, info=b"info", message=b"message", label=b"label", size=16)
    context = hpke.set_up_receiver(decode(answer["enc"]), private, public, b"info", AEAD)
    assert context.open(decode(answer["sealed"])) == b"message"
    assert context.export(b"label", 16) == decode(answer["secret"])


@pytest.mark.parametrize("known_length", [True, False])
def test_bhttp_js_reads_what_we_write(peer: Peer, known_length: bool) -> None:
    request = oh.BinaryRequest("POST", "https", "a.example", "/p?x=1", (("user-agent", "d/1"),), b"content")
    found = peer.ask("request", data=oh.encode_request(request, known_length=known_length))
    assert (found["method"], found["url"]) == ("POST", "https://a.example/p?x=1")
    assert found["headers"]["user-agent"] == "d/1" and decode(found["body"]) == b"content"
    response = oh.BinaryResponse(404, (("content-type", "text/plain"),), b"nothing")
    found = peer.ask("response", data=oh.encode_response(response, known_length=known_length))
    assert found == {"status": 404, "headers": {"content-type": "text/plain"}, "body": encode(b"nothing")}


def test_we_read_what_bhttp_js_writes(peer: Peer) -> None:
    headers = {"content-type": "text/plain", "x-a": "1"}
    answer = peer.ask("encodeRequest", method="POST", url="https://a.example/p", headers=headers, body=b"content")
    request = oh.decode_request(decode(answer["data"]))
    assert (request.method, request.scheme, request.authority) == ("POST", "https", "a.example")
    assert request.path == "/p" and request.content == b"content"  # bhttp-js leaves queries out of what it writes
    assert headers.items() <= dict(request.headers).items()
    answer = peer.ask("encodeResponse", status=201, headers=headers, body=b"made")
    response = oh.decode_response(decode(answer["data"]))
    assert (response.status, response.content) == (201, b"made")
    assert headers.items() <= dict(response.headers).items()
