"""The ruleset as text, and the tools that load it: stand-ins that note what they are told. The lab has real ones."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import pytest

from network_extension.errors import DatapathError, ExitCode
from network_extension.linux import ruleset
from network_extension.linux.ruleset import find_tool, install, run_tool, script

LISTENERS = ("192.0.2.1:1", "[2001:db8::1]:1")
ARGUMENTS = ("netext0", *LISTENERS)
FLAVOURS = ("nft", "legacy")


def chain(text: str, name: str) -> list[str]:
    """The lines of one chain, without the first (what hook it is on) where it has one."""
    match = re.search(rf"chain {name} \{{\n(.*?)\n  \}}", text, re.DOTALL)
    assert match, f"no chain {name}"
    return [line.strip() for line in match[1].splitlines() if line.strip()]


class TestScript:
    def test_the_packets_way(self) -> None:
        """divert marks NEW, hold marks HELD and queues, deliver takes OPEN to the listeners."""
        text = script(*ARGUMENTS, native_queue=True)
        assert text.count("table inet netext {") == 1
        assert text.count("{") == text.count("}")
        divert, hold, deliver = (chain(text, name) for name in ("divert", "hold", "deliver"))
        assert divert[0] == "type route hook output priority mangle; policy accept;"
        assert divert[1] == 'oifname != "netext0" accept'
        assert "meta l4proto { tcp, udp } meta mark set 0x4e450001 accept" in divert
        assert hold[0] == "type filter hook prerouting priority mangle - 1; policy accept;"
        assert hold[1] == "meta mark 0x4e450001 goto outside"
        assert deliver[0] == "type filter hook prerouting priority mangle + 1; policy accept;"
        for family, tool, listener in (("ipv4", "ip", LISTENERS[0]), ("ipv6", "ip6", LISTENERS[1])):
            rule = f"meta mark 0x4e450003 meta nfproto {family} meta l4proto tcp tproxy {tool} to {listener}"
            assert rule in deliver

    @pytest.mark.parametrize("name", ["outside", "loopback"])
    def test_only_what_begins_a_flow_is_queued(self, name: str) -> None:
        first, *_, last = chain(script(*ARGUMENTS, native_queue=True), name)
        assert first == "meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn accept"
        assert last == "meta mark set 0x4e450002 queue num 0"

    def test_without_the_queue_expression_packets_are_only_marked(self) -> None:
        native, plain = (script(*ARGUMENTS, native_queue=native) for native in (True, False))
        assert native.replace(" queue num 0", "") == plain

    def test_a_full_queue_and_the_policy(self) -> None:
        """Closed: what did not fit is dropped. Open: a SYN reaches the listener undecided, the rest is dropped."""
        closed = chain(script(*ARGUMENTS, native_queue=True), "deliver")
        opened = chain(script(*ARGUMENTS, native_queue=True, overflow_open=True), "deliver")
        assert closed[3:] == ["meta mark 0x4e450002 drop"]
        assert opened[3:] == [
            f"meta mark 0x4e450002 meta nfproto ipv4 meta l4proto tcp tproxy ip to {LISTENERS[0]}",
            f"meta mark 0x4e450002 meta nfproto ipv6 meta l4proto tcp tproxy ip6 to {LISTENERS[1]}",
            "meta mark 0x4e450002 meta l4proto != tcp drop",
        ]

    def test_no_rule_tracks_connections(self) -> None:
        assert not re.search(r"\bct\b", script(*ARGUMENTS, native_queue=True, overflow_open=True))


class Tools:
    """A folder of stand-ins, the only one in which tools are looked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "told").touch()

    def add(self, name: str, refuses: str = "", complaint: str = "") -> None:
        """A tool that fails with `complaint` when the text that it is given contains `refuses`."""
        path = self.folder / name
        fail = f"echo >&2; echo '{complaint}' >&2; echo 'more' >&2; exit 2" if complaint else "exit 3"
        path.write_text(
            "#!/bin/sh\n"
            f'text=$(/bin/cat); echo "{name} $* $XTABLES_LOCKFILE" >> "{self.folder}/told"\n'
            f'case "$text" in *"{refuses}"*) {fail};; esac\n'
            if refuses
            else f'#!/bin/sh\n/bin/cat > "{self.folder}/{name}.text"; echo "{name} $*" >> "{self.folder}/told"\n'
        )
        path.chmod(0o755)

    def told(self) -> list[str]:
        return [" ".join(line.split()[:3]) for line in (self.folder / "told").read_text().splitlines()]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """On a kernel that does not say what it lacks."""
    monkeypatch.setattr(ruleset, "lacks_queue_expression", lambda: False)
    monkeypatch.setenv(ruleset.TOOLS_PATH, str(tmp_path))
    return Tools(tmp_path)


