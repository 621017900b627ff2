"""CMS signatures: those of real apps hold, ours hold for all algorithms, and each fault is told by its own name."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from asn1crypto import cms as asn1_cms

from network_extension.doctor.asn1 import element_at, encode
from network_extension.doctor.certificates import Certificate, read_certificate
from network_extension.doctor.cms import SignedData, read_signed_data
from network_extension.doctor.cms_verification import verify_code_signature, verify_signature
from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.outcome import Outcome
from tests.doctor_authorities import SIGNING_TIME, Authority, Identity, code_attributes, sign_cms
from tests.doctor_bundles import contents_of, executable_of, extensions_of
from tests.doctor_code_directory import SLOT_CMS, SLOT_CODE_DIRECTORY, signatures

from .corpus import VERSIONS, app

HOLDS, FAILS, ABSENT, UNSUPPORTED = Outcome.HOLDS, Outcome.FAILS, Outcome.ABSENT, Outcome.UNSUPPORTED
DIRECTORY = b"\xfa\xde\x0c\x02" + bytes(32) + b"\x20\x02" + b"the rest of a CodeDirectory"
HASH = hashlib.sha256(DIRECTORY).digest()


@functools.cache
def authority(key_kind: str = "p256") -> Authority:
    return Authority.make(key_kind=key_kind)


def anchors(of: Authority | None = None) -> tuple[Certificate]:
    return (read_certificate((of or authority()).root.der),)


def signed_directory(identity: Identity | None = None, digest: str = "sha256") -> bytes:
    attributes = code_attributes([HASH[:20]], [("sha256", HASH)])
    return sign_cms(
        DIRECTORY,
        identity or authority().issue(),
        detached=True,
        digest=digest,
        attributes=attributes,
        timestamp=authority().timestamp_signer(),
    )


def real_executables(version: str) -> list[Path]:
    bundle = app(version)
    inner = sorted(contents_of(bundle).glob("Frameworks/*.dylib"))
    return [executable_of(bundle), *(executable_of(found) for found in extensions_of(bundle)), *inner]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_slice_of_a_real_app_is_signed_under_apples_root_with_a_timestamp(version: str) -> None:
    seen = 0
    for path in real_executables(version):
        for blobs in signatures(path.read_bytes()):
            facts = verify_code_signature(read_signed_data(blobs[SLOT_CMS][8:]), [blobs[SLOT_CODE_DIRECTORY]])
            assert (facts.content_type, facts.message_digest, facts.signature) == (HOLDS, HOLDS, HOLDS)
            assert (facts.cdhashes, facts.cdhash_digests, facts.announced) == (HOLDS, HOLDS, HOLDS)
            assert facts.chain is not None and facts.chain.anchor == "Apple Root CA" and facts.chain.is_apple
            assert facts.trusted and len(facts.chain.certificates) == 3
            assert facts.timestamp is not None and facts.timestamp.imprint is HOLDS and facts.timestamp.trusted
            assert facts.proven_time is not None and facts.chain.valid_at(facts.proven_time)
            assert facts.timestamp.signature.chain is not None
            assert facts.timestamp.signature.chain.anchor == "Apple Root CA"
            assert facts.signing_time is not None
            assert abs(facts.signing_time - facts.proven_time) < timedelta(minutes=1)
            seen += 1
    assert seen == (6 if version == "0.3.0" else 4)


@pytest.mark.parametrize("version", VERSIONS)
def test_openssl_agrees_about_real_signatures(version: str, tmp_path: Path) -> None:
    for path in real_executables(version):
        for blobs in signatures(path.read_bytes()):
            message = blobs[SLOT_CMS][8:]
            root = read_signed_data(message).certificates[1]
            assert root.fingerprint.startswith("b0b1730e")
            assert openssl_verifies(message, blobs[SLOT_CODE_DIRECTORY], root.der, tmp_path)


def openssl_verifies(message: bytes, content: bytes, root: bytes, folder: Path) -> bool:
    """As the reference has it: Apple's markers are critical, and openssl does not know them."""
    pem = subprocess.run(["openssl", "x509", "-inform", "der"], input=root, capture_output=True, check=True).stdout
    for name, data in (("sig.der", message), ("content", content), ("root.pem", pem)):
        (folder / name).write_bytes(data)
    command = "openssl cms -verify -inform der -in sig.der -content content -binary -CAfile root.pem"
    options = "-purpose any -ignore_critical -out /dev/null"
    done = subprocess.run([*command.split(), *options.split()], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode == 0 and "successful" in done.stderr


@pytest.mark.parametrize("key_kind", ["rsa", "p256", "p384", "p521"])
@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
def test_all_algorithms(key_kind: str, digest: str, tmp_path: Path) -> None:
    made = authority(key_kind)
    message = signed_directory(made.issue(), digest)
    facts = verify_code_signature(read_signed_data(message), [DIRECTORY], anchors=[*anchors(made), *anchors()])
    assert facts.trusted and facts.announced is HOLDS
    assert facts.chain is not None and facts.chain.anchor == "Fake Apple Root CA" and not facts.chain.is_apple
    assert facts.proven_time == facts.signing_time == SIGNING_TIME
    assert openssl_verifies(message, DIRECTORY, made.root.der, tmp_path)
    wrong = verify_code_signature(read_signed_data(message), [DIRECTORY + b"!"], anchors=anchors(made))
    assert wrong.message_digest is FAILS and wrong.signature is HOLDS and not wrong.valid


def test_a_root_that_nobody_named_is_no_anchor() -> None:
    facts = verify_code_signature(read_signed_data(signed_directory()), [DIRECTORY])
    assert facts.valid and not facts.trusted and facts.proven_time is None
    assert facts.chain is not None and facts.chain.anchor is None and facts.chain.signatures is HOLDS


def test_embedded_content_goes_before_what_is_handed_over() -> None:
    signed = read_signed_data(sign_cms(b"inside", authority().issue()))
    assert signed.content == b"inside"
    assert verify_signature(signed, b"outside").valid


def test_without_its_content_a_detached_signature_is_not_valid() -> None:
    facts = verify_signature(read_signed_data(signed_directory()))
    assert facts.message_digest is ABSENT and facts.signature is HOLDS and not facts.valid


def test_a_signature_by_another_key_fails() -> None:
    leaf = authority().issue()
    impostor = Identity(leaf.certificate, authority("p384").issue().key, leaf.issuers)
    facts = verify_code_signature(read_signed_data(signed_directory(impostor)), [DIRECTORY], anchors=anchors())
    assert facts.signature is FAILS and facts.message_digest is HOLDS and not facts.valid


def test_a_key_of_another_kind_cannot_have_signed() -> None:
    leaf = authority().issue()
    impostor = Identity(leaf.certificate, authority("rsa").issue().key, leaf.issuers)
    facts = verify_code_signature(read_signed_data(signed_directory(impostor)), [DIRECTORY])
    assert facts.signature is FAILS


def test_without_the_signers_certificate_nothing_can_be_said_about_the_signature() -> None:
    message = sign_cms(DIRECTORY, authority().issue(), detached=True, certificates=[authority().root.der])
    facts = verify_code_signature(read_signed_data(message), [DIRECTORY])
    assert facts.certificate is None and facts.chain is None
    assert facts.signature is ABSENT and facts.message_digest is HOLDS and not facts.valid


def test_no_signer_at_all() -> None:
    loaded = asn1_cms.ContentInfo.load(signed_directory())
    loaded["content"]["signer_infos"] = []
    facts = verify_code_signature(read_signed_data(loaded.dump(force=True)), [DIRECTORY])
    assert facts.signature is ABSENT and not facts.valid


@pytest.mark.parametrize(
    ("listed", "digests", "hashes", "whole"),
    [
        ([HASH[:20]], [("sha256", HASH)], HOLDS, HOLDS),
        ([], [], FAILS, ABSENT),
        ([bytes(20)], [("sha256", HASH)], FAILS, HOLDS),
        ([HASH[:20], bytes(20)], [("sha256", HASH)], FAILS, HOLDS),
        ([HASH[:20]], [("sha256", bytes(32))], HOLDS, FAILS),
        ([HASH[:20]], [("sha256", HASH), ("sha1", bytes(20))], HOLDS, FAILS),
    ],
)
def test_apples_attributes_name_the_code_directories(
    listed: list[bytes], digests: list[tuple[str, bytes]], hashes: Outcome, whole: Outcome
) -> None:
    attributes = code_attributes(listed, digests)
    message = sign_cms(DIRECTORY, authority().issue(), detached=True, attributes=attributes)
    facts = verify_code_signature(read_signed_data(message), [DIRECTORY])
    assert (facts.cdhashes, facts.cdhash_digests) == (hashes, whole)
    assert facts.valid == (FAILS not in (hashes, whole))


def test_alternates_must_be_listed_too() -> None:
    first = DIRECTORY[:36] + b"\x14\x01" + DIRECTORY[38:]  # by SHA-1
    sha1 = hashlib.sha1(first).digest()
    attributes = code_attributes([sha1, HASH[:20]], [("sha1", sha1), ("sha256", HASH)])
    signed = read_signed_data(sign_cms(first, authority().issue(), detached=True, attributes=attributes))
    assert verify_code_signature(signed, [first, DIRECTORY]).valid
    assert verify_code_signature(signed, [first]).cdhashes is FAILS
    unknown = DIRECTORY[:37] + b"\x09" + DIRECTORY[38:]
    assert verify_code_signature(signed, [first, unknown]).cdhashes is UNSUPPORTED


def test_a_timestamp_of_another_signature_is_told() -> None:
    loaded, other = (asn1_cms.ContentInfo.load(signed_directory()) for _ in range(2))  # ECDSA: never twice the same
    info = loaded["content"]["signer_infos"][0]
    info["unsigned_attrs"] = other["content"]["signer_infos"][0]["unsigned_attrs"]
    facts = verify_code_signature(read_signed_data(loaded.dump(force=True)), [DIRECTORY], anchors=anchors())
    assert facts.trusted and facts.timestamp is not None
    assert facts.timestamp.imprint is FAILS and facts.timestamp.signature.valid and facts.proven_time is None


def test_a_timestamp_by_an_expired_authority_proves_nothing() -> None:
    message = sign_cms(
        DIRECTORY,
        authority().issue(),
        detached=True,
        timestamp=authority().timestamp_signer(),
        timestamp_time=SIGNING_TIME.replace(year=2045),
    )
    facts = verify_code_signature(read_signed_data(message), [DIRECTORY], anchors=anchors())
    assert facts.timestamp is not None and facts.timestamp.valid and not facts.timestamp.trusted
    assert facts.proven_time is None


def test_an_unreadable_timestamp_leaves_the_signature_readable() -> None:
    message = signed_directory()
    marker = bytes.fromhex("060b2a864886f70d0109100104")  # id-ct-TSTInfo in the token
    assert marker in message
    at = message.rindex(marker)
    signed = read_signed_data(message[:at] + marker[:-1] + b"\x05" + message[at + len(marker) :])
    facts = verify_code_signature(signed, [DIRECTORY])
    assert facts.valid
    assert facts.unreadable_timestamp or not facts.timestamp or not facts.timestamp.valid


def test_attributes_out_of_order_hold_when_the_signature_is_over_their_der() -> None:
    message = signed_directory()
    loaded = asn1_cms.ContentInfo.load(message)
    attributes = loaded["content"]["signer_infos"][0]["signed_attrs"]
    turned = b"".join(item.dump() for item in reversed(list(attributes)))
    assert turned != attributes.contents
    # The bytes in another order, the signature over their DER: as openssl, which sorts before it compares.
    facts = verify_code_signature(read_signed_data(message.replace(attributes.contents, turned)), [DIRECTORY])
    assert facts.valid


def test_what_stands_outside_of_what_is_signed_is_compared() -> None:
    message = sign_cms(b"content", authority().issue())
    version = message.index(b"\x02\x01\x01")
    facts = verify_signature(read_signed_data(message[: version + 2] + b"\x05" + message[version + 3 :]))
    assert facts.valid and facts.announced is FAILS


def test_bytes_behind_a_signature_are_left_alone() -> None:
    message = signed_directory()
    assert read_signed_data(message + bytes(1000)) == read_signed_data(memoryview(message))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_indefinite_lengths_and_octet_strings_in_parts_mean_the_same(chunk: int) -> None:
    for message in (signed_directory(), sign_cms(b"some content" * 30, authority().issue())):
        spread = as_ber(message, chunk)
        assert len(spread) > len(message)
        assert read_signed_data(spread + b"behind it") == read_signed_data(message)


def as_ber(data: bytes, chunk: int) -> bytes:
    """The DER `data`, with all lengths indefinite that can be, and octet strings cut into parts."""
    at, spread = 0, b""
    while at < len(data):
        element = element_at(data, at, len(data), "DER")
        assert element.end is not None
        body = data[element.start : element.end]
        if element.constructed:
            spread += data[at : element.tag_end] + b"\x80" + as_ber(body, chunk) + b"\0\0"
        elif element.tag == 0x04 and body:
            parts = (body[start : start + chunk] for start in range(0, len(body), chunk))
            spread += b"\x24\x80" + b"".join(encode(b"\x04", part) for part in parts) + b"\0\0"
        else:
            spread += data[at : element.end]
        at = element.end
    return spread


def test_an_octet_string_of_other_parts_is_unreadable() -> None:
    message = sign_cms(b"content", authority().issue())
    spread = as_ber(message, 100).replace(b"\x24\x80\x04\x07content", b"\x24\x80\x0c\x07content")
    with pytest.raises(UnreadableFile, match="other parts"):
        read_signed_data(spread)


@pytest.mark.timeout(10)
def test_a_hundred_thousand_parts_take_no_time() -> None:
    message = as_ber(sign_cms(bytes(100_000), authority().issue()), 1)
    assert read_signed_data(message).content == bytes(100_000)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut off"),
        (b"\x30\x80", "cut off"),
        (b"\x30\x03\x02\x01\x01", "CMS"),
        (b"\x30\x80" * 100, "nested deeper"),
        (b"\x30\x43\x06\x41" + b"\x81" * 0x41, "object identifier of 65 bytes"),
        (b"\x30\x84\xff\xff\xff\xff", "longer than what holds it"),
    ],
)
def test_what_is_no_signature_is_unreadable(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why if why != "CMS" else None):
        read_signed_data(data)


def test_a_signed_data_without_certificates() -> None:
    signed: SignedData = read_signed_data(sign_cms(b"content", authority().issue(), certificates=[]))
    assert signed.certificates == () and signed.signers[0].serial_number is not None
