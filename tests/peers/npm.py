"""Programs from npm that our protocols are held against: installed once, asked line by line."""

from __future__ import annotations

import base64
import fcntl
import json
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.netlab import REPOSITORY

FOLDER = REPOSITORY / "build" / "npm"
PACKAGES = {
    "private": True,
    "type": "module",
    "dependencies": {"@cloudflare/privacypass-ts": "0.9.0", "hpke-js": "1.8.0", "bhttp-js": "0.2.1"},
    # What privacypass-ts asks for is newer than what can be had everywhere; this one has the same functions.
    "overrides": {"@cloudflare/blindrsa-ts": "0.4.4"},
}


def installed() -> Path:
    """The folder with the packages. Skips, by name, where node or npm is missing or the packages cannot be had."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests at a time
        wanted = json.dumps(PACKAGES)
        package = FOLDER / "package.json"
        if not (FOLDER / "installed").exists() or not package.exists() or package.read_text() != wanted:
            package.write_text(wanted)
            words = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts"]
            try:
                done = subprocess.run(words, cwd=FOLDER, capture_output=True, text=True, timeout=50)
            except subprocess.TimeoutExpired:
                pytest.skip("npm install takes longer than 50 s")
            if done.returncode:
                pytest.skip(f"npm install failed: {done.stderr.strip()[-200:] or done.stdout.strip()[-200:]}")
            (FOLDER / "installed").touch()
    return FOLDER


class Peer:
    """A node program that answers each line of JSON with one. Bytes travel as base64."""

    def __init__(self, script: str) -> None:
        folder = installed()
        copy = folder / script  # packages are looked for beside the program
        shutil.copy(Path(__file__).parent / script, copy)
        self._process = subprocess.Popen(
            ["node", str(copy)], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, command: str, **values: Any) -> Any:
        """The answer to a command; an error of the peer's is an AssertionError."""
        assert self._process.stdin is not None and self._process.stdout is not None
        packed = {key: encode(value) if isinstance(value, bytes) else value for key, value in values.items()}
        self._process.stdin.write(json.dumps({"command": command, **packed}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the peer ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # it ended before
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


def encode(data: bytes) -> str:
    """Bytes for a line."""
    return base64.b64encode(data).decode()


def decode(text: str) -> bytes:
    """Bytes of a line."""
    return base64.b64decode(text)
