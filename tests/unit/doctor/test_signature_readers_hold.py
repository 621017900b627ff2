"""Any bytes, and real ones that are spoilt: the readers of signatures, certificates and profiles raise UnreadableFile
or nothing, and no spoilt byte of a profile or of a signed CodeDirectory goes unnoticed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from network_extension.doctor.asn1 import measure
from network_extension.doctor.certificates import read_certificate
from network_extension.doctor.cms import SignedData, read_signed_data
from network_extension.doctor.cms_verification import SignatureFacts, verify_code_signature
from network_extension.doctor.der_values import read_der_value
from network_extension.doctor.entitlement_allowlist import allows
from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.outcome import Outcome
from network_extension.doctor.profile_verification import verify_provisioning_profile
from network_extension.doctor.provisioning_profile import ProvisioningProfile, read_provisioning_profile
from network_extension.doctor.xml_plist import read_xml_plist
from tests.doctor_authorities import Authority, sign_cms
from tests.doctor_bundles import contents_of, executable_of
from tests.doctor_code_directory import SLOT_CMS, SLOT_CODE_DIRECTORY, signatures
from tests.doctor_signing import entitlements_der

from .corpus import app

many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read_all_of_a_signature(data: bytes) -> tuple[SignedData, SignatureFacts]:
    signed = read_signed_data(data)
    facts = verify_code_signature(signed, [directory()])
    assert facts.valid in (True, False) and facts.trusted in (True, False)
    assert facts.proven_time is None or facts.timestamp is not None
    assert all(
        str(item.subject) is not None and item.fingerprint and item.kinds is not None for item in signed.certificates
    )
    for certificate in signed.certificates:
        for identifier in certificate.fields:
            certificate.field_text(identifier)
    return signed, facts


def read_all_of_a_profile(data: bytes) -> ProvisioningProfile:
    profile = read_provisioning_profile(data)
    facts = verify_provisioning_profile(profile)
    assert facts.trusted in (True, False)
    assert profile.kind and profile.covers(b"") is False
    assert profile.allows("no such key", True) is False
    return profile


READERS: dict[str, Callable[[bytes], Any]] = {
    "signature": read_all_of_a_signature,
    "certificate": read_certificate,
    "profile": read_all_of_a_profile,
    "DER": lambda data: read_der_value(data, "DER"),
    "plist": lambda data: read_xml_plist(data, "plist"),
    "ASN.1": lambda data: measure(data, "ASN.1"),
}


@functools.cache
def directory() -> bytes:
    return next(signatures(executable_of(app("0.12.15")).read_bytes()))[SLOT_CODE_DIRECTORY]


@functools.cache
def material(kind: str) -> bytes:
    """Real bytes for each reader."""
    bundle = app("0.12.15")
    signature = next(signatures(executable_of(bundle).read_bytes()))[SLOT_CMS][8:]
    profile = (contents_of(bundle) / "embedded.provisionprofile").read_bytes()
    if kind in ("signature", "ASN.1"):
        return signature
    if kind == "certificate":
        return read_signed_data(signature).certificates[2].der
    if kind == "profile":
        return profile
    read = read_provisioning_profile(profile)
    if kind == "DER":
        return entitlements_der(read.entitlements)
    assert read.signed_data.content is not None
    return read.signed_data.content


def unreadable_or_read(kind: str, data: bytes) -> None:
    try:
        READERS[kind](data)
    except UnreadableFile as error:
        assert error.what and error.why and "\n" not in str(error)


@pytest.mark.parametrize("kind", READERS)
@many
@given(data=st.binary(max_size=300))
@example(data=b"")
@example(data=b"\x30\x80" * 200)
@example(data=b"\x1f\x81\x81\x81\x81\x01\x00")
@example(data=b"\x30\x88" + b"\xff" * 8)
def test_any_bytes(kind: str, data: bytes) -> None:
    unreadable_or_read(kind, data)


@pytest.mark.parametrize("kind", READERS)
@many
@given(data=st.data())
def test_real_bytes_that_are_flipped_cut_or_repeated(kind: str, data: st.DataObject) -> None:
    unreadable_or_read(kind, data.draw(spoilt(material(kind))))


@st.composite
def spoilt(draw: st.DrawFn, original: bytes) -> bytes:
    """`original` with a few bits flipped, and perhaps a part cut out or repeated."""
    changed = bytearray(original)
    for at in draw(st.lists(st.integers(0, len(original) - 1), max_size=3)):
        changed[at] ^= 1 << draw(st.integers(0, 7))
    start = draw(st.integers(0, len(original)))
    end = draw(st.integers(start, min(len(original), start + 200)))
    how = draw(st.sampled_from(["as it is", "cut", "repeat", "end"]))
    if how == "cut":
        del changed[start:end]
    elif how == "repeat":
        changed[end:end] = changed[start:end]
    elif how == "end":
        del changed[start:]
    return bytes(changed)


@many
@given(data=st.data())
def test_each_flipped_bit_of_a_profile_is_noticed(data: st.DataObject) -> None:
    changed = bytearray(material("profile"))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        facts = verify_provisioning_profile(read_provisioning_profile(bytes(changed)))
    except UnreadableFile:
        return
    assert not facts.trusted or facts.signature.announced is not Outcome.HOLDS


@many
@given(data=st.data())
def test_each_flipped_bit_of_a_code_directory_is_noticed(data: st.DataObject) -> None:
    changed = bytearray(directory())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    facts = verify_code_signature(read_signed_data(material("signature")), [bytes(changed)])
    assert facts.message_digest is Outcome.FAILS and not facts.valid


values = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@many
@given(value=values)
def test_der_values_of_any_shape_come_back(value: Any) -> None:
    assert read_der_value(entitlements_der({"key": value}), "DER") == {"key": value}


@many
@given(listed=values, claimed=values)
def test_allowing_never_raises_and_everything_listed_is_allowed(listed: Any, claimed: Any) -> None:
    assert allows(listed, claimed) in (True, False)
    assert allows([listed], []) and allows(claimed, False)


@many
@given(name=st.text(min_size=1, max_size=20), others=st.lists(st.text(max_size=20), max_size=5))
def test_a_text_that_is_listed_is_allowed(name: str, others: list[str]) -> None:
    assert allows([*others, name], name) and allows(f"{name}*", name + "more")


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=400))
def test_any_content_that_is_signed_comes_back(content: bytes) -> None:
    made = Authority.make(key_kind="p256")
    signed = read_signed_data(sign_cms(content, made.issue()))
    assert signed.content == content
