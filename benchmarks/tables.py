"""Where results go: JSON in `benchmarks/results`, and a Markdown table in `docs/benchmarks.md` between two marks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "benchmarks.md"


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out a table."""
    lines = [list(head), ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_result(name: str, result: Mapping[str, Any], text: str) -> None:
    """Write `NAME.json`, and `text` into the document between ``<!-- NAME -->`` and ``<!-- /NAME -->``; print it, too."""
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    document = DOCUMENT.read_text()
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"docs/benchmarks.md: expected a line {begin} and a line {end} after it, where the table goes")
    DOCUMENT.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")
    print(text.strip())
    print(f"\nwritten: benchmarks/results/{name}.json, and the table in docs/benchmarks.md")


def read_result(name: str) -> dict[str, Any]:
    """Read `NAME.json`; empty where it was never written."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found
