"""A hook of MkDocs: the pages about the doctor's rules are made when the site is, and stand in no folder."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File, Files

from network_extension.doctor.catalogue import RULES
from network_extension.doctor.rule_pages import index_page, rule_page


def on_files(files: Files, config: Any) -> Files:
    """Adds rules/index.md, and a page for each rule."""
    files.append(File.generated(config, "rules/index.md", content=index_page()))
    for rule in RULES.values():
        files.append(File.generated(config, f"rules/{rule.id}.md", content=rule_page(rule)))
    return files
