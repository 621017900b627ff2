#!/usr/bin/env python3
"""`make bench-urlfilter`: speed and size of the URL filter's back end, in one run, on one database.

    bench/urlfilter.py [--quick] [--rounds N] [--json FILE]

Each figure is a median. What is timed is shown to be right in the same run: the answer decrypts to the value of the row
that was asked for, each token verifies. Apple's figures are those that its own server gave on a like machine (two
cores); they are not measured here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple, Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from network_extension.pir.client import KeywordClient
from network_extension.pir.he.serialization import parse_evaluation_key
from network_extension.pir.processing import process_shard
from network_extension.pir.processing_configuration import ProcessingConfiguration
from network_extension.pir.service_configuration import config_id, pir_config
from network_extension.pir.shard import Shard
from network_extension.urlfilter import lookup_messages
from network_extension.urlfilter import oblivious_http as oh
from network_extension.urlfilter import privacy_pass as pp
from network_extension.urlfilter.oblivious_http.gateway import Gateway
from network_extension.urlfilter.oblivious_http.targets import call_application, in_process

ROWS, QUICK_ROWS = 1_000_000, 50_000
URLS, QUICK_URLS = 10_000_000, 200_000
CLIENTS = 16
USE_CASE = "bench.url.filtering"


class Figure(NamedTuple):
    """One line of the table."""

    name: str
    value: float
    unit: str
    aim: str
    note: str = ""


def seconds(call: Callable[[], object], rounds: int) -> float:
    """The median time of a call."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return median(times)


def resident_mb() -> float:
    """The most that this process has had resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def keyword(number: int) -> bytes:
    """A row."""
    return b"host%d.example/path/%d" % (number // 3, number)


def database(folder: Path, count: int) -> list[Figure]:
    """Build one shard. Compiled first on a small one, as after the first use of an installation."""
    process_shard([b"a"], [b"1"], ProcessingConfiguration()).write(folder / "w.bin", folder / "w.params.txtpb")
    keywords = [keyword(number) for number in range(count)]
    begun = time.perf_counter()
    made = process_shard(keywords, [b"1"] * count, ProcessingConfiguration())
    made.write(folder / "urls-0.bin", folder / "urls-0.params.txtpb")
    grid = made.parameters.dimensions
    note = f"grid {grid.rows} x {grid.columns}, {resident_mb():.0f} MB resident"
    return [Figure(f"build {count:,} rows", time.perf_counter() - begun, "s", "15 s, 1 GiB", note)]


def lookups(folder: Path, count: int, rounds: int) -> list[Figure]:
    """Server and client of the private lookup."""
    shard = Shard.open(folder / "urls-0.bin", folder / "urls-0.params.txtpb")
    client = KeywordClient(pir_config([shard.checked]))
    keys = client.new_keys(os.urandom)
    key = parse_evaluation_key(shard.context, keys.evaluation_key)
    query = client.query(keyword(count // 2), keys, os.urandom)
    answer = shard.answer(query.message, key)
    assert client.value(query, keys, answer) == b"1"
    absent = client.query(b"absent.example", keys, os.urandom)
    assert client.value(absent, keys, shard.answer(absent.message, key)) is None

    def client_side() -> None:
        made = client.new_keys(os.urandom)
        client.value(query, keys, answer)
        client.query(b"host.example", made, os.urandom)

    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        begun = time.perf_counter()
        for done in pool.map(lambda _: shard.answer(query.message, key), range(CLIENTS * rounds)):
            assert len(done.replies) == len(answer.replies)
        rate = CLIENTS * rounds / (time.perf_counter() - begun)
    one = seconds(lambda: shard.answer(query.message, key), rounds) * 1000
    two = seconds(lambda: shard.answer(query.message, key, 2), rounds) * 1000
    alone = seconds(client_side, rounds) * 1000
    sizes = f"query {query.message.ByteSize() / 1000:.1f} kB, reply {answer.ByteSize() / 1000:.1f} kB"
    evaluation_key = f"evaluation key {keys.evaluation_key.ByteSize() / 1000:.0f} kB"
    return [
        Figure("one query, 1 thread", one, "ms", "150 ms", f"Apple's server 288 to 438 ms for 1,000,000 rows; {sizes}"),
        Figure("one query, 2 threads", two, "ms", "90 ms", "Apple's server 180 to 228 ms"),
        Figure(f"{CLIENTS} clients, {cores} cores", rate, "queries/s", "15/s", "the shard alone, without HTTP"),
        Figure("client: keys, query, answer", alone, "ms", "100 ms", evaluation_key),
    ]


def command(*words: str) -> tuple[float, float]:
    """`netext urlfilter …` in a process of its own: seconds, and the MB that it had resident at most."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "network_extension", "urlfilter", *words], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    return time.perf_counter() - begun, usage.ru_maxrss * 1024 / 1e6


