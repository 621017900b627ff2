"""Lists of names and networks in files, up to millions of lines: read in a second, looked up in a microsecond.

A line is one of these; what follows a `#` (or, at the start of a line, `!` or `;`) is a comment:

    0.0.0.0 ads.example.com tracker.example.net     hosts(5): an address and names, each exactly that host
    example.com                                     a domain: the name and all names below it
    *.example.com                                   the names below it
    192.0.2.0/24, 2001:db8::1                       a network or an address

Names are kept in a set each (about 110 bytes for a name), networks as merged ranges in flat arrays (8 bytes for IPv4,
about 100 for IPv6), of which bisect finds the one. Lines that cannot be read are counted, not fatal: lists come from
elsewhere, and one bad line must not take the other million out of force.
"""

from __future__ import annotations

import socket
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

_BITS = {4: 32, 6: 128}
_number, _pton = int.from_bytes, socket.inet_pton  # a million times each
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_NOT_FOR_NAMES = frozenset(" \t:/@,;|^$=&?%\"'\\()<>[]{}")
_NOWHERE = frozenset(("0.0.0.0", "127.0.0.1", "::", "::1"))
_OWN_NAMES = frozenset(
    ("localhost", "localhost.localdomain", "local", "broadcasthost", "ip6-localhost", "ip6-loopback", "0.0.0.0")
)
"""What every hosts file names for the machine itself: never blocked by a list in that format."""


class Ranges:
    """A set of addresses of one IP version, as ranges that neither meet nor overlap."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, version: int, networks: Iterable[tuple[int, int]]) -> None:
        """`networks` are pairs of the first and the last address."""
        self._starts: Sequence[int] = ()
        self._ends: Sequence[int] = ()
        self._build(version, [first << _BITS[version] | last for first, last in networks])

    @classmethod
    def of_packed(cls, version: int, networks: list[int]) -> Ranges:
        """The same of pairs that are one number each: no work for the garbage collector, and quicker to sort."""
        ranges = cls(version, ())
        ranges._build(version, networks)
        return ranges

    def _build(self, version: int, networks: list[int]) -> None:
        starts: list[int] = []
        ends: list[int] = []
        bits, mask = _BITS[version], (1 << _BITS[version]) - 1
        for packed in _sorted(networks, 2 * bits - 8):
            first, last = packed >> bits, packed & mask
            if ends and first <= ends[-1] + 1:
                if last > ends[-1]:
                    ends[-1] = last
            else:
                starts.append(first)
                ends.append(last)
        self._starts = array("I", starts) if version == 4 else starts
        self._ends = array("I", ends) if version == 4 else ends

    def __len__(self) -> int:
        return len(self._starts)

    def __contains__(self, address: int) -> bool:
        place = bisect_right(self._starts, address)
        return place > 0 and address <= self._ends[place - 1]


def _sorted(numbers: Iterable[int], shift: int) -> Iterator[int]:
    """Ascending. In portions: while one call sorts a million, no other thread gets to run."""
    portions: dict[int, list[int]] = {}
    for number in numbers:
        portions.setdefault(number >> shift, []).append(number)
    for key in sorted(portions):
        yield from sorted(portions[key])


class TargetList:
    """What one file says: exact names, domains, networks."""

    __slots__ = ("bad_lines", "below", "domains", "entries", "first_bad_line", "hosts", "name", "ranges")

    def __init__(self, name: str, lines: Iterable[str]) -> None:
        self.name = name
        self.hosts: set[str] = set()
        self.domains: set[str] = set()
        self.below: set[str] = set()
        self.bad_lines = self.first_bad_line = 0
        networks: dict[int, list[int]] = {4: [], 6: []}
        self._read(lines, networks)
        self.ranges = {version: Ranges.of_packed(version, found) for version, found in networks.items()}
        self.entries = len(self.hosts) + len(self.domains) + len(self.below) + len(networks[4]) + len(networks[6])

    def __repr__(self) -> str:
        return f"<TargetList {self.name}: {self.entries} entries>"

    @property
    def has_names(self) -> bool:
        """Whether a name could be on it."""
        return bool(self.hosts or self.domains or self.below)

    def has_name(self, name: str) -> bool:
        """Whether a name (lower case, no final dot) is on the list, by itself or by a domain above it."""
        if name in self.hosts or name in self.domains:
            return True
        domains, below = self.domains, self.below
        if not domains and not below:
            return False
        parent = name.partition(".")[2]
        while parent:
            if parent in domains or parent in below:
                return True
            parent = parent.partition(".")[2]
        return False

    def has_address(self, version: int, address: int) -> bool:
        """Whether an address lies in one of the list's networks."""
        return version in self.ranges and address in self.ranges[version]

    def _read(self, lines: Iterable[str], networks: dict[int, list[int]]) -> None:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            # the quick ways, for nearly all lines of nearly all lists
            if text[-1:].isdigit() and (network := parse_network(text)) is not None:
                networks[network[0]].append(network[1] << _BITS[network[0]] | network[2])
                continue
            address, _, name = text.partition(" ")
            names = self.hosts if address in _NOWHERE else self.domains
            name = name if names is self.hosts else text
            is_plain = name.isascii() and "." in name and name[-1].isalpha() and _NOT_FOR_NAMES.isdisjoint(name)
            if is_plain and name[0] not in "#!*." and name not in _OWN_NAMES:
                names.add(name.lower())
                continue
            if not text or text[0] in "#!;":
                continue
            if not self._take(text.partition("#")[0].split(), networks):
                self.bad_lines += 1
                self.first_bad_line = self.first_bad_line or number

    def _take(self, words: list[str], networks: dict[int, list[int]]) -> bool:
        if len(words) == 1:
            return self._take_one(words[0], networks)
        if len(words) > 1 and parse_network(words[0]) is not None:
            names = [plain_name(word) for word in words[1:]]
            self.hosts.update(name for name in names if name and name not in _OWN_NAMES)
            return all(names)
        return not words

    def _take_one(self, word: str, networks: dict[int, list[int]]) -> bool:
        network = parse_network(word)
        if network is not None:
            version, first, last = network
            networks[version].append(first << _BITS[version] | last)
            return True
        below = word.startswith("*.")
        name = plain_name(word[2:] if below else word.removeprefix("."))
        if name:
            (self.below if below else self.domains).add(name)
        return bool(name)


def parse_network(text: str) -> tuple[int, int, int] | None:
    """IP version, first and last address of `192.0.2.0/24` or an address; None for anything else.

    Bits below the prefix are taken for a slip of the pen, and cleared.
    """
    host, slash, prefix = text.partition("/")
    version = 6 if ":" in host else 4
    try:
        number = _number(_pton(_FAMILY[version], host), "big")
    except (OSError, ValueError):
        return None
    if not slash:
        return version, number, number
    if not (prefix.isascii() and prefix.isdigit()) or len(prefix) > 3 or int(prefix) > _BITS[version]:
        return None
    rest = (1 << (_BITS[version] - int(prefix))) - 1
    return version, number & ~rest, number | rest


def plain_name(text: str) -> str:
    """A host name as it is compared: lower case, ASCII (IDNA), no final dot; "" if it is none."""
    text = text.rstrip(".").lower()
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    labels = text.split(".")
    if len(text) > 253 or not _NOT_FOR_NAMES.isdisjoint(text) or not text.isprintable() or "*" in text:
        return ""
    if labels[-1].isdigit() or any(not label or len(label) > 63 for label in labels):
        return ""
    return text
