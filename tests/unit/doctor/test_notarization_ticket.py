"""Tickets of real products, tickets of our own, and bytes that are none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.doctor.certificates import read_certificate
from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.notarization_ticket import (
    NotarizationTicket,
    read_notarization_ticket,
    verify_notarization_ticket,
)
from network_extension.doctor.outcome import Outcome
from tests.doctor_authorities import Authority
from tests.doctor_builds import make_ticket, ticket_authority
from tests.doctor_code_directory import cdhashes

from .corpus import VERSIONS, app, executables
from .damage import damaged

ISSUED = {
    "0.3.0": datetime(2023, 8, 23, 9, 28, 42, tzinfo=UTC),
    "0.11.5": datetime(2025, 2, 17, 11, 48, 13, tzinfo=UTC),
    "0.12.15": datetime(2026, 10, 22, 0, 43, 30, tzinfo=UTC),
}


def real(version: str) -> bytes:
    return (app(version) / "Contents" / "CodeResources").read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_real_tickets_name_all_code_and_are_apples(version: str) -> None:
    ticket = read_notarization_ticket(real(version))
    code = [cdhash for path in executables(version) for cdhash in cdhashes(path.read_bytes())]
    assert len(code) == 4 and set(code) <= ticket.cdhashes
    assert ticket.issued == ISSUED[version]
    assert verify_notarization_ticket(ticket) is Outcome.HOLDS
    assert [one.subject.common_name for one in ticket.certificates] == [
        "Software Ticket Signing",
        "Apple System Integration CA 4",
    ]


def test_one_changed_byte_anywhere_is_found() -> None:
    data = real("0.12.15")
    for at in range(len(data)):
        raw = bytearray(data)
        raw[at] ^= 0x10
        try:
            ticket = read_notarization_ticket(bytes(raw))
        except UnreadableFile:
            continue
        assert verify_notarization_ticket(ticket) is not Outcome.HOLDS, at


def test_a_ticket_of_ones_own_holds_under_its_own_root_only() -> None:
    root = read_certificate(ticket_authority().root.der)
    other = read_certificate(Authority.make(key_kind="p384", name="Other").root.der)
    ticket = read_notarization_ticket(make_ticket([bytes(20), bytes(range(20))]))
    assert ticket.cdhashes == {bytes(20), bytes(range(20))}
    assert verify_notarization_ticket(ticket, [root]) is Outcome.HOLDS
    assert verify_notarization_ticket(ticket, [other]) is Outcome.ABSENT
    assert verify_notarization_ticket(ticket) is Outcome.ABSENT


def test_a_root_that_only_calls_itself_apples_is_not_believed() -> None:
    impostor = Authority.make(key_kind="p384", name="Apple Root CA - G3")
    ticket = read_notarization_ticket(make_ticket([bytes(20)], impostor))
    assert verify_notarization_ticket(ticket) is Outcome.FAILS


def test_an_intermediate_that_is_no_authority_may_not_issue() -> None:
    signer = ticket_authority().issue("Software Ticket Signing", None)
    below = read_certificate(signer.der)
    ticket = read_notarization_ticket(make_ticket([bytes(20)]))
    chain = (ticket.certificates[0], below)
    wrong = NotarizationTicket(ticket.cdhashes, ticket.issued, chain, ticket.signed_part, ticket.signature)
    assert verify_notarization_ticket(wrong, [read_certificate(ticket_authority().root.der)]) is Outcome.FAILS


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_the_bytes_are_one_error_comes(data: st.DataObject) -> None:
    raw = data.draw(st.binary(max_size=300) | damaged(real("0.11.5")))
    try:
        ticket = read_notarization_ticket(raw)
    except UnreadableFile:
        return
    assert isinstance(verify_notarization_ticket(ticket), Outcome)
