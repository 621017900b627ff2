"""Peers that need a daemon, root or firewall rules: redsocks, sshuttle, mitmproxy. Each has a lab of its own.

Everything that they start ends with their lab, and their rules live in its namespaces only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.evidence import Ran, Traffic, require
from bench.network import FAR4, NEAR4, NOBODY_ID, BenchLab, find_program, in_near, wait_for_seconds
from bench.ways import Way
from tests.netlab import REPOSITORY, wait_for

REDSOCKS_PORT, SOCKS_PORT, SSH_PORT = 12345, 1080, 2222
SSH_ADDRESS = "198.51.100.3"
MITMPROXY = REPOSITORY / "build" / "bench" / "mitmproxy"
MITMPROXY_TARGET = "nxbmitm"  # what the programs are called that its local mode looks for


class PeerLab(BenchLab):
    """A lab whose `far` has a second address, for what is not to be proxied."""

    def __init__(self) -> None:
        super().__init__()
        self.far.run("ip", "addr", "add", f"{SSH_ADDRESS}/24", "dev", self.far_device)


class WithDaemon(Way):
    """A way with processes of its own in a lab of its own."""

    programs: tuple[tuple[str, str], ...] = ()
    for_latency = False

    def __init__(self) -> None:
        """The lab is made by `start`."""

    def missing(self) -> str | None:
        """The first program that is not there."""
        for program, package in self.programs:
            if find_program(program) is None:
                return f"{program} is not installed: apt-get install {package}"
        return None

    def start(self) -> None:
        """Make the lab, start the daemons, and wait until a connection goes through."""
        self.lab = PeerLab()
        try:
            self.start_daemons()
        except BaseException:
            self.stop()
            raise

    def start_daemons(self) -> None:
        """Start what makes the way."""

    def stop(self) -> None:
        """End all that was started, with its lab."""
        self.lab.close()

    def daemon(self, *words: str, log: str = "daemon", user: bool = False) -> subprocess.Popen[str]:
        """Start a process in `near` that writes to a file of the lab's folder."""
        with open(self.lab.folder / f"{log}.log", "w") as file:
            return self.lab.near.start(*words, user=user, stdout=file, stderr=subprocess.STDOUT, cwd="/")

    def wait(self, condition: Callable[[], object], process: subprocess.Popen[str], log: str, seconds: float) -> None:
        """Wait for the daemon to be ready; RuntimeError with its last words if it is not."""
        try:
            wait_for(lambda: condition() or process.poll() is not None, seconds, log)
        except AssertionError:
            pass
        if process.poll() is not None or not condition():
            words = (self.lab.folder / f"{log}.log").read_text(errors="replace").split("\n")
            raise RuntimeError(f"{log}: {' / '.join(line for line in words if line.strip())[-300:]}")


class Redsocks(WithDaemon):
    """Connections of one user are redirected to redsocks, which asks microsocks to connect."""

    name = "redsocks"
    programs = (("redsocks", "redsocks"), ("microsocks", "microsocks"))
    _CONFIG = """base {{ log_info = off; log = stderr; daemon = off; redirector = iptables; }}
redsocks {{ local_ip = 127.0.0.1; local_port = {port}; ip = 127.0.0.1; port = {socks}; type = socks5; }}
"""
    _RULES = """table ip bench {{
  counter redirected {{ }}
  chain out {{
    type nat hook output priority -100
    meta skuid {user} ip daddr {far} meta l4proto tcp counter name redirected redirect to :{port}
  }}
}}
"""

    def start_daemons(self) -> None:
        """microsocks, redsocks, then the rule."""
        socks = self.daemon("microsocks", "-i", "127.0.0.1", "-p", str(SOCKS_PORT), log="microsocks")
        config = self.lab.folder / "redsocks.conf"
        config.write_text(self._CONFIG.format(port=REDSOCKS_PORT, socks=SOCKS_PORT))
        proxy = self.daemon(str(find_program("redsocks")), "-c", str(config), log="redsocks")
        for process, port, log in ((socks, SOCKS_PORT, "microsocks"), (proxy, REDSOCKS_PORT, "redsocks")):
            self.wait(lambda port=port: _listens(self.lab, port), process, log, 10)  # type: ignore[misc]
        rules = self._RULES.format(user=NOBODY_ID, far=FAR4, port=REDSOCKS_PORT)
        done = self.lab.near.run("nft", "-f", "-", input=rules, stdin=None)
        if done.returncode:
            raise RuntimeError(f"nft: {done.stderr.strip()[:200]}")
        self._redirected = 0

    def prove(self, ran: Ran, traffic: Traffic) -> str:
        """The rule's counter grew by the connections, and the server saw the SOCKS server's address."""
        listing = self.lab.near.run("nft", "list", "counter", "ip", "bench", "redirected").stdout
        match = re.search(r"packets (\d+)", listing)
        count, self._redirected = (int(match[1]) if match else 0) - self._redirected, int(match[1]) if match else 0
        require(count >= traffic.flows, f"nft redirected {count} connections of {traffic.flows}")
        require(traffic.seen_from == {NEAR4}, f"the server saw {sorted(traffic.seen_from)}")
        return f"nft redirected {count} connections"


