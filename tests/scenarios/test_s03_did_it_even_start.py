"""S3: did the provider even start, does it see the flow, and what happens while a debugger holds it?

Each provider gives a first sign of life before the program begins, or the run ends with the reason. A test program of
one line shows the way of one flow: who made it, where to, what was decided and by whom. A provider that is stopped in a
debugger does not stop the network: its flows get what the policy says, and later ones are its own again.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

from tests.netlab import FAR4, NetLab, python, wait_for

from .runs import EXAMPLES, example, log_records, netext_run
from .servers import Nginx

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

PORT = 8000
SMALL_PROGRAM = f"import socket; print(socket.create_connection(('{FAR4}', {PORT})).getpeername()[1])"


@pytest.fixture(scope="module", autouse=True)
def web(lab: NetLab, folder: Path) -> None:
    Nginx(lab, lab.far, folder, (FAR4,), PORT, "return 200 hello;")


def write(folder: Path, name: str, body: str) -> tuple[str, str]:
    """A provider with this body, and the words that run it."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    path = folder / f"{name.lower()}.py"
    path.write_text(
        f"from network_extension import TransparentProxyProvider\n\nclass {name}(TransparentProxyProvider):\n{lines}\n"
    )
    return ("--provider", str(path))


def test_first_light(lab: NetLab, folder: Path) -> None:
    """Before the program says its first word: name, pid and kind of each provider, and what it has to say itself."""
    talks = write(folder, "Talks", """
async def start_proxy(self, options):
    self.log("start_proxy was called")
def handle_new_flow(self, flow):
    return False
""")  # fmt: skip
    process = lab.start(*talks, *example("pass_through"), "--", "echo", "the program", stdout=PIPE, stderr=STDOUT)
    lines = process.communicate(timeout=20)[0].splitlines()
    assert lines[-1] == "the program"
    assert {re.sub(r"^netext \S+ |pid \d+", "", line) for line in lines[:-1]} == {
        f"{talks[1]}: start_proxy was called",  # it has a name as soon as it is ready
        "provider Talks: running (, transparent-proxy)",
        "provider PassThrough: running (, transparent-proxy)",
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(
            "def start_proxy(self, options):\n    raise KeyError('upstream')\ndef handle_new_flow(self, flow): ...",
            "provider Fails: start_proxy raised KeyError: 'upstream' (fails.py:5)",
            id="start_proxy raises",
        ),
        pytest.param(
            "def handle_new_flow(self, flow):\nreturn",
            "fails.py: not Python: expected an indented block after function definition on line 4 (fails.py, line 5)",
            id="not Python",
        ),
        pytest.param("x = 1", "Fails overrides nothing: define handle_new_flow(self, flow) in it", id="no handler"),
    ],
)
def test_it_did_not(lab: NetLab, folder: Path, body: str, reason: str) -> None:
    """The program is not started, and one line says why not, and where."""
    run = netext_run(lab, *write(folder, "Fails", body), "--", "echo", "the program", log="")
    assert run.output == ""
    assert run.status in (65, 70)
    assert run.log.endswith(f"{reason}\n")
    assert len(run.log.splitlines()) == 1


def test_a_small_program_shows_the_way_of_a_flow(lab: NetLab) -> None:
    """One line for one flow: time, program, destination, decision and by whom, bytes, duration."""
    run = netext_run(lab, *example("pass_through"), "--", *python(SMALL_PROGRAM), log="")
    assert run.output == f"{PORT}\n"
    flow = (
        rf"^netext \d\d:\d\d:\d\d python3(\.\d+)?\[\d+\] → {FAR4}:{PORT} tcp  claimed by PassThrough  ↑0 B ↓0 B \d+ ms$"
    )
    assert re.search(flow, run.log, re.MULTILINE), run.log


def test_an_exception_in_the_handler_has_a_place(lab: NetLab, folder: Path) -> None:
    """The program gets what the policy says; the log gets the exception, with file and line."""
    raises = write(folder, "Raises", "def handle_new_flow(self, flow):\n    return self.table[flow.id]")
    run = netext_run(lab, *raises, "--", *python(SMALL_PROGRAM))
    assert run.output == f"{PORT}\n"
    assert run.flows == [(PORT, "passed", "pass-through")]
    reason = run.records("flow")[0]["reason"]
    assert "raised an exception" in reason and "AttributeError" in reason and "(raises.py:5)" in reason
    assert reason.endswith("policy open")


def test_a_debugger_does_not_stop_the_network(lab: NetLab, folder: Path) -> None:
    """While the provider stands still (SIGSTOP, as in a debugger), flows pass on after the deadline."""
    loop = f'while read line; do curl -sS "http://{FAR4}:{PORT}/" && echo; done'
    options = ("--json", "--hang-timeout", "0", "--deadline", "1", "--provider", str(EXAMPLES / "pass_through.py"))
    log = folder / "log"
    with log.open("w") as file, lab.start(*options, "--", "sh", "-c", loop, stdin=PIPE, stderr=file) as program:

        def fetch(expected: int) -> str:
            """A page, in a flow of its own; by whom it was decided."""
            assert program.stdin is not None and program.stdout is not None
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "hello\n"
            flows = wait_for(lambda: [r for r in log_records(log.read_text()) if r["event"] == "flow"][expected - 1 :])
            return str(flows[0]["by"])

        assert fetch(1) == "PassThrough"
        pid = next(record["pid"] for record in log_records(log.read_text()) if record["event"] == "provider")
        os.kill(pid, signal.SIGSTOP)
        assert fetch(2) == "pass-through"
        assert "did not decide in time" in log.read_text()
        os.kill(pid, signal.SIGCONT)
        assert fetch(3) == "PassThrough"
