"""Code in the documentation is code: each Python block compiles, and each complete provider is loaded as users load it.

A block is complete when it begins with its file name in a comment (`# picky.py`), or with an import.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from network_extension.runtime.loader import load_provider_class

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMPLETE = re.compile(r"# \w+\.py\n|import |from ")


class Block(NamedTuple):
    """A block of Python on a page."""

    place: str
    code: str

    @property
    def is_complete(self) -> bool:
        """Whether it is a whole file."""
        return _COMPLETE.match(self.code) is not None


def blocks() -> list[Block]:
    """All of them; the place is the page and the line that a block begins in."""
    return [
        Block(f"{page.name}:{text.count(chr(10), 0, match.start()) + 2}", match[1])
        for page in PAGES
        for text in [page.read_text()]
        for match in _BLOCK.finditer(text)
    ]


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.place)
def test_it_compiles(block: Block) -> None:
    compile(block.code, block.place, "exec")


@pytest.mark.parametrize("block", [block for block in blocks() if block.is_complete], ids=lambda block: block.place)
def test_a_complete_provider_loads(block: Block, tmp_path: Path) -> None:
    """It is found, is of a kind that can be run, overrides what it must, and can be made without arguments."""
    path = tmp_path / "from_the_docs.py"
    path.write_text(block.code)
    assert load_provider_class(str(path))()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_named_file_of_this_repository_exists(page: Path) -> None:
    names = re.findall(r"\b(?:examples|docs|tests|scripts|src)/[\w./-]*\w\.\w+", page.read_text())
    missing = [name for name in names if not (ROOT / name).exists()]
    assert missing == []


def test_there_are_complete_providers_on_the_pages_for_beginners() -> None:
    """So that a change of the pages cannot make the tests above empty."""
    pages = {block.place.partition(":")[0] for block in blocks() if block.is_complete}
    assert {"README.md", "getting-started.md", "providers.md"} <= pages
