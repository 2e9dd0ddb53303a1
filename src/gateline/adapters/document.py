"""Put a table that a command measured into a document, between two marks that no reader sees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gateline.adapters.project import replace_text
from gateline.errors import WorkloadError


def markdown(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Lay out a table in Markdown."""
    lines: list[Sequence[object]] = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def marks(name: str) -> tuple[str, str]:
    """Say which lines stand around a table in its document."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def write_between_marks(document: Path, name: str, text: str | None) -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``; the rest of the document stays.

    Args:
        document: a Markdown file.
        name: of the marks.
        text: what to put there; None only sees that it could be put there.

    Raises:
        WorkloadError: there is no such document, or the marks are not in it.
    """
    begin, end = marks(name)
    content = document.read_text(encoding="utf-8") if document.is_file() else ""
    before, found, rest = content.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise WorkloadError(
            document,
            expected=f"a line {begin} and a line {end} after it, where the table goes",
            found="no such lines" if content else "no such file",
            do="Add them",
        )
    if text is not None:
        replace_text(document, f"{before}{begin}\n{text.strip()}\n{end}{after}")
