"""What every task keeps to. A task joins by a file of its name in `task_examples`; without one this suite fails.

The file holds `EXAMPLE = TaskExample(...)` (`tests/task_example.py` says what each field is; `forecasting.py` is one to
follow). It provides a workload that trains within seconds, its raw table with and without changes to one part, an
independent implementation of the metrics, a request cut from the test part with what was evaluated for it, and requests
that cannot be answered. From that this suite sees that

- changed test rows change no fitted state, no row of training, no weight, no calibration; changed validation rows no fitted state; and
  changed training rows do (the control: the comparison can fail);
- sums over a batch of rows of different lengths are those over the rows alone, so padding adds nothing;
- an epoch on a second device mixes no tensors of two devices, and gives what one on the CPU gives;
- metrics are those of an independent implementation, and `test_errors`, by which models are compared, gives the same;
- no column of the data can take the place of one that the task writes into the table of predictions: `check` refuses the name;
- baselines are measured beside the model, each by the gates' metric, and example by example on the same rows by every
  metric that models may be compared by, so that a gate can tell a difference from chance;
- a model folder that was moved answers as before, to the bit;
- a request cut from the test part is answered with what was evaluated, also through the model as MLflow serves it;
- a request with a wrong row or without a column is refused with a line that names it.
"""

from __future__ import annotations

import copy
import importlib
import json
import math
import os
import re
import shutil
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from gateline.adapters.registry.golden_requests import golden_requests
from gateline.adapters.registry.requests import as_request, as_rows
from gateline.adapters.registry.versions import SERVED_FOLDER
from gateline.errors import ArtifactError, GatelineError, WorkloadError, is_taken
from gateline.evaluation import evaluate
from gateline.input_check import FLAGS
from gateline.intervals import MIN_BLOCKS, blocks_of
from gateline.judgement import NEITHER, more_is_better
from gateline.manifest import MANIFEST, Artifact, open_artifact, write_artifact
from gateline.model_folder import load_network
from gateline.paired import on_the_same_rows
from gateline.paired_errors import ERRORS, PairedErrors, by_position
from gateline.table import TABLE, read_table, write_table
from gateline.tasks import Predictor, Task, task_named, task_names
from gateline.training import RunSettings, train
from gateline.training.loop import TrainingLoop
from gateline.training.run import read_settings
from gateline.training_statistics import TRAINING_STATISTICS, training_statistics
from gateline.workload import Workload
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from tests.second_device import CPU, CUDA, GeneratorThere, SecondDevice, move_there
from tests.task_example import TaskExample, same_answer

FOLDER = Path(__file__).parent / "task_examples"
NAMES = [file.stem for file in sorted(FOLDER.glob("*.py")) if file.stem != "__init__"]

EXAMPLES: dict[str, TaskExample] = {
    name: importlib.import_module(f"tests.contracts.task_examples.{name}").EXAMPLE for name in NAMES
}
STATE = "state.json"  # all that is fitted, in every prepared folder

every_task = pytest.mark.parametrize("made", EXAMPLES, indirect=True)


