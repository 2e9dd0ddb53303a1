"""The log of predictions is bounded, by requests and by bytes, and two writers never meet in one file."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.adapters.serving import prediction_log
from gateline.adapters.serving.prediction_log import PredictionLog

ROWS = pd.DataFrame({"size": [1.0, 2.0], "picture": [b"x" * 1000, None]})

COLUMNS = ["size", "picture"]


def kept(folder: Path, part: str) -> pd.DataFrame:
    return pd.read_parquet(folder / "tiny" / part)


def test_two_writers_of_one_moment_write_two_files(tmp_path: Path) -> None:
    for log in [PredictionLog(tmp_path, "tiny", version, COLUMNS) for version in (1, 2)]:
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
    log = PredictionLog(tmp_path, "tiny", 1, COLUMNS)
    for _ in range(5):
        log.put(ROWS, ROWS[["size"]])
    log.close()
    assert kept(tmp_path, "inputs")["gateline_request"].nunique() == 2
    assert "3 requests were answered and not kept" in capsys.readouterr().err

    monkeypatch.setattr(prediction_log, "FLUSH_BYTES", 1000)
    log = PredictionLog(tmp_path, "tiny", 2, COLUMNS)
    for _ in range(5):
        log.put(ROWS, ROWS[["size"]], wait=True)
    log.close()
    answers = kept(tmp_path, "answers")
    assert answers.loc[answers["gateline_version"] == 2, "gateline_request"].nunique() == 5


def test_what_a_client_sends_along_is_not_kept_and_harms_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = PredictionLog(tmp_path, "tiny", 1, COLUMNS)
    notes: list[Any] = [5, "a", {"of": 1}, *[None] * 6]
    for note in notes:
        log.put(ROWS.assign(note=[note, note]), ROWS[["size"]])
    log.close()

    assert kept(tmp_path, "inputs")["gateline_request"].nunique() == 9
    assert "note" not in kept(tmp_path, "inputs")
    assert capsys.readouterr().err == ""


def test_requests_whose_values_are_of_two_types_are_all_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = PredictionLog(tmp_path, "tiny", 1, ["code"])
    for codes in ([5, 7], ["a", "b"], [5, "a"], [None, None], [6, 8]):
        log.put(pd.DataFrame({"code": codes}), pd.DataFrame({"size": [1.0, 2.0]}))
    log.close()

    files = sorted(tmp_path.glob("tiny/inputs/day=*/*.parquet"))
    codes = [code for file in files for code in pd.read_parquet(file)["code"] if pd.notna(code)]
    assert sorted(map(str, codes)) == ["5", "5", "6", "7", "8", "a", "a", "b"]
    assert len(kept(tmp_path, "answers")) == 10
    assert capsys.readouterr().err == ""


def test_only_what_cannot_be_written_is_lost_and_said_with_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = PredictionLog(tmp_path, "tiny", 1, ["code"])
    codes: list[Any] = ["a", {}, "b", {}, "c"]  # parquet has no value without fields
    for code in codes:
        log.put(pd.DataFrame({"code": [code]}), ROWS[["size"]])
    log.put(object(), ROWS)
    log.close()

    found = [code for file in tmp_path.glob("tiny/inputs/day=*/*.parquet") for code in pd.read_parquet(file)["code"]]
    assert sorted(found) == ["a", "b", "c"]
    assert not list(tmp_path.rglob("*.tmp"))
    assert "3 requests were answered and not kept: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "asked",
    [
        {"text": np.array(["a", "b"])},  # as MLflow hands over `inputs`, and `instances` that are rows by name
        [{"text": np.str_("a")}, {"text": "b"}],
        pd.DataFrame({"text": ["a", "b"]}),
    ],
)
def test_rows_are_kept_in_every_form_that_mlflow_hands_over(asked: Any, tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "tiny", 1, ["text"])
    log.put(asked, ROWS[["size"]])
    log.put({"text": np.str_("alone")}, ROWS[["size"]].head(1))
    log.close()
    rows = kept(tmp_path, "inputs")
    assert [*rows["text"]] == ["a", "b", "alone"]


def test_a_write_that_fails_with_its_cleanup_ends_neither_the_log_nor_who_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prediction_log, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(prediction_log, "WAITING", 2)
    folder = tmp_path / "tiny"
    folder.write_text("a file in the folder's place: neither a draft can be written nor one be deleted")
    log = PredictionLog(tmp_path, "tiny", 1, COLUMNS)
    for _ in range(5):
        log.put(ROWS, ROWS[["size"]], wait=True)
    while log._lost < 5 and log._thread.is_alive():
        time.sleep(0.01)
    folder.unlink()
    log.put(ROWS, ROWS[["size"]], wait=True)
    log.close()

    assert kept(tmp_path, "inputs")["gateline_request"].nunique() == 1
    said = capsys.readouterr().err
    assert "5 requests were answered and not kept: " in said
    assert "Traceback" not in said


def test_whatever_writing_raises_is_counted_and_the_thread_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prediction_log, "_apart", lambda _: 1 / 0)
    log = PredictionLog(tmp_path, "tiny", 1, ["code"])
    codes: list[Any] = ["a", {}, "b"]
    for code in codes:
        log.put(pd.DataFrame({"code": [code]}), ROWS[["size"]])
    log.close()

    assert not log._thread.is_alive()
    assert len(kept(tmp_path, "answers")) == 6
    assert "3 requests were answered and not kept: division by zero" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_log_whose_thread_is_gone_or_whose_stderr_is_lets_nobody_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prediction_log, "WAITING", 1)
    monkeypatch.setattr(prediction_log, "_column", lambda _: sys.exit())  # an end of the thread that nothing catches
    log = PredictionLog(tmp_path, "tiny", 1, COLUMNS)
    log.put(ROWS, ROWS[["size"]])
    log._thread.join(timeout=10)
    began = time.monotonic()
    for _ in range(3):
        log.put(ROWS, ROWS[["size"]], wait=True)
    log.close()
    assert time.monotonic() - began < 5
    assert "1 requests were answered and not kept" in capsys.readouterr().err

    def closed(_: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(sys.stderr, "write", closed)
    log.put(object(), ROWS)


def test_a_closed_log_has_written_what_waited_in_a_full_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "WAITING", 1)
    log = PredictionLog(tmp_path, "tiny", 1, COLUMNS)
    for _ in range(20):
        log.put(ROWS, ROWS[["size"]], wait=True)
    log.close()
    assert kept(tmp_path, "inputs")["gateline_request"].nunique() == 20
