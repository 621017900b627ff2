"""Life of a provider process: start, stop with its grace period (S19), sleep, path, configuration, and its ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from network_extension import StopReason
from network_extension.errors import ExitCode
from network_extension.runtime.hello import unpack_hello
from network_extension.runtime.wire import MessageType as M

from .provider_process import ProviderProcess

DECLINES = "class P(TransparentProxyProvider):\n    def handle_new_flow(self, flow): return False\n"


def provider(body: str, base: str = "TransparentProxyProvider") -> str:
    lines = [f"class P({base}):", "    def handle_new_flow(self, flow): return False"]
    return "\n".join([*lines, *("    " + line for line in body.strip("\n").splitlines())]) + "\n"


def test_ready_then_hello_then_stopped(tmp_path: Path) -> None:
    with ProviderProcess(tmp_path, DECLINES) as p:
        p.main.send(M.START, 0, {"config": {}, "options": None, "name": "first"})
        assert p.main.expect(M.READY)[2] == {"name": "first", "kind": "transparent-proxy", "class": "P"}
        _kind, _flow, body, fds = p.engine.expect(M.HELLO)
        assert unpack_hello(body, fds) == ("first", "transparent-proxy", None)
        assert p.stop() == 0


def test_settings_at_the_start_and_later(tmp_path: Path) -> None:
    source = provider(
        """
        async def start_proxy(self, options):
            await self.set_tunnel_network_settings(TransparentProxyNetworkSettings(
                [NetworkRule.destination_host(f"h{n}.example.com") for n in range(options["rules"])]))
        async def sleep(self):
            await self.set_tunnel_network_settings(None)
        def wake(self):
            return self.set_tunnel_network_settings(TransparentProxyNetworkSettings(
                [NetworkRule.destination_network("192.0.2.1", port=53)]))
        """.replace("\n        ", "\n")
    )
    with ProviderProcess(tmp_path, source) as p:
        p.start({"rules": 3000})
        hello = unpack_hello(*p.engine.expect(M.HELLO)[2:])
        assert hello.settings is not None and len(hello.settings.included_network_rules) == 3000
        p.main.send(M.SLEEP)
        p.main.expect(M.SLEPT)
        assert unpack_hello(*p.engine.expect(M.HELLO)[2:]).settings is None
        p.main.send(M.WAKE)
        log = p.main.expect(M.LOG)[2]
        assert log["level"] == "error" and "53 cannot be specified" in log["text"]
        assert "included_network_rules[0]" in log["text"]
        assert not p.engine.quiet()


@pytest.mark.parametrize(
    ("body", "text", "code"),
    [
        ("async def start_proxy(self, options): raise ValueError('bad key')", "ValueError: bad key", 70),
        ("async def start_proxy(self, options): 1/0", "ZeroDivisionError", 70),
        ("def start_proxy(self, options): raise OSError(13, 'denied')", "PermissionError", 70),
        ("def __init__(self): raise RuntimeError('x')", "raised RuntimeError: x", 70),
        ("def broken(:", "not Python", 65),
    ],
)
def test_a_start_that_fails_is_one_line(tmp_path: Path, body: str, text: str, code: int) -> None:
    with ProviderProcess(tmp_path, provider(body)) as p:
        p.main.send(M.START, 0, {"config": {}, "options": None, "name": "x"})
        answer = p.main.expect(M.START_FAILED)[2]
        assert text in answer["error"] and "\n" not in answer["error"]
        assert answer["code"] == code
        assert p.stop() == 0


def test_options_configuration_and_path_are_seen_and_observed(tmp_path: Path) -> None:
    source = provider(
        """
async def start_proxy(self, options):
    self.log(f"start {options} {self.configuration['key']} {self.default_path.interfaces}")
    self.observe("configuration", lambda value: self.log(f"configuration {value['key']}"))
    self.observe("default_path", lambda path: 1 / 0)
    self.end = self.observe("default_path", lambda path: self.log(f"path {path.status.name} {path.interfaces}"))
    self.spawn(self.watch())
async def watch(self):
    async for path in self.default_path_updates():
        self.log(f"update {path.interfaces}")
