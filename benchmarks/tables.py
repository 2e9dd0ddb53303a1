"""Where results go: JSON in `benchmarks/results`, and a Markdown table in a document between two marks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from gateline.adapters.document import markdown, write_between_marks

__all__ = ["markdown", "read_result", "write_json", "write_result", "write_table"]

RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "benchmarks.md"


def write_result(name: str, result: Mapping[str, Any], text: str, sizes: str = "") -> None:
    """Write `NAME.json`, and `text` into docs/benchmarks.md between ``<!-- NAME -->`` and ``<!-- /NAME -->``; print it, too.

    Args:
        name: of the benchmark.
        result: its figures.
        text: the same for people.
        sizes: flags without which nothing is written, see `benchmarks.command.sizes_to_record`; the text is printed all the same.
    """
    if sizes:
        print(f"{text.strip()}\n\nnot recorded: only with {sizes}")
        return
    write_json(name, result)
    write_table(DOCUMENT, name, text)


def write_json(name: str, result: Mapping[str, Any]) -> None:
    """Write `NAME.json`."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path.relative_to(ROOT)}")


def write_table(document: Path, name: str, text: str) -> None:
    """Write a table into a document between its marks, and print it."""
    print(text.strip())
    write_between_marks(document, name, text)
    print(f"\nwritten: the table in {document.relative_to(ROOT)}")


def read_result(name: str) -> dict[str, Any]:
    """Read `NAME.json`; empty where it was never written."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found
