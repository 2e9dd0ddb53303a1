"""What `gateline predict` refuses before a model is loaded, and what a disk that fails makes it say."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateline.cli import app


def predict(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    """Exit code and the one line."""
    with pytest.raises(SystemExit) as ended:
        app(["predict", "tiny", *flags])
    (line,) = capsys.readouterr().err.splitlines()
    return int(str(ended.value)), line


def test_a_log_in_whose_place_a_file_is_is_refused_before_anything_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, taken = tmp_path / "in.csv", tmp_path / "f"
    source.write_text("size\n1\n")
    taken.write_text("a file")
    code, line = predict(capsys, "--input", str(source), "--output", str(tmp_path / "out.csv"), "--log", str(taken))
    assert code == 2
    assert line == (
        f"gateline: {taken}: expected a place to read or write; found a file where a folder should be. "
        "Correct the path or its rights."
    )
