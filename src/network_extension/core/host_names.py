"""Which name did a program ask for, before it connected to this address?

The table is fed with every DNS answer that a program of the sandbox gets. What counts is the name of the question, not
the names that CNAME records led through: a rule for example.com must hold wherever its operator hosts it. One address
serves many names; the one that was asked for last wins.

How long does a name hold? A lifetime of DNS says how long an answer may be given again, not when programs stop to use
it: a browser keeps it for a minute whatever it says, an nginx from its start on. So an entry lives for its lifetime,
but no less than `minimum_lifetime`, each use within that renews it for as much again, and `maximum_lifetime` ends it.
A stale name does little harm here: an address that changed hands gets its new name with the answer that says so.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from .dns_messages import Answers
from .packet_heads import address_bytes

DNS, HOSTS = "dns", "hosts"
"""Sources of a name: an answer that we served, /etc/hosts."""


class _Entry(NamedTuple):
    name: str
    expires: float
    last: float


class HostNames:
    """Names by address (4 or 16 bytes); at most `maximum` learned ones, of which the longest unused go first.

    `now` is in seconds of any clock that never goes back.
    """

    __slots__ = ("_learned", "_maximum", "_maximum_lifetime", "_minimum_lifetime", "_static")

    def __init__(self, maximum: int = 65536, minimum_lifetime: float = 60.0, maximum_lifetime: float = 86400.0) -> None:
        self._maximum = maximum
        self._minimum_lifetime, self._maximum_lifetime = minimum_lifetime, maximum_lifetime
        self._learned: OrderedDict[bytes, _Entry] = OrderedDict()
        self._static: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._learned) + len(self._static)

    def __repr__(self) -> str:
        return f"<HostNames: {len(self._learned)} learned, {len(self._static)} from hosts>"

    def learn(self, answers: Answers, now: float) -> None:
        """Note the addresses that an answer gives for its question, by themselves or through CNAME records."""
        if not answers.addresses:
            return
        owners, learned = _chain(answers), self._learned
        name = _host(answers.name)
        for owner, address, ttl in answers.addresses:
            if owner not in owners:
                continue
            lifetime = min(max(ttl, self._minimum_lifetime), self._maximum_lifetime)
            learned[address] = _Entry(name, now + lifetime, now + self._maximum_lifetime)
            learned.move_to_end(address)
            if len(learned) > self._maximum:
                learned.popitem(last=False)

    def learn_hosts_file(self, text: str) -> None:
        """Replace the static names by those of a hosts file (hosts(5)). Lines that cannot be read are skipped.

        The first name of an address counts, as it does for the resolver's reverse look-up.
        """
        static: dict[bytes, str] = {}
        for line in text.splitlines():
            words = line.partition("#")[0].split()
            if len(words) < 2 or not words[1].isprintable():
                continue
            try:
                static.setdefault(address_bytes(words[0]), words[1].lower().rstrip("."))
            except ValueError:
                continue
        self._static = static

    def lookup(self, address: bytes, now: float) -> tuple[str, str] | None:
        """The name for an address and its source, `"dns"` or `"hosts"`; None when there is none."""
        entry = self._learned.get(address)
        if entry is None:
            name = self._static.get(address)
            return (name, HOSTS) if name else None
        if now >= entry.expires:
            del self._learned[address]
            return self.lookup(address, now)
        self._learned.move_to_end(address)
        renewed = min(now + self._minimum_lifetime, entry.last)
        if renewed > entry.expires:
            self._learned[address] = entry._replace(expires=renewed)
        return entry.name, DNS


def _chain(answers: Answers) -> set[str]:
    """The question's name and all names that CNAME records make of it. Other owners were not asked for."""
    targets = {owner: target for owner, target, _ in answers.cnames}
    names, name = {answers.name}, targets.get(answers.name)
    while name is not None and name not in names:
        names.add(name)
        name = targets.get(name)
    return names


def _host(name: str) -> str:
    """The host in a question: `_8443._https.example.com` is asked for to reach example.com (RFC 9460 §9.1)."""
    while name.startswith("_") and "." in name:
        name = name.partition(".")[2]
    return name
