"""The command: it is what it would be without `netext`, only without any capability, and `netext` ends as it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.leaks import descendants, reap_orphans
from tests.netlab import NetLab, wait_for

from .program import Program, children_of, provider

pytestmark = pytest.mark.lab


def shell(lab: NetLab, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return lab.run("--quiet", "--", "/bin/sh", "-c", script, **options)


class TestExitStatus:
    @pytest.mark.parametrize("status", [0, 1, 7, 126, 255])
    def test_it_is_the_command_s(self, lab: NetLab, status: int) -> None:
        assert shell(lab, f"exit {status}").returncode == status

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGINT])
    def test_a_signal_strikes_netext_too(self, lab: NetLab, number: signal.Signals) -> None:
        """The command dies of a signal: so does `netext`, and a shell sees 128 + n."""
        assert shell(lab, f"kill -{number.value} $$").returncode == -number
        words = " ".join(lab.netext("run", "--quiet", "--", "/bin/sh", "-c", f"'kill -{number.value} $$'"))
        assert lab.near.run("/bin/sh", "-c", f"{words}; exit $?", user=True).returncode == 128 + number

    def test_stdout_that_nobody_reads(self, lab: NetLab) -> None:
        """`netext run … | head -1` ends by SIGPIPE as the command would."""
        words = " ".join(lab.netext("run", "--quiet", "--", "yes"))
        done = lab.near.run("/bin/bash", "-c", f"{words} | head -1; exit ${{PIPESTATUS[0]}}", user=True)
        assert (done.returncode, done.stdout) == (128 + signal.SIGPIPE, "y\n")


class TestStandardStreams:
    def test_pipes_carry_bytes_as_they_are(self, lab: NetLab) -> None:
        """Four megabytes of all byte values through stdin and stdout."""
        data = os.urandom(1 << 22)
        words = lab.near.command(*lab.netext("run", "--quiet", "--", "cat"), user=True)
        done = subprocess.run(words, input=data, capture_output=True, timeout=20)
        assert done.stdout == data
        assert done.stderr == b""

    def test_stderr_is_the_command_s_too(self, lab: NetLab) -> None:
        assert shell(lab, "echo to stderr >&2").stderr == "to stderr\n"

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_closed_descriptors(self, lab: NetLab, closed: str) -> None:
        """`netext run … <&-`: the command finds the same descriptor closed, or /dev/null there, and runs."""
        words = " ".join(lab.netext("run", "--", "/bin/sh", "-c", "'exit 5'"))
        assert lab.near.run("/bin/sh", "-c", f"{words} {closed}", user=True).returncode == 5

    def test_further_descriptors_are_passed_on(self, lab: NetLab, tmp_path: Path) -> None:
        """`… 7< file`: descriptor 7 is the command's as well, and no other but 0, 1 and 2."""
        (tmp_path / "file").write_text("seven")
        tmp_path.chmod(0o755)
        for folder in tmp_path.parents[:3]:
            folder.chmod(folder.stat().st_mode | 0o005) if str(folder).startswith("/tmp/") else None
        words = " ".join(lab.netext("run", "--quiet", "--", "/bin/bash", "-c", "'cat <&7; ls /proc/$$/fd'"))
        done = lab.near.run("/bin/bash", "-c", f"{words} 7< {tmp_path / 'file'}", user=True)
        assert done.stdout.startswith("seven0\n1\n2\n")
        assert set(done.stdout.split()[3:]) - {"3", "255"} == {"7"}  # 3 is ls's directory, 255 the script of bash


@pytest.fixture(scope="module")
def identities(lab: NetLab) -> dict[str, dict[str, Any]]:
    """What the agent says about itself: natively, in the sandbox, and in one that root made."""
    found = {}
    ways = (("native", None, True), ("sandbox", (), True), ("root", (), False), ("rootly", None, False))
    for name, arguments, user in ways:
        program = Program(lab, arguments, user=user)
        found[name] = program.call("identity")
        program.close()
    return found