def from_lists(folder: Path, rows: int, urls: int) -> list[Figure]:
    """What users type: a list becomes a database, and a prefilter."""
    source = folder / "list.txt"
    with source.open("wb") as file:
        file.writelines(b"https://%b\n" % keyword(number) for number in range(rows))
    building, resident = command("build", str(source), "-o", str(folder / "db"))
    with source.open("wb") as file:
        file.writelines(b"https://%b\n" % keyword(number) for number in range(urls))
    filtering, filtered = command("bloom", str(source), "-o", str(folder / "filter.plist"))
    return [
        Figure(f"netext urlfilter build, {rows:,}", building, "s", "15 s, 1 GiB", f"{resident:.0f} MB resident"),
        Figure(f"netext urlfilter bloom, {urls:,}", filtering, "s", "20 s, 300 MiB", f"{filtered:.0f} MB resident"),
    ]


def tokens(rounds: int) -> list[Figure]:
    """Issued and verified on one core."""
    keys = pp.IssuerKeys().renewed(["tier1"], 0.0)
    claim = pp.TokenClaim.begin(pp.public_key(keys, "tier1", 1.0), "issuer.example", os.urandom)
    request = claim.request.to_bytes()
    token = claim.finish(pp.issue(keys, "tier1", request, 1.0))
    issuing = seconds(lambda: [pp.issue(keys, "tier1", request, 1.0) for _ in range(100)], rounds) / 100
    checking = seconds(lambda: [pp.check_token(keys, token, 1.0) for _ in range(1000)], rounds) / 1000
    return [
        Figure("tokens issued", 1 / issuing, "a second and core", "500/s"),
        Figure("tokens verified", 1 / checking, "a second and core", "5,000/s"),
    ]


