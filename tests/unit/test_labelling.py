"""The task labelling on a made-up ward: from rows to probabilities of every hour, and back from what is served to what was measured."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import brier_score_loss, f1_score, log_loss, precision_score, recall_score, roc_auc_score

from gateline.adapters.served_model import as_text
from gateline.baselines.sequence_aggregates import aggregates_so_far, neighbours
from gateline.data.examples import open_examples
from gateline.data.irregular_encoding import OBSERVED
from gateline.data.store import VALUES, SequenceStore
from gateline.errors import DataError, TrainingError, WorkloadError
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.predictors.labelling import step_errors
from gateline.scoring import labelling as scoring
from gateline.table import TABLE, read_table
from gateline.tasks.labelling import TASK, LabellingEvaluation, LabellingPreprocess
from gateline.training.learning_rate_finder import find_learning_rate, losses_at
from gateline.training.loop import TrainingLoop
from gateline.training.run import RunSettings, train, training_loop
from gateline.workload import Workload
from gateline.workload.schema import Schema
from gateline.workload.training import Training
from tests.wards import WARD_SCHEMA, ward_table

PREPROCESS: dict[str, Any] = {
    "inputs": {"columns": ["pulse", "lactate"], "static": ["age", "unit"], "step": "1h"},
    "label": {"column": "died", "of": "sequence"},
    "split": {"rule": "folds", "folds": 3, "fold": 0, "validation": 0.3},
}
MODEL: dict[str, Any] = {"cell": "gru", "hidden_size": 8, "calibrate": True}
TRAINING: dict[str, Any] = {
    "loss": "binary_cross_entropy",
    "monitor": "log_loss",
    "epochs": 4,
    "learning_rate": 0.02,
    "batch_size": 8,
}


def preprocess(**changes: Any) -> LabellingPreprocess:
    return LabellingPreprocess.model_validate(PREPROCESS | changes)


def prepared_of(table: pd.DataFrame, folder: Path, **changes: Any) -> Artifact:
    with write_artifact(folder, "prepared") as draft:
        TASK.prepare(table, Schema.model_validate(WARD_SCHEMA), preprocess(**changes), draft)
    return open_artifact(folder, "prepared")


def trained(prepared: Artifact, folder: Path, training: dict[str, Any] | None = None, **model: Any) -> Artifact:
    sections = {"model": MODEL | model, "training": TRAINING | (training or {})}
    return train(Workload("ward", "labelling", "", "test", sections), prepared, folder, RunSettings(seed=1))


@pytest.fixture(scope="module")
def ward() -> pd.DataFrame:
    return ward_table(np.random.default_rng(5), patients=120)


@pytest.fixture(scope="module")
def artifacts(ward: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    folder = tmp_path_factory.mktemp("ward")
    prepared = prepared_of(ward, folder / "prepared")
    return prepared, trained(prepared, folder / "model")


def test_no_patient_is_in_two_parts_and_changing_the_test_part_changes_nothing_fitted(
    ward: pd.DataFrame, artifacts: tuple[Artifact, Artifact], tmp_path: Path
) -> None:
    prepared, _ = artifacts
    patients = ward["patient"].unique()
    parts = {part: set(patients[open_examples(prepared, part)]) for part in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == len(patients)

    planted = ward.copy()
    tested = planted["patient"].isin(parts["test"] | parts["validation"])
    planted.loc[tested, ["pulse", "lactate"]] = [249.0, 1e9]
    again = prepared_of(planted, tmp_path / "prepared")

    assert again.read_json("state.json") == prepared.read_json("state.json")
    assert set(read_table(prepared.path / TABLE)["patient"]) == parts["test"]


def test_the_loss_does_not_depend_on_padding_or_on_the_batch(artifacts: tuple[Artifact, Artifact]) -> None:
    prepared, model = artifacts
    dataset = TASK.dataset(prepared, "train")
    network = TASK.load_predictor(model.path).network
    together = dataset.__getitems__(np.arange(len(dataset)))

    with torch.no_grad():
        total, count, _ = TASK.loss(network, together, "binary_cross_entropy", None)
        alone = [
            TASK.loss(network, dataset.__getitems__(np.array([row])), "binary_cross_entropy", None)
            for row in range(len(dataset))
        ]

    assert count == sum(int(each[1]) for each in alone) == together.lengths.sum()
    assert float(total) == pytest.approx(sum(float(each[0]) for each in alone), rel=1e-5)
    assert len(set(together.lengths.tolist())) > 1


def test_what_is_served_is_what_was_evaluated(
    ward: pd.DataFrame, artifacts: tuple[Artifact, Artifact], tmp_path: Path
) -> None:
    prepared, model = artifacts
    scores = scoring.score(TASK, LabellingEvaluation(slices=("unit",)), prepared, model)
    predictor = TASK.load_predictor(model.path)
    table = read_table(prepared.path / TABLE)

    answer = predictor.predict(table.sample(frac=1, random_state=3).drop(columns="died"))

    merged = scores.predictions.merge(answer, on=["patient", "time"], validate="one_to_one")
    assert len(merged) == len(scores.predictions)
    np.testing.assert_allclose(merged["prob"], merged["probability_1"], rtol=1e-5)
    assert list(answer.columns) == [name for name, _ in predictor.output_columns]
    outcome = merged["label"]
    assert scores.metrics["auroc"] == pytest.approx(roc_auc_score(outcome, merged["probability_1"]), rel=1e-6)
    assert scores.metrics["log_loss"] == pytest.approx(log_loss(outcome, merged["probability_1"]), rel=1e-5)
    last = merged.sort_values(["patient", "step"]).groupby("patient").tail(1)
    assert scores.metrics["auroc_last"] == pytest.approx(roc_auc_score(last["label"], last["probability_1"]), rel=1e-6)
    surgical = set(ward.loc[ward["unit"] == "surgical", "patient"])
    rows = merged["patient"].isin(surgical)
    assert scores.slices["unit=surgical"]["log_loss"] == pytest.approx(
        log_loss(outcome[rows], merged["probability_1"][rows]), rel=1e-5
    )

    folder = tmp_path / "plots"
    folder.mkdir()
    figures = scoring.figures(scores, prepared, model, folder)
    assert {figure.name for figure in figures} == {path.stem for path in folder.iterdir()}
    assert {"ranking", "calibration", "by_step", "sequences", "training"} <= {figure.name for figure in figures}
    assert as_text(answer["time"].to_numpy())[0].endswith("Z")


def test_errors_for_the_gate_add_up_to_the_metric(artifacts: tuple[Artifact, Artifact]) -> None:
    prepared, model = artifacts
    scores = scoring.score(TASK, LabellingEvaluation(slices=("unit",)), prepared, model)
    predictor = TASK.load_predictor(model.path)

    for metric in TASK.gate_metrics:
        errors = predictor.test_errors(prepared, metric, list(scores.slices))
        assert errors.score() == pytest.approx(scores.metrics[metric], rel=1e-6)
        assert len(errors.total) == scores.num_examples
        for name, value in errors.slices.items():
            assert value == pytest.approx(scores.slices[name][metric], rel=1e-6)


def test_an_hour_is_judged_by_what_was_known_then(ward: pd.DataFrame, artifacts: tuple[Artifact, Artifact]) -> None:
    predictor = TASK.load_predictor(artifacts[1].path)
    whole = predictor.predict(ward)
    hours = (ward["time"] - ward.groupby("patient")["time"].transform("min")).dt.total_seconds() / 3600

    early = predictor.predict(ward[hours <= 5])

    merged = early.merge(whole, on=["patient", "time"], suffixes=("", "_whole"))
    assert len(merged) == len(early)
    np.testing.assert_allclose(merged["probability_1"], merged["probability_1_whole"], rtol=1e-5)


def test_a_request_may_leave_out_what_was_not_measured(
    ward: pd.DataFrame, artifacts: tuple[Artifact, Artifact]
) -> None:
    predictor = TASK.load_predictor(artifacts[1].path)

    answer = predictor.predict(ward[["patient", "time", "pulse"]].head(30))

    assert answer["probability_1"].between(0, 1).all()
    expected = ward.head(30).assign(lactate=np.nan, age=np.nan, unit=None)
    pd.testing.assert_frame_equal(answer, predictor.predict(expected))
    with pytest.raises(DataError, match="patient"):
        predictor.predict(ward[["time", "pulse"]].head(30))
    with pytest.raises(DataError, match="request"):
        predictor.predict(ward.head(0))


def test_every_step_of_an_unusual_sequence_is_flagged(ward: pd.DataFrame, artifacts: tuple[Artifact, Artifact]) -> None:
    predictor = TASK.load_predictor(artifacts[1].path)
    patients = ward["patient"].unique()
    asked = ward[ward["patient"].isin(patients[:2])].copy()
    asked.loc[asked["patient"] == patients[1], ["pulse", "lactate"]] = np.nan
    asked.loc[asked.index[-1], "time"] += pd.Timedelta(hours=50)

    answer = pd.DataFrame(predictor.answer(asked))

    flags = answer.groupby("patient")["flags"].unique()
    assert flags[patients[0]].tolist() == [""]
    said = rf"no value of pulse, lactate; \d+ steps, above the {predictor.fitted.encoding.longest} of training"
    assert re.fullmatch(said, flags[patients[1]].item())
    asked.loc[asked.index[-1], "time"] += pd.Timedelta(days=40_000)
    with pytest.raises(DataError, match=r"series 101: expected at most .* steps"):
        predictor.predict(asked)


def test_what_is_unlabelled_does_not_count(ward: pd.DataFrame, tmp_path: Path) -> None:
    """With a label of each step, steps of which no row says anything are left out of the loss and of the metrics."""
    schema = copy.deepcopy(WARD_SCHEMA)
    schema["columns"]["died"]["missing_share"] = 1
    table = ward.copy()
    table["died"] = np.where(table["pulse"].notna(), (table["pulse"] > 85).astype(float), np.nan)
    with write_artifact(tmp_path / "prepared", "prepared") as draft:
        TASK.prepare(table, Schema.model_validate(schema), preprocess(label={"column": "died"}), draft)
    prepared = open_artifact(tmp_path / "prepared", "prepared")

    model = trained(prepared, tmp_path / "model", {"epochs": 1})
    scores = scoring.score(TASK, LabellingEvaluation(baselines=("prevalence",)), prepared, model)

    rows = scores.predictions[scores.predictions["label"].notna()]
    assert 0 < len(rows) < len(scores.predictions)
    assert scores.metrics["log_loss"] == pytest.approx(log_loss(rows["label"], rows["prob"]), rel=1e-5)


def sparsely_labelled(ward: pd.DataFrame, folder: Path) -> Artifact:
    """Four patients in five have no label, so that some batches of eight have none, and many of two."""
    schema = copy.deepcopy(WARD_SCHEMA)
    schema["columns"]["died"]["missing_share"] = 1
    table = ward.copy()
    table["died"] = table["died"].where(table["patient"] % 5 == 0)
    with write_artifact(folder, "prepared") as draft:
        TASK.prepare(table, Schema.model_validate(schema), preprocess(), draft)
    return open_artifact(folder, "prepared")


def weights_of(made: TrainingLoop) -> list[torch.Tensor]:
    """Of the network and of its average."""
    assert made.average is not None
    return [*made.network.state_dict().values(), *made.average.network.state_dict().values()]


def test_a_batch_without_labels_counts_for_nothing(ward: pd.DataFrame, tmp_path: Path) -> None:
    prepared = sparsely_labelled(ward, tmp_path / "prepared")
    sections = {"model": MODEL, "training": TRAINING | {"batch_size": 2, "epochs": 1, "weight_average": 0.9}}
    workload, run = Workload("ward", "labelling", "", "test", sections), RunSettings(seed=1)
    told: list[float] = []
    with training_loop(workload, prepared, run) as made:
        batches = [made.train_set.__getitems__(made.order.batch(0, step)) for step in range(len(made.order))]
        without = [not bool(batch.observed.any()) for batch in batches]
        made.update(made.gradients(iter(batches[without.index(False) :]), 2), 2, 0.1)  # a momentum, which would go on
        before = [value.clone() for value in weights_of(made)]
        made.update(made.gradients(iter(batches[without.index(True) :]), 2), 2, 0.1)
        assert all(torch.equal(*pair) for pair in zip(weights_of(made), before, strict=True))
    train(workload, prepared, tmp_path / "model", run, (), lambda _step, _steps, loss: told.append(loss))
    assert 0 < sum(without) < len(without)
    assert told, "a progress of every tenth step"
    assert any(math.isnan(loss) for loss in told), "the seed decides; choose another"
    assert any(math.isfinite(loss) for loss in told)


def test_the_range_test_passes_over_batches_without_labels(ward: pd.DataFrame, tmp_path: Path) -> None:
    prepared = sparsely_labelled(ward, tmp_path / "prepared")
    sections = {"model": MODEL, "training": TRAINING | {"batch_size": 4, "optimiser": "sgd"}}
    with training_loop(Workload("ward", "labelling", "", "test", sections), prepared, RunSettings(2)) as made:
        batches = [made.train_set.__getitems__(made.order.batch(0, step)) for step in range(len(made.order))]
        sums = [TASK.loss(made.network, batch, "binary_cross_entropy", None) for batch in batches]
        expected = [float(total.detach() / count) for total, count, _ in sums if count]
        losses = losses_at(made, np.full(len(expected) + 3, 1e-30))  # and three of the next time round
    assert len(expected) < len(batches)
    assert losses == pytest.approx(expected + expected[:3], rel=1e-5)


def test_an_epoch_without_labels_is_refused(ward: pd.DataFrame, tmp_path: Path) -> None:
    prepared = sparsely_labelled(ward, tmp_path / "prepared")
    few = {"batch_size": 1, "examples_per_epoch": 0.01}
    with pytest.raises(TrainingError, match=r"a label in one of its batches.*examples_per_epoch"):
        trained(prepared, tmp_path / "model", few)
    workload = Workload("ward", "labelling", "", "test", {"model": MODEL, "training": TRAINING | few})
    with pytest.raises(TrainingError, match="a label in one of its batches"):
        find_learning_rate(workload, prepared, RunSettings(1))


def test_classes_are_labelled_too(ward: pd.DataFrame, tmp_path: Path) -> None:
    schema = copy.deepcopy(WARD_SCHEMA)
    schema["columns"]["state"] = {"type": "text"}
    state = np.select([ward["pulse"] > 100, ward["pulse"] > 85], ["fast", "raised"], "calm")
    with write_artifact(tmp_path / "prepared", "prepared") as draft:
        settings = preprocess(label={"column": "state"}, inputs=PREPROCESS["inputs"] | {"step": None})
        TASK.prepare(ward.assign(state=state), Schema.model_validate(schema), settings, draft)
    prepared = open_artifact(tmp_path / "prepared", "prepared")

    model = trained(prepared, tmp_path / "model", {"loss": "cross_entropy", "epochs": 6})
    scores = scoring.score(TASK, LabellingEvaluation(), prepared, model)

    table = scores.predictions
    assert set(table["called"]) <= {"calm", "fast", "raised"}
    assert scores.metrics["error_rate"] == pytest.approx((table["called"] != table["label"]).mean())
    assert scores.metrics["log_loss"] < scores.baselines["prevalence"]["log_loss"]
    errors = TASK.load_predictor(model.path).test_errors(prepared, "error_rate")
    assert errors.score() == pytest.approx(scores.metrics["error_rate"])
    with pytest.raises(WorkloadError, match="cross_entropy"):
        TASK.scorer(prepared, "binary_cross_entropy")


def test_the_first_guess_is_the_frequency_of_the_label(artifacts: tuple[Artifact, Artifact]) -> None:
    prepared, _ = artifacts
    dataset = TASK.dataset(prepared, "train")
    network = TASK.build(TASK.Model(hidden_size=4), TASK.shapes(prepared))

    with torch.no_grad():
        TASK.start(network, dataset)

    batch = dataset.__getitems__(np.arange(len(dataset)))
    share = float(batch.target[batch.observed].mean())
    assert float(torch.sigmoid(network.head.bias.detach())) == pytest.approx(share, abs=0.01)


def test_aggregates_are_those_of_pandas(rng: np.random.Generator) -> None:
    lengths = [5, 1, 8]
    values = rng.normal(size=(14, 2)).astype(np.float32)
    seen = rng.random((14, 2)) < 0.6
    store = SequenceStore({VALUES: values, OBSERVED: seen}, np.cumsum([0, *lengths]))

    found = aggregates_so_far(store, np.array([0, 2]))

    at = 0
    for begin, end in ((0, 5), (6, 14)):
        for last in range(begin + 1, end + 1):
            so_far = pd.DataFrame(np.where(seen, values, np.nan)[begin:last])
            expected = [so_far.mean(), so_far.min(), so_far.max()]
            np.testing.assert_allclose(found[at, 2:8], np.concatenate(expected), rtol=1e-5)
            np.testing.assert_allclose(found[at, 8:10], np.log1p(so_far.count()), rtol=1e-6)
            at += 1
    assert at == len(found)


def test_neighbours_are_those_of_the_same_sequence(rng: np.random.Generator) -> None:
    values = rng.normal(size=(14, 2)).astype(np.float32)
    store = SequenceStore({VALUES: values}, np.cumsum([0, 5, 1, 8]))
    steps = np.array([0, 3, 4, 5, 6, 13])

    found = neighbours(store, steps, before=2, after=1)

    nothing = [np.nan, np.nan]
    expected = [
        [*nothing, *nothing, *values[1]],
        [*values[1], *values[2], *values[4]],
        [*values[2], *values[3], *nothing],
        [*nothing, *nothing, *nothing],
        [*nothing, *nothing, *values[7]],
        [*values[11], *values[12], *nothing],
    ]
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(neighbours(store, steps, before=2, after=0), found[:, :4])


def test_baselines_read_the_steps_after_a_step_where_the_network_does_and_only_there(
    ward: pd.DataFrame, tmp_path: Path
) -> None:
    """What is to be said of a row is whether the next one is fast: who reads forwards only can but guess."""
    table = ward.assign(pulse=np.random.default_rng(2).normal(85, 10, len(ward)))
    table["died"] = (table.groupby("patient")["pulse"].shift(-1, fill_value=0) > 85).astype(int)
    settings = preprocess(label={"column": "died"}, inputs=PREPROCESS["inputs"] | {"step": None})
    with write_artifact(tmp_path / "prepared", "prepared") as draft:
        TASK.prepare(table, Schema.model_validate(WARD_SCHEMA), settings, draft)
    prepared = open_artifact(tmp_path / "prepared", "prepared")

    loss = {}
    for both in (False, True):
        model = trained(prepared, tmp_path / f"model_{both}", {"epochs": 1}, bidirectional=both)
        evaluation = LabellingEvaluation(baselines=("logistic_regression", "gradient_boosting"))
        measured = scoring.score(TASK, evaluation, prepared, model).baselines
        loss[both] = {name: values["log_loss"] for name, values in measured.items()}

    assert min(loss[False].values()) > 0.6
    assert loss[True]["gradient_boosting"] < 0.2
    assert loss[True]["logistic_regression"] < 0.5


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"label": {"column": "dead"}}, "dead"),
        ({"label": {"column": "pulse"}}, "pulse"),
        ({"inputs": PREPROCESS["inputs"] | {"columns": ["pulse", "died"]}}, "gives? the label away"),
        ({"split": PREPROCESS["split"] | {"by": ["ward"]}}, "ward"),
    ],
)
def test_sections_that_do_not_fit_are_refused(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(WorkloadError, match=found):
        TASK.check(Schema.model_validate(WARD_SCHEMA), preprocess(**changes), None, None)


def test_a_loss_of_forecasts_is_refused() -> None:
    with pytest.raises(WorkloadError, match=r"training\.loss"):
        TASK.check_training(TASK.Model(hidden_size=4), Training(loss="absolute"))


def test_one_label_alone_teaches_nothing(ward: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two labels"):
        prepared_of(ward.assign(died=0), tmp_path / "prepared")


def test_a_label_that_is_neither_0_nor_1_is_refused_whatever_part_it_is_in(ward: pd.DataFrame, tmp_path: Path) -> None:
    """A network of one logit learns nothing of a 2, and no metric knows it."""
    schema = copy.deepcopy(WARD_SCHEMA)
    schema["columns"]["died"] = {"type": "integer", "missing_share": 1}
    for patient in (ward["patient"].iloc[0], ward["patient"].iloc[-1]):
        rows = np.flatnonzero(ward["patient"] == patient)
        label = ward["died"].astype(float)
        label.iloc[rows] = 2
        label.iloc[rows[0]] = np.nan  # the first value that is there stands for the patient
        with (
            write_artifact(tmp_path / str(patient), "prepared") as draft,
            pytest.raises(DataError, match=rf"column died: expected 0 or 1; found 2 in row {rows[1]}\b"),
        ):
            TASK.prepare(ward.assign(died=label), Schema.model_validate(schema), preprocess(), draft)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_class_that_training_has_not_seen_is_refused(
    ward: pd.DataFrame, artifacts: tuple[Artifact, Artifact], tmp_path: Path, part: str
) -> None:
    """Its steps would count in no metric: the model would look better than it is."""
    patient = ward["patient"].unique()[open_examples(artifacts[0], part)[0]]
    state = np.where(ward["pulse"] > 85, "raised", "calm").astype(object)
    state[ward["patient"] == patient] = "moved"
    schema = copy.deepcopy(WARD_SCHEMA)
    schema["columns"]["state"] = {"type": "text"}
    row = int(np.flatnonzero(ward["patient"] == patient)[0])

    with (
        write_artifact(tmp_path / "prepared", "prepared") as draft,
        pytest.raises(DataError, match=rf"training part \(calm, raised\); found 'moved' in row {row}\b"),
    ):
        TASK.prepare(
            ward.assign(state=state), Schema.model_validate(schema), preprocess(label={"column": "state"}), draft
        )


def test_what_is_called_is_measured_as_scikit_learn_does(rng: np.random.Generator) -> None:
    labels = (rng.random(300) < 0.3).astype(float)
    prob = np.clip(0.3 * labels + 0.7 * rng.random(300), 0.01, 0.99)
    called, last = prob >= 0.55, np.arange(300) % 10 == 9

    measured = scoring._measure(prob, labels, 0.55, last)

    assert measured["f_score"] == pytest.approx(f1_score(labels, called))
    assert measured["precision"] == pytest.approx(precision_score(labels, called))
    assert measured["recall"] == pytest.approx(recall_score(labels, called))
    assert measured["auroc_last"] == pytest.approx(roc_auc_score(labels[last], prob[last]))
    assert measured["brier"] == pytest.approx(brier_score_loss(labels, prob))


def test_the_f_score_of_classes_is_the_mean_over_those_that_are_there(rng: np.random.Generator) -> None:
    labels = rng.choice([0, 1, 3], size=200)  # class 2 is never meant
    prob = rng.dirichlet(np.ones(4), size=200)
    prob[np.arange(200), labels] += 0.4
    prob /= prob.sum(axis=1, keepdims=True)

    measured = scoring._measure(prob, labels.astype(float), 0.5, np.zeros(200, dtype=bool))

    said = prob.argmax(axis=1)
    there = sorted(set(labels) | set(said))
    assert measured["f_score"] == pytest.approx(f1_score(labels, said, average="macro", labels=there, zero_division=0))


def test_sequences_of_long_numbers_are_told_apart() -> None:
    schema = Schema.model_validate(WARD_SCHEMA)
    (key,) = schema.keys
    table = pd.DataFrame({key: [10_000_001.0, 10_000_001.0, 10_000_002.0]})
    assert scoring._sequence_of(table, schema).tolist() == ["10000001", "10000001", "10000002"]


def test_the_brier_score_of_two_named_classes_is_that_of_a_yes_or_no() -> None:
    yes, labels = np.array([0.3, 0.9]), np.array([0.0, 1.0])

    named = step_errors("brier", np.stack([1 - yes, yes], axis=1), labels, 0.5)

    np.testing.assert_allclose(named, step_errors("brier", yes, labels, 0.5))


def test_sequences_that_the_split_keeps_together_are_resampled_together(ward: pd.DataFrame, tmp_path: Path) -> None:
    """Five stays of each person, who is known by age: six persons in the test part tell no interval, thirty stays would."""
    person = ward["patient"].astype("category").cat.codes // 5
    table = ward.assign(age=20.0 + person)
    split = {"rule": "folds", "by": ["age"], "folds": 4, "validation": 0.3, "salt": "14"}
    prepared = prepared_of(table, tmp_path / "prepared", split=split)
    model = trained(prepared, tmp_path / "model", {"epochs": 1})
    scores = scoring.score(TASK, LabellingEvaluation(), prepared, model)
    ages = table.drop_duplicates("patient")["age"].to_numpy()[open_examples(prepared, "test")]

    errors = TASK.load_predictor(model.path).test_errors(prepared, "log_loss")

    assert (len(ages), len(set(ages))) == (30, 6)
    for each in (errors, *scores.errors, *(each for of in scores.baseline_errors.values() for each in of)):
        assert each.position.tolist() == pd.factorize(ages)[0].tolist()
    assert scores.all_intervals() == {}
    (tmp_path / "plots").mkdir()
    assert scoring.figures(scores, prepared, model, tmp_path / "plots")