class TestInstall:
    def test_native(self, tools: Tools) -> None:
        tools.add("nft")
        assert install(*ARGUMENTS, overflow_open=True) == "nft"
        assert tools.told() == ["nft -f -"]
        loaded = (tools.folder / "nft.text").read_text()
        assert loaded == script(*ARGUMENTS, native_queue=True, overflow_open=True)

    def test_iptables_queues_where_nft_cannot(self, tools: Tools) -> None:
        tools.add("nft", refuses="queue num", complaint="Error: no queue")
        for name in ("iptables-nft-restore", "ip6tables-nft-restore"):
            tools.add(name)
        assert install(*ARGUMENTS) == "iptables-nft"
        assert tools.told() == ["nft -f -"] * 2 + ["iptables-nft-restore -n", "ip6tables-nft-restore -n"]
        rule = "-A PREROUTING -m mark --mark 0x4e450002 -j NFQUEUE --queue-num 0"
        assert rule in (tools.folder / "ip6tables-nft-restore.text").read_text().splitlines()

    def test_nft_is_not_asked_for_what_the_kernel_says_it_lacks(
        self, tools: Tools, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ruleset, "lacks_queue_expression", lambda: True)
        for name in ("nft", "iptables-nft-restore", "ip6tables-nft-restore"):
            tools.add(name)
        assert install(*ARGUMENTS) == "iptables-nft"
        assert tools.told() == ["nft -f -", "iptables-nft-restore -n", "ip6tables-nft-restore -n"]
        assert (tools.folder / "nft.text").read_text() == script(*ARGUMENTS, native_queue=False)

    def test_legacy_iptables_where_the_other_cannot(self, tools: Tools) -> None:
        tools.add("nft", refuses="queue num", complaint="Error: no queue")
        for name in ("iptables", "ip6tables"):
            tools.add(f"{name}-nft-restore", refuses="NFQUEUE", complaint="no NFQUEUE here")
            tools.add(f"{name}-legacy-restore")
        assert install(*ARGUMENTS) == "iptables-legacy"

    @pytest.mark.parametrize(
        ("available", "text", "step"),
        [
            ({}, "nft is not installed", "apt-get install nftables"),
            ({"nft": "table"}, "nft refused the ruleset: nft says no", "netext doctor"),
            ({"nft": "queue"}, "iptables is not installed", "apt-get install iptables"),
            ({"nft": "queue", "iptables-nft-restore": ""}, "iptables is not installed", "apt-get install iptables"),
            (
                {"nft": "queue", "iptables-nft-restore": "", "ip6tables-nft-restore": "NFQUEUE"},
                "this kernel queues no packets: ip6tables-nft-restore says no",
                "netext doctor",
            ),
        ],
        ids=["no nft", "nft refuses", "no iptables", "half an iptables", "no NFQUEUE"],
    )
    def test_what_is_missing_is_said(self, tools: Tools, available: dict[str, str], text: str, step: str) -> None:
        for name, refuses in available.items():
            tools.add(name, refuses, f"{name} says no")
        with pytest.raises(DatapathError, match=text) as caught:
            install(*ARGUMENTS)
        assert str(caught.value).endswith(f"; next step: {step}")
        assert caught.value.exit_code == ExitCode.UNAVAILABLE
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("configuration", "lacks"),
    [
        (b"CONFIG_NF_TABLES=y\n# CONFIG_NFT_QUEUE is not set\n", True),
        (b"CONFIG_NF_TABLES=m\nCONFIG_NFT_QUEUE=m\n", False),
        (b"# CONFIG_NF_TABLES is not set\n", False),  # what is missing then is told by nft itself
        (b"", False),
    ],
)
def test_what_the_kernel_says_of_itself(tmp_path: Path, configuration: bytes, lacks: bool) -> None:
    path = tmp_path / "config.gz"
    path.write_bytes(gzip.compress(configuration))
    assert ruleset.lacks_queue_expression(str(path)) is lacks


