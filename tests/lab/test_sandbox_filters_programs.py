"""Filters before real programs: TLS by server name, block pages, names, pings, packets, and proxies behind filters."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.netlab import FAR4, FAR6, NetLab, acquainted_lab, open_folder, python
from tests.scenarios.runs import EXAMPLES, Run, netext_run
from tests.scenarios.servers import Nginx, certificate, dnsmasq, microsocks, need

from .program import provider

pytestmark = pytest.mark.lab
PAGE = "The lion sleeps tonight. " * 3000


@pytest.fixture(scope="module")
def lab() -> Iterator[NetLab]:
    """Two hosts of our own: they get servers, a name server and a parameter."""
    with acquainted_lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for servers, readable for an ordinary user."""
    with open_folder() as path:
        yield path


@pytest.fixture(scope="module", autouse=True)
def web(lab: NetLab, folder: Path) -> None:
    """nginx with TLS and without, a SOCKS5 server, a name server, and a host whose users may ping."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    chain, key = certificate(authority, folder, "www.example.org", "evil.example.org")
    (folder / "lion.html").write_text(PAGE)
    tls = f"ssl_certificate {chain}; ssl_certificate_key {key}; root {folder};"
    Nginx(lab, lab.far, folder, (FAR4, FAR6), 443, tls)
    Nginx(lab, lab.far, folder, (FAR4,), 80, f"root {folder};")
    microsocks(lab, lab.far, FAR4, 1080)
    dnsmasq(lab, lab.far, FAR4, f"--address=/www.example.org/{FAR4}")
    lab.resolv_conf(f"nameserver {FAR4}\n")
    lab.near.run("sysctl", "-w", "net.ipv4.ping_group_range=0 2147483647")


def fetch(lab: NetLab, folder: Path, url: str, *options: str, ways: tuple[str, ...]) -> Run:
    """curl, behind filters."""
    names = ("www.example.org:443", "evil.example.org:443", "www.example.org:80", "evil.example.org:80")
    resolve = [word for name in names for word in ("--resolve", f"{name}:{FAR4}")]
    words = ("curl", "-sS", "-m", "10", "--cacert", str(folder / "authority.pem"), *resolve, *options, url)
    return netext_run(lab, *ways, "--", *words)


BY_NAME = provider("by_name", blocked="evil.example.org")


class TestServerNames:
    @pytest.mark.parametrize("proxy", ["", "relaying", "carrying"])
    def test_a_name_decides(self, lab: NetLab, folder: Path, proxy: str) -> None:
        """The name is in the ClientHello; the server's end never gets that of a blocked one."""
        ways = (*(provider(proxy) if proxy else ()), *BY_NAME)
        good = fetch(lab, folder, "https://www.example.org/lion.html", ways=ways)
        assert good.output == PAGE
        decision = good.records("filter")[0]
        assert (decision["host"], decision["name_source"], decision["outcome"]) == ("www.example.org", "tls", "allowed")
        bad = fetch(lab, folder, "https://evil.example.org/lion.html", ways=ways)
        assert bad.status == 35, bad.log  # CURLE_SSL_CONNECT_ERROR
        record = bad.records("flow")[0]
        assert (record["outcome"], record["by"], record["host"], record["out"]) == (
            "dropped", "ByName", "evil.example.org", 0,
        )  # fmt: skip

    def test_openssl(self, lab: NetLab, folder: Path) -> None:
        words = ("openssl", "s_client", "-connect", f"[{FAR6}]:443", "-brief", "-servername")
        good = netext_run(lab, *BY_NAME, "--", *words, "www.example.org")
        assert "CONNECTION ESTABLISHED" in good.log
        assert "CONNECTION ESTABLISHED" not in netext_run(lab, *BY_NAME, "--", *words, "evil.example.org").log

    def test_a_hello_in_segments_of_one_byte(self, lab: NetLab, folder: Path) -> None:
        code = (
            "import socket, ssl, sys\n"
            "context = ssl.create_default_context(cafile=sys.argv[1])\n"
            "into, out = ssl.MemoryBIO(), ssl.MemoryBIO()\n"
            "tls = context.wrap_bio(into, out, server_hostname=sys.argv[2])\n"
            f"raw = socket.create_connection(('{FAR4}', 443), 10)\n"
            "raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n"
            "while True:\n"
            "    try:\n"
            "        tls.do_handshake(); break\n"
            "    except ssl.SSLWantReadError:\n"
            "        for byte in out.read(): raw.send(bytes([byte]))\n"
            "        into.write(raw.recv(65536))\n"
            "print('shook hands')\n"
        )
        words = (*python(code), str(folder / "authority.pem"))
        run = netext_run(lab, *BY_NAME, "--", *words, "www.example.org")
        assert run.output.strip() == "shook hands", run.log
        assert run.records("filter")[0]["host"] == "www.example.org"
        assert "ConnectionResetError" in netext_run(lab, *BY_NAME, "--", *words, "evil.example.org").log


class TestPlainHTTP:
    @pytest.mark.parametrize("proxy", ["", "relaying", "carrying"])
    def test_a_block_page_and_a_clean_end(self, lab: NetLab, folder: Path, proxy: str) -> None:
        ways = (*(provider(proxy) if proxy else ()), *provider("by_name", page=True))
        run = fetch(lab, folder, "http://evil.example.org/lion.html", "-i", ways=ways)
        assert run.status == 0, run.log
        assert "lion" not in run.output.partition("\n\n")[2].replace("lion.html", "") and "HTTP/1.1 " in run.output
        assert run.records("flow")[0]["outcome"] == "remediated"
        assert run.records("filter")[0]["url"] == "http://evil.example.org/lion.html"

    def test_what_is_not_http_gets_no_page(self, lab: NetLab, folder: Path) -> None:
        run = fetch(lab, folder, "https://evil.example.org/", ways=provider("by_name", page=True))
        assert run.status == 35 and run.records("flow")[0]["outcome"] == "dropped"


