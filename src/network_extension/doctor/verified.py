"""What was looked at and holds, in a sentence for each app and extension: a report without findings has to say why."""

from __future__ import annotations

from datetime import datetime

from .integrity import integrity_faults
from .notarization_ticket import verify_notarization_ticket
from .outcome import Outcome
from .product import App, Member, Product

__all__ = ["verified"]


def verified(product: Product) -> tuple[str, ...]:
    """Only of members whose code, seal and signature hold."""
    broken = {fault.place for fault in integrity_faults(product)}
    return tuple(
        f"{member.bundle.name}: {'; '.join(parts)}"
        for member in product.members
        if member.path not in broken and (parts := _parts(member, product))
    )


def _parts(member: Member, product: Product) -> list[str]:
    code = member.code
    if code is None or not member.is_signed or any(found.signature is None for found in code.slices):
        return []
    sealed = len(member.bundle.seal.entries) if member.bundle.seal is not None else 0
    names = ", ".join(found.image.architecture for found in code.slices)
    if code.is_encrypted:
        parts = [f"{sealed} sealed files are as they were signed"]
    else:
        parts = [f"every hash of its code ({names}) and of {sealed} sealed files holds"]
    facts = code.main.cms
    if facts is not None and facts.certificate is not None and facts.chain is not None and facts.chain.anchor:
        when = facts.proven_time or facts.signing_time
        proof = "timestamped" if facts.proven_time else "said to be"
        date = f" ({proof} {_day(when)})" if when else ""
        parts.append(f"signed by {facts.certificate.subject.common_name}{date}, under {facts.chain.anchor}")
    ticket = member.bundle.ticket if isinstance(member, App) else None
    if ticket is not None and ticket.issued and verify_notarization_ticket(ticket, product.anchors) is Outcome.HOLDS:
        parts.append(f"notarised {_day(ticket.issued)}")
    profile = member.bundle.profile
    if profile is not None and profile.expiration_date is not None:
        parts.append(f"profile for {profile.kind.value} until {_day(profile.expiration_date)}")
    return parts


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
