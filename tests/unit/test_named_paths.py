"""Whoever is sent to a file of this repository, by an error, a comment or a page, finds it."""

from __future__ import annotations

import re

from tests.conftest import ROOT

NAMED = re.compile(r"(?<![\w/.-])(?:components|infra|pipelines|src)/[\w./-]+\.(?:py|sh|yaml)\b(?!\.)")
"""A file of code or of a cluster from the root on; of workloads and pages there are examples, too, which nobody shall find."""


def test_a_file_that_is_named_is_there() -> None:
    texts = [
        path
        for folder in ("components", "docs", "infra", "pipelines", "src")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".md", ".py", ".sh", ".yaml")
    ]
    named = {(path, name) for path in texts for name in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 10
    assert sorted(f"{path.relative_to(ROOT)}: {name}" for path, name in named if not (ROOT / name).is_file()) == []