def oblivious(rounds: int) -> list[Figure]:
    """Round trips through the gateway, without sockets: client's and gateway's work on one core."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def target(request: Request) -> Response:
        return Response(await request.body())

    keys = oh.GatewayKeys().renewed(0.0)
    leads = in_process(Starlette(routes=[Route("/", target, methods=["POST"])]))
    gateway = Gateway(lambda: keys, {"*": leads})
    outer = Starlette(routes=[Route("/gateway", gateway.exchange, methods=["POST"]), Route("/keys", gateway.key_list)])

    async def carrier(method: str, url: str, content_type: str, body: bytes) -> tuple[int, str, bytes]:
        request = oh.BinaryRequest(method, "https", "gateway", url, (("content-type", content_type),), body)
        answer = await call_application(outer, request)
        return answer.status, dict(answer.headers).get("content-type", ""), answer.content

    async def trips() -> None:
        client = oh.ObliviousClient("/gateway", "/keys", carrier)
        request = oh.BinaryRequest("POST", "https", "a.example", "/", (), b"content")
        for _ in range(500):
            assert (await client.exchange(request)).content == b"content"

    spent = seconds(lambda: asyncio.run(trips()), rounds) / 500
    return [
        Figure("OHTTP round trips", 1 / spent, "a second and core", "2,000/s", "client and gateway, without sockets")
    ]


class Served:
    """`netext urlfilter serve` of the benchmark's shard, for everybody, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        use_case = {"name": USE_CASE, "fileStem": "urls", "shardCount": 1}
        path = folder / "service.json"
        path.write_text(json.dumps({"users": [], "usecases": [use_case]}))
        words = [sys.executable, "-m", "network_extension", "urlfilter", "serve", str(path), "--no-tokens"]
        begun = time.perf_counter()
        self._process = subprocess.Popen([*words, "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        self.url = ""
        for line in self._process.stderr:
            if found := re.search(r"(http://127\.0\.0\.1:\d+)/config", line):
                self.url = found[1]
            if line.lstrip().startswith("operators"):
                break
        self.seconds = time.perf_counter() - begun
        """From the command to the line that says ready."""

    def core_seconds(self) -> float:
        """What the service has taken of the cores so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.stderr is not None
        self._process.stderr.read()
        self._process.wait()
        self._process.stderr.close()


async def ask_over_http(url: str, shard: Shard, wanted: bytes, count: int) -> float:
    """Queries a second that so many clients get who ask again as soon as they have their answer."""
    import aiohttp

    config = pir_config([shard.checked])
    client = KeywordClient(config)
    keys = client.new_keys(os.urandom)
    query = client.query(wanted, keys, os.urandom)
    agent = {"User-Agent": "com.apple.ciphermld/1.0 iOS/26.0"}
    configuration = config_id(config)
    question = lookup_messages.Question(0, query.message)
    body = lookup_messages.query_request(USE_CASE, [question], keys.identifier, configuration)
    upload = lookup_messages.key_upload(keys.identifier, keys.evaluation_key)

    async def one_client(number: int, session: aiohttp.ClientSession) -> None:
        headers = agent | {"User-Identifier": f"client {number}"}
        async with session.post(f"{url}/key", data=upload, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
        started.append(number)
        while len(started) < CLIENTS:  # noqa: ASYNC110  they begin together
            await asyncio.sleep(0.01)
        for _ in range(count):
            async with session.post(f"{url}/queries", data=body, headers=headers) as answer:
                content = await answer.read()
                assert answer.status == 200, content
            answered.append(content)

    started: list[int] = []
    answered: list[bytes] = []
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(one_client(number, session))
        while len(started) < CLIENTS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        begun = time.perf_counter()
    spent = time.perf_counter() - begun
    (reply,) = lookup_messages.read_responses(answered[-1], 1)
    assert client.value(query, keys, reply) == b"1"
    return len(answered) / spent


async def round_trips_over_http(service: str, count: int) -> float:
    """Sealed requests a second through the service's gateway, by clients that ask one after the other."""
    import aiohttp

    async def one_client(session: aiohttp.ClientSession) -> None:
        async def carrier(method: str, url: str, content_type: str, body: bytes) -> tuple[int, str, bytes]:
            async with session.request(method, url, data=body, headers={"Content-Type": content_type}) as answer:
                return answer.status, answer.headers.get("Content-Type", ""), await answer.read()

        client = oh.ObliviousClient(f"{service}/gateway", f"{service}/ohttp-keys", carrier)
        request = oh.BinaryRequest("GET", "https", "a.example", "/.well-known/private-token-issuer-directory", (), b"")
        for _ in range(count):
            assert (await client.exchange(request)).status == 200

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        begun = time.perf_counter()
        for _ in range(CLIENTS):
            tasks.create_task(one_client(session))
    return CLIENTS * count / (time.perf_counter() - begun)


def over_http(folder: Path, count: int, rounds: int) -> list[Figure]:
    """The whole service, through sockets; its clients take a part of the same cores."""
    shard = Shard.open(folder / "urls-0.bin", folder / "urls-0.params.txtpb")
    with Served(folder) as served:
        asked = asyncio.run(ask_over_http(served.url, shard, keyword(count // 2), rounds))
        before = served.core_seconds()
        trips = median(asyncio.run(round_trips_over_http(served.url, 100)) for _ in range(rounds))
        each = (served.core_seconds() - before) / (CLIENTS * 100 * rounds)
    cores = len(os.sched_getaffinity(0))
    return [
        Figure(f"{CLIENTS} clients over HTTP", asked, "queries/s", "15/s", f"service and clients on {cores} cores"),
        Figure(
            "OHTTP over HTTP", 1 / each, "a second and core", "2,000/s", f"{trips:,.0f}/s with clients, {cores} cores"
        ),
    ]


def start(folder: Path) -> list[Figure]:
    """From the command to the line that says ready."""
    times = []
    for _ in range(3):
        with Served(folder) as served:
            times.append(served.seconds)
    return [Figure("service start", median(times), "s", "3 s", "kernels compiled and cached")]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Speed and size of the URL filter's back end.")
    parser.add_argument("--quick", action="store_true", help="small databases: for a look, not for figures")
    parser.add_argument("--rounds", type=int, default=5, help="medians of so many (5)")
    parser.add_argument("--json", metavar="FILE", help="the figures as JSON")
    options = parser.parse_args()
    count, urls = (QUICK_ROWS, QUICK_URLS) if options.quick else (ROWS, URLS)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: list[Callable[[], list[Figure]]] = [
            # First: a child is charged for what its parent had resident when it was forked.
            lambda: from_lists(folder, count, urls),
            lambda: database(folder, count),
            lambda: lookups(folder, count, options.rounds),
            lambda: tokens(options.rounds),
            lambda: oblivious(options.rounds),
            lambda: over_http(folder, count, options.rounds),
            lambda: start(folder),
        ]
        for part in parts:
            for figure in part():
                figures.append(figure)
                text = f"{figure.value:,.2f}" if figure.value < 10 else f"{figure.value:,.0f}"
                print(f"{figure.name:36} {text:>10} {figure.unit:18} aim {figure.aim:14} {figure.note}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps([figure._asdict() for figure in figures], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
