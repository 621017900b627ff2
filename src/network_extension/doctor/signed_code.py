"""One Mach-O file with all that is known of it: its slices, their signatures, and who stands behind them.

Each fact is made when it is first asked for, and once. What cannot be read is a fact as well (`problem`): a reader's
error never ends an examination.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from asn1crypto import x509 as asn1_x509

from . import requirement_evaluation
from .asn1 import load, reading
from .bundle_files import BundleFiles
from .certificates import Certificate
from .cms import read_signed_data
from .cms_verification import SignatureFacts, verify_code_signature
from .code_check import CodeCheck, SlotCheck, check_code, check_slots
from .code_directory import CodeDirectory
from .code_signature import CodeSignature, read_code_signature
from .der_entitlements import Difference, differences, read_der_entitlements, read_xml_entitlements
from .errors import UnreadableFile
from .imported_symbols import imported_classes, imported_symbols
from .macho import FileType, Slice, is_macho, read_macho
from .requirement_tree import Requirement
from .requirements import RequirementType, read_requirement_set

FAT_64_MAGIC = b"\xca\xfe\xba\xbf"
FAT_HEAD, FAT_RECORD, FAT_RECORD_64 = 8, 20, 32

__all__ = ["SignedCode", "SignedSlice", "read_signed_code"]


@dataclass(frozen=True)
class SignedSlice:
    """One architecture."""

    image: Slice
    anchors: Sequence[Certificate] = ()

    @cached_property
    def _read(self) -> tuple[CodeSignature | None, str]:
        data = self.image.signature_data
        if data is None:
            return None, ""
        try:
            return read_code_signature(data), ""
        except UnreadableFile as error:
            return None, str(error)

    @property
    def signature(self) -> CodeSignature | None:
        """None: not signed, or not to be read (`signature_problem`)."""
        return self._read[0]

    @property
    def signature_problem(self) -> str:
        """Why the signature that is there cannot be read; empty where it can, or where there is none."""
        return self._read[1]

    @property
    def directory(self) -> CodeDirectory | None:
        """The code directory that counts."""
        return None if self.signature is None else self.signature.directory

    @property
    def has_bytes_behind_signature(self) -> bool:
        """Whether anything but zeros follows the SuperBlob in the room that is kept for it: nothing signs that."""
        data = self.image.signature_data
        if data is None or self.signature is None:
            return False
        length = int.from_bytes(data[4:8], "big")
        return any(data[length:])

    @cached_property
    def code_checks(self) -> tuple[CodeCheck, ...]:
        """All pages against each code directory. Encrypted code is not looked at: its hashes hold on the device."""
        place = self.image.commands.code_signature
        if self.signature is None or place is None or self.image.is_encrypted:
            return ()
        return tuple(check_code(found, self.image.data, place.offset) for found in self.signature.directories)

    def slot_checks(self, info_plist: bytes | None, resources: bytes | None) -> tuple[SlotCheck, ...]:
        """Special slots of each code directory."""
        if self.signature is None:
            return ()
        return tuple(
            check
            for directory in self.signature.directories
            for check in check_slots(self.signature, directory, info_plist, resources)
        )

    @cached_property
    def _entitlements(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None, str]:
        """XML, DER, and why one of them cannot be read."""
        signature = self.signature
        if signature is None:
            return None, None, ""
        problems: list[str] = []
        xml: dict[str, Any] | None = None
        der: dict[str, Any] | None = None
        try:
            # `codesign` writes an empty blob where there are none.
            xml = None if not signature.entitlements_xml else read_xml_entitlements(signature.entitlements_xml)
        except UnreadableFile as error:
            problems.append(str(error))
        try:
            der = None if not signature.entitlements_der else read_der_entitlements(signature.entitlements_der)
        except UnreadableFile as error:
            problems.append(str(error))
        return xml, der, "; ".join(problems)

    @property
    def entitlements(self) -> Mapping[str, Any]:
        """What the code claims: the DER form, which the system reads; the XML form where there is no other."""
        xml, der, _ = self._entitlements
        return der if der is not None else xml or {}

    @property
    def entitlements_problem(self) -> str:
        """Why a form of the entitlements cannot be read; empty where both can."""
        return self._entitlements[2]

    @property
    def lacks_der_entitlements(self) -> bool:
        """Whether something is claimed in XML, and nothing in DER."""
        xml, der, problem = self._entitlements
        return bool(xml) and der is None and not problem

    @property
    def entitlement_differences(self) -> tuple[Difference, ...]:
        """Keys of which the two forms say different things."""
        xml, der, _ = self._entitlements
        return differences(xml or {}, der) if der is not None else ()

    @cached_property
    def designated_requirement(self) -> Requirement | str | None:
        """The tree; the reason, as a text, why it cannot be read; None where there is none."""
        data = None if self.signature is None else self.signature.requirements
        if data is None:
            return None
        try:
            return read_requirement_set(data).get(RequirementType.DESIGNATED)
        except UnreadableFile as error:
            return str(error)

    @cached_property
    def _cms(self) -> tuple[SignatureFacts | None, str]:
        signature = self.signature
        if signature is None or signature.cms is None:
            return None, ""
        try:
            signed = read_signed_data(signature.cms, "CMS signature")
            raw = [directory.raw for directory in signature.directories]
            return verify_code_signature(signed, raw, anchors=self.anchors), ""
        except UnreadableFile as error:
            return None, str(error)

    @property
    def cms(self) -> SignatureFacts | None:
        """What holds of the CMS signature; None without one, or where it cannot be read (`cms_problem`)."""
        return self._cms[0]

    @property
    def cms_problem(self) -> str:
        """Why the CMS signature that is there cannot be read."""
        return self._cms[1]

    @property
    def certificate(self) -> Certificate | None:
        """The signer's."""
        return None if self.cms is None else self.cms.certificate

    @cached_property
    def imported_symbols(self) -> frozenset[str]:
        """Names that the code takes from others; empty where they cannot be read."""
        try:
            return imported_symbols(self.image)
        except UnreadableFile:
            return frozenset()

    @cached_property
    def imported_classes(self) -> frozenset[str]:
        """Objective-C classes that the code takes from others."""
        try:
            return imported_classes(self.image)
        except UnreadableFile:
            return frozenset()

    def links(self, framework: str) -> bool:
        """Whether the code is linked with a framework: "NetworkExtension"."""
        return any(f"/{framework}.framework/" in library.path for library in self.image.commands.libraries)

    def requirement_facts(self, info_plist: Mapping[str, Any]) -> requirement_evaluation.SignatureFacts:
        """What requirements can ask of this signature. Every chain counts as Apple's: whether it is, SIG009 asks."""
        directory, cms = self.directory, self.cms
        chain = cms.chain if cms is not None else None
        return requirement_evaluation.SignatureFacts(
            identifier="" if directory is None else directory.identifier,
            certificates=[_certificate_facts(found) for found in chain.certificates] if chain else [],
            apple_root=chain is not None,
            info_plist=info_plist,
            entitlements=self.entitlements,
            cdhash=b"" if directory is None else directory.cdhash,
            platform=0 if directory is None else directory.platform,
        )


