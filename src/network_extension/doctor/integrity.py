"""Whether what was signed is what is there: code, Info.plist, sealed files, nested code, and the signature itself.

One walk from the inside out. A fault is told where it is, once: an app whose extension was changed is not told to have
changed files as well. Only where the extension is in order, and yet not what the app's seal names, has somebody signed
in the wrong order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .bundles import NO_FILE, NO_MACHO, CodeBundle
from .code_check import SlotState
from .code_resources import NestedSeal, SealFault
from .code_signature import Slot
from .errors import UnreadableFile
from .outcome import Outcome
from .product import Product
from .requirement_evaluation import evaluate
from .rule import Severity
from .signed_code import SignedCode, SignedSlice, read_signed_code

__all__ = ["IntegrityFault", "integrity_faults"]

_MOST_NAMED = 8
_SLOT_NAMES: dict[int, str] = {
    Slot.INFO_PLIST: "Info.plist",
    Slot.RESOURCES: "CodeResources",
    Slot.REQUIREMENTS: "the requirements",
    Slot.ENTITLEMENTS: "the entitlements (XML)",
    Slot.ENTITLEMENTS_DER: "the entitlements (DER)",
}

_SLOT_RULES: dict[int, str] = {Slot.INFO_PLIST: "SIG004", Slot.RESOURCES: "SIG005"}


class IntegrityFault(NamedTuple):
    """Something that is not as it was signed."""

    rule: str
    place: str
    evidence: str
    level: Severity | None = None


def integrity_faults(product: Product) -> list[IntegrityFault]:
    """Of all apps and extensions that count, and of all code in them. Found once for each product."""
    if product.integrity is None:
        roots = [member.bundle for member in (*product.apps, *product.lone)]
        product.integrity = [fault for root in roots for fault in _faults(root)]
    return list(product.integrity)


def _faults(bundle: CodeBundle) -> list[IntegrityFault]:
    """Of a bundle and all that lies in it."""
    inner = {child.path: _faults(child) for child in bundle.children}
    found = [fault for faults in inner.values() for fault in faults]
    place = bundle.path or bundle.name
    if bundle.code is not None:
        found += _code_faults(bundle.code, place, bundle.information_bytes, bundle.seal_bytes, is_bundle=True)
    elif bundle.code_problem not in (NO_FILE, NO_MACHO):
        found.append(IntegrityFault("SIG003", place, f"{bundle.executable_path}: {bundle.code_problem}"))
    return found + [*_seal_faults(bundle, place, inner)]


def _code_faults(
    code: SignedCode, place: str, information: bytes | None, seal: bytes | None, *, is_bundle: bool
) -> Iterator[IntegrityFault]:
    for found in code.slices:
        if found.signature is None:
            continue
        name = found.image.architecture
        for evidence in _changed_code(found):
            yield IntegrityFault("SIG003", place, f"{name}: {evidence}")
        plist = information if is_bundle else found.image.section("__TEXT", "__info_plist")
        # The linker signs a file and knows of no bundle around it.
        for slot, evidence in () if found.signature.is_linker_signed else _changed_slots(found, plist, seal):
            rule = _SLOT_RULES.get(slot, "SIG008")
            yield IntegrityFault(rule, place, f"{name}: {evidence}")
        for evidence in _signature_faults(found):
            yield IntegrityFault("SIG008", place, f"{name}: {evidence}")
    yield from _untrusted(code, place)
    if stray := code.stray_bytes:
        yield IntegrityFault("SIG003", place, f"{code.path}: {stray}")


def _untrusted(code: SignedCode, place: str) -> Iterator[IntegrityFault]:
    for found in code.slices:
        facts = found.cms
        if facts is not None and facts.valid and facts.chain is not None and not facts.chain.trusted:
            leaf, top = facts.chain.leaf, facts.chain.certificates[-1]
            names = [
                one or "a certificate without a name" for one in (leaf.subject.common_name, top.issuer.common_name)
            ]
            yield IntegrityFault("SIG009", place, f"{names[0]} leads to {names[1]}")
            return


def _changed_code(found: SignedSlice) -> Iterator[str]:
    for check in found.code_checks:
        if check.bad_pages:
            first, count = check.bad_pages[0], len(check.bad_pages)
            yield f"{count} of its pages differ, the first at {first * check.page_size:#x}"
            return
        if not check.holds:
            yield f"only {check.covered} of {check.to_be_covered} bytes are signed"
            return


def _changed_slots(found: SignedSlice, information: bytes | None, seal: bytes | None) -> Iterator[tuple[int, str]]:
    told: set[int] = set()
    for check in found.slot_checks(information, seal):
        if check.state in (SlotState.HOLDS, SlotState.UNCHECKED) or check.slot in told:
            continue
        told.add(check.slot)
        what = _SLOT_NAMES.get(check.slot, f"slot {check.slot}")
        said = {
            SlotState.DIFFERS: "is not what was signed",
            SlotState.MISSING: "was signed and is missing",
            SlotState.UNSEALED: "is there and was not signed",
        }[check.state]
        yield check.slot, f"{what} {said}"


def _signature_faults(found: SignedSlice) -> Iterator[str]:
    if found.cms_problem:
        yield found.cms_problem
    if found.has_bytes_behind_signature:
        yield "there are bytes behind the signature"
    facts = found.cms
    if facts is None:
        return
    if not facts.valid:
        parts = {
            "the signature": facts.signature,
            "the digest of the code directory": facts.message_digest,
            "the content type": facts.content_type,
            "the list of cdhashes": facts.cdhashes,
            "the digests of code directories": facts.cdhash_digests,
        }
        failing = [name for name, outcome in parts.items() if outcome in (Outcome.FAILS, Outcome.UNSUPPORTED)]
        yield f"{', '.join(failing) or 'the signature'} does not hold"
    elif facts.announced is Outcome.FAILS:
        yield "its head does not fit what it holds"
    elif facts.chain is not None and facts.chain.signatures is Outcome.FAILS:
        yield f"{facts.chain.certificates[-1].subject.common_name} is not signed by the issuer that it names"
    if facts.unreadable_timestamp:
        yield f"its timestamp: {facts.unreadable_timestamp}"
    elif facts.timestamp is not None and not facts.timestamp.valid:
        yield "its timestamp is of another signature"
    elif facts.timestamp is not None and not facts.timestamp.trusted:
        authority = facts.timestamp.signature.certificate
        name = (authority and authority.subject.common_name) or "somebody"
        yield f"its timestamp is by {name}, whom no trusted root vouches for"


def _seal_faults(bundle: CodeBundle, place: str, inner: Mapping[str, list[IntegrityFault]]) -> Iterator[IntegrityFault]:
    signatures = [found.signature for found in bundle.code.slices] if bundle.code else []
    if not any(signature is not None and not signature.is_linker_signed for signature in signatures):
        return
    if bundle.seal is None:
        if bundle.seal_bytes is not None or bundle.is_deep:
            yield IntegrityFault("SIG005", place, bundle.seal_problem)
        return
    own: list[SealFault] = []
    # A bundle without code cannot say for itself that it is in order.
    readable = {child.path for child in bundle.children if child.code is not None}
    nested: dict[str, list[SealFault]] = defaultdict(list)
    # The App Store encrypts code after it was sealed.
    encrypted = {child.executable_path for child in bundle.children if child.code and child.code.is_encrypted}
    for fault in bundle.seal_faults:
        path = bundle.inner(fault.path)
        if path in encrypted:
            continue
        child = next((folder for folder in _above(path) if folder in readable), None)
        if child is None:
            own.append(fault)
        else:
            nested[child].append(fault)
    if own:
        yield IntegrityFault("SIG005", place, _listed(own))
    sealed_as_code = {bundle.inner(path): entry for path, entry in bundle.seal.nested.items()}
    for child, faults in nested.items():
        if child not in sealed_as_code and not inner[child]:
            yield IntegrityFault("SIG006", child, f"{place} was sealed with another one: {_listed(faults)}")
    for path, entry in sealed_as_code.items():
        yield from _nested_code(bundle, path, entry, inner)


def _above(path: str) -> Iterator[str]:
    """The folders above a path, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path


