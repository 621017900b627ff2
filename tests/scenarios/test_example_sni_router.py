"""The SNI router of `examples/`, between real TLS clients and real nginx servers."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tests.netlab import FAR4, NetLab, python

from .runs import Run, example, netext_run
from .servers import Nginx, certificate

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

ROUTES = f"""
ports = [443]

[routes]
"www.example.org" = "{FAR4}:8443"
"*.example.net" = "{FAR4}:9443"
"tracker.example.com" = ""
"closed.example.com" = "{FAR4}:81"
"""


@pytest.fixture(scope="module", autouse=True)
def web(lab: NetLab, folder: Path) -> None:
    """Three TLS servers, each of which says which one it is."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    for port, word, names in (
        (443, "default", ("example.com", "*.example.com")),
        (8443, "org", ("www.example.org",)),
        (9443, "net", ("*.example.net",)),
    ):
        chain, key = certificate(authority, folder, *names)
        site = f"ssl_certificate {chain}; ssl_certificate_key {key}; return 200 {word};"
        Nginx(lab, lab.far, folder, (FAR4,), port, site)
    (folder / "routes.toml").write_text(ROUTES)


def router(folder: Path) -> tuple[str, ...]:
    return (*example("sni_router"), "--config", str(folder / "routes.toml"))


def curl(lab: NetLab, folder: Path, name: str) -> Run:
    """Fetch from a name that leads to port 443 of the other host."""
    words = ("curl", "-sS", "--cacert", str(folder / "authority.pem"), "--resolve", f"{name}:443:{FAR4}")
    return netext_run(lab, *router(folder), "--", *words, f"https://{name}/")


@pytest.mark.parametrize(
    ("name", "server"),
    [
        pytest.param("www.example.org", "org", id="a name"),
        pytest.param("api.example.net", "net", id="a domain"),
        pytest.param("WWW.Example.ORG", "org", id="in any case"),
        pytest.param("www.example.com", "default", id="no route"),
    ],
)
def test_the_name_decides(lab: NetLab, folder: Path, name: str, server: str) -> None:
    """And the certificate that the client checks is that of the server which was chosen."""
    run = curl(lab, folder, name)
    assert run.output == server, run.log
    assert run.flows == [(443, "claimed", "SNIRouter")]


def test_a_name_can_be_refused(lab: NetLab, folder: Path) -> None:
    """The connection breaks before anything but the hello was sent, and the log says why."""
    run = curl(lab, folder, "tracker.example.com")
    assert run.status == 35  # curl: TLS handshake failed
    assert any("tracker.example.com: refused" in record["text"] for record in run.records("provider-log"))


def test_a_server_that_is_not_there(lab: NetLab, folder: Path) -> None:
    """connect() had to succeed before the name was known; so the connection breaks, and the log says why."""
    run = curl(lab, folder, "closed.example.com")
    assert run.status == 35
    assert any(f"connect to {FAR4}:81: Connection refused" in record["text"] for record in run.records("provider-log"))


def test_what_is_not_tls_goes_where_it_wanted(lab: NetLab, folder: Path) -> None:
    """Plain HTTP to port 443: nginx itself answers that this was no TLS."""
    run = netext_run(lab, *router(folder), "--", "curl", "-sS", f"http://{FAR4}:443/")
    assert "The plain HTTP request was sent to HTTPS port" in run.output


def test_a_hello_in_many_pieces(lab: NetLab, folder: Path) -> None:
    """Sent byte by byte, it is still read, and arrives whole at the server of the route."""
    code = f"""
import socket, ssl
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
context = ssl.create_default_context(cafile={str(folder / "authority.pem")!r})
tls = context.wrap_bio(incoming, outgoing, server_hostname="www.example.org")
sock = socket.create_connection(({FAR4!r}, 443))
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while True:
    try:
        tls.do_handshake()
        break
    except ssl.SSLWantReadError:
        for byte in outgoing.read():
            sock.send(bytes([byte]))
        incoming.write(sock.recv(65536))
print(tls.getpeercert()["subjectAltName"])
"""
    run = netext_run(lab, *router(folder), "--", *python(code))
    assert run.output == "(('DNS', 'www.example.org'),)\n", run.log


def test_other_ports_are_not_its_business(lab: NetLab, folder: Path) -> None:
    """The rules do not name them, so the router is not even asked."""
    with lab.far_listener(9000) as server:
        code = f"import socket; print(socket.create_connection(({FAR4!r}, 9000)).recv(10))"
        process = lab.start("--json", *router(folder), "--", *python(code))
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"hello")
        output, log = process.communicate(timeout=20)
    assert output == "b'hello'\n"
    assert Run(process.returncode, output, log).flows == [(9000, "passed", "pass-through")]
