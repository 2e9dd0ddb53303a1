"""Labelling the frames of films, from raw files to key frames in the report."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.adapters.raw_formats import read_raw
from gateline.data.frame_features import frame_features
from gateline.data.irregular_steps import lay_out
from gateline.data.marked_clips import marked_clips
from gateline.data.pictures import read_film
from gateline.errors import DataError, WorkloadError
from gateline.evaluation import evaluate
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.predictors.labelling import SequenceLabeller
from gateline.table import TABLE, read_table
from gateline.tasks.labelling import TASK
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.schema import Schema
from gateline.workload.source import File
from tests.unit.test_films import film_of
from tests.unit.test_marked_clips import rings

WORKLOAD: dict[str, Any] = {
    "name": "films",
    "task": "labelling",
    "description": "Which frames are worth showing.",
    "schema": {
        "time": {"column": "time"},
        "keys": ["clip"],
        "columns": {
            "clip": {"type": "text"},
            "pool": {"type": "text"},
            "frame": {"type": "integer"},
            "time": {"type": "time"},
            "image": {"type": "bytes"},
            "event": {"type": "text", "missing_share": 1.0},
            "marked": {"type": "integer", "missing_share": 0.5},
        },
    },
    "preprocess": {
        "inputs": {"kind": "frames"},
        "label": {"column": "marked"},
        "split": {"rule": "folds", "by": ["pool"], "folds": 2, "validation": 0.5, "salt": "x"},
    },
    "model": {"hidden_size": 6, "bidirectional": True},
    "training": {"loss": "binary_cross_entropy", "batch_size": 4, "epochs": 2, "learning_rate": 0.01},
    "evaluation": {"baselines": ["uniform", "motion_energy"], "slices": ["pool"]},
    "gates": {"metric": "log_loss", "min_examples": 2, "baselines": {"uniform": {}}},
}


def workload() -> Workload:
    content = copy.deepcopy(WORKLOAD)
    sections = {key: value for key, value in content.items() if key not in ("name", "task", "description")}
    return Workload(content["name"], content["task"], content["description"], "films.yaml", sections)


def a_file(name: str, kind: str, **options: Any) -> File:
    return File.model_validate({"name": name, "path": name, "sha256": "0" * 64, "format": kind, "options": options})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Sixteen made clips, and a film without marks in each of the two pools of one fold."""
    folder = tmp_path_factory.mktemp("raw")
    pictures = rings()
    (folder / "digits").write_bytes(struct.pack(">HBB3I", 0, 8, 3, *pictures.shape) + pictures.tobytes())
    made = read_raw(folder / "digits", a_file("digits", "marked_clips", clips=16, frames=36, size=24, pools=8))
    levels = np.kron([20, 200, 20], np.ones(8)).astype(np.uint8)
    film = np.repeat(levels, 48 * 32 * 3).reshape(24, 48, 32, 3)
    film[:, :20, :12] += 40
    (folder / "film").write_bytes(film_of(film))
    real = read_raw(folder / "film", a_file("film", "video_frames", height=24, width=16)).to_pandas()
    rows = [made.to_pandas()] + [real.assign(clip=f"film {pool}", pool=pool) for pool in "01234567"]
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame) -> tuple[Artifact, Artifact, SequenceLabeller]:
    folder, read = tmp_path_factory.mktemp("films"), workload()
    with write_artifact(folder / "raw", "raw") as draft:
        draft.write_json("nothing.json", {})
    with write_artifact(folder / "prepared", "prepared", {"raw": open_artifact(folder / "raw", "raw")}) as draft:
        TASK.prepare(table, read.section("schema", Schema), read.section("preprocess", TASK.Preprocess), draft)
    prepared = open_artifact(folder / "prepared", "prepared")
    model = train(read, prepared, folder / "model", RunSettings(seed=1))
    return prepared, model, TASK.load_predictor(model.path)


Made = tuple[Artifact, Artifact, SequenceLabeller]


def test_made_clips_are_written_frame_by_frame(table: pd.DataFrame) -> None:
    rows = table[table["clip"] == "made_0003"]
    clip = list(marked_clips(rings(), num_clips=4, num_frames=36, size=24, num_pools=8))[3]

    assert np.array_equal(read_film(rows["image"].tolist())[:, 0], clip.frames)
    assert rows["marked"].tolist() == clip.marked.tolist()
    assert [None if pd.isna(kind) else kind for kind in rows["event"]] == clip.happened
    assert rows["frame"].tolist() == list(range(36))
    assert rows["pool"].unique().tolist() == ["3"]


