"""S17: 802.1X with RADIUS authenticates while a filter blocks everything.

    near: netext filter with a provider that drops every flow, wpa_supplicant
    far:  the switch (hostapd, driver wired), and behind it a RADIUS server (another hostapd)

What authentication, addresses and neighbours need is no flow of any program, and never reaches a filter
(docs/always-exempt.md).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.lab.host_filter import RunningFilter
from tests.netlab import FAR4, NEAR4, NEAR6, REPOSITORY, NetLab, wait_for

BLOCK_ALL = str(REPOSITORY / "tests" / "lab" / "providers" / "block_all.py")
PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
RADIUS_PORT, SECRET = 1812, "between-switch-and-server"
USER, PASSWORD = "somebody", "correct horse"
LEASE = "198.51.100.77"

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

_SWITCH = """
interface={device}
driver=wired
ieee8021x=1
eap_reauth_period=0
own_ip_addr=127.0.0.1
auth_server_addr=127.0.0.1
auth_server_port={port}
auth_server_shared_secret={secret}
"""
_RADIUS = """
driver=none
radius_server_clients={folder}/clients
radius_server_auth_port={port}
eap_server=1
eap_user_file={folder}/users
ca_cert={folder}/ca.pem
server_cert={folder}/server.pem
private_key={folder}/server.key
"""
_SUPPLICANT = """
ap_scan=0
network={{
  key_mgmt=IEEE8021X
  eap=TTLS
  identity="{user}"
  password="{password}"
  ca_cert="{folder}/ca.pem"
  phase2="auth=PAP"
  eapol_flags=0
}}
"""


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is not installed (scripts/debian-packages.txt)")
    return found


@pytest.fixture
def lab() -> Iterator[NetLab]:
    made = NetLab()
    try:
        yield made
    finally:
        made.close()


def settings(folder: Path, lab: NetLab) -> None:
    """The files of switch, server and supplicant, with certificates made for this run."""
    ca = trustme.CA()
    certificate = ca.issue_cert("radius.example")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "server.key"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    (folder / "clients").write_text(f"127.0.0.1/32 {SECRET}\n")
    (folder / "users").write_text(f'"{USER}" TTLS\n"{USER}" TTLS-PAP "{PASSWORD}" [2]\n')
    (folder / "switch").write_text(_SWITCH.format(device=lab.far_device, port=RADIUS_PORT, secret=SECRET))
    (folder / "radius").write_text(_RADIUS.format(folder=folder, port=RADIUS_PORT))
    (folder / "supplicant").write_text(_SUPPLICANT.format(folder=folder, user=USER, password=PASSWORD))


def started(lab: NetLab, folder: Path, *words: str, near: bool = False) -> Path:
    """Start a daemon; where its words go to."""
    log = folder / f"{Path(words[0]).name}-{Path(words[-1]).name}.log"
    with open(log, "w") as file:
        (lab.near if near else lab.far).start(*words, stdout=file, stderr=subprocess.STDOUT)
    return log


def authenticated(lab: NetLab, folder: Path) -> bool:
    """Let the supplicant try; whether the switch and it agree that it succeeded."""
    settings(folder, lab)
    hostapd, supplicant = program("hostapd"), program("wpa_supplicant")
    started(lab, folder, hostapd, str(folder / "radius"))
    switch = started(lab, folder, hostapd, str(folder / "switch"))
    wait_for(lambda: "AP-ENABLED" in switch.read_text(), 10, "the switch")
    words = (supplicant, "-Dwired", "-i", lab.near_device, "-c", str(folder / "supplicant"))
    log = started(lab, folder, *words, near=True)
    try:
        wait_for(lambda: "CTRL-EVENT-EAP-SUCCESS" in log.read_text(), 20, "EAP success")
        wait_for(lambda: "authenticated" in switch.read_text(), 5, "the switch's word")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log.read_text()[-2000:]}\n{switch.read_text()[-1000:]}") from None
    return True


def test_it_authenticates_under_a_filter_that_blocks_everything(lab: NetLab, tmp_path: Path) -> None:
    """With policy closed, too: nothing of it is a flow that the policy could drop."""
    listener = lab.far_listener()
    port = str(listener.getsockname()[1])
    with RunningFilter(lab, tmp_path / "log", "--policy", "closed", provider=BLOCK_ALL):
        connecting = ("python3", "-c", f"import socket; socket.create_connection(({FAR4!r}, {port}), 5)")
        assert "ConnectionRefusedError" in lab.near.run(*connecting).stderr
        assert authenticated(lab, tmp_path)
        assert "ConnectionRefusedError" in lab.near.run(*connecting).stderr  # it still blocks
    listener.close()


def test_addresses_and_neighbours_work_under_it(lab: NetLab, tmp_path: Path) -> None:
    """A lease by DHCP, ARP for IPv4 and neighbour discovery for IPv6, while every flow is refused."""
    dnsmasq, udhcpc = program("dnsmasq"), program("udhcpc")
    server = started(
        lab, tmp_path, dnsmasq, "--no-daemon", "--port=0", "--conf-file=/dev/null", f"--interface={lab.far_device}",
        f"--dhcp-range={LEASE},{LEASE},1h", f"--dhcp-leasefile={tmp_path}/leases", "--log-dhcp",
    )  # fmt: skip
    wait_for(lambda: "DHCP, IP range" in server.read_text(), 10, "the DHCP server")
    with RunningFilter(lab, tmp_path / "log", "--policy", "closed", provider=BLOCK_ALL):
        words = (udhcpc, "-i", lab.near_device, "-n", "-q", "-f", "-s", "/bin/true", "-t", "5", "-T", "1")
        lease = lab.near.run(*words)
        assert LEASE in lease.stdout + lease.stderr, lease
        for family, address in (("-4", NEAR4), ("-6", NEAR6)):
            lab.far.run("ip", "neigh", "flush", "dev", lab.far_device)
            lab.far.run("ping", family, "-c", "1", "-W", "1", address)  # not answered; but who has the address, is

            def resolved(address: str = address) -> bool:
                return "lladdr" in lab.far.run("ip", "neigh", "show", address).stdout

            wait_for(resolved, 10, f"a neighbour entry for {address}")