@dataclass(frozen=True)
class Made:
    """An example that was prepared, trained and evaluated."""

    name: str
    example: TaskExample
    folder: Path
    prepared: Artifact
    model: Artifact
    evaluation: Artifact

    @property
    def metric(self) -> str:
        return workload_of(self.name).section("gates", Gates).metric

    @cached_property
    def altered_test(self) -> Artifact:
        """The same table with all that stands in the test part changed, prepared."""
        return prepare(self.name, self.folder / "altered_test", "test")

    @property
    def task(self) -> Any:
        return task_named(self.name)

    def predictor(self) -> Any:
        return self.task.load_predictor(self.model.path)

    def predictions(self) -> pd.DataFrame:
        return read_table(self.evaluation.path / "predictions.parquet")

    def request(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        scores = self.evaluation.read_json("metrics.json")
        return self.example.request(self.example.altered(None), self.predictions(), scores)


def workload_of(name: str) -> Workload:
    return Workload(f"tiny_{name}", name, "An example.", "test", copy.deepcopy(dict(EXAMPLES[name].sections)))


def prepare(name: str, folder: Path, altered: str | None = None) -> Artifact:
    task, workload = task_named(name), workload_of(name)
    if not (folder.parent / "raw").exists():
        with write_artifact(folder.parent / "raw", "raw"):
            pass
    raw = open_artifact(folder.parent / "raw", "raw")
    with write_artifact(folder, "prepared", {"raw": raw}) as draft:
        schema = workload.section("schema", Schema)
        rows = task.prepare(
            EXAMPLES[name].altered(altered), schema, workload.section("preprocess", task.Preprocess), draft
        )
        draft.write_json(TRAINING_STATISTICS, training_statistics(rows, schema, draft.facts.get("vocabulary")))
    return open_artifact(folder, "prepared")


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The example, made once for all tests of its task."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    workload, prepared = workload_of(name), prepare(name, folder / "prepared")
    model = train(workload, prepared, folder / "model", RunSettings(seed=1))
    evaluation = evaluate(workload, prepared, model, folder / "evaluation")
    return Made(name, EXAMPLES[name], folder, prepared, model, evaluation)


def test_every_task_has_an_example() -> None:
    assert sorted(EXAMPLES) == task_names()


@pytest.mark.parametrize(("protocol", "heading"), [(Task, "## 5. "), (Predictor, "## 6. ")])
def test_the_recipe_names_all_that_is_called(protocol: type, heading: str) -> None:
    """A task that is written by docs/add-a-task.md ends in no AttributeError."""
    sections = (FOLDER.parents[2] / "docs" / "add-a-task.md").read_text(encoding="utf-8").split("\n## ")
    (section,) = (text for text in sections if f"## {text}".startswith(heading))
    members = {name for name in {*vars(protocol), *protocol.__annotations__} if not name.startswith("_")}
    assert {"check_scoring", "monitors", "prepare"} < members or {"answer", "predict"} < members
    assert members <= set(re.findall(r"`(\w+)`", section))


@every_task
def test_what_stands_in_the_test_part_reaches_neither_statistics_nor_weights(made: Made) -> None:
    altered = made.altered_test
    model = train(workload_of(made.name), altered, made.folder / "altered_test_model", RunSettings(seed=1))

    assert altered.digest != made.prepared.digest, "the example changes the test part"
    assert not np.array_equal(targets(made, altered), targets(made, made.prepared)), "and what is to be said there"
    assert (altered.path / STATE).read_bytes() == (made.prepared.path / STATE).read_bytes()
    assert contents(model.path) == contents(made.model.path)


@every_task
def test_a_calibration_on_the_test_part_would_be_seen(made: Made) -> None:
    """The control: what is fitted after training is among the files that are compared above."""
    network = made.task.build(workload_of(made.name).section("model", made.task.Model), made.task.shapes(made.prepared))
    load_network(network, made.model.path)

    def finished(prepared: Artifact, name: str) -> dict[str, bytes]:
        with write_artifact(made.folder / f"finished_{name}", "model") as draft:
            made.task.finish(network.eval(), prepared, draft)
        return contents(draft.path if draft.path.exists() else made.folder / f"finished_{name}")

    def planted(prepared: Artifact, name: str) -> Artifact:
        folder = made.folder / f"planted_{name}"
        shutil.copytree(prepared.path, folder)
        for file in folder.rglob("validation.npy"):
            shutil.copyfile(file.with_name("test.npy"), file)
        return replace(prepared, path=folder)

    honest = finished(made.prepared, "honestly")
    assert honest.items() <= contents(made.model.path).items()
    assert bool(honest) is (made.name in ("classification", "forecasting", "labelling"))
    assert honest == finished(made.altered_test, "honestly_altered")
    seen = finished(planted(made.prepared, "one"), "one"), finished(planted(made.altered_test, "other"), "other")
    assert all(seen[0][name] != seen[1][name] for name in honest)


@every_task
def test_what_stands_in_the_validation_part_reaches_no_statistic(made: Made) -> None:
    altered = prepare(made.name, made.folder / "altered_validation", "validation")

    assert altered.digest != made.prepared.digest, "the example changes the validation part"
    assert (altered.path / STATE).read_bytes() == (made.prepared.path / STATE).read_bytes()
    one, other = (each.read_json(TRAINING_STATISTICS) for each in (altered, made.prepared))
    for statistics in (one, other):
        statistics.pop("unknown_tokens")  # measured on the validation part
    assert one == other


@every_task
def test_what_stands_in_the_training_part_does_reach_statistics_or_weights(made: Made) -> None:
    """The control: the comparisons above can fail."""
    altered = prepare(made.name, made.folder / "altered_train", "train")
    if made.name not in ("frame_prediction", "transcription"):  # of files, statistics say how many there are
        assert altered.read_json(TRAINING_STATISTICS) != made.prepared.read_json(TRAINING_STATISTICS)
    if (altered.path / STATE).read_bytes() != (made.prepared.path / STATE).read_bytes():
        return
    model = train(workload_of(made.name), altered, made.folder / "altered_train_model", RunSettings(seed=1))
    assert (model.path / "weights.pt").read_bytes() != (made.model.path / "weights.pt").read_bytes()


@every_task
def test_no_example_is_in_two_parts_and_none_is_empty(made: Made) -> None:
    counts = made.prepared.facts["examples"]
    assert set(counts) == {"train", "validation", "test"}
    assert all(count > 0 for count in counts.values()), counts
    assert made.evaluation.read_json("metrics.json")["num_examples"] > 0


@every_task
def test_the_loss_of_a_batch_is_that_of_its_rows_alone(made: Made) -> None:
    """Alone, a row has no padding; beside longer ones it has."""
    task, workload = made.task, workload_of(made.name)
    dataset = task.dataset(made.prepared, "train")
    network = task.build(workload.section("model", task.Model), task.shapes(made.prepared))
    torch.manual_seed(0)
    network = network.double().eval()
    loss = str(made.model.facts["training"]["loss"])
    rows = list(range(min(12, len(dataset))))

    def summed(chosen: list[int]) -> tuple[float, float]:
        with torch.no_grad():
            total, count, _ = task.loss(network, doubled(dataset.__getitems__(chosen)), loss, None)
        return float(total), float(count)

    together, apart = summed(rows), [summed([row]) for row in rows]

    assert together[1] == sum(count for _, count in apart) > 0
    assert together[0] == pytest.approx(sum(total for total, _ in apart), rel=1e-9)


@every_task
@pytest.mark.parametrize("part", ["train", "validation"])
def test_data_that_were_moved_to_a_device_gather_the_same_batches_there(part: str, made: Made) -> None:
    """A GPU then waits for no batch. On the device `meta` are no numbers, and what stayed behind cannot be reckoned with."""
    dataset = made.task.dataset(made.prepared, part)
    rows = np.arange(len(dataset))[::-1][:40].copy()
    moved, away = dataset.to(torch.device("cpu")), dataset.to(torch.device("meta"))
    batches = [each.__getitems__(rows)._tensors() for each in (dataset, moved, away)]

    assert 0 < dataset.nbytes < 2**27
    assert (dataset.device.type, moved.device.type, away.device.type) == ("cpu", "cpu", "meta")
    assert len(dataset) == len(moved) == len(away)
    for name, here in batches[0].items():
        assert torch.equal(batches[1][name], here), name
        assert batches[2][name].shape == here.shape
        assert batches[2][name].device.type == ("cpu" if "lengths" in name else "meta"), name


@every_task
def test_an_epoch_on_another_device_takes_nothing_of_this_one(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Played on the CPU, so it has the same numbers; what the kernels of a GPU give is for tests/gpu to see."""
    monkeypatch.setattr(torch, "Generator", GeneratorThere)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (2**40, 2**40))
    model, training = read_settings(workload_of(made.name))

    def epoch(device: torch.device) -> TrainingLoop:
        torch.manual_seed(1)
        network = made.task.build(model, made.task.shapes(made.prepared))
        move = move_there if device == CUDA else nn.Module.cpu
        move(network)
        loop = TrainingLoop(made.task, network, training, made.prepared, 1, device, torch.float32)
        if loop.average is not None:
            move(loop.average.network)
        loop.train_epoch(None, None, lambda: False)
        loop.keep(loop.validate())
        return loop

    with torch.random.fork_rng(devices=[]):
        here = epoch(CPU)
        with SecondDevice():
            there = epoch(CUDA)

    assert there.history == here.history
    assert all(torch.equal(there.best_weights[name], weight) for name, weight in here.best_weights.items())


def contents(folder: Path) -> dict[str, bytes]:
    """Read all files of a model but its manifest, which says of which prepared folder it was made.

    A temperature, a threshold or the width of an interval that was fitted on the test part is a leak like a weight.
    """
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }


def targets(made: Made, prepared: Artifact) -> np.ndarray:
    """What is to be said of the first rows of the test part."""
    dataset = made.task.dataset(prepared, "test")
    batch = dataset.__getitems__(list(range(min(12, len(dataset)))))
    (name,) = {"target", "following", "future", "labels"} & vars(batch).keys()
    return np.asarray(getattr(batch, name))


def doubled(batch: Any) -> Any:
    """The same batch in float64, so that differences are those of the method, not of rounding."""
    if isinstance(batch, torch.Tensor):
        return batch.double() if batch.is_floating_point() else batch
    if isinstance(batch, dict):
        return {name: doubled(value) for name, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*map(doubled, batch))
    if isinstance(batch, list | tuple):
        return type(batch)(doubled(value) for value in batch)
    if hasattr(batch, "__dataclass_fields__"):
        return type(batch)(**{name: doubled(getattr(batch, name)) for name in batch.__dataclass_fields__})
    return batch


@every_task
def test_metrics_are_those_of_an_independent_implementation(made: Made) -> None:
    measured = made.evaluation.read_json("metrics.json")["test"]
    independent = made.example.metrics(made.predictions())

    assert made.metric in independent
    for name, value in independent.items():
        assert measured[name] == pytest.approx(value, rel=1e-5, abs=1e-9), name


@every_task
def test_the_report_looks_into_the_cell_where_a_sequence_is_read_step_by_step(made: Made) -> None:
    if made.name in ("classification", "forecasting", "labelling", "language_modelling"):
        assert (made.evaluation.path / "plots" / "cell_gates.png").stat().st_size > 5000
        assert "Inside the cell" in (made.evaluation.path / "report.html").read_text(encoding="utf-8")


@every_task
def test_every_metric_has_an_interval_around_it(made: Made) -> None:
    scores = made.evaluation.read_json("metrics.json")
    errors = made.predictor().test_errors(made.prepared, made.metric)
    num_positions = len(np.unique(errors.position))

    if num_positions < MIN_BLOCKS * blocks_of(num_positions, errors.dependence):
        assert made.name == "transcription", "of two pools nothing can be said"
        assert scores["intervals"] == {}
        return
    for name, value in scores["test"].items():
        assert name in scores["intervals"], name
        low, high = scores["intervals"][name]
        assert low <= value <= high, name


@every_task
def test_of_every_metric_it_is_known_whether_more_is_better(made: Made) -> None:
    for name in made.evaluation.read_json("metrics.json")["test"]:
        if NEITHER.fullmatch(name) is None:
            assert more_is_better(name) in (True, False)


@every_task
def test_models_are_compared_by_what_was_evaluated(made: Made) -> None:
    metric = made.metric
    scores = made.evaluation.read_json("metrics.json")
    errors = made.predictor().test_errors(made.prepared, metric, list(scores["slices"]))

    assert metric in made.task.gate_metrics
    assert errors.score() == pytest.approx(scores["test"][metric], rel=1e-5)
    assert len(errors.total) == len(errors.count) == len(errors.position)
    assert np.isfinite(errors.total).all()
    for name, value in errors.slices.items():
        assert value == pytest.approx(scores["slices"][name][metric], rel=1e-5), name


@every_task
def test_a_column_that_is_no_more_is_refused_and_never_an_exception_of_another_kind(made: Made, tmp_path: Path) -> None:
    """A champion is asked to read the test part of data that have changed since: register takes a refusal for a no."""
    table = read_table(made.prepared.path / TABLE)
    shutil.copytree(made.prepared.path, tmp_path / "prepared")
    refused = {}
    for name in table.columns:
        write_table(table.drop(columns=name), tmp_path / "prepared" / TABLE)
        try:
            made.predictor().test_errors(replace(made.prepared, path=tmp_path / "prepared"), made.metric)
        except GatelineError as error:
            refused[name] = str(error)
    read_elsewhere = {"language_modelling", "frame_prediction"}  # their test part is no table
    assert all(name in said for name, said in refused.items()), refused
    assert bool(refused) is (made.name not in read_elsewhere)


@every_task
def test_every_baseline_is_measured_by_the_gates_metric_on_the_same_examples(made: Made) -> None:
    baselines = made.evaluation.read_json("metrics.json")["baselines"]
    assert list(baselines), "a task ships the simple method that most often beats a careless network"
    for name, values in baselines.items():
        assert math.isfinite(values[made.metric]), name


@every_task
def test_errors_of_every_baseline_add_up_to_its_metrics_on_the_rows_of_the_model(made: Made) -> None:
    measured = made.evaluation.read_json("metrics.json")
    paired = PairedErrors.from_table(read_table(made.evaluation.path / ERRORS))
    errors = made.predictor().test_errors(made.prepared, made.metric)
    here = set(made.task.gate_metrics) & measured["test"].keys()

    assert made.metric in here
    assert paired.model.keys() >= here
    assert paired.baselines.keys() == measured["baselines"].keys()
    for name, values in {"": measured["test"], **measured["baselines"]}.items():
        for metric in here:
            found = paired.baselines[name][metric] if name else paired.model[metric]
            assert found.score() == pytest.approx(values[metric], rel=1e-9), (name, metric)
            assert on_the_same_rows(found, paired.model[metric]), (name, metric)
            assert found.dependence == errors.dependence, (name, metric)
    assert paired.model[made.metric].score() == pytest.approx(errors.score(), rel=1e-5)
    np.testing.assert_array_equal(by_position(errors).position, paired.model[made.metric].position)
    np.testing.assert_allclose(by_position(errors).count, paired.model[made.metric].count)


@every_task
def test_a_baseline_scored_in_another_order_is_seen(made: Made) -> None:
    """The control: the comparison above, and the gate, can fail. Errors of other examples are another sum at a position."""
    paired = PairedErrors.from_table(read_table(made.evaluation.path / ERRORS))
    name, theirs = next((name, each[made.metric]) for name, each in paired.baselines.items())
    moved = replace(theirs, position=theirs.position + 1)

    said = replace(paired, baselines={name: {made.metric: moved}}).pair(name, made.metric, 100)

    assert said == f"{name} was scored on other rows"


@every_task
def test_a_model_folder_answers_the_same_wherever_it_lies(made: Made) -> None:
    asked = made.predictor().example(read_table(made.prepared.path / TABLE))
    answer = made.predictor().predict(asked, **made.example.answers)
    moved = made.folder / "moved"
    if not moved.exists():
        shutil.copytree(made.model.path, moved)

    again = made.task.load_predictor(moved).predict(asked, **made.example.answers)

    pd.testing.assert_frame_equal(again, answer, check_exact=True)
    assert list(answer.columns) == [name for name, _ in made.predictor().output_columns]


@every_task
def test_weights_that_run_code_are_refused_before_they_do(made: Made) -> None:
    folder = made.folder / "malicious"
    shutil.copytree(made.model.path, folder, dirs_exist_ok=True)
    proof = made.folder / "proof"
    torch.save({"weight": Payload(proof)}, folder / "weights.pt")

    with pytest.raises(ArtifactError, match="the weights of this network"):
        made.task.load_predictor(folder)

    assert not proof.exists(), "code of the file was run"


class Payload:
    """Unpickled, it makes the folder."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.proof),)


@every_task
def test_golden_requests_are_made_for_every_task(made: Made) -> None:
    """What register asks a registered model: made for every task from its example, with one of a wrong type refused."""
    predictor = made.predictor()
    golden = golden_requests(predictor, read_table(made.prepared.path / TABLE))
    by_name = {each.name: each for each in golden}

    assert {"one row", "many rows", "longest", "missing value", "columns in another order", "wrong type"} <= set(
        by_name
    )
    kinds = {kind for name, kind, _ in predictor.input_columns if name not in predictor.place_columns}
    assert by_name["wrong type"].expected is None or kinds == {"text"}, "MLflow makes a text of a number"
    for name in ("one row", "many rows", "longest", "columns in another order"):
        expected = by_name[name].expected
        assert expected is not None, name
        assert expected["data"], name
    plain = as_request(
        predictor.predict(as_rows(as_request(predictor.example(read_table(made.prepared.path / TABLE))), predictor))
    )
    assert by_name["columns in another order"].expected == json.loads(plain)["dataframe_split"]
    first, many = (json.loads(by_name[name].request)["dataframe_split"]["data"] for name in ("one row", "many rows"))
    assert len(first) < len(many)
    if hasattr(predictor, "lookback"):
        assert by_name["shortest"].expected is not None
        assert by_name["too short"].expected is None, "a step less than it reads"


@every_task
def test_serving_equals_evaluation(made: Made) -> None:
    asked, expected = made.request()

    answer = made.predictor().predict(asked, **made.example.answers)

    assert len(expected), "the example cuts a request out of the test part"
    same_answer(answer, expected, made.example.tolerance)


@every_task
def test_the_served_model_answers_as_the_library_does(made: Made) -> None:
    from gateline.adapters.served_model import ServedModel

    predictor: Any = made.predictor()
    served: Any = ServedModel()
    served.load_context(SimpleNamespace(artifacts={SERVED_FOLDER: str(made.model.path)}))
    asked, _ = made.request()
    answer = predictor.predict(asked, **made.example.answers)

    through_mlflow = served.predict(None, asked, dict(made.example.answers) or None)

    assert list(through_mlflow.columns) == [*answer.columns, FLAGS]
    same_answer(through_mlflow, answer.drop(columns=served.times), 1e-6)


@every_task
def test_a_bad_request_is_refused_with_a_line_that_names_the_row_or_column(made: Made) -> None:
    predictor = made.predictor()
    good, _ = made.request()
    wrong = dict(made.example.bad_rows)
    for name, _, needed in predictor.input_columns:
        if needed and name in good:
            wrong[f"without {name}"] = (partial(pd.DataFrame.drop, columns=name), name)
    wrong["nothing"] = (lambda frame: frame.iloc[:0], "")

    for what, (spoil, words) in wrong.items():
        with pytest.raises(GatelineError) as refusal:
            predictor.predict(spoil(good.copy()), **made.example.answers)
        assert words in str(refusal.value), what
        assert len(str(refusal.value).splitlines()) == 1, what


def renamed(content: Any, name: str, other: str) -> Any:
    """Call a column otherwise wherever a section of a workload names it; its type stays."""
    if isinstance(content, dict):
        return {
            other if key == name else key: value if key == "type" else renamed(value, name, other)
            for key, value in content.items()
        }
    if isinstance(content, list | tuple):
        return [renamed(each, name, other) for each in content]
    return other if content == name else content


def require_refused(made: Made, name: str, taken: str) -> None:
    """Call a column otherwise, and see that `check` says how to rename it."""
    workload = workload_of(made.name)
    sections = {
        section: {key: renamed(value, name, taken) for key, value in workload.sections[section].items()}
        for section in ("schema", "preprocess")
    }
    changed = replace(workload, sections=dict(workload.sections) | sections)
    with pytest.raises(WorkloadError, match=r"ename it in source\.query: SELECT"):
        made.task.check(
            changed.section("schema", Schema), changed.section("preprocess", made.task.Preprocess), None, None
        )


@every_task
def test_a_column_of_the_data_takes_the_place_of_none_that_the_task_writes(made: Made) -> None:
    """A series key `origin` was lost, with all that is drawn by it; nobody said so."""
    workload, predictions = workload_of(made.name), made.predictions()
    preprocess = workload.section("preprocess", made.task.Preprocess)
    theirs = list(made.task.columns_beside(workload.section("schema", Schema), preprocess))
    own = [str(name) for name in predictions if name not in theirs]

    assert set(theirs) <= set(predictions)
    assert [name for name in own if not is_taken(name, made.task.own_columns)] == []
    assert [name for name in theirs if is_taken(name, made.task.own_columns)] == []
    assert len({name for name, _ in made.predictor().output_columns}) == len(made.predictor().output_columns)
    for name in theirs:
        for taken in own if name != "time" else ():  # of a forecast, it has a column of its own in both tables
            require_refused(made, name, taken)


@every_task
def test_a_column_of_the_data_takes_the_place_of_none_of_an_answer(made: Made) -> None:
    """An answer with a target `flags` had no forecast, and one with a key `flags` did not say of which series it was."""
    columns = workload_of(made.name).section("schema", Schema).columns
    answered = [name for name, _ in made.predictor().output_columns]
    theirs = [name for name in answered if name in columns and (made.name, name) != ("frame_prediction", "image")]
    own = {FLAGS, *answered} - set(theirs)

    assert theirs or made.name == "frame_prediction"  # whose clips are numbered
    for name in theirs:
        for taken in own:
            if not taken.startswith(
                f"{name}_"
            ):  # the quantiles of a forecast are called after it, whatever it is called
                require_refused(made, name, taken)
    for name in columns:
        require_refused(made, name, "gateline_version")