@dataclass(frozen=True)
class SignedCode:
    """One Mach-O file."""

    path: str
    slices: tuple[SignedSlice, ...]

    @property
    def main(self) -> SignedSlice:
        """The slice that speaks for the file where all say the same: the first."""
        return self.slices[0]

    @property
    def is_executable(self) -> bool:
        """Whether the system can start it, not only load it."""
        return any(found.image.file_type == FileType.EXECUTE for found in self.slices)

    @property
    def is_encrypted(self) -> bool:
        """Whether the App Store has encrypted any slice: its hashes hold on a device only."""
        return any(found.image.is_encrypted for found in self.slices)

    @property
    def cdhashes(self) -> dict[str, bytes]:
        """By architecture; a slice that is not signed has none."""
        return {found.image.architecture: found.directory.cdhash for found in self.slices if found.directory}

    def imports_class(self, name: str) -> bool:
        """Whether any slice takes this class from elsewhere, by its Objective-C name or by Swift's mangled one."""
        mangled = f"{len(name)}{name}"
        return any(
            name in found.imported_classes or any(mangled in symbol for symbol in found.imported_symbols)
            for found in self.slices
        )

    @property
    def stray_bytes(self) -> str:
        """What a fat file holds outside of its slices, in words; empty where that is only zeros. Nothing signs it."""
        file = self.main.image.file
        at = FAT_HEAD + FAT_RECORD * len(self.slices) if self.main.image.offset else 0
        if at and file[:4] == FAT_64_MAGIC:
            at = FAT_HEAD + FAT_RECORD_64 * len(self.slices)
        for found in sorted(self.slices, key=lambda found: found.image.offset):
            if any(file[at : found.image.offset]):
                return f"bytes that no slice holds, before {found.image.offset:#x}"
            at = found.image.offset + found.image.size
        return f"{len(file) - at} bytes behind the last slice" if any(file[at:]) else ""


def read_signed_code(files: BundleFiles, path: str, anchors: Sequence[Certificate] = ()) -> SignedCode | None:
    """The Mach-O file at `path`; None where the file is something else. Raises UnreadableFile."""
    if not is_macho(files.head(path, 8)):
        return None
    return SignedCode(path, tuple(SignedSlice(image, anchors) for image in read_macho(files.read(path))))


_SUBJECT = {
    "2.5.4.3": "CN",
    "2.5.4.11": "OU",
    "2.5.4.10": "O",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.1": "UID",
    "2.5.4.13": "D",
}
_POLICIES = "2.5.29.32"


def _certificate_facts(certificate: Certificate) -> requirement_evaluation.CertificateFacts:
    import hashlib

    subject = {_SUBJECT[oid]: value for oid, value in certificate.subject.parts if oid in _SUBJECT}
    return requirement_evaluation.CertificateFacts(
        subject=subject,
        extensions=certificate.fields,
        policies=_policies(certificate.fields.get(_POLICIES)),
        sha1=hashlib.sha1(certificate.der, usedforsecurity=False).digest(),
    )


def _policies(value: bytes | None) -> frozenset[str]:
    if value is None:
        return frozenset()
    try:
        parsed = load(asn1_x509.CertificatePolicies, value, "certificate policies")
        with reading("certificate policies"):
            return frozenset(item["policy_identifier"].dotted for item in parsed)
    except UnreadableFile:
        return frozenset()
