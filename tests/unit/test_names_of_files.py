"""DuckDB takes a name for a pattern, pandas a text for a number: what is asked for is what is read."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from gateline.adapters.drift_check import _read
from gateline.adapters.duckdb_names import as_glob
from gateline.adapters.serving.input_batches import BATCH_BYTES
from gateline.adapters.serving.predict import _begin, _claimed, predict
from gateline.errors import DataError, RegistryError
from gateline.manifest import file_digest
from gateline.workload.schema import Schema


@pytest.mark.parametrize("name", ["a[1].csv", "a*.csv", "a?.csv", "[a-z].csv"])
def test_the_file_of_that_name_is_read_and_no_other(name: str, tmp_path: Path) -> None:
    for other in ("a1.csv", "ab.csv", "b.csv"):
        (tmp_path / other).write_text("x\n1\n2\n")
    (tmp_path / name).write_text("x\n7\n")

    read = duckdb.connect().read_csv(as_glob(tmp_path / name)).fetchall()

    assert read == [(7,)]


def test_texts_of_a_csv_are_those_of_the_same_rows_as_parquet(tmp_path: Path) -> None:
    schema = Schema.model_validate({"columns": {"code": {"type": "text"}, "x": {"type": "float"}}})
    frame = pd.DataFrame({"code": ["001", "NA", "1.50", None], "x": [1.0, None, 2.5, 3.0]})
    frame.to_csv(tmp_path / "new.csv", index=False)
    frame.to_parquet(tmp_path / "new.parquet")

    from_csv, from_parquet = (_read(tmp_path / f"new.{kind}", schema) for kind in ("csv", "parquet"))

    assert from_csv["code"].astype(object).where(from_csv["code"].notna(), None).tolist() == ["001", "NA", "1.50", None]
    assert from_csv["x"].tolist()[::2] == from_parquet["x"].tolist()[::2]
    assert from_csv["x"].isna().tolist() == from_parquet["x"].isna().tolist()


@pytest.mark.parametrize("other", ["new.csv", "./new.csv", "linked.csv"])
def test_answers_are_not_written_over_the_rows_that_are_asked(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = Path("new.csv")
    asked.write_text("x\n1\n")
    Path("linked.csv").symlink_to(asked)

    with pytest.raises(DataError, match="another file than the input"):
        predict(
            "tiny", asked, Path(other), version=1, batch_rows=1, log=None, on_rows=lambda *_: None, stop=lambda: False
        )

    assert asked.read_text() == "x\n1\n"


def test_a_version_that_cannot_answer_is_not_what_the_next_run_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_database: Path
) -> None:
    asked = tmp_path / "new.csv"
    asked.write_text("x\n1\n")

    def versions_tried() -> str:
        with pytest.raises(RegistryError) as refused:
            predict(
                "tiny", asked, tmp_path / "out.csv", version=None, batch_rows=1, log=None, on_rows=lambda *_: None,
                stop=lambda: False,
            )  # fmt: skip
        return str(refused.value)

    for champion in (9, 2):
        monkeypatch.setattr("gateline.adapters.serving.predict.require_champion", lambda _name, c=champion: c)
        assert f"version {champion}" in versions_tried()
        assert not (tmp_path / "out.csv.parts").exists()

    parts = tmp_path / "out.csv.parts"
    begun = {"input": file_digest(asked), "model": "tiny", "batch_rows": 1, "batch_bytes": BATCH_BYTES}
    _begin(parts, {**begun, "version": 7})
    assert "version 2" in versions_tried(), "it had answered nothing"
    (parts / "000000.parquet").touch()
    assert "began with version 7: name another by --version" in versions_tried()


@pytest.mark.parametrize("rows", [1, 2])
def test_two_runs_do_not_write_one_answer(rows: int, tmp_path: Path) -> None:
    asked, parts = tmp_path / "new.csv", tmp_path / "out.csv.parts"
    asked.write_text("x\n1\n")
    _begin(parts, {"input": file_digest(asked), "model": "tiny", "batch_rows": 1, "version": 1})
    before = (parts / "state.json").read_bytes()

    with (
        _claimed(parts),  # as the other run, which asks the same or (rows 2) something else
        pytest.raises(DataError, match="one `gateline predict` for one --output"),
    ):
        predict(
            "tiny", asked, tmp_path / "out.csv", version=1, batch_rows=rows, log=None, on_rows=lambda *_: None,
            stop=lambda: False,
        )  # fmt: skip

    assert (parts / "state.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.csv.parts"]


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("x\n1\n")
    (tmp_path / "out.csv").mkdir()
    for output in ("out.csv", "absent/out.csv"):
        with pytest.raises(DataError, match="expected a file in a folder that is there"):
            predict(
                "tiny", tmp_path / "new.csv", tmp_path / output, version=1, batch_rows=1, log=None,
                on_rows=lambda *_: None, stop=lambda: False,
            )  # fmt: skip
