"""Programs that open one flow and end at once, as many as asked for, and who they were: the ground truth.

Run in a network namespace; standard input says `FIRST COUNT`, and COUNT lines `number pid start uid executable` are the
answer, written when all of them have ended. Flow N goes to port 10000 + N, by IPv4 or IPv6 as N is even or odd.

Half of them are processes forked from this one without exec, half are copies of perl and bash under names of their own.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
from pathlib import Path

FIRST_PORT = 10000
FAR = {socket.AF_INET: "198.51.100.2", socket.AF_INET6: "2001:db8:99::2"}
UNPRIVILEGED = 54321
LONG_NAME = "a-program-whose-name-is-much-longer-than-sixteen-characters"
# perl's own functions and no module: it starts in a millisecond.
PERL_TCP = "socket(S,$ARGV[0],1,0);fcntl(S,4,2048);connect(S,pack($ARGV[1],@ARGV[2..$#ARGV]))"
PERL_UDP = "socket(S,$ARGV[0],2,0);send(S,'x',0,pack($ARGV[1],@ARGV[2..$#ARGV]))"


def family_of(number: int) -> socket.AddressFamily:
    return socket.AF_INET6 if number % 2 else socket.AF_INET


def tcp(number: int) -> None:
    family = family_of(number)
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.connect_ex((FAR[family], FIRST_PORT + number))
    os._exit(0)


def udp(number: int) -> None:
    family = family_of(number)
    socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (FAR[family], FIRST_PORT + number))
    os._exit(0)


def connected_udp(number: int) -> None:
    sock = socket.socket(family_of(number), socket.SOCK_DGRAM)
    sock.connect((FAR[sock.family], FIRST_PORT + number))
    sock.send(b"x")
    os._exit(0)


def threaded_tcp(number: int) -> None:
    """The thread ends the whole process, and its number is not the process's."""
    threading.Thread(target=tcp, args=(number,)).start()
    threading.Event().wait()


def threaded_udp(number: int) -> None:
    threading.Thread(target=udp, args=(number,)).start()
    threading.Event().wait()


def other_user(number: int) -> None:
    os.setuid(UNPRIVILEGED)
    udp(number)


FORKED = (tcp, udp, connected_udp, threaded_tcp, threaded_udp, other_user)


def perl_arguments(number: int) -> list[str]:
    port, family = str(FIRST_PORT + number), family_of(number)
    if family == socket.AF_INET:
        return ["2", "S n C4 x8", port, *FAR[family].split(".")]
    return ["10", "S n N C16 N", port, "0", *map(str, socket.inet_pton(family, FAR[family])), "0"]


def command(number: int, folder: Path) -> list[str]:
    """The words of one of the programs that are executed; the family comes first in what perl packs."""
    kind = number // 4 % 3
    if kind == 2:
        return [f"{folder}/bash-{LONG_NAME}", "-c", f"echo x >/dev/udp/{FAR[family_of(number)]}/{FIRST_PORT + number}"]
    family, template, *values = perl_arguments(number)
    code = (PERL_TCP, PERL_UDP)[kind]
    return [f"{folder}/perl-{LONG_NAME}-{kind}", "-e", code, family, template, family, *values]


def executables(folder: Path) -> None:
    for kind in range(2):
        shutil.copy("/usr/bin/perl", folder / f"perl-{LONG_NAME}-{kind}")
    shutil.copy("/bin/bash", folder / f"bash-{LONG_NAME}")


def run_one(number: int, folder: Path) -> str:
    if number // 2 % 2:
        words = command(number, folder)
        uid, executable, pid = 0, words[0], os.posix_spawn(words[0], words, {})
    else:
        kind = FORKED[number // 4 % len(FORKED)]
        uid, executable, pid = UNPRIVILEGED if kind is other_user else 0, os.readlink("/proc/self/exe"), os.fork()
        if not pid:
            kind(number)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    start = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    status = os.waitpid(pid, 0)[1]
    return f"{number} {pid} {start} {uid} {executable}" if not status else f"{number} failed: {status}"


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    executables(folder)
    for line in sys.stdin:
        first, count = map(int, line.split())
        sys.stdout.writelines(run_one(number, folder) + "\n" for number in range(first, first + count))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
