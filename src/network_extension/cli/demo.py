"""`netext demo`: real programs behind two proxies, in an internet of its own, and what happened.

Every claim that it prints is checked against what the programs and the log really said; one that does not hold makes
the exit status 1.
"""

from __future__ import annotations

import subprocess
import sys

from ..linux.ruleset import find_tool
from ..runtime.demo_network import NAME, SERVER, run_inside
from ..runtime.demo_providers import REWRITTEN
from .arguments import ArgumentParser

PROVIDERS = "network_extension.runtime.demo_providers"
CLIENT = """
import sys, urllib.request
for url in sys.argv[1:]:
    try:
        print(url, "->", urllib.request.urlopen(url, timeout=5).read().decode().strip())
    except OSError as error:
        print(url, "->", error.reason if hasattr(error, "reason") else error)
"""
TIMEOUT = 30


class _Story:
    """Runs commands, prints what they said, and counts the claims that do not hold."""

    def __init__(self) -> None:
        self.wrong = 0

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def run(self, providers: list[str], command: list[str]) -> tuple[str, str]:
        """`netext run` with the demo's providers; standard output and the log."""
        options = [word for name in providers for word in ("--provider", f"{PROVIDERS}:{name}")]
        shown = " ".join([*(f"--provider {name}" for name in providers), "--", *_shown(command)])
        self.say(f"$ netext run {shown}")
        words = [sys.executable, "-m", "network_extension", "run", *options, "--", *command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        for line in (done.stdout + done.stderr).splitlines():
            self.say(f"    {line}")
        return done.stdout, done.stderr

    def claim(self, text: str, holds: bool) -> None:
        """Say what happened, if it did."""
        self.wrong += not holds
        self.say(f"  {'✓' if holds else '✗ NOT SO:'} {text}")


def _shown(command: list[str]) -> list[str]:
    return ["python3", "client.py", *command[3:]] if command[1:2] == ["-c"] else command


def _tell() -> int:
    story = _Story()
    url, other = f"http://{NAME}/", f"http://{NAME}:8080/"
    python = [sys.executable, "-c", CLIENT]
    curl = find_tool("curl")
    client = [curl, "-sS", "--max-time", "10"] if curl else python

    story.say("1. Without a provider, a program in the sandbox sees the network as it is:")
    output, log = story.run([], [*client, url])
    story.claim("the page came through unchanged", "plain old text" in output)
    story.claim(
        f"the log knows the program, and the destination by its name, {NAME}", f"→ {NAME}:80 tcp  passed" in log
    )

    story.say("\n2. Behind Rewriter, a transparent proxy that changes bytes (a small Python class):")
    output, log = story.run(["Rewriter"], [*client, url])
    story.claim("the program got the rewritten page, and noticed nothing", REWRITTEN.decode() in output)
    story.claim("the log says who claimed the flow", "claimed by Rewriter" in log)

    story.say("\n3. Behind two: Rewriter first, then Guard, an app proxy that refuses what is not for the web:")
    output, log = story.run(["Rewriter", "Guard"], [*python, url, other])
    story.claim("port 80 was Rewriter's: the first to claim a flow has it", REWRITTEN.decode() in output)
    refused = "Connection refused" in output and "refused by Guard" in log
    story.claim(
        "port 8080 was none of Rewriter's rules, came to Guard, and connect() failed with ECONNREFUSED", refused
    )
    return 1 if story.wrong else 0


def demo(arguments: list[str]) -> int:
    """Run the demonstration; 0 if all that it says is so."""
    parser = ArgumentParser("netext demo", description=__doc__, allow_abbrev=False)
    parser.parse_args(arguments)
    before = _host_state()
    print(
        "netext demo: what follows happens in namespaces that this user made, without root. They hold a web server\n"
        f"and a name server ({NAME} is {SERVER}). Inside them `netext run` makes a sandbox for each command:\n"
        "a keeper process holds it, an engine holds each new connection until a provider has decided, and each\n"
        "provider has a process of its own.\n",
        flush=True,
    )
    status = run_inside(_tell)
    unchanged = _host_state() == before
    print(f"\n{'✓' if unchanged else '✗ NOT SO:'} nothing of this machine's routes and interfaces has changed")
    if status == 0 and unchanged:
        print("Next: docs/getting-started.md writes a first provider; `netext doctor` says what this machine allows.")
        return 0
    print("netext demo: something above did not happen as it should; next step: netext doctor", file=sys.stderr)
    return 1


def _host_state() -> list[str]:
    """Routes, rules' tables and interfaces of the host, as far as anybody may read them."""
    state = []
    for path in ("/proc/net/route", "/proc/net/ipv6_route", "/proc/net/dev"):
        try:
            with open(path) as file:
                state += [line.split(":")[0] if path.endswith("dev") else _without_counters(line) for line in file]
        except OSError:
            continue
    return state


def _without_counters(line: str) -> str:
    """A line of a routing table without its usage counts, which traffic of others changes."""
    words = line.split()
    return " ".join(words[:5] + words[8:]) if len(words) == 10 else " ".join(words[:4] + words[6:])
