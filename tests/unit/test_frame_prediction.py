"""Frame prediction from a table of small pictures to an answered request."""

from __future__ import annotations

import base64
import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gateline.data.clips import DigitClips
from gateline.data.moving_digits import MovingDigits
from gateline.data.pictures import encode_png, read_pictures
from gateline.data.prepared_clips import open_dataset
from gateline.errors import DataError, Preempted, WorkloadError
from gateline.evaluation import evaluate
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.model_folder import WEIGHTS
from gateline.predictors import frame_prediction
from gateline.predictors.frame_prediction import FrameForecaster
from gateline.scoring.frame_prediction import score
from gateline.tasks.frame_prediction import TASK
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.schema import Schema

WORKLOAD: dict[str, Any] = {
    "name": "small",
    "task": "frame_prediction",
    "description": "Two squares that move.",
    "schema": {
        "keys": ["number"],
        "columns": {
            "number": {"type": "integer"},
            "height": {"type": "integer"},
            "width": {"type": "integer"},
            "image": {"type": "bytes"},
        },
    },
    "preprocess": {
        "past": 3,
        "future": 2,
        "clips": {
            "kind": "moving_digits",
            "size": 12,
            "seed": 4,
            "train": {"pictures": [0, 6], "clips": 24},
            "validation": {"pictures": [6, 8], "clips": 7},
            "test": {"pictures": [8, 10], "clips": 9},
        },
    },
    "model": {"hidden_size": 4, "patch": 2, "scheduled_sampling": {"begin": 1, "end": 0.2, "until": 0.9}},
    "training": {"loss": "binary_cross_entropy", "batch_size": 5, "epochs": 3, "learning_rate": 0.02},
    "evaluation": {"shown_clips": 2},
    "gates": {"metric": "squared_error", "min_examples": 2, "baselines": {"black_frame": {"margin": 0.0}}},
}


def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 256, (10, 5, 4)).astype(np.uint8)


def table() -> pd.DataFrame:
    rows = [{"number": n, "height": 5, "width": 4, "image": picture.tobytes()} for n, picture in enumerate(pictures())]
    return pd.DataFrame(rows)


def workload(**changed: Any) -> Workload:
    content = copy.deepcopy(WORKLOAD)
    for key, value in changed.items():
        section, name = key.split("__")
        content[section][name] = value
    header = ("name", "task", "description")
    sections = {key: value for key, value in content.items() if key not in header}
    return Workload(content["name"], content["task"], content["description"], "small.yaml", sections)


def prepared_in(folder: Path, read: Workload | None = None) -> Artifact:
    read = read or workload()
    with write_artifact(folder / "raw", "raw") as draft:
        draft.write_json("nothing.json", {})
    with write_artifact(folder / "prepared", "prepared", {"raw": open_artifact(folder / "raw", "raw")}) as draft:
        TASK.prepare(table(), read.section("schema", Schema), read.section("preprocess", TASK.Preprocess), draft)
    return open_artifact(folder / "prepared", "prepared")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact, FrameForecaster]:
    folder = tmp_path_factory.mktemp("small")
    prepared = prepared_in(folder)
    model = train(workload(), prepared, folder / "model", RunSettings(seed=3))
    return prepared, model, TASK.load_predictor(model.path)


Made = tuple[Artifact, Artifact, FrameForecaster]


def test_the_parts_are_clips_of_their_own_pictures(made: Made) -> None:
    prepared, _, _ = made
    settings = DigitClips.model_validate(WORKLOAD["preprocess"]["clips"])
    digits = MovingDigits(
        pictures(), {"test": settings.test.pictures}, seed=4, num_frames=5, size=12, num_digits=2, step=0.1
    )
    batch = open_dataset(prepared, "test").__getitems__(np.array([8, 2]))
    frames = torch.cat([batch.past, batch.future], dim=1)[:, :, 0] * 255

    assert prepared.facts["examples"] == {"train": 24, "validation": 7, "test": 9}
    assert np.array_equal(frames.numpy().round().astype(np.uint8), digits.clips("test", np.array([8, 2])))


