"""The query of vital_signs on a few made-up measurements: what the table must hold, cell by cell."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gateline.adapters.ingestion import make_table
from gateline.data.irregular_encoding import SeriesInputs
from gateline.data.irregular_steps import lay_out
from gateline.tasks.classification import ClassificationPreprocess
from gateline.tasks.labelling import LabellingPreprocess
from gateline.workload import Workload
from gateline.workload.schema import Schema
from gateline.workload.source import Source

MEASURED = """RecordID,Time,Parameter,Value
7,00:00,RecordID,7
7,00:00,Age,81
7,00:00,Gender,0
7,00:00,Height,-1
7,00:00,ICUType,3
7,00:00,Weight,-1
7,00:10,HR,80
7,00:10,HR,90
7,30:05,pH,7.31
9,00:00,RecordID,9
9,00:00,Age,64
9,00:00,Gender,-1
9,00:00,Height,180.3
9,00:00,ICUType,2
9,00:00,Weight,75
9,47:59,Temp,36.6
"""
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n7,1,1,5,-1,1\n9,2,2,6,-1,0\n"


@pytest.fixture
def table(tmp_path: Path, root: Path) -> pd.DataFrame:
    (tmp_path / "measured.csv").write_text(MEASURED, encoding="utf-8")
    (tmp_path / "outcomes.csv").write_text(OUTCOMES, encoding="utf-8")
    source = Workload.read(root / "workloads" / "vital_signs.yaml").section("source", Source)
    paths = {"measurements": tmp_path / "measured.csv", "outcomes": tmp_path / "outcomes.csv"}
    make_table(source, paths, tmp_path / "table.parquet")
    return pd.read_parquet(tmp_path / "table.parquet")


def test_each_time_of_each_patient_is_a_row(table: pd.DataFrame) -> None:
    assert table["patient"].tolist() == [7, 7, 7, 9, 9]
    hours = (table["time"] - pd.Timestamp("2000-01-01T00:00:00Z")).dt.total_seconds() / 3600
    assert hours.tolist() == pytest.approx([0, 1 / 6, 30 + 5 / 60, 0, 47 + 59 / 60])
    assert table["heart_rate"].tolist()[1] == 85  # entered twice in one minute
    assert table["ph"].notna().tolist() == [False, False, True, False, False]
    assert table["temperature"].dropna().tolist() == [36.6]


def test_what_is_known_at_admission_stands_in_every_row(table: pd.DataFrame) -> None:
    first = table.groupby("patient").first()
    assert first["died"].tolist() == [1, 0]
    assert first["age_group"].tolist() == ["80 and over", "50 to 64"]
    assert first["icu_type"].tolist() == ["medical", "cardiac surgery"]
    assert first.loc[7, "gender"] == "female"
    assert table.loc[table["patient"] == 9, "gender"].isna().all()
    assert table.loc[table["patient"] == 7, "height"].isna().all()
    assert first.loc[9, "height"] == 180.3
    for name in ("age", "icu_type", "died", "age_group"):
        assert (table.groupby("patient")[name].nunique() == 1).all()


def test_the_table_is_what_the_schema_says_and_what_the_steps_are_made_of(table: pd.DataFrame, root: Path) -> None:
    workload = Workload.read(root / "workloads" / "vital_signs.yaml")
    schema = workload.section("schema", Schema)
    inputs = workload.section("preprocess", ClassificationPreprocess).inputs
    assert isinstance(inputs, SeriesInputs)
    assert list(table.columns) == list(schema.columns)

    steps = lay_out(table, schema, columns=("heart_rate", "weight"), width=inputs.step)

    assert steps.num_series == 2
    assert steps.offsets.tolist() == [0, 31, 79]
    assert steps.values[0].tolist()[0] == 85
    assert steps.values[:31, 1].tolist() == pytest.approx([float("nan")] * 31, nan_ok=True)  # -1 kg is no weight


def test_both_workloads_read_the_same_table_in_the_same_way(root: Path) -> None:
    whole, hourly = (
        Workload.read(root / "workloads" / f"{name}.yaml") for name in ("vital_signs", "vital_signs_hourly")
    )

    assert whole.sections["source"] == hourly.sections["source"]
    assert whole.sections["schema"] == hourly.sections["schema"]
    mine = whole.section("preprocess", ClassificationPreprocess)
    theirs = hourly.section("preprocess", LabellingPreprocess)
    assert mine.inputs == theirs.inputs
    assert mine.split == theirs.split
