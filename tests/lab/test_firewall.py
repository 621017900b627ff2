"""The firewall around real programs: names, questions answered from a terminal, rules that change, what was learned."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.netlab import FAR4, NEAR4, REPOSITORY, NetLab, wait_for

from .echo_server import EchoServer
from .host_filter import RunningFilter
from .program import Program, running

pytestmark = pytest.mark.lab

NOBODY = 65534
SPEC = "network_extension.builtin.firewall"


class Folder:
    """Rules, answers and the socket of one test, in a folder that nobody may write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = str(path / "ask.sock")

    def rules(self, text: str, name: str = "rules.toml") -> None:
        """Write a file by renaming, as editors do."""
        new = self.path / "new"
        new.write_text(text)
        os.chmod(new, 0o644)
        new.rename(self.path / name)

    def arguments(self, *more: str) -> tuple[str, ...]:
        """The arguments of `netext run`."""
        configuration = (f"rules={self.path}/rules.toml", f"ask_socket={self.socket}", *more)
        return ("--provider", SPEC, *(word for each in configuration for word in ("--config", each)))


@pytest.fixture
def folder() -> Iterator[Folder]:
    path = Path(tempfile.mkdtemp(prefix="netext-firewall-", dir="/tmp"))
    shutil.chown(path, NOBODY, NOBODY)
    yield Folder(path)
    shutil.rmtree(path)


class Web:
    """A web server in `far`; `/slow` sends a little whenever the test says so."""

    def __init__(self, lab: NetLab) -> None:
        self.more = threading.Semaphore(0)
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                for _ in range(3 if self.path == "/slow" else 0):
                    self.wfile.write(b"x" * 1000)
                    self.wfile.flush()
                    web.more.acquire(timeout=20)
                self.wfile.write(b"the page")

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None: ...

        self.server: ThreadingHTTPServer = lab.in_host(lab.far, lambda: Server((FAR4, 0), Handler))
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.more.release(100)
        self.server.shutdown()
        self._thread.join(10)
        self.server.server_close()


@pytest.fixture
def web(lab: NetLab) -> Iterator[Web]:
    server = Web(lab)
    yield server
    server.close()


def get(program: Program, web: Web, host: str, path: str = "/") -> Future[Any]:
    """curl in the sandbox: exit status, output, complaints. Its name service is not asked: only HTTP says the name."""
    url = f"http://{host}:{web.port}{path}"
    return program.begin("run", ["curl", "-sS", "-m", "20", "--resolve", f"{host}:{web.port}:{FAR4}", url])


def said(program: Program) -> str:
    """What the provider has logged."""
    return "\n".join(str(record["text"]) for record in program.records("provider-log"))


def worked(answer: Future[Any]) -> bool:
    """Whether curl got the page."""
    status, output, _ = answer.result(25)
    return status == 0 and bytes(output).endswith(b"the page")


