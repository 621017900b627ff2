"""S9, from the other end: programs that know nothing of a URL filter are under one, and the log says what it did.

near: netext urlfilter serve, and `netext run` with the filter provider before curl
far:  nginx with a site, in plain HTTP and with TLS
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
import trustme

from tests.netlab import FAR4, NetLab

from .runs import Run, netext_run
from .servers import Nginx, certificate

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

LIST = "https://site.example/bad/page\nblocked.example\n"
PORT = 8080


@pytest.fixture(scope="module", autouse=True)
def web(lab: NetLab, folder: Path) -> None:
    """One site of several names, in plain HTTP and with TLS."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    chain, key = certificate(authority, folder, "site.example", "www.blocked.example")
    Nginx(lab, lab.far, folder, (FAR4,), 80, "return 200 $uri;")
    Nginx(lab, lab.far, folder, (FAR4,), 443, f"ssl_certificate {chain}; ssl_certificate_key {key}; return 200 $uri;")


@pytest.fixture(scope="module")
def settings(lab: NetLab, folder: Path) -> Iterator[tuple[str, ...]]:
    """The service at work; the words that put the filter before a command."""
    (folder / "list.txt").write_text(LIST)
    netext = (sys.executable, "-m", "network_extension", "urlfilter")
    built = lab.near.run(*netext, "build", str(folder / "list.txt"), "-o", str(folder / "db"))
    assert built.returncode == 0, built.stderr
    listen = ("--listen", f"127.0.0.1:{PORT}")
    service = lab.near.start(*netext, "serve", str(folder / "db"), *listen, stderr=PIPE, text=True)
    assert service.stderr is not None
    try:
        assert any("operators" in line for line in service.stderr)
        token = folder / "token"
        token.write_text((folder / "db" / "service" / "user-token").read_text())
        token.chmod(0o644)
        config = {"pir_server_url": f"http://127.0.0.1:{PORT}", "token_file": str(token), "log": "all"}
        words = [word for name, value in config.items() for word in ("--config", f"{name}={value}")]
        yield ("--provider", "network_extension.urlfilter.filter_provider", *words)
    finally:
        service.terminate()
        service.wait(10)
        service.stderr.close()


def curl(lab: NetLab, folder: Path, settings: tuple[str, ...], *urls: str) -> Run:
    """Fetch URLs, all of a host over one connection."""
    names = ("site.example:80", "site.example:443", "www.blocked.example:443", "www.blocked.example:80")
    resolve = [word for name in names for word in ("--resolve", f"{name}:{FAR4}")]
    words = ("curl", "-sS", "-m", "20", "--cacert", str(folder / "authority.pem"), *resolve, *urls)
    return netext_run(lab, *settings, "--", *words)


def said(run: Run) -> list[str]:
    """What the filter said about each URL."""
    found = (
        re.search(r"http\S+: \w+ by (full URL|host name)", str(record["text"]))
        for record in run.records("provider-log")
    )
    return [match[0] for match in found if match is not None]


def test_plain_http_is_filtered_by_full_url_and_each_request_of_a_connection(
    lab: NetLab, folder: Path, settings: tuple[str, ...]
) -> None:
    run = curl(lab, folder, settings, "http://site.example/good", "http://site.example/bad/page?x=1")
    assert run.output == "/good" and run.status != 0, run.log
    # curl tries a request again whose connection was kept open and is reset.
    assert list(dict.fromkeys(said(run))) == [
        "http://site.example/good: allowed by full URL",
        "http://site.example/bad/page?x=1: blocked by full URL",
    ]


def test_tls_is_filtered_by_host_name(lab: NetLab, folder: Path, settings: tuple[str, ...]) -> None:
    """The path is encrypted: a page that is on the list is not seen there, a host is."""
    page = curl(lab, folder, settings, "https://site.example/bad/page")
    assert (page.output, page.status) == ("/bad/page", 0), page.log
    assert said(page) == ["https://site.example/: allowed by host name"]
    host = curl(lab, folder, settings, "https://www.blocked.example/")
    assert (host.output, host.status) == ("", 35), host.log  # CURLE_SSL_CONNECT_ERROR
    assert said(host) == ["https://www.blocked.example/: blocked by host name"]