def test_other_test_pictures_change_neither_training_clips_nor_weights(tmp_path: Path, made: Made) -> None:
    """Pictures of the test part are taken away from everything that training sees."""
    prepared, model, _ = made
    changed = table()
    changed.loc[changed["number"] >= 8, "image"] = bytes(20)
    with write_artifact(tmp_path / "prepared", "prepared", {}) as draft:
        read = workload()
        TASK.prepare(changed, read.section("schema", Schema), read.section("preprocess", TASK.Preprocess), draft)
    other = open_artifact(tmp_path / "prepared", "prepared")
    again = train(workload(), other, tmp_path / "model", RunSettings(seed=3))

    assert other.digest != prepared.digest
    assert (again.path / WEIGHTS).read_bytes() == (model.path / WEIGHTS).read_bytes()


def test_a_stopped_run_goes_on_to_the_same_bytes_while_the_truth_is_withdrawn(tmp_path: Path, made: Made) -> None:
    prepared, model, _ = made
    asked = iter([False] * 7)
    with pytest.raises(Preempted):
        train(workload(), prepared, tmp_path / "model", RunSettings(seed=3), stop=lambda: next(asked, True))
    again = train(workload(), prepared, tmp_path / "model", RunSettings(seed=3))

    assert (again.path / WEIGHTS).read_bytes() == (model.path / WEIGHTS).read_bytes()


def test_a_batch_in_parts_is_the_same_step(tmp_path: Path, made: Made) -> None:
    prepared, model, _ = made
    parts = train(workload(training__accumulate=3), prepared, tmp_path / "model", RunSettings(seed=3))
    wanted, found = (torch.load(each.path / WEIGHTS, weights_only=True) for each in (model, parts))

    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)


def test_served_pictures_are_those_that_were_scored(made: Made) -> None:
    prepared, model, forecaster = made
    scores = score(TASK, TASK.Evaluation(), prepared, model)
    batch = open_dataset(prepared, "test").__getitems__(np.arange(9))
    request = pd.DataFrame(
        {
            "clip": np.repeat([f"c{row}" for row in range(9)], 3),
            "frame": np.tile([5, 6, 7], 9),
            "image": [encode_png(p) for clip in (batch.past * 255).round().byte().numpy() for p in clip],
        }
    ).sample(frac=1, random_state=1)
    answer = forecaster.predict(request).sort_values(["clip", "frame"])
    contents = [base64.b64decode(text) for text in answer["image"]]
    served = read_pictures(contents, height=12, width=12).astype(float).reshape(9, 2, -1) / 255
    truth = batch.future.numpy().reshape(9, 2, -1)

    assert answer["frame"].tolist() == [8, 9] * 9
    by_hand = np.square(served - truth).sum(axis=2)
    scored = scores.predictions.pivot(index="clip", columns="step", values="squared_error").to_numpy()
    np.testing.assert_allclose(scored, by_hand, rtol=1e-6)
    kept = scores.predictions[["image", "target"]].map(lambda png: read_pictures([png], height=12, width=12)[0])
    assert np.array_equal(np.stack(kept["target"].to_list()).reshape(9, 2, -1), (truth * 255).round())
    assert np.array_equal(np.stack(kept["image"].to_list()).reshape(9, 2, -1), (served * 255).round())
    assert scores.metrics["squared_error"] == pytest.approx(scored.mean())
    errors = forecaster.test_errors(prepared, "squared_error", ["motion=fast"])
    assert errors.score() == pytest.approx(scores.metrics["squared_error"], rel=1e-6)
    assert errors.slices == {"motion=fast": pytest.approx(scores.slices["motion=fast"]["squared_error"], rel=1e-6)}


def test_baselines_are_scored_on_the_same_clips(made: Made) -> None:
    prepared, model, _ = made
    scores = score(TASK, TASK.Evaluation(), prepared, model)
    batch = open_dataset(prepared, "test").__getitems__(np.arange(9))
    last = np.repeat(batch.past.numpy()[:, -1:], 2, axis=1)

    truth = batch.future.numpy().astype(float)
    assert scores.baselines["black_frame"]["squared_error"] == pytest.approx(np.square(truth).sum() / 18)
    assert scores.baselines["copy_last"]["squared_error"] == pytest.approx(np.square(truth - last).sum() / 18)
    low, high = scores.intervals["squared_error"]
    assert low < scores.metrics["squared_error"] < high
    assert scores.worst["squared_error"].is_monotonic_decreasing