def ask(*arguments: str, check: bool = True) -> str:
    """`netext ask` in another terminal, of the same user; its output."""
    words = ("setpriv", f"--reuid={NOBODY}", "--clear-groups", str(REPOSITORY / ".venv/bin/python"), "-m")
    done = subprocess.run(
        (*words, "network_extension", "ask", *arguments),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        cwd="/",
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def questions(folder: Folder) -> list[dict[str, Any]]:
    """The open questions."""
    found: list[dict[str, Any]] = json.loads(ask("--socket", folder.socket, "--list", "--json"))
    return found


def test_rules_by_name_and_port(lab: NetLab, folder: Folder, web: Web) -> None:
    """A name that only HTTP tells is enough; the log names the rule with its line."""
    folder.rules(
        'default = "allow"\n[[rule]]\nname = "no ads"\naction = "deny"\nhost = "ads.*"\n'
        '[[rule]]\naction = "deny"\nport = 7\n'
    )
    with running(lab, *folder.arguments()) as program:
        assert not worked(get(program, web, "ads.example.com"))
        assert worked(get(program, web, "www.example.com"))
        with program.socket(timeout=5) as near:
            assert near.errno_of("connect", (FAR4, 7)) == 111
        wait_for(lambda: "no ads" in said(program), 5)
        assert f"deny by rule 'no ads' ({folder.path}/rules.toml:2)" in said(program)


def test_a_name_in_tls_without_dns(lab: NetLab, folder: Folder) -> None:
    """Not one byte of a ClientHello with a refused name arrives, whatever its pieces; others arrive whole."""
    folder.rules('default = "allow"\n[[rule]]\naction = "deny"\ndomain = "example.com"\n')
    with running(lab, *folder.arguments()) as program:
        for name, arrives in (("www.example.org", True), ("www.example.com", False)):
            hello = client_hello(name)
            with lab.far_listener() as server, program.socket(timeout=5) as near:
                near.connect(server.getsockname())
                far, _ = server.accept()
                with far:
                    far.settimeout(5)
                    for at in range(0, len(hello), 200):
                        near.sendall(hello[at : at + 200])
                    assert bool(received(far, len(hello))) == arrives


def client_hello(name: str) -> bytes:
    """A ClientHello, as the standard library sends it."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def received(far: Any, count: int) -> bytes:
    """All bytes until `count`, or the end."""
    data = b""
    try:
        while len(data) < count and (piece := far.recv(65536)):
            data += piece
    except ConnectionResetError:
        pass
    return data


def test_rules_change_while_a_download_runs(lab: NetLab, folder: Folder, web: Web) -> None:
    """New rules are for new flows; errors are told with line and column, and the old rules stay."""
    folder.rules('default = "allow"\n')
    with running(lab, *folder.arguments()) as program, EchoServer(lab) as echo:
        download = get(program, web, "www.example.com", "/slow")
        wait_for(lambda: program.records("provider"), 5)

        def refused() -> bool:
            with program.socket(timeout=5) as near:
                return bool(near.connect_ex(echo.address))

        assert not refused()
        folder.rules(f'default = "allow"\n[[rule]]\naction = "deny"\nport = {echo.address[1]}\n')
        wait_for(refused, 10, "the new rules")
        folder.rules('default = "allow"\n[[rule]]\naction = "denny"\n')
        wait_for(lambda: "rules.toml:3:1: action: 'denny'" in said(program), 10, "the complaint")
        assert refused()
        web.more.release(3)
        assert worked(download)


def test_a_question_holds_one_flow_and_no_other(lab: NetLab, folder: Folder, web: Web) -> None:
    """curl waits for its answer, another program does not; the answer comes from another terminal."""
    folder.rules('default = "ask"\n[ask]\ndeadline = 20\n[[rule]]\naction = "allow"\nprogram = "python3*"\n')
    with running(lab, *folder.arguments()) as program, EchoServer(lab) as echo:
        waiting = get(program, web, "www.example.com")
        (question,) = wait_for(lambda: questions(folder), 10, "a question")
        for _ in range(20):
            with program.socket(timeout=2) as near:
                near.connect(echo.address)
                assert near.ask_many(10, 64) == 10
        assert not waiting.done()
        assert question["program"].endswith("/curl")
        assert question["port"] == web.port
        reply = ask("--socket", folder.socket, "--answer", question["id"].partition(".")[2], "allow")
        assert reply == "allow once\n"
        assert worked(waiting)
        assert questions(folder) == []


def test_an_answer_for_ever_is_a_rule_from_then_on(lab: NetLab, folder: Folder, web: Web) -> None:
    """It is in the file, and in force in the next run."""
    folder.rules('default = "ask"\n')
    with running(lab, *folder.arguments()) as program:
        waiting = get(program, web, "www.example.com")
        (question,) = wait_for(lambda: questions(folder), 10, "a question")
        ask("--socket", folder.socket, "--answer", question["id"], "deny", "--for", "ever", "--scope", "program")
        assert not worked(waiting)
        assert not worked(get(program, web, "www.example.org"))
    assert 'action = "deny"' in (folder.path / "answers.toml").read_text()
    with running(lab, *folder.arguments()) as program:
        assert not worked(get(program, web, "www.example.org"))


def test_nobody_answers(lab: NetLab, folder: Folder, web: Web) -> None:
    """After the deadline the policy's action counts."""
    folder.rules('default = "ask"\n[ask]\ndeadline = 0.5\nunanswered = "allow"\n')
    with running(lab, *folder.arguments()) as program:
        assert worked(get(program, web, "www.example.com"))
        folder.rules('default = "ask"\n[ask]\ndeadline = 0.5\nunanswered = "deny"\n')
        wait_for(lambda: "read again" in said(program), 10)
        assert not worked(get(program, web, "www.example.com"))


def test_a_person_in_a_terminal(lab: NetLab, folder: Folder, web: Web) -> None:
    """The question is shown when it comes, and the words typed answer it."""
    folder.rules('default = "ask"\n')
    with running(lab, *folder.arguments()) as program:
        wait_for(lambda: Path(folder.socket).exists(), 5)
        words = (str(REPOSITORY / ".venv/bin/python"), "-m", "network_extension", "ask", "--socket", folder.socket)
        terminal = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert terminal.stdin is not None and terminal.stdout is not None
        try:
            assert "No open questions" in terminal.stdout.readline()
            waiting = get(program, web, "www.example.com")
            shown = ""
            while "allow, deny, drop" not in shown:
                line = terminal.stdout.readline()
                assert line
                shown += line
            assert f"curl → {FAR4}:{web.port} tcp" in shown
            terminal.stdin.write("a run program\n")
            assert worked(waiting)
            assert worked(get(program, web, "www.example.org"))
            terminal.stdin.write("q\n")
            assert terminal.wait(10) == 0
        finally:
            terminal.kill()
            terminal.communicate()


def test_what_was_learned_lets_the_same_through(lab: NetLab, folder: Folder, web: Web) -> None:
    """The proposals are rules: with them alone, the same programs work, and others do not."""
    folder.rules('default = "learn"\n')
    with running(lab, *folder.arguments()) as program:
        assert worked(get(program, web, "www.example.com"))
    assert "/curl" in (folder.path / "learned.toml").read_text()
    folder.rules('default = "deny"\ninclude = "learned.toml"\n')
    with running(lab, *folder.arguments()) as program, EchoServer(lab) as echo:
        assert worked(get(program, web, "www.example.com"))
        with program.socket(timeout=5) as near:
            assert near.connect_ex(echo.address)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('default = "allow"\n[[rule]]\nactoin = "deny"\n', "rules.toml:3:1: 'actoin' is not a key of a rule; did you"),
        ('default = "allow\n', "rules.toml:1:17: not TOML"),
        ("", "rules.toml: default is missing"),
    ],
)
def test_rules_with_errors_do_not_start(lab: NetLab, folder: Folder, text: str, message: str) -> None:
    """The command does not run, and what is said names line and column."""
    folder.rules(text)
    done = lab.run(*folder.arguments(), "--", "echo", "it ran")
    assert (done.returncode, done.stdout) == (70, "")
    assert message in done.stderr