def test_a_kernel_that_says_nothing_may_have_all(tmp_path: Path) -> None:
    broken = tmp_path / "config.gz"
    broken.write_bytes(b"not compressed")
    assert not ruleset.lacks_queue_expression(str(broken))
    assert not ruleset.lacks_queue_expression(str(tmp_path / "absent"))


class TestRunTool:
    def test_a_tool_that_says_nothing(self, tools: Tools) -> None:
        tools.add("silent", refuses="x")
        assert run_tool([str(tools.folder / "silent")], "x") == "exit status 3"

    def test_the_first_line_that_says_something(self, tools: Tools) -> None:
        tools.add("talking", refuses="x", complaint="the cause")
        assert run_tool([str(tools.folder / "talking")], "x") == "the cause"
        assert run_tool([str(tools.folder / "talking")], "y") is None

    def test_no_lock_file_of_the_host_is_touched(self, tools: Tools) -> None:
        tools.add("tool", refuses="x")
        run_tool([str(tools.folder / "tool"), "-n"], "y")
        assert tools.told() == ["tool -n /dev/null"]

    def test_one_that_cannot_be_run(self, tmp_path: Path) -> None:
        (tmp_path / "broken").write_text("#!/nonexistent/interpreter\n")
        (tmp_path / "broken").chmod(0o755)
        path = str(tmp_path / "broken")
        assert run_tool([path], "") == f"{path} cannot be run: No such file or directory"

    def test_one_that_hangs(self, tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ruleset, "TOOL_TIMEOUT", 0.05)
        path = tools.folder / "hanging"
        path.write_text("#!/bin/sh\nexec /bin/cat /dev/zero > /dev/null\n")
        path.chmod(0o755)
        assert run_tool([str(path)], "") == f"{path} did not end within 0 s"


class TestFindTool:
    def test_the_administrators_folders_count_though_no_user_has_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked: list[str] = []
        monkeypatch.delenv(ruleset.TOOLS_PATH, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(os, "access", lambda path, mode: looked.append(path))  # says no to each
        assert find_tool("nft") is None
        assert looked == [f"{tmp_path}/nft", "/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft"]

    def test_the_first_that_can_be_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folders = [tmp_path / name for name in ("none", "plain", "good", "late")]
        for folder in folders[1:]:
            folder.mkdir()
            (folder / "tool").touch(mode=0o644 if folder.name == "plain" else 0o755)
        monkeypatch.setenv(ruleset.TOOLS_PATH, ":".join(["", *map(str, folders)]))
        assert find_tool("tool") == str(tmp_path / "good" / "tool")

    def test_without_a_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PATH")
        monkeypatch.delenv(ruleset.TOOLS_PATH, raising=False)
        assert find_tool("there is no such tool") is None


def test_a_folder_is_no_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder can be "executed" too (it can be searched), and must not be taken for the program of its name."""
    (tmp_path / "first" / "nft").mkdir(parents=True)
    (tmp_path / "second").mkdir()
    tool = tmp_path / "second" / "nft"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv(ruleset.TOOLS_PATH, f"{tmp_path}/first:{tmp_path}/second")
    assert ruleset.find_tool("nft") == str(tool)