"""
    )
    path = {"status": "satisfied", "interfaces": ["eth0"], "ipv4": True, "ipv6": False, "dns": []}
    with ProviderProcess(tmp_path, source, key="one") as p:
        p.main.send(M.PATH, 0, path)
        p.start({"a": 1})
        assert p.main.expect(M.LOG)[2]["text"] == "start {'a': 1} one ('eth0',)"
        assert p.main.expect(M.LOG)[2]["text"] == "update ('eth0',)"
        p.main.send(M.CONFIG, 0, {"config": {"key": "two"}})
        assert p.main.expect(M.LOG)[2]["text"] == "configuration two"
        p.main.send(M.PATH, 0, path)  # the same again: nobody is told
        p.main.send(M.PATH, 0, path | {"interfaces": ["wlan0"]})
        texts = [p.main.expect(M.LOG)[2]["text"] for _ in range(3)]
        assert texts[0].startswith("observer of default_path raised ZeroDivisionError")
        assert texts[1:] == ["path SATISFIED ('wlan0',)", "update ('wlan0',)"]
        assert p.stop(grace=0.2) == 1  # watch() never ends by itself


def test_s19_started_work_is_awaited_within_the_grace_period(tmp_path: Path) -> None:
    source = provider(
        """
async def start_proxy(self, options):
    self.spawn(self.later(0.3), name="tracked")
    asyncio.get_running_loop().create_task(self.later(0.2))
async def later(self, seconds):
    await asyncio.sleep(seconds)
    self.log(f"work of {seconds} s is done")
    if seconds == 0.2:
        self.spawn(self.later(0.25))
async def stop_proxy(self, reason):
    self.log(f"stopping: {reason.name}")
"""
    )
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        assert p.stop(grace=5, reason=StopReason.APP_UPDATE) == 0
        texts = [p.main.expect(M.LOG)[2]["text"] for _ in range(4)]
        assert texts[0] == "stopping: APP_UPDATE"
        assert sorted(texts[1:]) == [f"work of {seconds} s is done" for seconds in (0.2, 0.25, 0.3)]


@pytest.mark.parametrize(
    "work",
    [
        "await asyncio.sleep(60)",
        "while True:\n        try: await asyncio.sleep(60)\n        except BaseException: pass",
    ],
)
def test_work_over_the_grace_period_is_cut_off_and_counted(tmp_path: Path, work: str) -> None:
    source = provider(f"""
async def start_proxy(self, options):
    self.spawn(self.forever())
async def forever(self):
    {work}
async def stop_proxy(self, reason):
    await asyncio.sleep(0.1)
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        began = time.monotonic()
        assert p.stop(grace=0.4) == 1
        assert 0.35 < time.monotonic() - began < 4


def test_stop_while_the_start_hangs(tmp_path: Path) -> None:
    source = provider("""
async def start_proxy(self, options):
    self.log("starting")
    await asyncio.sleep(60)
async def stop_proxy(self, reason):
    self.log("stop came")
""")
    with ProviderProcess(tmp_path, source) as p:
        p.main.send(M.START, 0, {"config": {}, "options": None, "name": "x"})
        assert p.main.expect(M.LOG)[2]["text"] == "starting"
        assert p.stop(grace=0.2) == 0  # cancelled at once, and not counted: it had not been started by the provider
        assert p.main.expect(M.LOG)[2]["text"] == "stop came"


def test_stop_before_any_start(tmp_path: Path) -> None:
    with ProviderProcess(tmp_path, DECLINES) as p:
        assert p.stop() == 0


@pytest.mark.parametrize("callback", ["async def stop_proxy(self, reason)", "async def sleep(self)", "def wake(self)"])
def test_a_callback_that_raises_is_logged_and_survived(tmp_path: Path, callback: str) -> None:
    with ProviderProcess(tmp_path, provider(f"{callback}: raise KeyError('k')")) as p:
        p.start()
        p.main.send(M.SLEEP)
        p.main.expect(M.SLEPT)
        p.main.send(M.WAKE)
        p.stop()
        assert "raised KeyError: 'k' (provider_under_test.py:" in p.main.expect(M.LOG)[2]["text"]


