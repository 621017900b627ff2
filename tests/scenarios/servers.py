"""Real servers for scenarios, started in a host of the lab: nginx, microsocks, dnsmasq."""

from __future__ import annotations

import socket
from pathlib import Path
from subprocess import DEVNULL

import pytest
import trustme

from tests.netlab import Host, NetLab, wait_for


def need(program: str, package: str) -> str:
    """The path of a program, or a skip that names its Debian package."""
    for folder in ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"):
        if (path := Path(folder) / program).exists():
            return str(path)
    pytest.skip(f"{program} is missing: apt-get install {package}")


def wait_for_port(lab: NetLab, host: Host, address: str, port: int) -> None:
    """Wait until somebody listens there."""

    def answers() -> bool:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            return sock.connect_ex((address, port)) == 0

    wait_for(lambda: lab.in_host(host, answers), 10, f"a listener on {address} port {port}")


class Nginx:
    """A running nginx with one site: `listen` are its addresses, `site` the lines of its `server` block."""

    def __init__(self, lab: NetLab, host: Host, folder: Path, listen: tuple[str, ...], port: int, site: str) -> None:
        work = folder / f"nginx-{host.name}-{port}"
        work.mkdir()
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {work}/{kind}; " for kind in kinds)
        tls = " ssl" if "ssl_certificate" in site else ""
        ends = [f"[{address}]:{port}" if ":" in address else f"{address}:{port}" for address in listen]
        (work / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {work}/pid; error_log {work}/error.log; events {{}}\n"
            f"http {{ access_log {work}/access.log; {places}\n"
            f"types {{ text/html html; application/octet-stream bin; }}\n"
            f"server {{ {''.join(f'listen {end}{tls}; ' for end in ends)}\n{site}\n}} }}\n"
        )
        self._log = work / "access.log"
        words = ("-p", str(work), "-e", f"{work}/error.log", "-c", f"{work}/nginx.conf")
        self._process = host.start(need("nginx", "nginx-light"), *words, stdout=DEVNULL, stderr=DEVNULL)
        wait_for_port(lab, host, listen[0], port)

    @property
    def requests(self) -> list[str]:
        """The request lines that it was sent."""
        return [line.split('"')[1] for line in self._log.read_text().splitlines()]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)


def microsocks(lab: NetLab, host: Host, address: str, port: int, *arguments: str) -> None:
    """Start a SOCKS5 server."""
    words = ("-i", address, "-p", str(port), *arguments)
    host.start(need("microsocks", "microsocks"), *words, stdout=DEVNULL, stderr=DEVNULL)
    wait_for_port(lab, host, address, port)


def dnsmasq(lab: NetLab, host: Host, address: str, *arguments: str) -> None:
    """Start a name server that knows only what the arguments say."""
    words = (
        "--no-daemon",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--bind-interfaces",
        f"--listen-address={address}",
    )
    host.start(need("dnsmasq", "dnsmasq-base"), *words, *arguments, stdout=DEVNULL, stderr=DEVNULL)
    wait_for_port(lab, host, address, 53)


def certificate(authority: trustme.CA, folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate for these names, and its key."""
    issued = authority.issue_cert(*names)
    chain, key = folder / f"{names[0]}.pem", folder / f"{names[0]}.key"
    chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return chain, key
