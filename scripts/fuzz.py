#!/usr/bin/env python3
"""`make fuzz`: coverage-guided fuzzing of everything here that reads bytes from outside.

    scripts/fuzz.py [--inputs N] [--seconds S] [--target NAME]... [--list]

Each target is a parser and the errors that it may raise; anything else is a finding. One process for each, by atheris
(libFuzzer): an input that crashes is kept in build/fuzz/TARGET and its name printed; inputs that reach new code lie
beside it, and are where the next run goes on. The exit status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = REPOSITORY / "build" / "fuzz"
LONGEST = 65536
"""Bytes of an input: what is read in pieces has to stay linear, and a square shows itself late."""
LIMIT_MB = 512
SLOWEST = 5  # seconds for one input

Target = Callable[[bytes], None]


def targets() -> dict[str, Target]:
    """All of them by name. Imports what they test, so that it can be instrumented."""
    from network_extension import ConfigurationError, PeerError
    from network_extension.builtin.firewall.document import Document
    from network_extension.builtin.firewall.lists import TargetList
    from network_extension.builtin.firewall.rule_file import parse_rules
    from network_extension.core import (
        client_hello,
        dns_messages,
        http_request,
        packet_heads,
        packets,
        stream_reassembly,
    )
    from network_extension.core.flow_description import parse_flow
    from network_extension.core.host_names import HostNames
    from network_extension.core.name_sniffing import NameSniffer
    from network_extension.core.quic_initial import InitialReader
    from network_extension.linux import conntrack, netlink, nfqueue, sock_diag
    from network_extension.runtime import filter_wire, wire

    def name_sniffing(data: bytes) -> None:
        sniffer = NameSniffer(17 if data[:1] == b"u" else 6, 443)
        for start in range(1, len(data), 97):
            sniffer.feed(data[start : start + 97])

    def reassembly(data: bytes) -> None:
        stream: stream_reassembly.StreamReassembler[int] = stream_reassembly.StreamReassembler(
            int.from_bytes(data[:4], "big"), 4096, 16
        )
        for at in range(4, len(data) - 4, 4):
            kind, offset, size, up_to = data[at : at + 4]
            stream.add(at, int.from_bytes(data[:4], "big") + offset, data[at : at + size], bool(kind & 1))
            stream.release(up_to if kind & 2 else 0)

    def hosts_file(data: bytes) -> None:
        HostNames().learn_hosts_file(data.decode("utf-8", "replace"))

    def netlink_messages(data: bytes) -> None:
        for _ in netlink.messages(data):
            pass

    def dns_replies(data: bytes) -> None:
        dns_messages.error_reply(data, 2)
        dns_messages.truncate_reply(data)

    def quic_frames(data: bytes) -> None:
        InitialReader()._frames(data)

    def host_flow(data: bytes) -> None:
        parse_flow(data.decode("utf-8", "replace"))

    def firewall_rules(data: bytes) -> None:
        parse_rules(Document.parse("rules.toml", b'default = "ask"\n[[rule]]\naction = "deny"\n' + data).data)

    parsers: dict[str, tuple[Target, tuple[type[BaseException], ...]]] = {
        "client_hello": (lambda data: ignore(client_hello.read_client_hello(data)), (PeerError,)),
        "handshake": (lambda data: ignore(client_hello.read_handshake(data)), (PeerError,)),
        "conntrack": (lambda data: ignore(conntrack.parse_events(data)), ()),
        "dns": (lambda data: ignore(dns_messages.parse_answers(data)), (PeerError,)),
        "dns_query": (lambda data: ignore(dns_messages.parse_query(data)), (PeerError,)),
        "dns_replies": (dns_replies, (PeerError,)),
        "filter_answers": (lambda data: ignore(list(filter_wire.unpack_answers(data))), (PeerError,)),
        "firewall_list": (lambda data: ignore(TargetList("list", data.decode("utf-8", "replace").splitlines())), ()),
        "firewall_rules": (firewall_rules, (ConfigurationError,)),
        "flow_description": (host_flow, (ConfigurationError,)),
        "hosts_file": (hosts_file, ()),
        "http_request": (lambda data: ignore(http_request.read_request_head(data)), (PeerError,)),
        "name_sniffing": (name_sniffing, ()),
        "netlink": (netlink_messages, ()),
        "nfqueue": (lambda data: ignore(nfqueue.parse_packet(data)), ()),
        "packet_head": (lambda data: ignore(packet_heads.parse_head(data)), (PeerError,)),
        "flow_key": (lambda data: ignore(packets.flow_key(data)), (PeerError,)),
        "quic_datagram": (lambda data: ignore(InitialReader().feed(data)), (PeerError,)),
        "quic_frames": (quic_frames, (PeerError, IndexError)),
        "reassembly": (reassembly, ()),
        "sock_diag": (lambda data: ignore(sock_diag.parse_events(data)), ()),
        "wire": (lambda data: ignore(wire.decode(data)), (PeerError,)),
    }
    return {
        name: guarded(parser, errors)
        for name, (parser, errors) in (parsers | urlfilter_parsers() | doctor_readers()).items()
    }


def urlfilter_parsers() -> dict[str, tuple[Target, tuple[type[BaseException], ...]]]:
    """Those of the URL filter, with the errors that they may raise."""
    from google.protobuf.message import DecodeError

    from network_extension import ConfigurationError, PeerError
    from network_extension.core.http_request import NotHTTPError
    from network_extension.pir import hash_bucket
    from network_extension.pir.errors import PirError
    from network_extension.pir.he.context import Context
    from network_extension.pir.he.parameters import parameters_named
    from network_extension.pir.he.serialization import parse_ciphertext, parse_evaluation_key
    from network_extension.pir.proto import he_pb2
    from network_extension.urlfilter import (
        block_list_lines,
        bloom,
        lookup_messages,
        oblivious_http,
        privacy_pass,
        url_forms,
    )
    from network_extension.urlfilter.http_requests import Body, Head, RequestReader
    from network_extension.urlfilter.oblivious_http import chunked
    from network_extension.urlfilter.service.configuration import parse_configuration
    from network_extension.urlfilter.service.content_codings import accepted_coding
    from network_extension.urlfilter.service.refusals import Refusal
    from network_extension.urlfilter.service.reports import parse_report
    from network_extension.urlfilter.url_filter_configuration import URLFilterConfiguration
    from network_extension.urlfilter.url_filter_errors import URLFilterError
    from network_extension.urlfilter.url_parsing_expression import ParsingExpression

    def url(data: bytes) -> None:
        for system in url_forms.SYSTEMS:
            url_forms.candidates("https://" + data.decode("utf-8", "replace"), system)

    def private_token(data: bytes) -> None:
        privacy_pass.read_authorization("PrivateToken " + data.decode("latin-1"))

    def http_requests(data: bytes) -> None:
        """All requests of a connection, as the provider reads them."""
        reader, at = RequestReader(80), 0
        for _ in range(64):
            piece = reader.read(data[at:])
            if not isinstance(piece, Body | Head) or at > len(data):
                return
            at += piece.size

    def report(data: bytes) -> None:
        parse_report(data[1:], "application/json" if data[:1] == b"{" else "application/x-protobuf")

    def expression(data: bytes) -> None:
        pattern, _, rest = data.decode("utf-8", "replace").partition("\n")
        ParsingExpression(f"(?<whole>{pattern})").candidates(f"https://example.com/{rest}")

    context = Context.of(parameters_named("n_4096_logq_27_28_28_logt_5"))

    def ciphertext(data: bytes) -> None:
        parse_ciphertext(context, he_pb2.SerializedCiphertext.FromString(data))

    def evaluation_key(data: bytes) -> None:
        parse_evaluation_key(context, he_pb2.SerializedEvaluationKey.FromString(data))

    keys, oblivious = oblivious_http.GatewayKeys().renewed(0.0), (oblivious_http.ObliviousError,)
    return {
        "binary_request": (lambda data: ignore(oblivious_http.decode_request(data)), oblivious),
        "binary_response": (lambda data: ignore(oblivious_http.decode_response(data)), oblivious),
        "block_list": (lambda data: ignore(block_list_lines.read_line(data[:4096])), ()),
        "gateway_keys": (lambda data: ignore(oblivious_http.decode_list(data)), oblivious),
        "gateway_request": (lambda data: ignore(oblivious_http.open_request(keys, data)), oblivious),
        "gateway_keys_file": (
            lambda data: ignore(oblivious_http.GatewayKeys.from_bytes(data)),
            (ConfigurationError,),
        ),
        "chunked_request": (lambda data: ignore(chunked.open_request(keys, data)), oblivious),
        "accept_encoding": (lambda data: ignore(accepted_coding(data.decode("latin-1"))), ()),
        "ciphertext": (ciphertext, (PirError, DecodeError)),
        "evaluation_key": (evaluation_key, (PirError, DecodeError)),
        "http_requests": (http_requests, (NotHTTPError,)),
        "lookup_configuration": (
            lambda data: ignore(lookup_messages.read_configuration(data, "a", data[:32])),
            (PeerError,),
        ),
        "lookup_responses": (
            lambda data: ignore(lookup_messages.read_responses(data, data.count(b"\n"))),
            (PeerError,),
        ),
        "parsing_expression": (expression, (ConfigurationError,)),
        "service_configuration": (
            lambda data: ignore(parse_configuration(data, Path("service.json"))),
            (ConfigurationError,),
        ),
        "url_filter_configuration": (lambda data: ignore(URLFilterConfiguration.from_json(data)), (URLFilterError,)),
        "url_filter_report": (report, (Refusal,)),
        "hash_bucket": (lambda data: ignore(hash_bucket.read_bucket(data)), (PirError,)),
        "prefilter": (lambda data: ignore(bloom.read_prefilter(data)), (bloom.PrefilterError,)),
        "private_token": (private_token, (privacy_pass.PrivacyPassError,)),
        "token_challenge": (
            lambda data: ignore(privacy_pass.TokenChallenge.from_bytes(data)),
            (privacy_pass.PrivacyPassError,),
        ),
        "url": (url, (ConfigurationError,)),
    }


def doctor_readers() -> dict[str, tuple[Target, tuple[type[BaseException], ...]]]:
    """Those of the doctor for Apple bundles; its tests have the list."""
    sys.path.insert(0, str(REPOSITORY))
    from network_extension.doctor.errors import UnreadableFile
    from tests.unit.doctor.fuzzed_readers import READERS

    return {
        f"doctor_{name}": (lambda data, reader=reader: ignore(reader(data)), (UnreadableFile,))  # type: ignore[misc]
        for name, reader in READERS.items()
        if name not in ("archive", "bundle")  # write files
    }


def ignore(result: object) -> None:
    """The result does not matter here."""


def guarded(parser: Target, errors: tuple[type[BaseException], ...]) -> Target:
    """The parser, for which `errors` are a way to say no."""

    def one_input(data: bytes) -> None:
        try:
            parser(data)
        except errors:
            pass

    return one_input


def fuzz_one(name: str, inputs: int, seconds: int) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["network_extension"]):
        target = targets()[name]
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    words = [
        sys.argv[0],
        f"-runs={inputs}",
        f"-max_len={LONGEST}",
        f"-rss_limit_mb={LIMIT_MB}",
        f"-timeout={SLOWEST}",
        f"-artifact_prefix={folder}/crash-",
        "-print_final_stats=1",
        *([f"-max_total_time={seconds}"] if seconds else []),
        str(folder),
    ]
    atheris.Setup(words, target)
    atheris.Fuzz()


def main() -> int:
    """Fuzz the targets, one after the other."""
    parser = argparse.ArgumentParser(description="Coverage-guided fuzzing of all parsers.")
    parser.add_argument("--inputs", type=int, default=550_000, help="for each target (550,000)")
    parser.add_argument("--seconds", type=int, default=0, help="for each target at most; 0: no limit")
    parser.add_argument("--target", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--list", action="store_true", help="print the names of the targets")
    parser.add_argument("--one", metavar="TARGET", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        fuzz_one(options.one, options.inputs, options.seconds)
    names = sorted(targets())
    if options.list:
        print("\n".join(names))
        return 0
    total, found = 0, []
    for name in options.target or names:
        words = ["--one", name, "--inputs", str(options.inputs), "--seconds", str(options.seconds)]
        done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, errors="replace")
        match = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        count = int(match[1]) if match else 0
        total += count
        print(f"{name}: {count:,} inputs{'' if done.returncode == 0 else ': FOUND'}", flush=True)
        if done.returncode:
            found.append(name)
            print(done.stderr[-2000:])
    print(f"{total:,} inputs over {len(options.target or names)} targets; found: {', '.join(found) or 'nothing'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
