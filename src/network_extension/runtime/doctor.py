"""`netext doctor`: asks the kernel what it allows (`linux/probes`), then sends probes through a real sandbox.

The self-check runs twice: on this host's network, to servers on its loopback address; and on the demo's little
internet, where the destination has a name. Both times a provider must have claimed what the program sent.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import DatapathError, ExitCode
from ..linux.filter_probes import FILTER_PROBES
from ..linux.isolation import TimedOut, isolated
from ..linux.probes import PROBES, Finding, Probe, State
from ..linux.user_namespaces import why_forbidden

ALL_PROBES = (*PROBES, *FILTER_PROBES)
PROBE_TIMEOUT = 10.0
SELF_CHECK_TIMEOUT = 40.0
RUN_TIMEOUT = 30.0
LOOPBACK = "127.0.0.1"
PROVIDER = "network_extension.runtime.doctor_provider"
_CLIENT = """
import socket, sys
host, tcp, udp, word = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
with socket.create_connection((host, tcp), 5) as stream:
    stream.sendall(word)
    print("tcp", stream.recv(100).decode())
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
    datagrams.settimeout(5)
    datagrams.sendto(word, (host, udp))
    print("udp", datagrams.recv(100).decode())
"""


class Check(NamedTuple):
    """One line of the doctor's report."""

    name: str
    state: State
    needed: bool
    means: str
    next_step: str = ""

    @property
    def is_fatal(self) -> bool:
        """Whether nothing works without it, and it is not there."""
        return self.needed and self.state is not State.OK and self.state is not State.DEGRADED


def examine(report: Callable[[Check], None]) -> list[Check]:
    """Run all probes, each in a process of its own; `report` is called with each check as it is known."""
    checks: list[Check] = []
    no_namespaces = False
    for probe in ALL_PROBES:
        check = _unknown(probe) if probe.flags and no_namespaces else _examine(probe)
        no_namespaces = no_namespaces or (bool(probe.flags) and check.is_fatal and len(checks) < 3)
        checks.append(check)
        report(check)
    return checks


def _unknown(probe: Probe) -> Check:
    step = "look again when namespaces can be made"
    return Check(probe.name, State.UNKNOWN, probe.needed, "cannot be tried without namespaces", step)


def _examine(probe: Probe) -> Check:
    try:
        finding = Finding(*isolated(probe.try_it, PROBE_TIMEOUT, probe.flags))
        return Check(probe.name, State(finding.state), probe.needed, finding.means, finding.next_step)
    except TimedOut:
        means = f"no answer within {PROBE_TIMEOUT:.0f} s; {probe.without}".rstrip("; ")
        return Check(probe.name, State.MISSING, probe.needed, means, probe.next_step or "look into the kernel's log")
    except DatapathError as error:
        return _missing(probe, error)


def _missing(probe: Probe, error: DatapathError) -> Check:
    what, _, step = str(error).partition("; next step: ")
    step = step or probe.next_step
    if not step:
        reason, step = why_forbidden()
        what = f"{what}: {reason}"
    means = f"{what}; {probe.without}" if probe.without else what
    return Check(probe.name, State.MISSING, probe.needed, means, step)


def self_check(report: Callable[[Check], None]) -> list[Check]:
    """Send TCP and UDP through a sandbox, on the host's network and, by name, on a network of our own."""
    checks = []
    for name, action in (("self-check: this host", _on_this_host), ("self-check: by name", _by_name)):
        try:
            means, step, state = isolated(action, SELF_CHECK_TIMEOUT), "", State.OK
        except DatapathError as error:
            what, _, step = str(error).partition("; next step: ")
            means, state = f"{what}", State.MISSING
            step = step or "NETEXT_DEBUG=1 netext doctor, and report what it prints"
        checks.append(Check(name, state, True, str(means), step))
        report(checks[-1])
    return checks


def exit_status(checks: list[Check], self_checks: list[Check]) -> int:
    """0 all well, 69 something that is needed is missing, 71 the self-check failed."""
    if any(check.is_fatal for check in checks):
        return ExitCode.UNAVAILABLE
    return ExitCode.DATAPATH if any(check.is_fatal for check in self_checks) else 0


def _on_this_host() -> str:
    return _send_probes(LOOPBACK, LOOPBACK)


def _by_name() -> str:
    """The same among namespaces of our own, where there is a name server that knows the server's name."""
    from .demo_network import NAME, SERVER, run_inside

    reader, writer = os.pipe()

    def story() -> int:
        try:
            os.write(writer, json.dumps({"means": _send_probes(SERVER, NAME)}).encode())
        except (DatapathError, OSError) as error:
            os.write(writer, json.dumps({"error": str(error)}).encode())
        return 0

    run_inside(story)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer: dict[str, str] = json.loads(pipe.read() or b'{"error": "its network died"}')
    if "error" in answer:
        raise DatapathError(answer["error"])
    return answer["means"]


def _send_probes(address: str, host: str) -> str:
    """Start both servers at `address`, run the client in a sandbox, and look at what it got and what the log says."""
    tcp, udp = _start_servers(address)
    word = os.urandom(8).hex()
    command = [sys.executable, "-c", _CLIENT, host, str(tcp), str(udp), word]
    words = [sys.executable, "-m", "network_extension", "run", "--json", "--provider", PROVIDER, "--", *command]
    done = _run(words)
    flows = _flows(done.stderr)
    if done.stdout.split() != ["tcp", word, "udp", word]:
        raise DatapathError(f"the program in the sandbox did not get its answers: {_complaint(done)}")
    for protocol in ("tcp", "udp"):
        flow = next((flow for flow in flows if flow["protocol"] == protocol), None)
        if flow is None or (flow["outcome"], flow["by"]) != ("claimed", "Doctor"):
            raise DatapathError(f"the provider did not see the {protocol} flow")
        if host != address and flow["host"] != host:
            raise DatapathError(f"the {protocol} flow was seen without its name, {host}")
    process = flows[0]["process"]
    by = f"of {process['executable']}" if process else "(whose program was not found)"
    return f"a provider claimed the TCP and the UDP flow {by} to {host}, and both were answered"


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise DatapathError(f"netext run did not end within {RUN_TIMEOUT:.0f} s") from None


def _start_servers(address: str) -> tuple[int, int]:
    """A TCP and a UDP server that send back what they get, for one client each; their ports."""
    stream = socket.create_server((address, 0))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((address, 0))

    def serve_stream() -> None:
        sock, _ = stream.accept()
        with sock:
            sock.sendall(sock.recv(100))

    def serve_datagrams() -> None:
        data, sender = datagrams.recvfrom(100)
        datagrams.sendto(data, sender)

    for serve in (serve_stream, serve_datagrams):
        threading.Thread(target=serve, daemon=True).start()
    return stream.getsockname()[1], datagrams.getsockname()[1]


def _flows(log: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in log.splitlines() if line.startswith('{"event"')]
    return [record for record in records if record["event"] == "flow"]


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of standard error that is not of the log."""
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith('{"event"')]
    return lines[-1].removeprefix("netext: ") if lines else f"exit status {done.returncode}"