class TestSimpleFirewall:
    """examples/simple_firewall.py."""

    EXAMPLE = ("--provider", str(REPOSITORY / "examples/simple_firewall.py"))

    def test_without_configuration(self, lab: NetLab, web: Web) -> None:
        """Ordinary traffic passes; the documented name does not."""
        with running(lab, *self.EXAMPLE) as program:
            assert worked(get(program, web, "www.example.com"))
            assert not worked(get(program, web, "telemetry.example"))
            assert not worked(get(program, web, "a.telemetry.example"))

    def test_with_ports(self, lab: NetLab, web: Web) -> None:
        """The configuration replaces what it would do otherwise."""
        with running(lab, *self.EXAMPLE, "--config", f"ports=[{web.port}]") as program:
            assert not worked(get(program, web, "www.example.com"))
            wait_for(lambda: "refused <FilterFlow curl" in said(program), 5)


def test_before_a_whole_machine(lab: NetLab, folder: Folder, web: Web, tmp_path: Path) -> None:
    """`netext filter`: a rule by program, one by our own port, and a question that another user's terminal answers."""
    folder.rules(
        'default = "ask"\n[ask]\ndeadline = 20\n'
        '[[rule]]\nname = "not root"\naction = "deny"\nprogram = "/**/curl"\nuser = "root"\n'
        '[[rule]]\nname = "our port"\naction = "drop"\ndirection = "inbound"\nport = 4444\n'
        '[[rule]]\naction = "allow"\ndirection = "inbound"\n'
    )
    url = f"http://{FAR4}:{web.port}/"
    with RunningFilter(lab, tmp_path / "log", "--user", "nobody", *folder.arguments(), provider="") as filters:
        assert lab.near.run("curl", "-sS", "-m", "5", url).returncode == 7
        assert filters.decision(web.port)["by"] == "Firewall"
        filters.said("deny by rule 'not root'")
        curl = lab.near.start("curl", "-sS", "-m", "20", url, user=True)
        (question,) = wait_for(lambda: questions(folder), 10, "a question")
        assert (question["uid"], question["host"], question["port"]) == (NOBODY, None, web.port)
        assert ask("--socket", folder.socket, "--answer", question["id"], "allow", "--for", "15m").startswith(
            "allow for 15m"
        )
        assert curl.communicate(timeout=20)[0] == "the page"
        assert lab.near.run("curl", "-sS", "-m", "5", url, user=True).stdout == "the page"
        assert not reaches(lab, 4444)
        assert reaches(lab, 4445)


def reaches(lab: NetLab, port: int) -> bool:
    """Whether a connection from `far` to that port of `near` comes to be within a second."""
    listener = lab.in_host(lab.near, lambda: socket.create_server((NEAR4, port)))
    with listener, lab.in_host(lab.far, socket.socket) as far:
        far.settimeout(1)
        try:
            return bool(far.connect_ex((NEAR4, port)) == 0)
        except TimeoutError:
            return False


def test_a_flood_of_questions(lab: NetLab, folder: Folder, web: Web) -> None:
    """2,000 flows that nobody answers: those over the bound get the policy at once, and what is allowed still flows."""
    folder.rules(f'default = "ask"\n[ask]\ndeadline = 2\n[[rule]]\naction = "allow"\nport = {web.port}\n')
    with running(lab, *folder.arguments()) as program:
        status, output, complaints = program.call("run", ["/usr/bin/python3", "-c", FLOOD])
        assert status == 0, complaints
        assert output == b"2000\n"
        assert "too many flows wait for answers already" in said(program)
        assert worked(get(program, web, "www.example.com"))


FLOOD = f"""
import errno, selectors, socket
selector, refused = selectors.DefaultSelector(), 0
for number in range(2000):
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("{FAR4}", 10000 + number))
    selector.register(sock, selectors.EVENT_WRITE)
    while len(selector.get_map()) > 400 or (number == 1999 and selector.get_map()):
        for key, _ in selector.select():
            refused += key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
            selector.unregister(key.fileobj)
            key.fileobj.close()
print(refused)
"""
