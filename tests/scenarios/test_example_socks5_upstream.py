"""The SOCKS5 upstream of `examples/`, with a real SOCKS server (microsocks) that logs in, resolves and connects."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netlab import FAR4, NetLab, python

from .runs import Run, example, netext_run
from .servers import Nginx, dnsmasq, microsocks

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

OPEN, GUARDED = f"{FAR4}:1080", f"{FAR4}:1081"
UNREACHABLE = "203.0.113.1"
NAME = "intern.example"


@pytest.fixture(scope="module", autouse=True)
def far_side(lab: NetLab, folder: Path) -> Iterator[None]:
    """Two SOCKS servers; a site; and one that only the SOCKS server's host can reach, under a name that it knows.

    Our own name server knows the name as well, and leads elsewhere.
    """
    files = Path("/etc/netns") / lab.far.name
    files.mkdir(parents=True)
    (files / "hosts").write_text(f"127.0.0.1 {NAME}\n")
    microsocks(lab, lab.far, FAR4, 1080)
    microsocks(lab, lab.far, FAR4, 1081, "-u", "anna", "-P", "secret word")
    Nginx(lab, lab.far, folder, (FAR4,), 8000, 'return 200 "outside, from $remote_addr";')
    Nginx(lab, lab.far, folder, ("127.0.0.1",), 8001, 'return 200 "inside";')
    dnsmasq(lab, lab.far, FAR4, f"--address=/{NAME}/{FAR4}")
    lab.resolv_conf(f"nameserver {FAR4}\n")
    lab.near.run("ip", "-n", lab.far.name, "route", "add", "unreachable", UNREACHABLE)
    yield
    shutil.rmtree(files)


def curl(lab: NetLab, server: str, url: str, **config: object) -> Run:
    return netext_run(lab, *example("socks5_upstream", server=server, **config), "--", "curl", "-sS", url)


def test_everything_goes_through_it(lab: NetLab) -> None:
    """The site sees the SOCKS server's address."""
    run = curl(lab, OPEN, f"http://{FAR4}:8000/")
    assert run.output == f"outside, from {FAR4}"
    assert run.flows == [(8000, "claimed", "SOCKS5Upstream")]


def test_the_host_name_is_given_to_it(lab: NetLab) -> None:
    """By our name server the name leads to another host; the SOCKS server resolves it itself, to a site inside."""
    run = curl(lab, OPEN, f"http://{NAME}:8001/")
    assert run.output == "inside", run.log
    assert run.records("flow")[-1]["host"] == NAME


def test_name_and_password(lab: NetLab, folder: Path) -> None:
    """They come from a file of its owner's alone."""
    run = curl(lab, GUARDED, f"http://{FAR4}:8000/", credentials=credentials(lab, folder, "secret word"))
    assert run.output == f"outside, from {FAR4}", run.log


@pytest.mark.parametrize("password", ["wrong", None])
def test_a_server_that_does_not_let_us_in(lab: NetLab, folder: Path, password: str | None) -> None:
    """Refused, and the log says by whom and why."""
    config = {"credentials": credentials(lab, folder, password)} if password else {}
    run = curl(lab, GUARDED, f"http://{FAR4}:8000/", **config)
    assert run.status == 7  # curl: failed to connect
    why = "does not know name and password" if password else "takes none of our ways to log in"
    assert why in run.records("provider-log")[0]["text"]


def test_credentials_that_others_can_read_are_not_used(lab: NetLab, folder: Path) -> None:
    """The run does not begin, and one line says what to do."""
    path = credentials(lab, folder, "secret word", mode=0o644)
    run = netext_run(lab, *example("socks5_upstream", server=GUARDED, credentials=path), "--", "true", log="")
    assert run.status == 70
    assert f"chmod 600 {path}" in run.log
    assert len(run.log.splitlines()) == 1


def credentials(lab: NetLab, folder: Path, password: str, mode: int = 0o600) -> str:
    """A file of nobody's."""
    path = folder / "credentials.toml"
    path.unlink(missing_ok=True)
    path.write_text(f'username = "anna"\npassword = "{password}"\n')
    path.chmod(mode)
    shutil.chown(path, 65534, 65534)
    return str(path)


@pytest.mark.parametrize(
    ("destination", "error"),
    [
        pytest.param((FAR4, 81), "ECONNREFUSED", id="nobody listens"),
        pytest.param((UNREACHABLE, 80), "EHOSTUNREACH", id="no way there"),
    ],
)
def test_what_the_socks_server_cannot_reach(lab: NetLab, destination: tuple[str, int], error: str) -> None:
    """The program's connect() fails with the errno of the cause, which the SOCKS server found out, and at once."""
    code = f"import errno, socket; print(errno.errorcode[socket.socket().connect_ex({destination})])"
    start = time.monotonic()
    run = netext_run(lab, *example("socks5_upstream", server=OPEN), "--", *python(code))
    assert run.output == f"{error}\n", run.log
    assert time.monotonic() - start < 5
    assert run.flows == [(destination[1], "refused", "SOCKS5Upstream")]


def test_no_socks_server_at_all(lab: NetLab) -> None:
    """Nothing slips past it."""
    run = curl(lab, f"{FAR4}:1082", f"http://{FAR4}:8000/")
    assert run.status == 7
    assert run.flows == [(8000, "refused", "SOCKS5Upstream")]


def test_udp_is_refused(lab: NetLab) -> None:
    """The program hears of it as of a closed port."""
    code = f"""
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(10)
sock.connect(({FAR4!r}, 5000))
sock.send(b"hello")
try: print(sock.recv(10))
except ConnectionRefusedError: print("refused")
"""
    run = netext_run(lab, *example("socks5_upstream", server=OPEN), "--", *python(code))
    assert run.output == "refused\n", run.log
