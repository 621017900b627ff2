"""From a leaf to a root, and whether that root is one of Apple's.

Time is asked for afterwards (`Chain.valid_at`): what matters is when something was signed, not today. Revocation is
not looked at; nothing here opens a connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from .certificate_kinds import APPLE_ROOTS
from .certificates import Certificate
from .outcome import Outcome

__all__ = ["MAX_CHAIN", "Chain", "build_chain"]

MAX_CHAIN = 8
"""Certificates from leaf to root. Apple's have three."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What can be said about a leaf's issuers."""

    certificates: tuple[Certificate, ...]
    """The leaf first, each followed by its issuer, as far as issuers were found whose signature holds."""
    anchor: str | None
    """The name of the trusted root at the end: Apple's, or the common name of an extra anchor. None: not reached."""
    is_apple: bool
    """The anchor is one of Apple's pinned roots."""
    signatures: Outcome
    """HOLDS: each signature is by the next key. FAILS: a certificate with the issuer's name is here, but it did not
    sign. ABSENT: the issuer of the last certificate is not here."""
    authorities: Outcome
    """Whether each issuer may issue: basicConstraints, with its path length."""

    @property
    def leaf(self) -> Certificate:
        """The certificate that the chain was asked for."""
        return self.certificates[0]

    @property
    def trusted(self) -> bool:
        """Ends at a trusted root, with right signatures, by authorities. Says nothing about time."""
        return self.anchor is not None and bool(self.signatures) and bool(self.authorities)

    def valid_at(self, time: datetime) -> bool:
        """Whether all certificates are within their dates at `time`. A time without a zone is UTC."""
        return not self.outside_dates(time)

    def outside_dates(self, time: datetime) -> tuple[Certificate, ...]:
        """The certificates that are not valid yet, or any more, at `time`."""
        return tuple(certificate for certificate in self.certificates if not certificate.valid_at(time))


def build_chain(leaf: Certificate, others: Iterable[Certificate], anchors: Sequence[Certificate] = ()) -> Chain:
    """The chain from `leaf` through `others` to one of Apple's roots or, in tests, to one of `anchors`.

    The roots are taken from `others` and recognised by their fingerprint; a chain whose root is left out ends
    without an anchor.
    """
    pool = [*anchors, *others]
    extra = {anchor.fingerprint: anchor.subject.common_name or anchor.fingerprint for anchor in anchors}
    chain = [leaf]
    while True:
        last = chain[-1].fingerprint
        name = APPLE_ROOTS.get(last) or extra.get(last)
        if name is not None:
            return Chain(tuple(chain), name, last in APPLE_ROOTS, Outcome.HOLDS, _authorities(chain))
        issuer, outcome = _issuer(chain, pool)
        if issuer is None:
            return Chain(tuple(chain), None, False, outcome, _authorities(chain))
        chain.append(issuer)


def _issuer(chain: list[Certificate], pool: list[Certificate]) -> tuple[Certificate | None, Outcome]:
    last = chain[-1]
    outcome = Outcome.HOLDS if last.is_self_issued and last.issued_by(last) else Outcome.ABSENT
    if outcome or len(chain) == MAX_CHAIN:
        return None, outcome
    tried: set[bytes] = set()
    for candidate in pool:
        if candidate in chain or candidate.der in tried:
            continue
        tried.add(candidate.der)
        found = last.issued_by(candidate)
        if found:
            return candidate, Outcome.HOLDS
        if found is not Outcome.ABSENT:
            outcome = found
    return None, outcome


def _authorities(chain: list[Certificate]) -> Outcome:
    """Path lengths count the authorities between (RFC 5280 §4.2.1.9); the leaf is none of them."""
    return Outcome.of(
        all(
            issuer.is_authority and (issuer.path_length is None or below <= issuer.path_length)
            for below, issuer in enumerate(chain[1:])
        )
    )
