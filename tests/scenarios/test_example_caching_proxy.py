"""The caching proxy of `examples/`, between curl and a real nginx that counts what it is asked."""

from __future__ import annotations

from pathlib import Path
from subprocess import PIPE

import pytest

from tests.netlab import FAR4, NetLab, wait_for

from .runs import Run, example, netext_run
from .servers import Nginx

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

PORT = 8000
SITE = """
root FOLDER;
location /page.html { add_header Cache-Control max-age=60; }
location /brief.html { add_header Cache-Control max-age=1; }
location /no-store.html { add_header Cache-Control no-store; }
location /private.html { add_header Cache-Control "private, max-age=60"; }
location /large.html { add_header Cache-Control max-age=60; }
"""


@pytest.fixture(scope="module")
def web(lab: NetLab, folder: Path) -> Nginx:
    for page in ("page", "brief", "no-store", "private", "silent"):
        (folder / f"{page}.html").write_text(f"this is {page}\n")
    (folder / "large.html").write_text("large\n" * 50_000)
    return Nginx(lab, lab.far, folder, (FAR4,), PORT, SITE.replace("FOLDER", str(folder)))


@pytest.fixture(scope="module", autouse=True)
def doomed(lab: NetLab, folder: Path, web: Nginx) -> Nginx:
    """The same pages, from a server that a test will stop."""
    return Nginx(lab, lab.far, folder, (FAR4,), PORT + 1, SITE.replace("FOLDER", str(folder)))


def caching(lab: NetLab, *command: str, **config: object) -> Run:
    return netext_run(lab, *example("caching_proxy", ports=[PORT], **config), "--", *command)


def url(page: str) -> str:
    return f"http://{FAR4}:{PORT}/{page}.html"


def cache_states(run: Run) -> list[str]:
    """HIT or MISS of each response, in order."""
    return [line.split(": ")[1] for line in run.output.splitlines() if line.lower().startswith("x-cache: ")]


@pytest.mark.parametrize(
    ("page", "states"),
    [
        pytest.param("page", ["MISS", "HIT", "HIT"], id="max-age"),
        pytest.param("no-store", ["MISS", "MISS", "MISS"], id="no-store"),
        pytest.param("private", ["MISS", "MISS", "MISS"], id="private"),
        pytest.param("silent", ["MISS", "MISS", "MISS"], id="nothing said"),
        pytest.param("missing", ["MISS", "MISS", "MISS"], id="404"),
    ],
)
def test_the_server_says_what_may_be_kept(lab: NetLab, web: Nginx, page: str, states: list[str]) -> None:
    """Three requests on one connection: what is kept does not reach the server again, and is the same."""
    before = len(web.requests)
    run = caching(lab, "curl", "-sSi", *[url(page)] * 3)
    assert cache_states(run) == states
    assert len(web.requests) - before == states.count("MISS")
    assert run.output.count(f"this is {page}\n") == (3 if page != "missing" else 0)
    assert len(run.flows) == 1


def test_other_connections_share_what_is_kept(lab: NetLab, web: Nginx) -> None:
    """Two programs, one after the other."""
    before = len(web.requests)
    run = caching(lab, "sh", "-c", f"curl -sSi {url('page')}; curl -sSi {url('page')}")
    assert cache_states(run) == ["MISS", "HIT"]
    assert len(web.requests) - before == 1
    assert len(run.flows) == 2


def test_who_asks_for_no_cache_gets_none(lab: NetLab) -> None:
    """`Cache-Control: no-cache` in the request, or credentials."""
    page = url("page")
    command = f"curl -sSi {page}; curl -sSi -H 'Cache-Control: no-cache' {page}; curl -sSi -u me:too {page}"
    assert cache_states(caching(lab, "sh", "-c", command)) == ["MISS", "MISS", "MISS"]


def test_it_becomes_old(lab: NetLab) -> None:
    """After max-age the server is asked again."""
    command = f"curl -sSi {url('brief')}; curl -sSi {url('brief')}; sleep 1.2; curl -sSi {url('brief')}"
    assert cache_states(caching(lab, "sh", "-c", command)) == ["MISS", "HIT", "MISS"]


def test_a_post_ends_it(lab: NetLab) -> None:
    """Whatever may have changed the page, it is fetched again (RFC 9111 §4.4)."""
    command = f"curl -sSi {url('page')}; curl -sSi -d data {url('page')}; curl -sSi {url('page')}"
    assert cache_states(caching(lab, "sh", "-c", command)) == ["MISS", "MISS", "MISS"]


def test_the_store_is_bounded(lab: NetLab) -> None:
    """A page of 300 kB is passed on, whole, but not kept where 1 MB is the limit for all."""
    run = caching(lab, "curl", "-sSi", url("large"), url("large"), size=1_000_000)
    assert cache_states(run) == ["MISS", "MISS"]
    assert run.output.count("large\n") == 100_000


def test_what_is_kept_outlives_the_server(lab: NetLab, doomed: Nginx) -> None:
    """The server ends between two requests: what was kept is still there, the rest is a 502 that says why."""
    page = f"http://{FAR4}:{PORT + 1}"
    command = f"curl -sSi {page}/page.html; read line; curl -sSi {page}/page.html {page}/silent.html"
    words = (*example("caching_proxy", ports=[PORT + 1]), "--", "sh", "-c", command)
    with lab.start("--json", *words, stdin=PIPE) as process:
        assert process.stdin is not None
        wait_for(lambda: doomed.requests, what="the first request")
        doomed.stop()
        output, log = process.communicate("go on\n", timeout=20)
    run = Run(process.returncode, output, log)
    assert cache_states(run) == ["MISS", "HIT"]
    assert "HTTP/1.1 502 Bad Gateway" in output
    assert f"connect to {FAR4}:{PORT + 1}: Connection refused" in output
