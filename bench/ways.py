"""The ways from a program to its server that are compared: natively, through `netext run`, through peers.

A way runs one command as an ordinary user, and proves afterwards that the traffic went through it. Peers that need a
daemon or firewall rules have a lab of their own (`bench/peers.py`): their rules would switch connection tracking on for
everybody.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from bench.evidence import Ran, Traffic, claimed_and_relayed, natively, through_interface
from bench.network import HERE, NEAR4, BenchLab, find_program

PROVIDER = str(HERE / "providers.py")
PROVIDER_NAME = "PassThrough"
WITNESS = str(HERE / "witness.sh")
# /dev/net/tun is for root only on some machines; a peer that is to run as an ordinary user gets one of its own.
_OWN_TUN = """
mount -t tmpfs -o dev none /mnt && mknod -m 666 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun && exec "$@"
"""


class Way:
    """One way. `start` and `stop` enclose all its measurements; each `run` is one."""

    name = ""
    for_streams = for_connections = for_latency = True

    def __init__(self, lab: BenchLab) -> None:
        self.lab = lab

    def missing(self) -> str | None:
        """Why it cannot be measured here; None if it can."""
        return None

    def start(self) -> None:
        """Start what has to run beside the command."""

    def stop(self) -> None:
        """End what `start` started."""

    def words(self, command: list[str]) -> list[str]:
        """The words that run a command this way, as an ordinary user in `near`."""
        return command

    def prefix(self) -> tuple[str, ...]:
        """Words that root runs before it becomes that user."""
        return ()

    def run(self, command: list[str], timeout: float = 60) -> Ran:
        """Run a command with its witness."""
        return self.lab.run_as_user(self.words([WITNESS, *command]), timeout=timeout, prefix=self.prefix())

    def prove(self, ran: Ran, traffic: Traffic) -> str:
        """What shows that the traffic went this way. Raises NotProven."""
        return natively(ran, traffic, self.lab.near_namespace, NEAR4)


class Native(Way):
    """Nothing in between."""

    name = "native"


class Ours(Way):
    """`netext run` with a provider that claims each flow and has it relayed."""

    name = "netext run"
    options: tuple[str, ...] = ("--provider", PROVIDER)

    def words(self, command: list[str]) -> list[str]:
        """With the log as JSON, which is the evidence."""
        return [*netext(), "run", "--json", *self.options, "--", *command]

    def prove(self, ran: Ran, traffic: Traffic) -> str:
        """Claimed by the provider, in the sandbox, byte for byte."""
        return claimed_and_relayed(ran, traffic, self.lab.near_namespace, NEAR4, PROVIDER_NAME)


class WithoutProvider(Ours):
    """The control: its traffic must fail the assertion that `Ours` passes."""

    name = "netext run without a provider"
    options = ()


class InOwnNamespace(Way):
    """A peer that gives the command a namespace with a TUN or TAP device."""

    program = package = ""

    def missing(self) -> str | None:
        """Program and device."""
        if find_program(self.program) is None:
            return f"{self.program} is not installed: apt-get install {self.package}"
        return None if Path("/dev/net/tun").exists() else "this kernel has no /dev/net/tun"

    def prefix(self) -> tuple[str, ...]:
        """A device node that the user may open, where the system's is root's alone."""
        if Path("/dev/net/tun").exists() and stat.S_IMODE(os.stat("/dev/net/tun").st_mode) & 0o006 == 0o006:
            return ()
        return ("unshare", "--mount", "sh", "-c", _OWN_TUN, "sh")

    def prove(self, ran: Ran, traffic: Traffic) -> str:
        """By the device's counters."""
        return through_interface(ran, traffic, self.lab.near_namespace)


class Pasta(InOwnNamespace):
    """pasta, with the options without which it would connect to the host's own loopback."""

    name, program, package = "pasta", "pasta", "passt"

    def words(self, command: list[str]) -> list[str]:
        """As nobody: pasta refuses to be root."""
        return ["pasta", "--config-net", "--no-map-gw", "-4", "--", *command]


class Slirp(InOwnNamespace):
    """slirp4netns with its default MTU of 1,500 bytes."""

    name, program, package = "slirp4netns", "slirp4netns", "slirp4netns"
    mtu = 1500

    def words(self, command: list[str]) -> list[str]:
        """It attaches to a namespace that exists: a script makes one."""
        return [str(HERE / "behind_slirp.sh"), str(self.mtu), *command]


class SlirpJumbo(Slirp):
    """slirp4netns with the largest MTU, as its own benchmark runs it."""

    name, mtu = "slirp4netns 64 KB", 65520


def netext() -> list[str]:
    """The words that start `netext` as users do: the script beside this Python, or the module."""
    script = Path(sys.executable).parent / "netext"
    return [str(script)] if script.exists() else [sys.executable, "-m", "network_extension"]


def python() -> list[str]:
    """The words that start this Python, as fast as it can."""
    return [sys.executable, "-I", "-S"]
