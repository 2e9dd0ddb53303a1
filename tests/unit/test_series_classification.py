"""Classification of series on a made-up ward: from the rows of a patient to one answer, and back from what is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from gateline.data.examples import open_examples
from gateline.data.prepared_windows import open_store
from gateline.errors import DataError, WorkloadError
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.scoring import classification as scoring
from gateline.scoring.series_classification import prefixes
from gateline.table import TABLE, read_table
from gateline.tasks.classification import TASK, ClassificationEvaluation, ClassificationPreprocess
from gateline.training.run import RunSettings, train
from gateline.workload import Workload
from gateline.workload.schema import Schema
from tests.wards import WARD_SCHEMA, ward_table

PREPROCESS: dict[str, Any] = {
    "inputs": {"kind": "series", "columns": ["pulse", "lactate"], "static": ["age", "unit"], "step": "1h"},
    "label": "died",
    "split": {"rule": "folds", "folds": 3, "validation": 0.3},
}
SECTIONS: dict[str, Any] = {
    "model": {"cell": "gru", "hidden_size": 8, "pooling": "attention", "calibrate": True},
    "training": {"loss": "cross_entropy", "epochs": 4, "learning_rate": 0.02, "batch_size": 8},
}
EVALUATION = ClassificationEvaluation(
    baselines=("majority", "logistic_regression", "gradient_boosting"), slices=("unit",), shown=("pulse",)
)


def prepared_of(table: pd.DataFrame, folder: Path, **changes: Any) -> Artifact:
    settings = ClassificationPreprocess.model_validate(PREPROCESS | changes)
    with write_artifact(folder, "prepared") as draft:
        TASK.prepare(table, Schema.model_validate(WARD_SCHEMA), settings, draft)
    return open_artifact(folder, "prepared")


@pytest.fixture(scope="module")
def ward() -> pd.DataFrame:
    generator = np.random.default_rng(6)
    table = ward_table(generator, patients=120)
    against_the_odds = generator.choice(table["patient"].unique(), 20, replace=False)
    return table.assign(died=table["died"].where(~table["patient"].isin(against_the_odds), 1 - table["died"]))


@pytest.fixture(scope="module")
def artifacts(ward: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    folder = tmp_path_factory.mktemp("ward")
    prepared = prepared_of(ward, folder / "prepared")
    model = train(Workload("ward", "classification", "", "test", SECTIONS), prepared, folder / "model", RunSettings(1))
    return prepared, model


def test_what_is_served_is_what_was_evaluated(
    ward: pd.DataFrame, artifacts: tuple[Artifact, Artifact], tmp_path: Path
) -> None:
    prepared, model = artifacts
    scores = scoring.score(TASK, EVALUATION, prepared, model)
    predictor: Any = TASK.load_predictor(model.path)
    tested = ward["patient"].unique()[open_examples(prepared, "test")]
    asked = ward[ward["patient"].isin(tested)].sample(frac=1, random_state=2)

    answer = predictor.predict(asked.drop(columns="died"))

    merged = scores.predictions.merge(answer, on="patient", suffixes=("", "_served"), validate="one_to_one")
    assert len(merged) == len(scores.predictions) == len(tested)
    np.testing.assert_allclose(merged["probability_1"], merged["probability_1_served"], rtol=1e-5)
    assert list(answer.columns) == [name for name, _ in predictor.output_columns]
    died = merged["patient"].map(ward.groupby("patient")["died"].first())
    assert scores.metrics["auroc"] == pytest.approx(roc_auc_score(died, merged["probability_1"]))
    assert scores.metrics["log_loss"] == pytest.approx(log_loss(died, merged["probability_1"]), rel=1e-5)
    low, high = scores.intervals["auroc"]
    assert low <= scores.metrics["auroc"] <= high
    assert set(scores.baselines) == {"majority", "logistic_regression", "gradient_boosting"}
    assert set(scores.slices) == {"unit=medical", "unit=surgical"}
    (tmp_path / "plots").mkdir()
    figures = scoring.figures(scores, prepared, model, tmp_path / "plots")
    assert [figure.name for figure in figures] == [
        "ranking",
        "calibration",
        "courses",
        "cell_gates",
        "confusion",
        "training",
    ]


def test_errors_for_the_gate_add_up_to_the_metric(artifacts: tuple[Artifact, Artifact]) -> None:
    prepared, model = artifacts
    scores = scoring.score(TASK, EVALUATION, prepared, model)

    errors = TASK.load_predictor(model.path).test_errors(prepared, "log_loss", list(scores.slices))

    assert errors.score() == pytest.approx(scores.metrics["log_loss"], rel=1e-6)
    for name, value in errors.slices.items():
        assert value == pytest.approx(scores.slices[name]["log_loss"], rel=1e-6)
    by_metric = {each.metric: each for each in scores.errors}
    for name, theirs in scores.baseline_errors.items():
        for each in theirs:
            assert each.score() == pytest.approx(scores.baselines[name][each.metric], rel=1e-9), name
            assert each.rows == by_metric[each.metric].rows == errors.rows


def test_a_series_that_ends_early_is_judged_as_its_beginning(
    ward: pd.DataFrame, artifacts: tuple[Artifact, Artifact]
) -> None:
    prepared, model = artifacts
    predictor: Any = TASK.load_predictor(model.path)
    patient = ward["patient"].iloc[0]
    rows = ward[ward["patient"] == patient]
    hours = (rows["time"] - rows["time"].min()).dt.total_seconds() / 3600

    over_time = prefixes(predictor, open_store(prepared), 0)

    for step in range(1, len(over_time) + 1):
        early = rows[hours <= step]
        if (hours[early.index] > step - 1).any():  # else the request ends with an earlier step
            answer = predictor.predict(early)
            np.testing.assert_allclose(answer["probability_1"], over_time[step - 1, 1], rtol=1e-4)


def test_an_unusual_series_is_flagged(ward: pd.DataFrame, artifacts: tuple[Artifact, Artifact]) -> None:
    predictor: Any = TASK.load_predictor(artifacts[1].path)
    patients = ward["patient"].unique()[:2]
    asked = ward[ward["patient"].isin(patients)].drop(columns="died")
    asked.loc[asked["patient"] == patients[1], ["pulse", "lactate"]] = np.nan

    assert predictor.answer(asked)["flags"].tolist() == ["", "no value of pulse, lactate"]
    asked.loc[asked.index[-1], "time"] += pd.Timedelta(days=40_000)
    with pytest.raises(DataError, match=rf"series {patients[1]}: expected at most .* steps"):
        predictor.predict(asked)


def test_the_temperature_is_kept_with_the_model(artifacts: tuple[Artifact, Artifact]) -> None:
    prepared, model = artifacts
    predictor: Any = TASK.load_predictor(model.path)
    store, series = open_store(prepared), open_examples(prepared, "validation")
    labels = store.statics["label"][series]

    def loss() -> float:
        prob = predictor.probabilities(store, series)
        return float(-np.log(prob[np.arange(len(labels)), labels]).mean())

    fitted, temperature = loss(), predictor.temperature
    assert temperature == model.read_json("calibration.json")["temperature"]
    for factor in (0.8, 1.25):
        predictor.temperature = temperature * factor
        assert loss() >= fitted


def test_a_series_with_two_classes_is_refused(ward: pd.DataFrame, tmp_path: Path) -> None:
    table = ward.copy()
    table["died"] = table["died"].where(table.index != 0, 1 - table["died"])

    with pytest.raises(DataError, match="one class for all rows"):
        prepared_of(table, tmp_path / "prepared")


def test_baselines_of_texts_are_refused(ward: pd.DataFrame) -> None:
    settings = ClassificationPreprocess.model_validate(PREPROCESS)

    with pytest.raises(WorkloadError, match="naive_bayes"):
        TASK.check(
            Schema.model_validate(WARD_SCHEMA), settings, ClassificationEvaluation(baselines=("naive_bayes",)), None
        )


def test_the_label_is_no_input(ward: pd.DataFrame) -> None:
    inputs = PREPROCESS["inputs"] | {"columns": ["pulse", "died"]}
    settings = ClassificationPreprocess.model_validate(PREPROCESS | {"inputs": inputs})

    with pytest.raises(WorkloadError, match="give the class away"):
        TASK.check(Schema.model_validate(WARD_SCHEMA), settings, None, None)


def test_nothing_of_later_parts_reaches_what_is_fitted(
    ward: pd.DataFrame, artifacts: tuple[Artifact, Artifact], tmp_path: Path
) -> None:
    prepared, _ = artifacts
    patients = ward["patient"].unique()
    others = np.concatenate([open_examples(prepared, part) for part in ("validation", "test")])
    planted = ward.copy()
    planted.loc[planted["patient"].isin(patients[others]), ["pulse", "lactate"]] = [249.0, 1e6]

    again = prepared_of(planted, tmp_path / "prepared")

    assert again.read_json("state.json") == prepared.read_json("state.json")
    assert not np.array_equal(open_store(again).arrays["values"], open_store(prepared).arrays["values"])
    assert read_table(again.path / TABLE)["patient"].nunique() == len(patients)


def test_balanced_training_weighs_the_rare_class_and_keeps_its_probabilities(
    artifacts: tuple[Artifact, Artifact],
) -> None:
    prepared, _ = artifacts
    dataset = TASK.dataset(prepared, "train")
    network = TASK.build(TASK.Model(hidden_size=4, balance=1.0), TASK.shapes(prepared))
    TASK.start(network, dataset)
    batch = dataset.__getitems__(np.arange(len(dataset)))
    counts = np.bincount(batch.target.numpy(), minlength=2)

    weight = network.class_weight

    assert weight is not None
    by_class = weight.numpy() * counts
    assert by_class[0] == pytest.approx(by_class[1], rel=1e-5)
    assert by_class.sum() == pytest.approx(len(dataset), rel=1e-5)
    # Where nothing is told apart, balanced training says one half; in use, that is the frequency of each class.
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    total, count, _ = TASK.loss(network, batch, "cross_entropy", None)
    assert float(total.detach() / count) == pytest.approx(np.log(2), rel=1e-5)
    said = network.eval()(batch.values, batch.lengths).softmax(dim=1)[0].detach().numpy()
    np.testing.assert_allclose(said, counts / counts.sum(), rtol=1e-5)
    assert network.class_weight is None
    assert TASK.build(TASK.Model(hidden_size=4), TASK.shapes(prepared)).class_weight is None


def test_series_that_the_split_keeps_together_are_resampled_together(ward: pd.DataFrame, tmp_path: Path) -> None:
    """Five stays of each person, who is known by age: six persons in the test part tell no interval, thirty stays would."""
    person = ward["patient"].astype("category").cat.codes // 5
    table = ward.assign(age=20.0 + person)
    split = {"rule": "folds", "by": ["age"], "folds": 4, "validation": 0.3, "salt": "14"}
    prepared = prepared_of(table, tmp_path / "prepared", split=split)
    model = train(
        Workload("ward", "classification", "", "test", SECTIONS), prepared, tmp_path / "model", RunSettings(1)
    )
    scores = scoring.score(TASK, ClassificationEvaluation(baselines=("majority",)), prepared, model)
    ages = table.drop_duplicates("patient")["age"].to_numpy()[open_examples(prepared, "test")]

    errors = TASK.load_predictor(model.path).test_errors(prepared, "log_loss")

    assert (len(ages), len(set(ages))) == (30, 6)
    for each in (errors, *scores.errors, *(each for of in scores.baseline_errors.values() for each in of)):
        assert each.position.tolist() == pd.factorize(ages)[0].tolist()
    assert scores.all_intervals() == {}
    (tmp_path / "plots").mkdir()
    assert scoring.figures(scores, prepared, model, tmp_path / "plots")


@pytest.mark.parametrize("key", ["target", "answer", "probability_1", "baseline_majority"])
def test_a_key_that_is_called_as_the_evaluation_calls_a_column_is_refused(key: str) -> None:
    columns = {key if name == "patient" else name: column for name, column in WARD_SCHEMA["columns"].items()}
    schema = Schema.model_validate(WARD_SCHEMA | {"keys": [key], "columns": columns})
    with pytest.raises(WorkloadError, match=rf"schema\.keys: .*found {key}\. Rename it"):
        TASK.check(schema, ClassificationPreprocess.model_validate(PREPROCESS), None, None)
