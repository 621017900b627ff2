"""Published examples. RFC 9180 Appendix A.1.1, RFC 9458 Appendix A and the appendix of draft-ietf-ohai-chunked-ohttp
stand here byte for byte (what is sealed proves it: nothing else opens). The messages of RFC 9292 §5 are put together
from their text, after §3.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from network_extension.urlfilter import oblivious_http as oh
from network_extension.urlfilter.oblivious_http import chunked, hpke
from network_extension.urlfilter.oblivious_http.key_configurations import GatewayKey


def key(text: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(text))


def gateway_keys(private: X25519PrivateKey) -> oh.GatewayKeys:
    return oh.GatewayKeys((GatewayKey(1, private, 0.0),))


SEALED_AT = {
    0: "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
    1: "af2d7e9ac9ae7e270f46ba1f975be53c09f8d875bdc8535458c2494e8a6eab251c03d0c22a56b8ca42c2063b84",
    2: "498dfcabd92e8acedc281e85af1cb4e3e31c7dc394a1ca20e173cb72516491588d96a19ad4a683518973dcc180",
    4: "583bd32bc67a5994bb8ceaca813d369bca7b2a42408cddef5e22f880b631215a09fc0012bc69fccaa251c0246d",
    255: "7175db9717964058640a3a11fb9007941a5d1757fda1a6935c805c21af32505bf106deefec4a49ac38d71c9e0a",
    256: "957f9800542b0b8891badb026d79cc54597cb2d225b54c00c5238c25d05c30e3fbeda97d2e0e1aba483a2df9f2",
}
EXPORTED = {
    b"": "3853fe2b4035195a573ffc53856e77058e15d9ea064de3e59f4961d0095250ee",
    b"\0": "2e8f0b54673c7029649d4eb9d5e33bf1872cf76d623ff164ac185da9e88c21a5",
    b"TestContext": "e9e43065102c3836401bed8c3c3c75ae46be1639869391d62c61f1ec7af54931",
}
"""Of one context: messages by their number, and secrets by their label."""


class TestRfc9180:
    """DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, base mode."""

    INFO = b"Ode on a Grecian Urn"
    MESSAGE = b"Beauty is truth, truth beauty"
    EPHEMERAL = key("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736")
    RECEIVER = key("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
    PUBLIC = bytes.fromhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d")
    ENCAPSULATED = bytes.fromhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")

    def test_the_sender(self) -> None:
        encapsulated, context = hpke.set_up_sender(self.PUBLIC, self.INFO, hpke.Aead.AES_128_GCM, self.EPHEMERAL)
        assert encapsulated == self.ENCAPSULATED
        assert context.key.hex() == "4531685d41d65f03dc48f6b8302c05b0"
        assert context.base_nonce.hex() == "56d890e5accaaf011cff4b7d"
        assert context.exporter_secret.hex() == "45ff1c2e220db587171952c0592d5f5ebe103f1561a2614e38f2ffd47e99e3f8"
        sealed = [context.seal(self.MESSAGE, b"Count-%d" % number).hex() for number in range(257)]
        assert {number: sealed[number] for number in SEALED_AT} == SEALED_AT

    def test_the_receiver(self) -> None:
        context = hpke.set_up_receiver(self.ENCAPSULATED, self.RECEIVER, self.PUBLIC, self.INFO, hpke.Aead.AES_128_GCM)
        assert self.RECEIVER.public_key().public_bytes_raw() == self.PUBLIC
        for number in range(3):
            sealed = bytes.fromhex(SEALED_AT[number])
            assert context.open(sealed, b"Count-%d" % number) == self.MESSAGE
        assert {label: context.export(label, 32).hex() for label in EXPORTED} == EXPORTED


class TestRfc9458:
    """A whole exchange."""

    CONFIGURATION = bytes.fromhex(
        "01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003"
    )
    GATEWAY = key("3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a")
    EPHEMERAL = key("bc51d5e930bda26589890ac7032f70ad12e4ecb37abb1b65b1256c9c48999c73")
    REQUEST = bytes.fromhex("00034745540568747470730b6578616d706c652e636f6d012f")
    SEALED_REQUEST = bytes.fromhex(
        "010020000100014b28f881333e7c164ffc499ad9796f877f4e1051ee6d31bad19dec96c208b472"
        "6374e469135906992e1268c594d2a10c695d858c40a026e7965e7d86b83dd440b2c0185204b4d63525"
    )
    RESPONSE = bytes.fromhex("0140c8")
    SEALED_RESPONSE = bytes.fromhex("c789e7151fcba46158ca84b04464910d86f9013e404feea014e7be4a441f234f857fbd")

    def test_the_key_configuration(self) -> None:
        configuration = oh.KeyConfiguration.from_bytes(self.CONFIGURATION)
        aeads = (hpke.Aead.AES_128_GCM, hpke.Aead.CHACHA20_POLY1305)
        assert configuration == oh.KeyConfiguration(1, self.GATEWAY.public_key().public_bytes_raw(), aeads)
        assert configuration.to_bytes() == self.CONFIGURATION
        listed = len(self.CONFIGURATION).to_bytes(2, "big") + self.CONFIGURATION
        assert oh.decode_list(listed) == (configuration,) and oh.encode_list((configuration,)) == listed

    def test_the_exchange(self) -> None:
        configuration = oh.KeyConfiguration.from_bytes(self.CONFIGURATION)
        assert configuration is not None
        sealed, client = oh.seal_request(configuration, self.REQUEST, self.EPHEMERAL)
        assert sealed == self.SEALED_REQUEST
        opened, context = oh.open_request(gateway_keys(self.GATEWAY), sealed)
        assert opened == self.REQUEST
        assert oh.decode_request(opened) == oh.BinaryRequest("GET", "https", "example.com", "/")
        assert context.seal(self.RESPONSE, self.SEALED_RESPONSE[:16]) == self.SEALED_RESPONSE
        assert oh.decode_response(client.open(self.SEALED_RESPONSE)) == oh.BinaryResponse(200)


class TestChunkedDraft:
    """A request and an answer, each in pieces."""

    GATEWAY = key("1c190d72acdbe4dbc69e680503bb781a932c70a12c8f3754434c67d8640d8698")
    REQUEST = bytes.fromhex(
        "010020000100018811eb457e100811c40a0aa71340a1b81d804bb986f736f2f566a7199761a032"
        "1c2ad24942d4d692563012f2980c8fef437a336b9b2fc938ef77a5834f"
        "1d2e33d8fd25577afe31bd1c79d094f76b6250ae6549b473ecd950501311"
        "001c6c1395d0ef7c1022297966307b8a7f"
    )
    RESPONSE = bytes.fromhex(
        "bcce7f4cb921309ba5d62edf1769ef09"
        "1179bf1cc87fa0e2c02de4546945aa3d1e48"
        "12b348b5bd4c594c16b6170b07b475845d1f32"
        "00ed9d8a796617a5b27265f4d73247f639"
    )

    def test_the_exchange(self) -> None:
        request, exchange = chunked.open_request(gateway_keys(self.GATEWAY), self.REQUEST)
        assert oh.decode_request(request) == oh.BinaryRequest("GET", "https", "example.com", "/")
        assert oh.decode_response(exchange.open_response(self.RESPONSE)) == oh.BinaryResponse(200)
        pieces = [b"\x01", b"\x40\xc8", b""]
        assert exchange.seal_response(pieces, self.RESPONSE[:16]) == self.RESPONSE


def field(name: str, value: str) -> bytes:
    """A field line, all of whose lengths fit one byte."""
    return bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


class TestRfc9292:
    """The messages of §5.1 and §5.2, encoded by hand: lengths as numbers, names and values as text."""

    AGENT = "curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"
    FIELDS = (("user-agent", AGENT), ("host", "www.example.com"), ("accept-language", "en, mi"))
    REQUEST = oh.BinaryRequest("GET", "https", "", "/hello.txt", FIELDS)
    REQUEST_HEAD = bytes.fromhex("03474554 056874747073 00 0a2f68656c6c6f2e747874")
    LINES = b"".join(field(*each) for each in FIELDS)

    def test_a_request_of_known_length(self) -> None:
        data = b"\x00" + self.REQUEST_HEAD + bytes.fromhex("406c") + self.LINES + bytes.fromhex("00 00")
        assert oh.decode_request(data) == self.REQUEST
        assert oh.encode_request(self.REQUEST) == data

    @pytest.mark.parametrize("padding", [0, 10])
    def test_a_request_of_indeterminate_length(self, padding: int) -> None:
        data = b"\x02" + self.REQUEST_HEAD + self.LINES + bytes(3 + padding)
        assert oh.decode_request(data) == self.REQUEST
        assert oh.encode_request(self.REQUEST, known_length=False, padding=padding) == data
        for cut in range(1, padding + 3):  # §3.8: all but the end of the header section may be left out
            assert oh.decode_request(data[:-cut]) == self.REQUEST

    CONTENT = b"Hello World! My content includes a trailing CRLF.\r\n"
    EARLY = ("link", "</style.css>; rel=preload; as=style"), ("link", "</script.js>; rel=preload; as=script")
    INFORMATIONAL = (102, (("running", '"sleep 15"'),)), (103, EARLY)
    FINAL = (
        ("date", "Mon, 27 Jul 2009 12:28:53 GMT"),
        ("server", "Apache"),
        ("last-modified", "Wed, 22 Jul 2009 19:15:56 GMT"),
        ("etag", '"34aa387-d-1568eb00"'),
        ("accept-ranges", "bytes"),
        ("content-length", "51"),
        ("vary", "Accept-Encoding"),
        ("content-type", "text/plain"),
    )

    def test_a_response_of_indeterminate_length_after_informational_ones(self) -> None:
        data = b"".join(
            (
                bytes.fromhex("03 4066"),
                *(field(*each) for each in self.INFORMATIONAL[0][1]),
                bytes.fromhex("00 4067"),
                *(field(*each) for each in self.EARLY),
                bytes.fromhex("00 40c8"),
                *(field(*each) for each in self.FINAL),
                bytes.fromhex("00 33"),
                self.CONTENT,
                bytes.fromhex("00 00"),
            )
        )
        response = oh.BinaryResponse(200, self.FINAL, self.CONTENT, (), self.INFORMATIONAL)
        assert oh.decode_response(data) == response
        assert oh.encode_response(response, known_length=False) == data

    def test_a_response_of_known_length(self) -> None:
        """Content and a trailer section, as HTTP/1.1's chunked example has them."""
        data = bytes.fromhex("01 40c8 00 1d") + b"This content contains CRLF.\r\n" + b"\x0d" + field("trailer", "text")
        response = oh.BinaryResponse(200, (), b"This content contains CRLF.\r\n", (("trailer", "text"),))
        assert oh.decode_response(data) == response
        assert oh.encode_response(response) == data