def test_a_film_is_a_row_for_each_frame(table: pd.DataFrame) -> None:
    rows = table[table["clip"] == "film 0"]

    assert len(rows) == 24
    assert rows["time"].diff().dropna().dt.total_seconds().unique().tolist() == [1.0]
    assert read_film(rows["image"].tolist()).shape == (24, 1, 24, 16)
    assert rows["marked"].isna().all()


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("video_frames", {"height": 24}, "width"),
        ("marked_clips", {"clips": 2, "size": 9}, "at most 9 rows"),
        ("marked_clips", {"clips": 2, "frame": 40}, "frames"),
    ],
)
def test_options_that_do_not_fit_are_refused(kind: str, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    pictures = rings()
    (tmp_path / "it").write_bytes(struct.pack(">HBB3I", 0, 8, 3, *pictures.shape) + pictures.tobytes())
    with pytest.raises((DataError, WorkloadError), match=said):
        read_raw(tmp_path / "it", a_file("it", kind, **options))


def test_options_of_a_format_that_has_none_are_refused() -> None:
    with pytest.raises(ValueError, match="video_frames and marked_clips"):
        a_file("it", "csv", clips=3)


def test_features_are_those_of_the_frames_in_order_whatever_the_order_of_rows(table: pd.DataFrame) -> None:
    read = workload()
    schema, inputs = read.section("schema", Schema), read.section("preprocess", TASK.Preprocess).inputs
    shuffled = table.sample(frac=1, random_state=3)
    layout: Any = inputs.lay_out(shuffled, schema)
    first = layout.keys["clip"][0]
    frames = read_film(table[table["clip"] == first]["image"].tolist())[:, 0]

    assert np.array_equal(layout.features[: len(frames)], frame_features(frames))


def test_scales_come_from_the_training_part_alone(made: Made, table: pd.DataFrame) -> None:
    prepared, _, labeller = made
    schema = workload().section("schema", Schema)
    layout = labeller.fitted.inputs.lay_out(table, schema)
    trains = np.load(prepared.path / "examples" / "train.npy")
    read = layout.features[np.isin(layout.series, trains)].astype(float)  # type: ignore[attr-defined]

    np.testing.assert_allclose(labeller.fitted.encoding.mean, read.mean(axis=0))  # type: ignore[attr-defined]


def test_served_frames_are_labelled_as_they_were_scored(made: Made, tmp_path: Path) -> None:
    prepared, model, labeller = made
    evaluation = evaluate(workload(), prepared, model, tmp_path / "evaluation")
    scored = pd.read_parquet(evaluation.path / "predictions.parquet").set_index(["clip", "time"])["prob"]
    request = read_table(prepared.path / TABLE)[["clip", "time", "image"]].sample(frac=1, random_state=2)
    answer = labeller.predict(request)

    assert {name for name, _, needed in labeller.input_columns if needed} == {"clip", "time", "image"}
    served = answer.set_index(["clip", "time"])[labeller.output_columns[-1][0]]
    np.testing.assert_allclose(served.sort_index(), scored.sort_index(), atol=1e-6)
    assert {path.stem for path in (evaluation.path / "plots").iterdir()} >= {"key_frames", "by_step", "training"}
    metrics = evaluation.read_json("metrics.json")
    assert set(metrics["baselines"]) == {"uniform", "motion_energy"}
    assert 0 <= metrics["baselines"]["motion_energy"]["f_score"] <= 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.assign(image=[None, *r["image"][1:]]), "none in row 0"),
        (lambda r: r.assign(image=[*r["image"][:-1], b"no picture"]), "FFmpeg can read"),
        (lambda r: r.drop(columns="image"), "no image"),
        (lambda r: pd.concat([r, r.iloc[:1]]), "twice"),
    ],
)
def test_bad_rows_are_named(made: Made, change: Callable[[pd.DataFrame], pd.DataFrame], said: str) -> None:
    prepared, _, labeller = made
    request = labeller.example(read_table(prepared.path / TABLE))
    with pytest.raises(DataError, match=said):
        labeller.predict(change(request))


def test_a_column_that_holds_no_pictures_is_refused() -> None:
    read = workload()
    preprocess = read.section("preprocess", TASK.Preprocess)
    wrong = preprocess.model_copy(update={"inputs": preprocess.inputs.model_copy(update={"column": "frame"})})
    with pytest.raises(WorkloadError, match="a column of type bytes"):
        TASK.check(read.section("schema", Schema), wrong, None, None)


def test_rows_laid_out_have_the_order_of_the_pictures_in_the_report(table: pd.DataFrame) -> None:
    schema = workload().section("schema", Schema)
    shuffled = table.sample(frac=1, random_state=5)
    ordered = shuffled.iloc[lay_out(shuffled, schema, columns=()).order]

    assert all(group["frame"].is_monotonic_increasing for _, group in ordered.groupby("clip"))