class TestBeforeProxies:
    def test_the_filter_sees_what_the_program_asks_and_gets(self, lab: NetLab, folder: Path) -> None:
        """With the rewriting proxy behind it: its words are in what the filter sees come in."""
        rewriting = ("--provider", str(EXAMPLES / "rewriting_proxy.py"), "--config", "find=lion", "--config",
                     "replace=house cat")  # fmt: skip
        run = fetch(lab, folder, "http://www.example.org/lion.html", ways=(*rewriting, *provider("watching")))
        assert run.output == PAGE.replace("lion", "house cat")
        seen = [record["text"] for record in run.records("provider-log") if record["text"].startswith("Watching")]
        assert seen == ["Watching: GET /lion.html HTTP/1.1, house cat: 3000, lion: 0"]

    def test_the_filter_sees_where_the_program_goes(self, lab: NetLab, folder: Path) -> None:
        """With the SOCKS5 example behind it."""
        socks = ("--provider", str(EXAMPLES / "socks5_upstream.py"), "--config", f"server={FAR4}:1080")
        run = fetch(lab, folder, "http://www.example.org/lion.html", ways=(*socks, *provider("watching")))
        assert run.output == PAGE, run.log
        decision = run.records("filter")[0]
        assert decision["remote"] == [FAR4, 80] and decision["interface"] == lab.near_device
        assert run.flows[0][1] == "claimed"


class TestOthers:
    def test_names_that_were_asked_for(self, lab: NetLab, folder: Path) -> None:
        """A query to the sandbox's name server is no flow; a flow has the name from its answer."""
        words = ("curl", "-sS", "http://www.example.org/lion.html")
        run = netext_run(lab, *provider("deciding"), "--", *words)
        assert run.output == PAGE
        decisions = [(one["protocol"], one["host"], one["name_source"]) for one in run.records("filter")]
        assert decisions == [("tcp", "www.example.org", "dns")]

    def test_a_query_to_a_server_of_the_programs_choice_is_a_flow(self, lab: NetLab, folder: Path) -> None:
        need("dnsperf", "dnsperf")
        (folder / "queries").write_text("www.example.org A\n" * 500)
        words = ("dnsperf", "-s", FAR4, "-d", str(folder / "queries"), "-c", "4")
        run = netext_run(lab, *provider("peeking"), "--", *words)
        assert "Queries completed:    500 (100.00%)" in run.output
        assert {(one["protocol"], one["remote"][1]) for one in run.records("filter")} <= {("udp", 53)}

    @pytest.mark.parametrize("host", [FAR4, FAR6])
    def test_ping_is_a_flow(self, lab: NetLab, host: str) -> None:
        run = netext_run(lab, *provider("pinging"), "--", "ping", "-c", "3", "-i", "0.2", "-W", "2", host)
        assert " 3 received" in run.output, run.output + run.log
        told = [record["text"] for record in run.records("provider-log")]
        number = 58 if ":" in host else 1
        assert told[0] == f"Pinging: {number} {host}"
        assert told[1:] == ["Pinging: out 1 True", "Pinging: in 1 True"] * 3
        blocked = netext_run(
            lab, *provider("pinging", drop=True), "--", "ping", "-c", "2", "-i", "0.2", "-W", "1", host
        )
        assert " 0 received" in blocked.output
        assert len(blocked.records("provider-log")) == 1  # asked once

    def test_each_peer_of_a_socket_is_a_flow(self, lab: NetLab) -> None:
        """A socket that may talk to one end may not talk to another by that."""
        code = (
            "import socket\n"
            "sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "sock.settimeout(1)\n"
            f"for port in (5001, 2001, 5002):\n"
            f"    sock.sendto(b'hello', ('{FAR4}', port))\n"
            "    try: print(port, sock.recvfrom(100)[1][1])\n"
            "    except TimeoutError: print(port, 'nothing')\n"
        )
        servers = [lab.far_listener(port, kind=2) for port in (5001, 2001, 5002)]

        def echo(server: socket.socket) -> None:
            data, peer = server.recvfrom(100)
            server.sendto(data, peer)

        threads = [threading.Thread(target=echo, args=(server,)) for server in servers]
        for thread in threads:
            thread.start()
        run = netext_run(lab, *provider("deciding"), "--", *python(code))
        servers[0].sendto(b"end", servers[1].getsockname())  # nobody else has
        for thread, server in zip(threads, servers, strict=True):
            thread.join(5)
            server.close()
        assert run.output.splitlines() == ["5001 5001", "2001 nothing", "5002 5002"]
        decisions = {one["remote"][1]: one["outcome"] for one in run.records("filter")}
        assert decisions == {5001: "allowed", 2001: "dropped", 5002: "allowed"}

    def test_packets(self, lab: NetLab, folder: Path) -> None:
        """A packet filter sees both ways, drops and delays."""
        run = fetch(lab, folder, "http://www.example.org/lion.html", ways=provider("packet_counting", delay=80))
        assert run.output == PAGE and run.records("flow")[0]["seconds"] > 0.2
        counts = run.records("provider-log")[-1]["text"]
        assert counts.startswith("PacketCounting: packets: ") and counts.endswith(" in, by netext0")
        blocked = fetch(lab, folder, "http://www.example.org/", "-m", "1", ways=provider("packet_counting", drop=80))
        assert blocked.status == 28  # CURLE_OPERATION_TIMEDOUT