def test_a_request_may_ask_for_more_frames(made: Made) -> None:
    prepared, _, forecaster = made
    request = forecaster.example(pd.read_parquet(prepared.path / "table.parquet"))

    assert list(request.columns) == ["clip", "frame", "image"]
    answer = forecaster.predict(request, frames=5)
    assert answer.groupby("clip")["frame"].apply(list).tolist() == [[4, 5, 6, 7, 8]] * 2
    assert forecaster.predict(request)["image"].tolist() == answer[answer["frame"] < 6]["image"].tolist()


def test_a_request_may_not_ask_for_more_frames_of_all_clips_than_memory_holds(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, _, forecaster = made
    request = forecaster.example(pd.read_parquet(prepared.path / "table.parquet"))
    monkeypatch.setattr(frame_prediction, "MOST_BYTES", 10 * math.prod(forecaster.shape))

    assert len(forecaster.predict(request, frames=5)) == 10
    with pytest.raises(DataError, match=r"request: expected at most 10 frames .*; found 6 of each of 2 clips"):
        forecaster.predict(request, frames=6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.drop(columns="image"), "no image"),
        (lambda r: r.iloc[1:], "at least 3 frames"),
        (lambda r: r.assign(frame=[1, 2, 4, 1, 2, 3]), "a gap"),
        (lambda r: r.assign(frame=[1, 2, 2, 1, 2, 3]), "a frame twice"),
        (lambda r: r.assign(clip=[None, *r["clip"][1:]]), "column clip"),
        (lambda r: r.assign(image=[*r["image"][:-1], None]), "none in row 5"),
        (
            lambda r: r.assign(image=[encode_png(np.zeros((1, 3, 3), np.uint8)), *r["image"][1:]]),
            "12 rows and 12 columns",
        ),
        (lambda r: r.assign(image=[b"no picture", *r["image"][1:]]), "row 0: expected a film that FFmpeg can read"),
    ],
)
def test_bad_rows_are_named(made: Made, change: Any, said: str) -> None:
    prepared, _, forecaster = made
    request = forecaster.example(pd.read_parquet(prepared.path / "table.parquet"))
    with pytest.raises(DataError, match=said):
        forecaster.answer(change(request))


def test_models_of_other_frames_are_not_compared(made: Made, tmp_path: Path) -> None:
    _, _, forecaster = made
    other = prepared_in(tmp_path, workload(preprocess__future=3))
    with pytest.raises(DataError, match="3 frames before 2"):
        forecaster.test_errors(other, "squared_error")


def test_the_report_shows_clips_and_curves(made: Made, tmp_path: Path) -> None:
    prepared, model, _ = made
    evaluation = evaluate(workload(), prepared, model, tmp_path / "evaluation")

    assert {path.stem for path in (evaluation.path / "plots").iterdir()} == {
        "clips",
        "worst_clips",
        "error_by_step",
        "training",
    }
    assert "motion=slow" in (evaluation.path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"training__loss": "ctc"}, "training.loss"),
        ({"training__batch_tokens": 100}, "training.batch_tokens"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changed: dict[str, Any], said: str, made: Made, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=said):
        train(workload(**changed), made[0], tmp_path / "model", RunSettings(seed=3))


def test_a_patch_that_does_not_divide_the_frame_is_refused() -> None:
    read = workload(model__patch=5)
    with pytest.raises(WorkloadError, match=r"model\.patch"):
        TASK.check_network(read.section("model", TASK.Model), read.section("preprocess", TASK.Preprocess))


def test_too_few_pictures_are_refused() -> None:
    read = workload()
    clips = read.section("preprocess", TASK.Preprocess)
    with pytest.raises(DataError, match="10 pictures of one size; found 9"):
        TASK.prepare(table().iloc[:9], read.section("schema", Schema), clips, None)  # type: ignore[arg-type]