class TestIdentity:
    @pytest.mark.parametrize("field", ["uid", "gid", "groups", "directory", "arguments", "signals", "descriptors"])
    def test_as_without_us(self, identities: dict[str, dict[str, Any]], field: str) -> None:
        """Ids, directory, arguments, signal mask and descriptors, as an ordinary user and as root."""
        assert identities["sandbox"][field] == identities["native"][field]
        assert identities["root"][field] == identities["rootly"][field]

    def test_the_environment(self, identities: dict[str, dict[str, Any]]) -> None:
        native, sandbox = identities["native"]["environment"], identities["sandbox"]["environment"]
        assert {name: value for name, value in sandbox.items() if native.get(name) != value} == {}
        assert set(native) == set(sandbox)

    @pytest.mark.parametrize("who", ["sandbox", "root"])
    def test_no_capability(self, identities: dict[str, dict[str, Any]], who: str) -> None:
        """None, now or after any exec; CAP_NET_RAW alone is in the bounding set, so that `ping` can be executed."""
        sets = identities[who]["capabilities"]
        assert sets == {"CapInh:": 0, "CapPrm:": 0, "CapEff:": 0, "CapBnd:": 1 << 13, "CapAmb:": 0}

    @pytest.mark.parametrize("user", [True, False])
    def test_no_file_gives_a_capability(self, lab: NetLab, user: bool) -> None:
        """A file with capabilities and a set-uid file can be executed, and give none."""
        script = "ping -V && passwd --help >/dev/null; grep NoNewPrivs /proc/self/status"
        words = lab.netext("run", "--quiet", "--", "/bin/sh", "-c", script)
        done = lab.near.run(*words, user=user)
        assert "ping from iputils" in done.stdout, done.stderr
        assert done.stdout.endswith("NoNewPrivs:\t1\n")

    @pytest.mark.parametrize("user", [True, False])
    def test_the_sandbox_cannot_be_changed(self, lab: NetLab, user: bool) -> None:
        """The command can neither load rules nor routes, nor take an interface down, nor enter the host's network."""
        script = (
            "nft list ruleset || nft flush ruleset || ip route add 192.0.2.0/24 dev lo || ip link set netext0 down || "
            "ip link add x type dummy || nsenter -t 1 -n true && echo somehow"
        )
        done = lab.near.run(*lab.netext("run", "--quiet", "--", "/bin/sh", "-c", script), user=user)
        assert "somehow" not in done.stdout
        assert done.returncode != 0

    def test_the_directory(self, lab: NetLab) -> None:
        """The working directory, also one whose way only the open directory knows."""
        words = " ".join(lab.netext("run", "--quiet", "--", "pwd"))
        done = lab.near.run("/bin/sh", "-c", f"cd /usr/share && {words}", user=True)
        assert done.stdout == "/usr/share\n"

    def test_files_are_the_host_s(self, lab: NetLab, tmp_path: Path) -> None:
        """What the command writes is written; /tmp is the host's /tmp."""
        tmp_path.chmod(0o777)
        for folder in tmp_path.parents:
            if str(folder).startswith("/tmp/"):
                folder.chmod(0o755)
        assert shell(lab, f"echo hello > {tmp_path}/new").returncode == 0
        assert (tmp_path / "new").read_text() == "hello\n"
        assert (tmp_path / "new").stat().st_uid == 65534

    def test_words_of_the_command_are_untouched(self, lab: NetLab) -> None:
        """Blanks, quotes, empty words, options that look like ours, bytes that are no UTF-8."""
        words = ["a b", "", "'\"$HOME", "--quiet", "--", "\n", os.fsdecode(b"\xff\xfe")]
        code = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
        command = lab.netext("run", "--quiet", "--", "/usr/bin/python3", "-c", code, *words)
        done = subprocess.run(
            lab.near.command(*command, user=True), capture_output=True, timeout=20, stdin=subprocess.DEVNULL
        )
        assert done.stdout == b"\0".join(map(os.fsencode, words))


