"""The tree that a code requirement is, and the text that `codesign -d -r-` prints for it.

The text follows Security.framework's reqdumper.cpp letter by letter: words that are plain stand without quotes,
`and` binds closer than `or`, and parentheses stand only where they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .requirement_match import Match, text_of_data, text_of_hash, text_of_position

__all__ = [
    "And",
    "AppleAnchor",
    "CertificateExtension",
    "CertificateField",
    "CertificateHash",
    "CodeDirectoryHash",
    "Constant",
    "EntitlementField",
    "ExtensionKind",
    "Identifier",
    "InfoField",
    "LegacyDeveloperID",
    "NamedAnchor",
    "NamedCode",
    "Not",
    "Notarized",
    "Or",
    "PlatformIs",
    "Requirement",
    "Trusted",
    "Unknown",
]


@dataclass(frozen=True, slots=True)
class Constant:
    """`always`, `never`."""

    value: bool

    def __str__(self) -> str:
        return "always" if self.value else "never"


@dataclass(frozen=True, slots=True)
class Identifier:
    """The code directory's identifier."""

    name: bytes

    def __str__(self) -> str:
        return f"identifier {text_of_data(self.name)}"


@dataclass(frozen=True, slots=True)
class AppleAnchor:
    """The chain ends in Apple's root; unless `generic`, the code is Apple's own."""

    generic: bool

    def __str__(self) -> str:
        return "anchor apple generic" if self.generic else "anchor apple"


@dataclass(frozen=True, slots=True)
class NamedAnchor:
    """A kind of chain that Apple has named."""

    name: bytes

    def __str__(self) -> str:
        return f"anchor apple {text_of_data(self.name)}"


@dataclass(frozen=True, slots=True)
class NamedCode:
    """A requirement that the system knows by name."""

    name: bytes

    def __str__(self) -> str:
        return f"({text_of_data(self.name)})"


@dataclass(frozen=True, slots=True)
class CertificateHash:
    """The SHA-1 of one certificate."""

    position: int
    hash: bytes

    def __str__(self) -> str:
        return f"certificate{text_of_position(self.position)} = {text_of_hash(self.hash)}"


@dataclass(frozen=True, slots=True)
class CertificateField:
    """A part of one certificate's subject: b"subject.OU"; or b"email"."""

    position: int
    name: bytes
    match: Match

    def __str__(self) -> str:
        return f"certificate{text_of_position(self.position)}[{text_of_data(self.name, dots=True)}]{self.match}"


class ExtensionKind(StrEnum):
    """What of a certificate an object identifier names."""

    FIELD = "field"
    POLICY = "policy"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True, slots=True)
class CertificateExtension:
    """An extension of one certificate, or a certificate policy, by its object identifier."""

    position: int
    kind: ExtensionKind
    oid: str
    match: Match

    def __str__(self) -> str:
        return f"certificate{text_of_position(self.position)}[{self.kind}.{self.oid}]{self.match}"


@dataclass(frozen=True, slots=True)
class Trusted:
    """The user trusts one certificate for code signing; None: the chain."""

    position: int | None

    def __str__(self) -> str:
        return "anchor trusted" if self.position is None else f"certificate{text_of_position(self.position)}trusted"


@dataclass(frozen=True, slots=True)
class InfoField:
    """A key of Info.plist."""

    key: bytes
    match: Match

    def __str__(self) -> str:
        return f"info[{text_of_data(self.key, dots=True)}]{self.match}"


@dataclass(frozen=True, slots=True)
class EntitlementField:
    """An entitlement. An array matches where one of its items does."""

    key: bytes
    match: Match

    def __str__(self) -> str:
        return f"entitlement[{text_of_data(self.key, dots=True)}]{self.match}"


@dataclass(frozen=True, slots=True)
class CodeDirectoryHash:
    """This very code."""

    hash: bytes

    def __str__(self) -> str:
        return f"cdhash {text_of_hash(self.hash)}"


@dataclass(frozen=True, slots=True)
class PlatformIs:
    """The code directory's platform number."""

    number: int

    def __str__(self) -> str:
        return f"platform = {self.number}"


@dataclass(frozen=True, slots=True)
class Notarized:
    """Apple's notary service has issued a ticket."""

    def __str__(self) -> str:
        return "notarized"


@dataclass(frozen=True, slots=True)
class LegacyDeveloperID:
    """Signed with Developer ID before notarisation was asked for."""

    def __str__(self) -> str:
        return "legacy"


@dataclass(frozen=True, slots=True)
class Unknown:
    """An opcode of a later system, which counts as false, or as nothing in front of `then`."""

    opcode: int
    then: Requirement | None

    def __str__(self) -> str:
        if self.then is None:
            return f" false /* opcode {self.opcode} */"
        return f" /* opcode {self.opcode} */ {self.then}"


@dataclass(frozen=True, slots=True)
class Not:
    """Turns a test around."""

    test: Requirement

    def __str__(self) -> str:
        return f"! {_inside(self.test, And, Or)}"


@dataclass(frozen=True, slots=True)
class And:
    """Both tests."""

    left: Requirement
    right: Requirement

    def __str__(self) -> str:
        return f"{_inside(self.left, Or)} and {_inside(self.right, Or)}"


@dataclass(frozen=True, slots=True)
class Or:
    """Either test."""

    left: Requirement
    right: Requirement

    def __str__(self) -> str:
        return f"{self.left} or {self.right}"


Requirement = (
    Constant
    | Identifier
    | AppleAnchor
    | NamedAnchor
    | NamedCode
    | CertificateHash
    | CertificateField
    | CertificateExtension
    | Trusted
    | InfoField
    | EntitlementField
    | CodeDirectoryHash
    | PlatformIs
    | Notarized
    | LegacyDeveloperID
    | Unknown
    | Not
    | And
    | Or
)


def _inside(test: Requirement, *looser: type) -> str:
    return f"({test})" if isinstance(test, looser) else str(test)
