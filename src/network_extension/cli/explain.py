"""`netext explain`: which provider and which rule would decide a flow, and why, without sending anything."""

from __future__ import annotations

import argparse
import json
from functools import partial

from ..builtin.firewall import Firewall
from ..core.flow_description import parse_flow
from ..endpoint import Endpoint
from ..errors import ConfigurationError
from ..filter_flow import FilterSocketFlow
from ..linux.processes import printable
from ..metadata import ParentProcess, ProcessInfo
from .arguments import ArgumentParser
from .explaining import Verdict, explain_provider
from .run import _Config, _Provider

DESCRIPTION = "Say which provider and which rule would decide a flow, and why. Nothing is sent."
EPILOG = """\
The flow is written as: [PROGRAM] → HOST[:PORT][/tcp|udp|icmp], with ->, or to, for the arrow; ← (<-, from) is a flow
that comes in. Without a port it is 443. PROGRAM is a name or a full path.

  netext explain 'curl → example.com:443' --rules firewall.toml
  netext explain 'curl -> 192.0.2.1:53/udp' --provider my_filter.py --user 1000 --verbose

A firewall's rules are read and not put into force. Another provider is asked by its method explain; one that has none
is started in memory, and its handle_new_flow is called, whose code may do what it likes.

Exit status: 0 the flow would be allowed, 1 not, 2 that is not known before the flow begins.
"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        "netext explain",
        usage="netext explain 'PROGRAM → HOST:PORT' [--rules FILE | --provider FILE[:CLASS]...] [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=100),
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("flow", help="as 'curl → example.com:443'")
    add("--rules", metavar="FILE", help="the firewall's rules; else those that it finds by itself")
    add("--provider", action=_Provider, metavar="FILE[:CLASS]", help="a filter's file or module; repeatable, in order")
    add("--config", action=_Config, metavar="KEY=VALUE|FILE", help="configuration of the provider before it, or of all")
    add("--address", metavar="IP", help="the address behind the host's name")
    add("--local", metavar="IP:PORT", help="our side's address and port; the port decides for inbound flows")
    add("--no-name", action="store_true", help="as if the name were not known before the first bytes")
    add("--user", metavar="UID", type=int, default=-1, help="the user that the program runs as")
    add("--arguments", metavar="TEXT", help="the program's command line")
    add("--parent", action="append", default=[], metavar="PATH", help="a process above it; repeatable, nearest first")
    add("--interface", metavar="NAME", help="the network interface")
    add("--verbose", "-v", action="store_true", help="the rules that were looked at, and why they do not match")
    add("--json", action="store_true", help="one JSON object")
    parser.set_defaults(providers=[], config={})
    return parser


def main(words: list[str]) -> int:
    """Parse, explain, print; the exit status."""
    parser = _parser()
    parsed = parser.parse_args(words)
    if parsed.rules and parsed.providers:
        parser.error("--rules is about the firewall, --provider about others; give one of them")
    flow = described_flow(parsed)
    if parsed.providers:
        verdicts = _ordered([explain_provider(spec, config, flow) for spec, config in parsed.providers])
    else:
        verdicts = [_firewall(parsed, flow)]
    if parsed.json:
        answer = {"flow": flow_text(flow), "verdict": _whole(verdicts), "providers": [v.to_dict() for v in verdicts]}
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _print(flow, verdicts, parsed.verbose)
    return {"allow": 0, "unknown": 2}.get(_whole(verdicts), 1)


def _firewall(parsed: argparse.Namespace, flow: FilterSocketFlow) -> Verdict:
    config = {**parsed.config, "rules": parsed.rules} if parsed.rules else parsed.config
    return explain_provider("network_extension.builtin.firewall", config, flow, Firewall())


def described_flow(parsed: argparse.Namespace) -> FilterSocketFlow:
    """The flow of the command line. Raises ConfigurationError."""
    flow = parse_flow(parsed.flow)
    program = flow.metadata.process.executable if flow.metadata.process else ""
    if program or parsed.user >= 0 or parsed.arguments or parsed.parent:
        arguments = tuple(parsed.arguments.split()) if parsed.arguments else (program,)
        parents = tuple(ParentProcess(0, path) for path in parsed.parent)
        flow.metadata.process = ProcessInfo(0, 0, max(parsed.user, 0), program, arguments, parents)
    there = flow.remote_endpoint
    if parsed.address and there is not None:
        if (end := Endpoint.of(parsed.address, there.port)).address is None:
            raise ConfigurationError(f"--address {parsed.address}: it is no IP address")
        flow.remote_endpoint = end
    if parsed.local:
        flow.local_endpoint = Endpoint.parse(parsed.local, 0)
    elif flow.direction.name == "INBOUND" and there is not None:
        # "sshd ← 192.0.2.1:22" names the port that matters to who reads it: the service's
        flow.local_endpoint = Endpoint("0.0.0.0", there.port)
    flow.interface = parsed.interface
    if parsed.no_name:
        if flow.remote_endpoint is None or flow.remote_endpoint.address is None:
            raise ConfigurationError("--no-name: give the address, --address IP, for there is nothing else to go by")
        flow.remote_hostname = flow.metadata.name_source = None
    return flow


def flow_text(flow: FilterSocketFlow) -> str:
    """The flow in words."""
    return printable(repr(flow).removeprefix("<FilterFlow ").removesuffix(">"))


def _ordered(verdicts: list[Verdict]) -> list[Verdict]:
    """The order in which filters are asked: every firewall before any inspector."""
    return sorted(verdicts, key=lambda verdict: verdict.grade)


def _whole(verdicts: list[Verdict]) -> str:
    """All must allow; the first that does not decides."""
    for verdict in verdicts:
        if verdict.action != "allow":
            return verdict.action
    return "allow"


def _print(flow: FilterSocketFlow, verdicts: list[Verdict], verbose: bool) -> None:
    print(f"{flow_text(flow)}: {_whole(verdicts)}")
    for verdict in verdicts:
        print(printable(f"  {verdict.provider}: {verdict.text}"))
        for rule, place, why in verdict.looked_at if verbose else ():
            print(printable(f"      {rule} ({place}): {why}"))
        if verdict.action not in ("allow", "unknown"):
            break  # nobody after it would be asked