class TestCommandsThatCannotRun:
    @pytest.mark.parametrize(
        ("name", "status", "words"),
        [
            ("no-such-command", 127, "not found"),
            ("/no/such/file", 127, "no such file"),
            ("/etc/passwd", 126, "not executable"),
            ("/usr", 126, "is a directory"),
        ],
    )
    def test_the_shell_s_statuses(self, lab: NetLab, name: str, status: int, words: str) -> None:
        """127 and 126, with one line that says which and why, and what to do."""
        done = lab.run("--", name)
        assert done.returncode == status
        assert done.stderr.count("\n") == 1
        assert name in done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(("content", "words"), [("#!/no/such/interpreter\n", "interpreter"), ("no program", "#!")])
    def test_files_that_the_kernel_refuses(self, lab: NetLab, content: str, words: str) -> None:
        path = Path(f"/tmp/netext-test-{os.getpid()}")
        path.write_text(content)
        path.chmod(0o755)
        try:
            done = lab.run("--", str(path))
        finally:
            path.unlink()
        assert done.returncode == 126
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


class TestProcesses:
    def test_signals_are_passed_on_once(self, lab: NetLab) -> None:
        """SIGTERM, SIGINT, SIGHUP, SIGUSR1 sent to `netext` reach the command, each once."""
        numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]
        code = (
            "import signal, sys\n"
            f"numbers = {[int(number) for number in numbers]}\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
            "print('ready', flush=True)\n"
            "for _ in numbers: print(int(signal.sigwait(numbers)), flush=True)\n"
            "print(signal.sigtimedwait(numbers, 0.3))"
        )
        with lab.start("--quiet", "--", sys.executable, "-c", code) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for number in numbers:
                process.send_signal(number)
                assert process.stdout.readline() == f"{int(number)}\n"
            assert process.stdout.readline() == "None\n"
            assert process.wait(5) == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_ends_both(self, lab: NetLab, number: int) -> None:
        """The command dies of the forwarded signal, `netext` reports it, and nothing is left."""
        with lab.start("--quiet", "--", "/bin/sh", "-c", "echo ready; sleep 30 & wait") as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(number)
            assert process.wait(5) == -number

    def test_signals_while_providers_start(self, lab: NetLab) -> None:
        """SIGTERM before the command runs: `netext` ends at once with one line, and nothing is left."""
        process = lab.start(*provider("slow_start"), "--", "true")
        wait_for(lambda: children_of(process.pid), 5)
        time.sleep(0.3)  # noqa: TID251 -- until it waits for its provider; nothing says so
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        _, log = process.communicate(timeout=15)
        assert time.monotonic() - start < 4
        assert process.returncode not in (0, None)
        assert "SIGTERM" in log

    def test_what_the_command_leaves_behind_is_ended(self, lab: NetLab) -> None:
        """Background processes, also those that left the session and ignore SIGTERM, end with the run."""
        start = time.monotonic()
        done = lab.run("--", "/bin/sh", "-c", "sleep 300 & setsid sleep 301 & trap '' TERM; setsid sleep 302 & exit 3")
        assert done.returncode == 3
        assert time.monotonic() - start < 5
        assert not [line for line in ps() if "sleep 30" in line]

    def test_orphans_are_reaped(self, lab: NetLab) -> None:
        """A process whose parent has ended becomes ours, and no zombie stays while the command runs."""
        orphans = "for i in 1 2 3 4 5; do (/bin/sh -c 'sleep 0.05 & exit' &); done; sleep 0.5"
        script = f"{orphans}; ps -o stat= --ppid $PPID | grep -c Z"
        assert shell(lab, script).stdout == "0\n"

    def test_the_command_sees_its_children_end(self, lab: NetLab) -> None:
        """Subreaping does not take the command's own children from it."""
        assert shell(lab, "sh -c 'exit 9' & wait $!; exit $?").returncode == 9

    def test_nothing_is_left(self, lab: NetLab) -> None:
        """After the run: no process, no mount, no namespace (the leak check looks at more)."""
        mounts = Path("/proc/self/mountinfo").read_text()
        before = running_now()
        assert shell(lab, "true").returncode == 0
        wait_for(lambda: running_now() <= before, 2, "the end of all processes")
        assert "netext" not in Path("/proc/self/mountinfo").read_text().replace(mounts, "")


def running_now() -> set[int]:
    """Our descendants; the ended ones among them wait for us, who adopt orphans."""
    reap_orphans()
    return {process.pid for process in descendants(os.getpid())}


def ps() -> list[str]:
    """The command lines of all our descendants."""
    return [process.text for process in descendants(os.getpid())]
