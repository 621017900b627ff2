"""The package as it is installed: typed, public names complete, and cheap to import."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata, resources

import network_extension

# Each costs milliseconds before the user's command starts: asyncio 40, ssl 15, dataclasses 14 (with inspect).
SLOW_MODULES = {"asyncio", "dataclasses", "inspect", "logging", "socket", "ssl", "subprocess", "typing"}


def modules_after(statement: str) -> set[str]:
    """Modules that a fresh, isolated interpreter without site-packages has loaded after `statement`."""
    home = str(resources.files(network_extension).joinpath(".."))
    report = "import json; print(json.dumps(names))"  # after the names were taken: json is not ours to answer for
    program = f"import sys; sys.path.insert(0, {home!r}); {statement}; names = sorted(sys.modules); {report}"
    output = subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, capture_output=True, text=True)
    return set(json.loads(output.stdout))


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files(network_extension).joinpath("py.typed").is_file()


def test_versions_agree() -> None:
    assert metadata.version("network-extension") == network_extension.__version__


def test_importing_the_package_imports_nothing_slow() -> None:
    assert not modules_after("import network_extension") & SLOW_MODULES


def test_a_value_is_imported_without_the_event_loop() -> None:
    assert not modules_after("from network_extension import Endpoint") & {"asyncio", "ssl", "dataclasses"}


def test_each_public_name_is_there_and_nothing_else() -> None:
    missing = [name for name in network_extension.__all__ if not hasattr(network_extension, name)]
    assert missing == []
    assert set(dir(network_extension)) == {*network_extension.__all__, "__version__"}


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    assert not hasattr(network_extension, "NoSuchThing")


def test_public_names_are_sorted() -> None:
    names = list(network_extension.__all__)
    assert sorted(names, key=lambda name: (not name.isupper(), name)) == names
