"""Score a classifier of series and its baselines on the test part, and draw what a person of the field would want to see."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from gateline.baselines.series_classification import BASELINES, SeriesProblem
from gateline.comparison import digest_of_rows
from gateline.data.examples import as_key, open_examples, open_test_groups, slice_masks, slice_names
from gateline.data.prepared_windows import STATE, open_store
from gateline.data.sequence_inputs import features, steps_of
from gateline.data.splits import PARTS
from gateline.data.store import SequenceStore
from gateline.evaluation import Figure, Scores
from gateline.manifest import Artifact
from gateline.predictors.classification import class_errors
from gateline.predictors.series_classification import SeriesClassifier
from gateline.scoring.class_metrics import class_intervals, confusion, draw_confusion, example_class_errors, measure
from gateline.scoring.inside import SHOWN_INSIDE, gates_picture, read_sequence
from gateline.scoring.pictures import draw_all, draw_training
from gateline.scoring.probability_pictures import draw_calibration, draw_ranking
from gateline.scoring.series_pictures import Course, chosen, draw_courses, measured_in
from gateline.table import TABLE, read_table
from gateline.tasks.classification import LABEL

if TYPE_CHECKING:
    from gateline.tasks.classification import Classification, ClassificationEvaluation

WORST = 12


def score(task: Classification, settings: ClassificationEvaluation, prepared: Artifact, model: Artifact) -> Scores:
    """Classify the test series with the model and with every baseline; arguments as `scoring.classification.score`."""
    state = prepared.read_json(STATE)
    classes, store, table = state["classes"], open_store(prepared), read_table(prepared.path / TABLE)
    series = {part: open_examples(prepared, part) for part in PARTS}
    problem = SeriesProblem(store, series, np.asarray(store.statics[LABEL]), len(classes))
    classifier: Any = task.load_predictor(model.path)
    probabilities = classifier.probabilities(store, series["test"]).astype(np.float64)
    target = problem.labels[series["test"]]
    positive = classes.index(settings.positive) if settings.positive is not None else 1
    with threadpool_limits(1):  # sums over threads differ in their last bits
        baselines = {name: BASELINES[name](problem, "test") for name in settings.baselines}
    steps = classifier.lay_out(table)
    columns = {name: table[name].to_numpy() for name in table.columns}
    rows = steps.first_rows[series["test"]]
    masks = slice_masks(columns, slice_names(columns, settings.slices, rows), rows)
    labels = [classes[label] for label in target]
    digest = digest_of_rows(*(values[series["test"]] for values in steps.keys.values()), labels)
    groups = open_test_groups(prepared)
    errors_of = partial(example_class_errors, task.gate_metrics, target=target, rows=digest, groups=groups)
    places = {key: values[series["test"]] for key, values in steps.keys.items()}
    predictions = _as_table(places, target, probabilities, baselines, classes, positive)
    validated = classifier.probabilities(store, series["validation"])
    return Scores(
        metrics=measure(probabilities, target, positive),
        baselines={name: measure(guess, target, positive) for name, guess in baselines.items()},
        slices={name: measure(probabilities[mask], target[mask], positive) for name, mask in masks.items()},
        details={
            "label": state["label"],
            "classes": classes,
            "positive": classes[positive],
            "confusion": confusion(probabilities.argmax(axis=1), target, len(classes)).tolist(),
            "temperature": classifier.temperature,
            "shown": list(settings.shown),
            "validation": measure(validated, problem.labels[series["validation"]], positive),
        },
        num_examples=len(target),
        predictions=predictions,
        units={"log_loss": "nats"},
        intervals=class_intervals(probabilities, target, positive, groups),
        errors=errors_of(probabilities),
        baseline_errors={name: errors_of(guess) for name, guess in baselines.items()},
        worst=_worst(places, {name: columns[name][rows] for name in settings.slices}, target, probabilities, classes),
    )


def figures(scores: Scores, prepared: Artifact, model: Artifact, folder: Path) -> list[Figure]:
    """Draw the plots into a folder: who is told from whom, calibration, whole series, confusion, training."""
    from gateline.tasks.classification import TASK

    state, table, details = prepared.read_json(STATE), scores.predictions, scores.details
    pictures: dict[str, Any] = {}
    positive = details["positive"]
    what = f"{details['label']} = {positive}"
    outcome = (table["target"] == positive).to_numpy().astype(np.float64)
    if len(details["classes"]) == 2:
        probabilities = {"model": table[f"probability_{positive}"].to_numpy()} | {
            name.removeprefix("baseline_"): table[name].to_numpy() for name in table.filter(like="baseline_").columns
        }
        groups = open_test_groups(prepared)
        pictures["ranking"] = (
            partial(
                draw_ranking,
                outcome=outcome,
                probabilities=probabilities,
                group=groups,
                generator=np.random.default_rng(1),
                what=what,
            ),
            "Who is told from whom",
        )
        pictures["calibration"] = (
            partial(
                draw_calibration,
                outcome=outcome,
                probability=probabilities["model"],
                group=groups,
                generator=np.random.default_rng(2),
            ),
            "What is said, and what happens",
        )
    classifier: Any = TASK.load_predictor(model.path)
    store, series, told = open_store(prepared), open_examples(prepared, "test"), _told(scores, outcome, what)
    courses = _courses(scores, classifier, store, series, outcome, told, prepared)
    width = state["encoding"]["inputs"]["step"]
    axis_name = f"steps of {width}" if width and width != "1h" else "hours" if width else "steps"
    pictures["courses"] = (
        partial(draw_courses, courses=courses, what=what, threshold=None, axis_name=axis_name),
        f"What would have been said of {what} over time",
    )
    reader = classifier.network.input
    read = [
        read_sequence(reader, torch.from_numpy(features(store, steps_of(store, series[[row]]))), course.title)
        for (row, _), course in zip(told[:SHOWN_INSIDE], courses, strict=False)
    ]
    pictures |= gates_picture(reader, read, axis_name)
    pictures["confusion"] = (partial(draw_confusion, scores=scores), "What was taken for what")
    pictures["training"] = (partial(draw_training, model=model), "Training")
    return draw_all(pictures, folder)


def _told(scores: Scores, outcome: np.ndarray, what: str) -> list[tuple[int, str]]:
    """Choose series that were told well and badly, see `chosen`: their rows, and what they are."""
    table, classes = scores.predictions, scores.details["classes"]
    probabilities = table[[f"probability_{name}" for name in classes]].to_numpy()
    target = table["target"].map({name: place for place, name in enumerate(classes)}).to_numpy()
    rest = [name for name in classes if name != scores.details["positive"]]
    others = f"{scores.details['label']} = {' or '.join(rest[:2])}"
    loss = class_errors("log_loss", probabilities, target)
    return chosen(pd.Series(loss), pd.Series(outcome == 1), what, others)


def _courses(
    scores: Scores,
    classifier: SeriesClassifier,
    store: SequenceStore,
    series: np.ndarray,
    outcome: np.ndarray,
    told: list[tuple[int, str]],
    prepared: Artifact,
) -> list[Course]:
    """What the classifier says of a few series when it has seen their first step, the first two, and so on."""
    table, shown = scores.predictions, scores.details["shown"]
    number = {name: place for place, name in enumerate(scores.details["classes"])}
    raw = read_table(prepared.path / TABLE) if shown else pd.DataFrame()
    keys, found = list(classifier.place_columns), []
    time = None if classifier.schema.time is None else classifier.schema.time.column
    for row, title in told:
        over_time = prefixes(classifier, store, int(series[row]))[:, number[scores.details["positive"]]]
        rows = raw.merge(table.loc[[row], keys], on=keys) if shown else raw
        name = ", ".join(as_key(table[key].iloc[row]) for key in keys)
        found.append(
            Course(
                title=f"{name}: {title}",
                at=np.arange(1, len(over_time) + 1),
                prob=over_time,
                marked=np.full(len(over_time), outcome[row] == 1),
                measured=measured_in(rows, time, shown) if shown and time is not None else {},
            )
        )
    return found


def prefixes(classifier: SeriesClassifier, store: SequenceStore, one: int) -> np.ndarray:
    """Classify a series as if it had ended after each of its T steps: float32 (T, C)."""
    first, end = int(store.offsets[one]), int(store.offsets[one + 1])
    rows = np.concatenate([np.arange(first, last) for last in range(first + 1, end + 1)])
    arrays = {name: np.asarray(array)[rows] for name, array in store.arrays.items()}
    statics = {name: np.repeat(array[one : one + 1], end - first, axis=0) for name, array in store.statics.items()}
    offsets = np.concatenate([[0], np.cumsum(np.arange(1, end - first + 1))])
    return classifier.probabilities(SequenceStore(arrays, offsets, statics), np.arange(end - first))


def _as_table(
    places: Any, target: np.ndarray, probabilities: np.ndarray, baselines: Any, classes: Any, positive: int
) -> pd.DataFrame:
    """One row per series: keys, class, answer, probabilities; of the baselines, of two classes the probability of the one looked for."""
    names = np.array(classes, dtype=object)
    said = {
        name: guess[:, positive] if len(classes) == 2 else pd.array(names[guess.argmax(axis=1)], dtype="str")
        for name, guess in baselines.items()
    }
    return pd.DataFrame(
        {
            **places,
            "target": pd.array(names[target], dtype="str"),
            "answer": pd.array(names[probabilities.argmax(axis=1)], dtype="str"),
            **{f"probability_{name}": probabilities[:, place] for place, name in enumerate(classes)},
            **{f"baseline_{name}": values for name, values in said.items()},
        }
    )


def _worst(places: Any, slices: Any, target: np.ndarray, probabilities: np.ndarray, classes: Any) -> pd.DataFrame:
    """The series whose class was least expected."""
    order = np.argsort(-class_errors("log_loss", probabilities, target), kind="stable")[:WORST]
    return pd.DataFrame(
        {
            **{key: [as_key(values[row]) for row in order] for key, values in places.items()},
            **{name: [as_key(values[row]) for row in order] for name, values in slices.items()},
            "is": [classes[target[row]] for row in order],
            "said to be that": [f"{probabilities[row, target[row]]:.1%}" for row in order],
        }
    )