def _listed(faults: list[SealFault]) -> str:
    named = "; ".join(f"{fault.state}: {fault.path}" for fault in faults[:_MOST_NAMED])
    return named if len(faults) <= _MOST_NAMED else f"{named}; and {len(faults) - _MOST_NAMED} more"


def _nested_code(
    bundle: CodeBundle, path: str, entry: NestedSeal, inner: Mapping[str, list[IntegrityFault]]
) -> Iterator[IntegrityFault]:
    """Code that is sealed as code: a bundle, or a library that is just a file."""
    outer = bundle.path or bundle.name
    child = next((child for child in bundle.children if child.path == path), None)
    if child is not None:
        code, problem, broken = child.code, child.code_problem, bool(inner.get(path))
        information = child.information
    else:
        code, problem, broken, information = None, "", False, {}
        if not bundle.files.is_file(path):
            return  # the seal tells that it is missing; a folder of another kind cannot be judged
        try:
            code = read_signed_code(bundle.files, path, bundle.anchors)
            problem = "" if code is not None else "no Mach-O file"
        except UnreadableFile as error:
            problem = str(error)
        if code is not None:
            faults = [*_code_faults(code, path, None, None, is_bundle=False)]
            yield from faults
            broken = bool(faults)
    if broken:
        return
    if code is None or any(found.signature is None for found in code.slices):
        yield IntegrityFault("SIG006", path, f"{outer} was sealed with signed code there: {problem or 'not signed'}")
        return
    # The seal has the hash of one slice, and the system asks for the requirement (Security.framework, StaticCode.cpp).
    if entry.cdhash in code.cdhashes.values():
        return
    meets = all(_meets(found, entry.requirement, information) for found in code.slices)
    evidence = f"{outer} was sealed with {entry.cdhash.hex()}, here is {next(iter(code.cdhashes.values())).hex()}"
    if meets:
        yield IntegrityFault("SIG006", path, f"{evidence}; it meets the sealed requirement", Severity.WARN)
    else:
        yield IntegrityFault("SIG006", path, f"{evidence}, which does not meet the sealed requirement")


def _meets(found: SignedSlice, requirement: str, information: Mapping[str, object]) -> bool:
    """Requirements are compiled nowhere here: one that is the code's own designated one can be judged."""
    own = found.designated_requirement
    if own is None or isinstance(own, str) or str(own) != requirement:
        return False
    return evaluate(own, found.requirement_facts(information)) is True