class Sshuttle(WithDaemon):
    """sshuttle to an sshd of our own in `far`, with keys that live as long as the lab."""

    name = "sshuttle"
    programs = (("sshuttle", "sshuttle"), ("sshd", "openssh-server"), ("ssh-keygen", "openssh-client"))
    _CONFIG = """ListenAddress {address}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
"""

    def start_daemons(self) -> None:
        """Keys, sshd, sshuttle."""
        folder = self.lab.folder / "ssh"
        folder.mkdir(mode=0o700)
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own start script makes it at boot
        for name in ("host_key", "user_key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True, timeout=20, stdin=subprocess.DEVNULL)
        config = folder / "sshd_config"
        config.write_text(self._CONFIG.format(address=SSH_ADDRESS, port=SSH_PORT, folder=folder))
        with open(self.lab.folder / "sshd.log", "w") as log:
            self.lab.far.start(str(find_program("sshd")), "-D", "-e", "-f", str(config), stdout=log, stderr=log)
        self.lab.wait_for_listener(self.lab.far, SSH_PORT)
        options = f"-i {folder}/user_key -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        process = self.daemon(
            "sshuttle", "-v", "--method", "nft", "--remote", f"root@{SSH_ADDRESS}:{SSH_PORT}",
            "--ssh-cmd", f"ssh {options}", f"{FAR4}/32", log="sshuttle",
        )  # fmt: skip
        log_file = self.lab.folder / "sshuttle.log"
        self.wait(lambda: "Connected to server" in log_file.read_text(errors="replace"), process, "sshuttle", 20)
        self._process = process
        wait_for_seconds(0.5)

    def stop(self) -> None:
        """sshuttle removes its rules when it is asked to end; then the lab."""
        process = getattr(self, "_process", None)
        if process is not None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        super().stop()

    def prove(self, ran: Ran, traffic: Traffic) -> str:
        """The server was called by its own host, where sshuttle's far end runs."""
        require(traffic.seen_from == {FAR4}, f"the server saw {sorted(traffic.seen_from)}, not {FAR4}")
        return f"the server saw {FAR4}, the far end of the SSH connection"


class Mitmproxy(WithDaemon):
    """mitmproxy's local mode (eBPF and a TUN device), passing all bytes on uninterpreted."""

    name = "mitmproxy local"

    def missing(self) -> str | None:
        """Installs it, where there is a Python that it runs on."""
        return None if (MITMPROXY / "bin" / "mitmdump").exists() else install_mitmproxy()

    def start_daemons(self) -> None:
        """mitmdump, in a mount namespace with a cgroup2 tree, which its eBPF program is attached to."""
        for program in ("iperf3", "wrk"):
            if path := find_program(program):
                (self.lab.folder / program).mkdir()
                shutil.copy(path, self.lab.folder / program / MITMPROXY_TARGET)
        script = 'umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
        process = self.daemon(
            "unshare", "--mount", "sh", "-c", script, "sh", str(MITMPROXY / "bin" / "mitmdump"),
            "--mode", f"local:{MITMPROXY_TARGET}", "--set", "ignore_hosts=.*", "--set", f"confdir={self.lab.folder}/m",
            "--set", "connection_strategy=lazy", "--set", "flow_detail=0", log="mitmproxy",
        )  # fmt: skip
        self.wait(lambda: self._device() is not None, process, "mitmproxy", 30)
        wait_for_seconds(2.0)
        self._before = self._device() or (0, 0)

    def run(self, command: list[str], timeout: float = 60) -> Ran:
        """The command under the name that mitmproxy looks for."""
        copy = self.lab.folder / command[0] / MITMPROXY_TARGET
        return super().run([str(copy), *command[1:]], timeout)

    def _device(self) -> tuple[int, int] | None:
        """Bytes in and out of the TUN device that the redirector made in `near`."""
        done = self.lab.near.run("cat", "/proc/net/dev")
        for line in done.stdout.splitlines():
            name, colon, counters = line.strip().partition(":")
            if colon and name not in ("lo", self.lab.near_device):
                words = counters.split()
                return int(words[0]), int(words[8])
        return None

    def prove(self, ran: Ran, traffic: Traffic) -> str:
        """What the program sent went over the redirector's device, and what it received came from there."""
        now = self._device() or (0, 0)
        received, sent = (after - before for after, before in zip(now, self._before, strict=True))
        self._before = now
        require(sent >= traffic.sent, f"the TUN device sent {sent} bytes, the program {traffic.sent}")
        require(received >= traffic.received, f"the TUN device received {received}, the program {traffic.received}")
        require(traffic.seen_from == {NEAR4}, f"the server saw {sorted(traffic.seen_from)}")
        return f"its TUN device counted {sent} bytes out and {received} in"


def install_mitmproxy() -> str | None:
    """Make a virtual environment with mitmproxy for all runs to come; why not, if that is not possible."""
    others = filter(None, map(shutil.which, ("python3.14", "python3.13", "python3.12")))
    pythons = [Path(sys.executable), *map(Path, others)]
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    pythons += sorted(pyenv.glob("versions/3.1[2-9]*/bin/python3"))
    for python in pythons:
        check = [str(python), "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))"]
        if subprocess.run(check, check=False, capture_output=True, timeout=20).returncode == 0:
            break
    else:
        return "mitmproxy 12 needs Python 3.12 or newer, and there is none"
    pip = [str(MITMPROXY / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", "mitmproxy>=12"]
    for words in ([str(python), "-m", "venv", str(MITMPROXY)], pip):
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=300)
        if done.returncode:
            shutil.rmtree(MITMPROXY, ignore_errors=True)
            return f"mitmproxy could not be installed: {done.stderr.strip()[-200:]}"
    return None


def _listens(lab: BenchLab, port: int) -> bool:
    with in_near(lab) as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
