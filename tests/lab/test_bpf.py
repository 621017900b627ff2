"""eBPF as this kernel has it: what is allowed, what is left behind, and who else may be there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from network_extension.errors import DatapathError
from network_extension.linux import bpf
from network_extension.linux.attribution import Attribution
from network_extension.linux.bpf_instructions import R0, R1, R10, Assembly
from network_extension.linux.socket_owners import SocketOwners, cookie_of
from tests.netlab import REPOSITORY, wait_for

pytestmark = pytest.mark.lab

PRELUDE = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
from network_extension.linux.attribution import Attribution
attribution = Attribution()
def me():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", 9))
    end = sock.getsockname()[1]
    host = bytes((127, 0, 0, 1))
    if closed:
        sock.close()
    found = attribution.owner(17, (host, end), (host, 9))
    return found and found.pid
closed = False
"""


def words(code: str) -> list[str]:
    return [sys.executable, "-S", "-E", "-c", PRELUDE + code, str(REPOSITORY / "src")]


def run(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_a_refused_program_is_told_with_what_the_verifier_said() -> None:
    code = Assembly()
    code.load(R0, R10, 8)
    code.exit()
    with pytest.raises(DatapathError, match=r"(?s)eBPF program wrong: .*invalid.* R10 off=8") as failure:
        bpf.load_program(bpf.PROGRAM_CGROUP_SOCK, bpf.SOCK_CREATE, "wrong", code.assemble())
    assert failure.value.errno and "\n" not in str(failure.value)
    assert "(79) r0 = *(u64 *)(r10 +8)" in failure.value.__notes__[0]


def test_each_instruction_is_one_that_the_verifier_takes() -> None:
    code = Assembly()
    code.set(R0, 6)
    for operator in ("+", "-", "|", "&", "<<", ">>"):
        code.calculate(operator, R0, 3)
        code.set(R1, 2)
        code.calculate(operator, R0, R1)
    code.swap_bytes(R0, 16)
    for size in (1, 2, 4, 8):
        code.store(R10, -8, 1, size)
        code.store(R10, -8, R0, size)
        code.load(R1, R10, -8, size)
    code.store(R10, -8, 0)
    code.exchange(R10, -8, R0)
    for index, condition in enumerate(("==", "!=", "<", "<=", ">", ">=", "s<", "s<=", "s>", "s>=")):
        code.jump_if(condition, R0, 1, f"number {index}")
        code.jump_if(condition, R0, R1, f"number {index}")
        code.label(f"number {index}")
    code.jump("end")
    code.label("end")
    code.set(R0, 1)
    code.exit()
    os.close(bpf.load_program(bpf.PROGRAM_CGROUP_SOCK, bpf.SOCK_CREATE, "all", code.assemble()))


def test_nothing_is_mounted_and_no_descriptor_is_inherited() -> None:
    before = cgroup_mounts()
    owners = SocketOwners()
    try:
        ours = [name for name in os.listdir("/proc/self/fd") if "bpf" in target(f"/proc/self/fd/{name}")]
        assert len(ours) == 11  # four maps, seven links
        assert not any(os.get_inheritable(int(name)) for name in ours)
        assert cgroup_mounts() == before
    finally:
        owners.close()


def cgroup_mounts() -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if "cgroup" in line]


def target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def link_exists(number: int) -> bool:
    try:
        os.close(bpf._bpf(30, bpf._attributes(number.to_bytes(4, "little") + bytes(8))))  # BPF_LINK_GET_FD_BY_ID
    except OSError:
        return False
    return True


def links_of(pid: int) -> set[int]:
    texts = [path.read_text() for path in Path(f"/proc/{pid}/fdinfo").iterdir()]
    return {int(number) for text in texts for number in re.findall(r"link_id:\s*(\d+)", text)}


def test_the_programs_are_gone_when_their_process_is_killed() -> None:
    process = subprocess.Popen(words("print(flush=True); sys.stdin.read()"), stdin=-1, stdout=-1, text=True)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        links = links_of(process.pid)
        assert len(links) == 7 and all(map(link_exists, links))
        process.kill()
    wait_for(lambda: not any(map(link_exists, links)), what="the end of the programs")


def test_several_are_there_at_the_same_time_and_one_may_go() -> None:
    first, second = SocketOwners(), SocketOwners()
    try:
        for owners in (first, second), (second,):
            with socket.socket() as sock:
                found = [one.of_socket(cookie_of(sock)) for one in owners]
            assert all(owner and int.from_bytes(owner.process[16:20], "little") == os.getpid() for owner in found)
            first.close()
    finally:
        first.close()
        second.close()


def test_no_privilege_is_needed_afterwards() -> None:
    """docs/attribution.md: since Linux 5.19 a map is read by its descriptor alone."""
    code = """
from network_extension.linux.namespaces import drop_capabilities
drop_capabilities()
first = me()
closed = True
print(first, me(), os.getpid(), attribution.how)
"""
    open_, gone, pid, how = run(*words(code)).split()
    assert (open_, gone, how) == (pid, pid, "ebpf")


@pytest.mark.parametrize("missing", ["bpf", "perfmon", "net_admin", "all"])
def test_where_it_is_not_allowed_the_reason_is_told_and_the_living_are_found(missing: str) -> None:
    bounds = {
        "all": "-all",
        "bpf": "-bpf,-sys_admin",
        "perfmon": "-perfmon,-sys_admin",
        "net_admin": "-net_admin,-sys_admin",
    }
    bound = f"--bounding-set={bounds[missing]}"
    code = "print(me(), os.getpid(), attribution.is_exact, attribution.how)"
    found, pid, exact, how = run("setpriv", bound, "--inh-caps=-all", *words(code)).split(maxsplit=3)
    assert (found, exact) == (pid, "False")
    assert re.fullmatch(r"sock_diag\+proc: eBPF (map|program) .*; it takes CAP_BPF, CAP_PERFMON.*", how)


def test_an_ordinary_user_gets_the_second_best(as_ordinary_user: list[str]) -> None:
    code = "print(me(), os.getpid(), attribution.how)"
    found, pid, how = run(*as_ordinary_user, *words(code)).split(maxsplit=2)
    assert found == pid and how.startswith("sock_diag+proc: ")


def test_in_a_pid_namespace_processes_have_its_numbers() -> None:
    code = "first = me(); closed = True; print(first, me(), os.getpid(), attribution.how)"
    prefix = ["unshare", "--pid", "--fork", "--mount-proc"]
    assert run(*prefix, "bash", "-c", '"$@"; exit', "bash", *words(code)).split() == ["2", "2", "2", "ebpf"]


def test_in_a_cgroup_namespace_the_limit_is_told() -> None:
    assert run("unshare", "--cgroup", *words("print(attribution.how)")).startswith("ebpf: only the processes of this")


def test_without_the_programs_nothing_is_asked_of_the_kernel() -> None:
    attribution = Attribution(ebpf=False)
    assert (attribution.how, attribution.is_exact) == ("sock_diag+proc: eBPF is not wanted", False)
    attribution.close()
    attribution.close()
