"""Two hosts joined by a veth pair of 1,500 bytes, with the servers that the measurements talk to."""

from __future__ import annotations

import os
import resource
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.evidence import Ran, Witness, read_witness
from tests.netlab import FAR4, NEAR4, NOBODY, Host, NetLab, wait_for

HERE = Path(__file__).resolve().parent
IPERF_PORT, HTTP_PORT, ECHO_PORT = 5201, 8080, 7007
WANTED_FILES = 70000
NOBODY_ID = 65534
# wrk opens each connection anew: the lines of this log tell who was seen, and cost the server next to nothing.
_NGINX = """daemon off; master_process off; pid {work}/nginx.pid; error_log {work}/error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  log_format who '$remote_addr'; access_log {work}/access.log who buffer=64k flush=200ms;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  server {{ listen {address}:{port} backlog=4096; location / {{ return 200 "hello\\n"; }} }}
}}
"""


def find_program(name: str) -> str | None:
    """The path of a program, looked for in the administrators' directories too."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")


def raise_file_limit() -> int:
    """Let this process and its children open as many files as the machine allows, at most 70,000; how many that is.

    Beyond the hard limit this takes CAP_SYS_RESOURCE, which root in a container or a small VM need not have.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for limit in (max(hard, WANTED_FILES), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        except (ValueError, OSError):
            continue
        return limit
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class BenchLab(NetLab):
    """A `NetLab` with iperf3, nginx and an echo server in `far`, and a folder that nobody may write to."""

    def __init__(self) -> None:
        super().__init__(mtu=1500)
        self.folder = Path(tempfile.mkdtemp(prefix="netext-bench-"))
        os.chown(self.folder, NOBODY_ID, NOBODY_ID)
        self.near_namespace = self.near.run("readlink", "/proc/self/ns/net").stdout.strip()
        self._witness = self.folder / "witness"
        silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.far.start("iperf3", "-s", "-J", "-p", str(IPERF_PORT), **silent)
        self.load_server("echo", str(ECHO_PORT))
        self._start_nginx()
        for port in (IPERF_PORT, HTTP_PORT, ECHO_PORT):
            self.wait_for_listener(self.far, port)
        self.near.run("ping", "-c", "1", FAR4)  # neighbour discovery is not part of any measurement

    def _start_nginx(self) -> None:
        nginx = find_program("nginx")
        if nginx is None:
            raise SystemExit("bench: nginx is missing: apt-get install nginx-light")
        config = self.folder / "nginx.conf"
        config.write_text(_NGINX.format(work=self.folder, address=FAR4, port=HTTP_PORT))
        words = (nginx, "-p", str(self.folder), "-e", f"{self.folder}/error.log", "-c", str(config))
        self.far.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def load_server(self, *words: str) -> subprocess.Popen[str]:
        """Start one of `load.py`'s servers in `far`."""
        return self.far.start(sys.executable, str(HERE / "load.py"), *words, stdin=subprocess.PIPE, stderr=None)

    def wait_for_listener(self, host: Host, port: int) -> None:
        """Wait until a TCP port is open in a host, without connecting to it."""
        wait_for(lambda: port in _listening(host), 10, f"a listener on port {port}")

    def http_clients(self) -> list[str]:
        """The addresses of all HTTP requests since the last look, one entry each."""
        log = self.folder / "access.log"
        before = -1
        while (size := log.stat().st_size) != before:  # nginx writes its buffer five times a second
            before = size
            wait_for_seconds(0.3)
        lines = log.read_text().split()
        os.truncate(log, 0)
        return lines

    def run_as_user(self, words: list[str], *, timeout: float, prefix: tuple[str, ...] = ()) -> Ran:
        """Run a command in `near` as nobody, to its end. `prefix` are words before setpriv, which root runs."""
        self._witness.unlink(missing_ok=True)
        done = self.near.run(*prefix, *NOBODY, *words, timeout=timeout, env=self.environment(), cwd=str(self.folder))
        return Ran(done.returncode, done.stdout, done.stderr, self.witness())

    def witness(self) -> Witness | None:
        """What `witness.sh` has written since the last run began."""
        return read_witness(self._witness.read_text()) if self._witness.exists() else None

    def environment(self) -> dict[str, str]:
        """The user's: where to find programs and to put files, and nothing of the caller's that could matter."""
        path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": str(self.folder), "WITNESS": str(self._witness), "LC_ALL": "C.UTF-8"}

    def close(self) -> None:
        """Take everything away."""
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _listening(host: Host) -> set[int]:
    """The ports of a host on which TCP sockets listen, as /proc shows them to any of its processes."""
    found = set()
    for process in host.processes:
        for family in ("tcp", "tcp6"):
            try:
                table = Path(f"/proc/{process.pid}/net/{family}").read_text().splitlines()[1:]
            except OSError:  # it has ended
                continue
            found |= {int(line.split()[1].split(":")[1], 16) for line in table if line.split()[3] == "0A"}
    return found


def wait_for_seconds(seconds: float) -> None:
    """Let time pass, where there is no event to wait for."""
    select.select([], [], [], seconds)


def in_near(lab: BenchLab) -> socket.socket:
    """A TCP socket of the benchmark's own, in `near`."""
    made: socket.socket = lab.in_host(lab.near, lambda: socket.socket())
    return made


__all__ = ["FAR4", "NEAR4", "BenchLab", "find_program", "in_near", "wait_for_seconds"]
