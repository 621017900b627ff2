"""What a first user found: each test is named after what went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netlab import FAR4, REPOSITORY, NetLab, python, wait_for

from .echo_server import EchoServer
from .host_filter import RunningFilter, near_socket

pytestmark = pytest.mark.lab
EXAMPLES, PROVIDERS = REPOSITORY / "examples", REPOSITORY / "tests/lab/providers"


def test_a_proxy_given_to_netext_filter_is_refused(lab: NetLab) -> None:
    """It was started, and filtered nothing for as long as it ran."""
    done = lab.near.run(*lab.netext("filter", "--provider", str(EXAMPLES / "pass_through.py")), timeout=20)
    assert done.returncode == 65
    assert "is of kind transparent-proxy: netext filter runs filters only" in done.stderr
    assert not lab.near.run("nft", "list", "tables").stdout


HOLDS = """
from network_extension import FilterDataProvider, FilterDataVerdict, FilterNewFlowVerdict

class Holds(FilterDataProvider):
    def handle_new_flow(self, flow):
        return FilterNewFlowVerdict.filter_data(filter_inbound=True, peek_inbound=1)

    def handle_inbound_data(self, flow, offset, data):
        return FilterDataVerdict.pause()
"""


def test_a_program_that_only_receives_hears_of_the_end(lab: NetLab, tmp_path: Path) -> None:
    """Policy closed, and the engine dies: the server was reset, and the program waited for its bytes for ever."""
    (tmp_path / "holds.py").write_text(HOLDS)
    tmp_path.chmod(0o755)
    options = ("--provider", str(tmp_path / "holds.py"), "--policy", "closed", "--user", "root")
    with EchoServer(lab) as server, RunningFilter(lab, tmp_path / "log", *options, provider="") as running:
        running.said("Holds: running")
        with near_socket(lab) as sock:
            wait_for(lambda: sock.connect_ex((FAR4, server.address[1])) == 0, 5, "the filter's first answer")
            sock.sendall(b"what is held")
            running.kill(running.engine)
            with pytest.raises(OSError, match=r"reset|abort"):
                sock.recv(100)


def test_a_flow_that_nobody_keeps_is_dropped_in_a_sandbox(lab: NetLab) -> None:
    """`update_flow` did nothing in `netext run` when the verdict before was a plain allow."""
    code = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); s.settimeout(5)\n"
    code += "s.sendall(b'hello'); assert s.recv(5) == b'hello'; s.recv(5)"
    with EchoServer(lab) as server:
        words = (*python(code), FAR4, str(server.address[1]))
        done = lab.run("--provider", str(PROVIDERS / "recalling.py"), "--", *words)
    assert "ConnectionResetError" in done.stderr
    assert "dropped by Recalling" in done.stderr
