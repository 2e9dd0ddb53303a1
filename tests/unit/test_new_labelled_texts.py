"""`gateline new` for texts and labels: which columns are found, what is written, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from gateline.adapters.explanation import explain
from gateline.adapters.ingestion import ingest
from gateline.adapters.new_workload.labelled_texts import in_words, is_labelled_text, new_labelled_texts
from gateline.adapters.project import Project
from gateline.errors import DataError, WorkloadError
from gateline.table import read_table
from gateline.tasks import task_named
from gateline.training import read_settings
from gateline.workload import Workload
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.source import Source
from tests.reviews import reviews


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "workloads").mkdir()
    (tmp_path / "params.yaml").write_text("workloads:\n  - first\nseed: 7\n")
    return Project.find(tmp_path)


def write(project: Project, frame: pd.DataFrame, name: str = "data.csv") -> Path:
    path = project.root / name
    frame.to_parquet(path) if name.endswith(".parquet") else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["data.csv", "data.parquet"])
def test_columns_are_found_and_the_workload_is_one(
    name: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(project, reviews().drop(columns="critic"), name)
    assert is_labelled_text(file)
    found = new_labelled_texts(project, "praise", file)
    assert (found.text, found.label, found.tokens) == ("review", "verdict", "word")
    assert "good" in dict(in_words(found))["label"]
    workload = Workload.read(found.path)
    task = task_named(workload.task)
    schema, preprocess = workload.section("schema", Schema), workload.section("preprocess", task.Preprocess)
    task.check(schema, preprocess, workload.section("evaluation", task.Evaluation), workload.section("gates", Gates))
    read_settings(workload)
    monkeypatch.chdir(project.root)
    raw = ingest(workload.section("source", Source), project.root / "raw")
    table = read_table(raw.path / "table.parquet")
    assert table["review"].tolist() == reviews()["review"].tolist()
    assert table["line"].tolist() == list(range(1, 401))
    assert yaml.safe_load((project.root / "params.yaml").read_text())["workloads"] == ["first", "praise"]


@pytest.mark.parametrize(("copies", "confidence"), [(1, None), (4, 0.95)])
def test_the_most_frequent_class_must_be_shown_beaten_where_it_is_wrong_often_enough(
    copies: int, confidence: float | None, project: Project
) -> None:
    frame = pd.concat([reviews()[["review", "verdict"]].assign(again=number) for number in range(copies)])
    frame["review"] += " number " + frame.pop("again").astype(str)
    found = new_labelled_texts(project, "praise", write(project, frame, "data.csv"))
    rules = Workload.read(found.path).section("gates", Gates).baselines
    assert (rules["majority"].confidence, rules["naive_bayes"].confidence) == (confidence, None)


def test_labels_that_are_numbers_odd_names_and_rows_without_either(project: Project) -> None:
    frame = reviews().assign(verdict=lambda f: (f["verdict"] == "good").astype(int))
    frame = frame[["review", "verdict"]].rename(columns={"review": 'what they "said"', "verdict": "no"})
    frame.loc[[3, 4], 'what they "said"'] = None
    found = new_labelled_texts(project, "praise", write(project, frame))
    assert found.counts == {"1": found.counts["1"], "0": found.counts["0"]}
    assert found.rows == 398
    assert "2 rows" in found.left_out
    content = yaml.safe_load(found.path.read_text())
    assert content["schema"]["columns"]["no"]["values"] == ["0", "1"]
    assert content["preprocess"]["inputs"]["column"] == 'what they "said"'


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_that_are_whole_numbers_are_found_where_one_is_missing(suffix: str, project: Project) -> None:
    """One empty cell makes floats of them; prices, with cents, are no classes."""
    verdict = reviews()["verdict"].eq("good").astype(float)
    frame = pd.DataFrame({"review": reviews()["review"], "price": np.tile([0.5, 1.25], 200), "stars": 1 + verdict})
    frame.loc[5, "stars"] = None
    file = project.root / f"data.{suffix}"
    if suffix == "csv":
        frame.astype({"stars": "Int64"}).to_csv(file, index=False)
    else:
        frame.to_parquet(file)

    assert is_labelled_text(file)
    found = new_labelled_texts(project, "praise", file)

    assert (found.label, set(found.counts), found.rows) == ("stars", {"1", "2"}, 399)


@pytest.mark.parametrize("number", [60, 75, 90])
def test_a_small_table_becomes_a_workload_that_check_finds_ready(number: int, project: Project) -> None:
    found = new_labelled_texts(project, "praise", write(project, reviews(number)), label="verdict")
    assert explain(project, "praise").notes == []
    assert "search" in Workload.read(found.path).sections  # `gateline tune` has something to try; explain has read it
    assert 4 <= found.split.min_examples <= found.split.counts["test"] // 2
    found.path.write_text(found.path.read_text().replace("\nevaluation:", "\nevaluation:\n  positive: splendid"))
    with pytest.raises(WorkloadError, match=r"evaluation\.positive"):
        explain(project, "praise")


def test_a_gate_on_a_slice_that_no_row_is_in_is_found_before_training(project: Project) -> None:
    found = new_labelled_texts(project, "praise", write(project, reviews()))
    content = yaml.safe_load(found.path.read_text())
    content["evaluation"]["slices"] = ["verdict"]
    for verdict, words in (("good", None), ("goood", "a slice verdict=VALUE of a value in the data")):
        content["gates"]["limits"] = {f"verdict={verdict}/error_rate": {"max": 0.9}}
        found.path.write_text(yaml.safe_dump(content, sort_keys=False))
        if words is None:
            explain(project, "praise")
        else:
            with pytest.raises(WorkloadError, match=words):
                explain(project, "praise")


def test_spaces_around_a_label_are_no_part_of_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = reviews()[["review", "verdict"]]
    frame.loc[::3, "verdict"] += " "
    frame.loc[5, "verdict"] = " "
    found = new_labelled_texts(project, "praise", write(project, frame))
    assert sorted(found.counts) == ["bad", "good"]
    assert found.rows == 399
    monkeypatch.chdir(project.root)
    raw = ingest(Workload.read(found.path).section("source", Source), project.root / "raw")
    assert set(read_table(raw.path / "table.parquet")["verdict"]) == {"good", "bad"}


def test_a_language_without_spaces_is_read_by_characters(project: Project) -> None:
    good, bad = "这部电影非常好看我很喜欢", "剧情无聊演员糟糕浪费时间"
    frame = pd.DataFrame(
        {
            "text": [f"{good if n % 2 else bad}{n}号" for n in range(100)],
            "label": ["好" if n % 2 else "坏" for n in range(100)],
        }
    )
    assert new_labelled_texts(project, "films", write(project, frame)).tokens == "character"


def test_times_in_any_form_with_numbers_beside_them_are_series(project: Project) -> None:
    days = pd.date_range("2024-01-01", periods=300, freq="h").strftime("%d/%m/%Y %H:%M")
    frame = pd.DataFrame({"when": days, "load": range(300), "note": ["all is well", "something broke"] * 150})
    assert not is_labelled_text(write(project, frame))


def test_a_column_called_line_keeps_its_name(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = reviews()[["review", "verdict"]].rename(columns={"review": "line"})
    found = new_labelled_texts(project, "lines", write(project, frame))
    monkeypatch.chdir(project.root)
    raw = ingest(Workload.read(found.path).section("source", Source), project.root / "raw")
    assert list(read_table(raw.path / "table.parquet").columns) == ["row_number", "line", "verdict"]


def test_a_table_of_series_is_none(project: Project) -> None:
    hours = pd.date_range("2024-01-01", periods=200, freq="h")
    assert not is_labelled_text(write(project, pd.DataFrame({"time": hours, "load": range(200)})))


@pytest.mark.parametrize(
    ("frame", "options", "words"),
    [
        (reviews, {"text": "revew"}, "Did you mean .review"),
        (lambda: reviews(20), {"label": "verdict"}, "60 texts"),
        (lambda: reviews().assign(verdict=lambda f: f.index.astype(str)), {"label": "verdict"}, "2 to 50 classes"),
        (lambda: reviews()[["number", "verdict"]], {}, "a column of texts"),
    ],
)
def test_what_cannot_be_one_is_refused_and_nothing_is_written(
    frame: object, options: dict[str, Any], words: str, project: Project
) -> None:
    file = write(project, frame())  # type: ignore[operator]
    with pytest.raises(DataError, match=words):
        new_labelled_texts(project, "praise", file, **options)
    assert list((project.root / "workloads").iterdir()) == []


def test_a_name_that_is_taken_is_refused(project: Project) -> None:
    file = write(project, reviews())
    new_labelled_texts(project, "praise", file, text="review", label="verdict")
    with pytest.raises(WorkloadError, match="--force"):
        new_labelled_texts(project, "praise", file)


@pytest.mark.parametrize("name", ["flags", "probability_good", "gateline_version"])
def test_a_label_that_is_called_as_answers_call_a_column_is_renamed(
    project: Project, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = reviews().drop(columns="critic").rename(columns={"verdict": name})
    found = new_labelled_texts(project, "praise", write(project, table), label=name)
    workload = Workload.read(found.path)
    task = task_named(workload.task)
    schema, preprocess = workload.section("schema", Schema), workload.section("preprocess", task.Preprocess)
    task.check(schema, preprocess, workload.section("evaluation", task.Evaluation), workload.section("gates", Gates))
    monkeypatch.chdir(project.root)
    raw = ingest(workload.section("source", Source), project.root / "raw")
    assert read_table(raw.path / "table.parquet")[f"label_{name}"].tolist() == table[name].tolist()
    assert dict(in_words(found))["label"].startswith(f"{name} (called label_{name}): ")


def test_texts_of_one_class_are_texts(project: Project) -> None:
    """A time column was missed in them first."""
    file = write(project, reviews()[["review"]].assign(verdict="good"))
    assert not is_labelled_text(file)  # nothing says that the other column is one of classes
    file = write(project, reviews()[["review"]].assign(label="good"))
    assert is_labelled_text(file)
    with pytest.raises(DataError, match=r"column label: expected 2 to 50 classes; found 1: good\. Name another column"):
        new_labelled_texts(project, "praise", file)
