"""Names of files as DuckDB takes them."""

from __future__ import annotations

from pathlib import Path


def as_glob(path: Path) -> str:
    """Write a path so that DuckDB, which takes a name for a pattern, reads that one file and no other."""
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in str(path))
