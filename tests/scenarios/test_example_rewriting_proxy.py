"""The rewriting proxy of `examples/`, between real programs and a real nginx."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netlab import FAR4, FAR6, NetLab, python

from .runs import example, netext_run
from .servers import Nginx

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

PORT = 8000
REWRITER = example("rewriting_proxy", ports=[PORT], find="lion", replace="house cat")
BEFORE = "The lion sleeps tonight. " * 5000  # several reads, so that matches are cut in two
AFTER = BEFORE.replace("lion", "house cat")


@pytest.fixture(scope="module", autouse=True)
def web(lab: NetLab, folder: Path) -> None:
    """nginx beside the program, with a page of ours and without any, and on the other host."""
    (folder / "lion.html").write_text(BEFORE)
    (folder / "lion.bin").write_text(BEFORE)
    site = f"root {folder}; gzip on;"
    Nginx(lab, lab.near, folder, ("127.0.0.1", "::1"), PORT, site)
    Nginx(lab, lab.near, folder, ("127.0.0.1",), 80, "")
    Nginx(lab, lab.far, folder, (FAR4, FAR6), PORT, site)


@pytest.mark.parametrize("host", [FAR4, f"[{FAR6}]", "127.0.0.1", "[::1]"])
def test_curl_sees_the_new_text(lab: NetLab, host: str) -> None:
    """Both families, from another host and from this one."""
    run = netext_run(lab, *REWRITER, "--", "curl", "-sS", f"http://{host}:{PORT}/lion.html")
    assert run.output == AFTER
    assert run.flows == [(PORT, "claimed", "RewritingProxy")]


def test_with_no_configuration_at_all(lab: NetLab) -> None:
    """The command of the README: port 80, and a text that is on nginx's own pages."""
    run = netext_run(lab, *example("rewriting_proxy"), "--", "curl", "-sS", "http://127.0.0.1/missing")
    assert "<hr><center>network-extension" in run.output


def test_what_is_no_text_stays_as_it_is(lab: NetLab) -> None:
    """The length is not touched either."""
    run = netext_run(lab, *REWRITER, "--", "curl", "-sSi", f"http://{FAR4}:{PORT}/lion.bin")
    head, _, body = run.output.partition("\n\n")
    assert body == BEFORE
    assert f"Content-Length: {len(BEFORE)}" in head


def test_no_length_is_a_lie(lab: NetLab) -> None:
    """A changed response has no Content-Length, for HEAD as for GET, and an old program still sees where it ends."""
    url = f"http://{FAR4}:{PORT}/lion.html"
    run = netext_run(lab, *REWRITER, "--", "curl", "-sSI", url)
    assert "Transfer-Encoding: chunked" in run.output
    assert "Content-Length" not in run.output
    run = netext_run(lab, *REWRITER, "--", "curl", "-sSi", "--http1.0", "--compressed", "-r", "0-9", url)
    head, _, body = run.output.partition("\n\n")
    assert body == AFTER
    assert "Connection: close" in head
    assert "200 OK" in head  # no part, and not compressed, although curl asked for both


def test_many_requests_on_one_connection(lab: NetLab) -> None:
    """Keep-alive: three requests and an upload of which nginx says what it thinks, in one flow."""
    url = f"http://{FAR4}:{PORT}/lion.html"
    run = netext_run(lab, *REWRITER, "--", "curl", "-sS", url, url, "-d", "x" * 100_000, "--next", "-sS", url)
    assert run.output.count("405 Not Allowed") == 4  # headline and title, of both uploads
    assert run.output.endswith(AFTER)
    assert len(run.flows) == 1


def test_python_reads_it_as_well(lab: NetLab) -> None:
    """Another HTTP client."""
    code = f"import urllib.request as u; print(u.urlopen('http://{FAR4}:{PORT}/lion.html').read().decode(), end='')"
    assert netext_run(lab, *REWRITER, "--", *python(code)).output == AFTER


def test_what_is_not_http_is_cut_and_the_log_says_why(lab: NetLab) -> None:
    """The program sees the end of its connection, the user the reason."""
    code = (
        f"import socket; s = socket.create_connection(('{FAR4}', {PORT})); s.sendall(b'EHLO me\\r\\n\\r\\n')\n"
        "try: print(s.recv(100))\nexcept ConnectionResetError: print('reset')"
    )
    run = netext_run(lab, *REWRITER, "--", *python(code))
    assert run.output == "reset\n"
    assert any("RemoteProtocolError: illegal request line" in record["text"] for record in run.records("provider-log"))


def test_a_server_that_is_not_there(lab: NetLab) -> None:
    """connect() fails as without a proxy."""
    run = netext_run(
        lab, *example("rewriting_proxy", ports=[PORT + 1]), "--", "curl", "-sS", f"http://{FAR4}:{PORT + 1}/"
    )
    assert run.status == 7  # curl: failed to connect
    assert run.flows == [(PORT + 1, "refused", "RewritingProxy")]
