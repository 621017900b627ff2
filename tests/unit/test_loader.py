"""Every way in which `--provider` can be wrong is one line that says what to do, and an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from network_extension.errors import ExitCode
from network_extension.runtime.loader import LoaderError, load_provider, load_provider_class, one_line, split_spec

GOOD = """
from network_extension import TransparentProxyProvider
class Mine(TransparentProxyProvider):
    def handle_new_flow(self, flow):
        return False
"""
FILTER = "from network_extension import *\nclass Mine({}Provider):\n    {}\n"
INVALID, NOT_FOUND, FAILED = ExitCode.PROVIDER_INVALID, ExitCode.PROVIDER_NOT_FOUND, ExitCode.PROVIDER_FAILED


@pytest.fixture(autouse=True)
def _own_imports() -> None:
    for name in [name for name in sys.modules if name == "prov"]:
        del sys.modules[name]


def write(directory: Path, text: str | bytes) -> str:
    path = directory / "prov.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_a_file_with_one_class(tmp_path: Path) -> None:
    spec = write(tmp_path, GOOD)
    assert type(load_provider(spec)).__name__ == "Mine"
    assert type(load_provider(spec + ":Mine")).__name__ == "Mine"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("FilterData", "def handle_new_flow(self, flow): pass"),
        ("FilterData", "async def start_filter(self): await self.apply_settings(FilterSettings())"),
        ("FilterPacket", "def handle_packet(self, context, interface, direction, data): pass"),
        ("FilterControl", "def handle_remediation(self, flow): pass"),
        ("FilterControl", "url_append_string_map = {'a': '&safe=1'}"),
    ],
)
def test_filters(tmp_path: Path, kind: str, body: str) -> None:
    assert type(load_provider(write(tmp_path, FILTER.format(kind, body)))).__name__ == "Mine"


def test_a_module_and_a_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "neighbour_of_prov.py").write_text("ANSWER = False\n")
    path = write(tmp_path, "from neighbour_of_prov import ANSWER\n" + GOOD.replace("return False", "return ANSWER"))
    assert load_provider(path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert type(load_provider("prov:Mine")).__name__ == "Mine"


@pytest.mark.parametrize(
    ("source", "suffix", "code", "text"),
    [
        (
            "class A: pass\nclass B: pass\n",
            "",
            INVALID,
            r"no provider class in it; define a class .* \(it has: A, B\)",
        ),
        ("def f(:\n", "", INVALID, r"not Python: .* \(prov.py, line 1\)"),
        (b"\x00\x01", "", INVALID, "not Python"),
        (b"\xff\xfe\xfa = 1", "", INVALID, "not Python"),
        ("1/0\n", "", INVALID, r"importing it raised ZeroDivisionError: division by zero \(prov.py:1\)"),
        ("import sys; sys.exit(3)\n", "", INVALID, "importing it raised SystemExit"),
        (
            "import no_such_module_at_all\n",
            "",
            INVALID,
            "imports no_such_module_at_all, which is not installed",
        ),
        (
            GOOD + "class Other(Mine): pass\n",
            "",
            INVALID,
            r"several provider classes \(Mine, Other\); say which: .*:Mine",
        ),
        (GOOD, ":Absent", NOT_FOUND, "no class Absent in it; provider classes in it: Mine"),
        (GOOD + "class Plain: pass\n", ":Plain", INVALID, "Plain is no provider; derive it from"),
        (GOOD, ":TransparentProxyProvider", INVALID, "TransparentProxyProvider is only a base"),
        ("from network_extension import TransparentProxyProvider\n", "", INVALID, "no provider class in it"),
        (
            GOOD.replace("handle_new_flow", "handle_flow"),
            "",
            INVALID,
            "overrides nothing: define handle_new_flow",
        ),
        (
            GOOD + "    def __init__(self): raise OSError(2, 'no')\n",
            "",
            FAILED,
            r"Mine\(\) raised FileNotFoundError",
        ),
        (GOOD + "    def __init__(self, x): pass\n", "", FAILED, r"Mine\(\) raised TypeError"),
        (
            "from network_extension import Provider\nclass P(Provider): pass\n",
            "",
            INVALID,
            "P is not of a kind that takes flows",
        ),
        (FILTER.format("FilterData", "pass"), "", INVALID, r"define handle_new_flow\(self, flow\) in it"),
        (FILTER.format("FilterPacket", "x = 1"), "", INVALID, r"define handle_packet\(self, context, interface, "),
        (FILTER.format("FilterControl", "x = 1"), "", INVALID, "overrides nothing: define handle_new_flow"),
        (FILTER.format("Filter", "x = 1"), "", INVALID, "derive it from .* FilterPacketProvider or FilterControlProv"),
        (FILTER.format("FilterData", "x = 1"), ":FilterDataProvider", INVALID, "FilterDataProvider is only a base"),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path: Path, source: str | bytes, suffix: str, code: ExitCode, text: str) -> None:
    with pytest.raises(LoaderError, match=text) as caught:
        load_provider(write(tmp_path, source) + suffix)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("/nonexistent/p.py", "the file /nonexistent/p.py does not exist"),
        ("/nonexistent/p.py:X", "the file /nonexistent/p.py does not exist"),
        ("/tmp", "is a directory"),
        ("no_such_module_here", "no module no_such_module_here is installed"),
        ("no_such_module_here.sub:X", "no module no_such_module_here.sub is installed"),
    ],
)
def test_what_is_not_there(spec: str, text: str) -> None:
    with pytest.raises(LoaderError, match=text) as caught:
        load_provider(spec)
    assert caught.value.exit_code == NOT_FOUND


def test_a_file_that_the_user_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: object, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("network_extension.runtime.loader.os.stat", forbidden)
    with pytest.raises(LoaderError, match=r"cannot be read; let user \d+ read it"):
        load_provider_class(str(tmp_path / "secret.py"))


def test_an_unreadable_file_and_a_colon_in_a_path(tmp_path: Path) -> None:
    odd = tmp_path / "a:b"
    odd.write_text(GOOD)
    assert split_spec(str(odd)) == (str(odd), "")
    assert load_provider(str(odd))


def test_a_constructor_that_does_not_call_ours(tmp_path: Path) -> None:
    provider = load_provider(write(tmp_path, GOOD + "    def __init__(self): self.x = 1\n"))
    assert provider.configuration == {} and provider.default_path.interfaces == ()


def test_one_line_names_the_place() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        assert one_line(error).startswith("ValueError: two lines (test_loader.py:")