def test_spawned_work_that_raises_is_logged(tmp_path: Path) -> None:
    source = provider("""
async def work(self): raise ValueError("in the back")
async def start_proxy(self, options): self.spawn(self.work(), name="the work")
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        assert p.main.expect(M.LOG)[2] == {"level": "error", "text": "the work raised ValueError: in the back"}


def test_cancel_from_inside(tmp_path: Path) -> None:
    source = provider("""
def wake(self): self.cancel_proxy_with_error(ValueError("enough"))
async def sleep(self): self.cancel_proxy_with_error()
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.main.send(M.WAKE)
        assert p.main.expect(M.CANCELLED)[2] == {"error": "ValueError: enough"}
        p.main.send(M.SLEEP)
        assert p.main.expect(M.CANCELLED)[2] == {"error": None}


def test_ping_and_control_c(tmp_path: Path) -> None:
    with ProviderProcess(tmp_path, DECLINES) as p:
        p.start()
        p.process.send_signal(signal.SIGINT)
        p.main.send(M.PING)
        p.main.expect(M.PONG)


def test_main_dies(tmp_path: Path) -> None:
    out = tmp_path / "reason"
    source = provider(f"async def stop_proxy(self, reason): open({str(out)!r}, 'w').write(reason.name)")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.main.channel.close()
        assert p.process.wait(10) == 1
        assert out.read_text() == "PROVIDER_FAILED"


def test_main_dies_while_the_provider_hangs(tmp_path: Path) -> None:
    source = provider("def wake(self):\n    import time\n    self.log('hanging')\n    time.sleep(60)\n")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.main.send(M.WAKE)
        assert p.main.expect(M.LOG)[2]["text"] == "hanging"
        p.main.channel.close()
        assert p.process.wait(10) == 1


def test_the_provider_dies(tmp_path: Path) -> None:
    with ProviderProcess(tmp_path, provider("def wake(self):\n    import os\n    os._exit(7)")) as p:
        p.start()
        p.main.send(M.WAKE)
        p.main.expect_eof()
        p.engine.expect_eof()
        assert p.process.wait(10) == 7


def test_a_new_flow_channel_replaces_the_old(tmp_path: Path) -> None:
    source = provider("""
async def handle_new_flow(self, flow):
    try:
        await flow.open()
    except FlowError as error:
        self.log(f"{flow.id} {error.code.name}")
    return True
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.engine.expect(M.HELLO)
        p.new_flow(1, ("192.0.2.1", 80))
        p.engine.expect(M.OPEN, 1)
        old, p.engine = p.engine, p.new_flow_channel()
        p.engine.expect(M.HELLO)
        old.expect_eof()
        old.channel.close()
        assert p.main.expect(M.LOG)[2]["text"] == "1 ABORTED"
        p.new_flow(2, ("192.0.2.1", 80))
        p.engine.expect(M.OPEN, 2)
        p.engine.channel.close()  # the engine crashes: the provider lives, main brings another
        assert p.main.expect(M.LOG)[2]["text"] == "2 ABORTED"
        p.engine = p.new_flow_channel()
        p.engine.expect(M.HELLO)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (M.STOP, {"reason": 99}),
        (M.STOP, {"reason": 1, "grace": "x"}),
        (M.FLOWS, {}),
        (M.READY, {}),
        (M.CONFIG, {"config": 1}),
    ],
)
def test_nonsense_from_main_is_logged(tmp_path: Path, kind: M, body: dict[str, Any]) -> None:
    with ProviderProcess(tmp_path, DECLINES) as p:
        p.start()
        p.main.send(kind, 0, body)
        assert kind.name in p.main.expect(M.LOG)[2]["text"]
        assert p.stop() == 0


def test_no_descriptor_of_ours_is_inherited(tmp_path: Path) -> None:
    source = provider("""
async def sleep(self):
    child = await asyncio.create_subprocess_exec("/bin/ls", "/proc/self/fd", stdout=-1)
    out, _ = await child.communicate()
    self.log(" ".join(out.decode().split()))
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.engine.expect(M.HELLO)
        p.main.send(M.SLEEP)
        assert p.main.expect(M.LOG)[2]["text"].split() == ["0", "1", "2", "3"]  # 3 is the directory itself


def test_exit_codes_are_of_the_table() -> None:
    assert (ExitCode.PROVIDER_INVALID, ExitCode.PROVIDER_NOT_FOUND, ExitCode.PROVIDER_FAILED) == (65, 66, 70)
    assert os.EX_DATAERR == 65 and os.EX_NOINPUT == 66 and os.EX_SOFTWARE == 70
