"""The log of predictions is bounded, by requests and by bytes, and two writers never meet in one file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gateline.adapters.serving import prediction_log
from gateline.adapters.serving.prediction_log import PredictionLog

ROWS = pd.DataFrame({"size": [1.0, 2.0], "picture": [b"x" * 1000, None]})


def kept(folder: Path, part: str) -> pd.DataFrame:
    return pd.read_parquet(folder / "tiny" / part)


def test_two_writers_of_one_moment_write_two_files(tmp_path: Path) -> None:
    for log in [PredictionLog(tmp_path, "tiny", version) for version in (1, 2)]:
        log.put(ROWS, ROWS[["size"]])
        log.close()

    assert len(list(tmp_path.glob("tiny/inputs/day=*/*.parquet"))) == 2
    assert sorted(kept(tmp_path, "answers")["gateline_version"]) == [1, 1, 2, 2]
    assert kept(tmp_path, "inputs")["picture"].dropna().str.startswith("1000 bytes, sha256 ").all()


def test_what_finds_no_room_is_not_kept_and_what_was_written_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prediction_log, "WAITING_BYTES", 2500)
    monkeypatch.setattr(prediction_log, "FLUSH_SECONDS", 3600.0)
    log = PredictionLog(tmp_path, "tiny", 1)
    for _ in range(5):
        log.put(ROWS, ROWS[["size"]])
    log.close()
    assert kept(tmp_path, "inputs")["gateline_request"].nunique() == 2
    assert "3 requests were answered and not kept" in capsys.readouterr().err

    monkeypatch.setattr(prediction_log, "FLUSH_BYTES", 1000)
    log = PredictionLog(tmp_path, "tiny", 2)
    for _ in range(5):
        log.put(ROWS, ROWS[["size"]], wait=True)
    log.close()
    answers = kept(tmp_path, "answers")
    assert answers.loc[answers["gateline_version"] == 2, "gateline_request"].nunique() == 5
