"""Score a labeller and its baselines on the steps of the test part, and draw what a person of the field would want to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from gateline.baselines.labelling import BASELINES, LabellingProblem
from gateline.comparison import ExampleErrors, digest_of_rows, example_errors
from gateline.data.examples import as_key, open_examples, open_test_groups
from gateline.data.frame_inputs import FrameInputs
from gateline.data.irregular_steps import lay_out
from gateline.data.prepared_windows import STATE, open_store
from gateline.data.sequence_inputs import LABEL, Layout, features, steps_of
from gateline.data.splits import PARTS
from gateline.evaluation import Figure, Scores
from gateline.intervals import Interval, bootstrap_intervals
from gateline.manifest import Artifact
from gateline.models.labeller import LabellerSettings
from gateline.predictors.labelling import Fitted, masks_of, step_errors
from gateline.probabilities import BIASED, Judgements, best_threshold, binary_metrics
from gateline.scoring import MODEL
from gateline.scoring.inside import SHOWN_INSIDE, gates_picture, read_sequence
from gateline.scoring.key_frames import draw_key_frames
from gateline.scoring.pictures import draw_all, draw_training
from gateline.scoring.probability_pictures import draw_calibration, draw_ranking
from gateline.scoring.series_pictures import Course, chosen, draw_courses, measured_in
from gateline.table import TABLE, clean, read_table
from gateline.tasks.labelling import TASK as LABELLING
from gateline.tasks.labelling import Labelling, LabellingEvaluation
from gateline.workload.schema import Schema

MOST_BINS = 60
"""Steps up to which each has a point of its own in the picture by step."""
WORST = 10
RESAMPLES = 200
"""Of whole sequences, each with thousands of steps to sort."""


def score(task: Labelling, settings: LabellingEvaluation, prepared: Artifact, model: Artifact) -> Scores:
    """Label the steps of the test part with the model and with every baseline.

    Args:
        task: the task.
        settings: baselines and slices.
        prepared: sequences, labels, and the raw rows of the test part.
        model: weights and configuration.
    """
    fitted, labeller, store = (
        Fitted.from_json(prepared.read_json(STATE)),
        task.load_predictor(model.path),
        open_store(prepared),
    )
    num_classes = 2 if fitted.classes is None else len(fitted.classes)
    problem = LabellingProblem(
        store=store,
        labels=np.asarray(store.arrays[LABEL]),
        sequences={part: open_examples(prepared, part) for part in PARTS},
        num_classes=num_classes,
        both_ways=LabellerSettings.model_validate(model.read_json("config.json")["model"]).bidirectional,
    )
    test = problem.sequences["test"]
    raw = read_table(prepared.path / TABLE)
    # The rows of the test part are in the order of the whole table, so its sequences are, too.
    table, layout = clean(raw, fitted.schema), fitted.inputs.lay_out(raw, fitted.schema)
    labels = problem.labels_of("test")
    known = np.isfinite(labels)
    sequence = np.repeat(np.arange(len(test)), np.diff(store.offsets)[test])
    groups = open_test_groups(prepared)
    mine = labeller.probabilities(store, test)
    # One thread: sums over threads differ in their last bits, and an oversubscribed OpenMP crawls.
    with threadpool_limits(1):
        methods = {name: BASELINES[name](problem) for name in settings.baselines}
        others = {name: _as_one(method("test"), fitted) for name, method in methods.items()}
        validated = {name: _as_one(method("validation"), fitted) for name, method in methods.items()}
    of_validation = problem.labels_of("validation")
    thresholds = {name: _threshold(prob, of_validation) for name, prob in validated.items()}

    def measure(prob: np.ndarray, threshold: float, rows: np.ndarray) -> dict[str, float]:
        return _measure(prob[rows & known], labels[rows & known], threshold, _lasts(sequence, rows & known))

    all_rows = np.ones(len(labels), dtype=bool)
    metrics = measure(mine, labeller.threshold, all_rows)
    slices = _slice_names(settings.slices, layout, table)
    masks = {name: mask[sequence] for name, mask in masks_of(layout, table, slices).items()}
    predictions = _as_table(layout, fitted, labels, mine, others)
    errors_of = partial(
        _errors_by_sequence,
        task.gate_metrics,
        labels=labels,
        sequence=sequence,
        groups=groups,
        rows=digest_of_rows(*layout.places(fitted.schema).values(), labels),
    )
    return Scores(
        metrics=metrics,
        baselines={name: measure(prob, thresholds[name], all_rows) for name, prob in others.items()},
        slices={name: measure(mine, labeller.threshold, mask) for name, mask in masks.items() if (mask & known).any()},
        details={
            "label": fitted.label.column,
            "classes": fitted.classes,
            "threshold": labeller.threshold,
            "temperature": labeller.temperature,
            "shown": list(settings.shown),
            "by_step": _by_step(problem, labels, {"model": mine, **others}),
            "calibration": Judgements(mine[known], labels[known]).calibration_curve() if fitted.classes is None else [],
        },
        num_examples=len(test),
        predictions=predictions,
        units={"log_loss": "nats"},
        intervals=_intervals(mine[known], labels[known], labeller.threshold, sequence[known], groups),
        errors=errors_of(mine, threshold=labeller.threshold),
        baseline_errors={name: errors_of(prob, threshold=thresholds[name]) for name, prob in others.items()},
        worst=_worst(predictions, fitted, labeller.threshold),
    )


def figures(scores: Scores, prepared: Artifact, model: Artifact, folder: Path) -> list[Figure]:
    """Draw the plots into a folder: how the answers rank and how sure they are, by step, a few whole sequences, training."""
    fitted, table = Fitted.from_json(prepared.read_json(STATE)), scores.predictions
    label = fitted.label.column
    draw: dict[str, tuple[Any, str]] = {}
    told: list[tuple[Any, str]] = []
    if fitted.classes is None:
        rows = table[table["label"].notna()]
        outcome, sequence = rows["label"].to_numpy(), pd.factorize(_sequence_of(table, fitted.schema))[0]
        group = open_test_groups(prepared)[sequence[table["label"].notna()]]
        names = [name for name in rows.columns if name.startswith("baseline_")]
        probabilities = {"model": rows["prob"].to_numpy()} | {
            n.removeprefix("baseline_"): rows[n].to_numpy() for n in names
        }
        draw["ranking"] = (
            partial(
                draw_ranking,
                outcome=outcome,
                probabilities=probabilities,
                group=group,
                generator=np.random.default_rng(1),
                what=f"{label} = 1",
            ),
            "Who is told from whom",
        )
        draw["calibration"] = (
            partial(
                draw_calibration,
                outcome=outcome,
                probability=probabilities["model"],
                group=group,
                generator=np.random.default_rng(2),
            ),
            "What is said, and what happens",
        )
        told = _told(scores, fitted)
        courses = _courses(scores, fitted, read_table(prepared.path / TABLE), told)
        width = getattr(fitted.inputs, "step", None)
        draw["sequences"] = (
            partial(
                draw_courses,
                courses=courses,
                what=f"{label} = 1",
                threshold=scores.details["threshold"],
                axis_name="hours" if width == timedelta(hours=1) else "steps",
            ),
            f"How the probability of {label} moves",
        )
    if isinstance(fitted.inputs, FrameInputs) and fitted.classes is None:
        raw = read_table(prepared.path / TABLE)
        draw["key_frames"] = (
            partial(
                draw_key_frames,
                table=table,
                sequence=_sequence_of(table, fitted.schema),
                raw=raw.iloc[lay_out(raw, fitted.schema, columns=()).order],
                column=fitted.inputs.column,
            ),
            "Key frames",
        )
    draw |= _gates(_sequence_of(table, fitted.schema), told, prepared, model)
    draw["by_step"] = (partial(_draw_by_step, scores=scores), "How well it is told along the sequence")
    draw["training"] = (partial(draw_training, model=model), "Training")
    return draw_all(draw, folder)


def _as_one(prob: np.ndarray, fitted: Fitted) -> np.ndarray:
    """Take of two classes the probability of a yes, as the model gives it."""
    return prob[:, 1] if fitted.classes is None else prob


def _threshold(prob: np.ndarray, labels: np.ndarray) -> float:
    known = np.isfinite(labels)
    return best_threshold(prob[known], labels[known]) if prob.ndim == 1 else 0.5


def _lasts(group: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mark, among some steps, the last of each sequence: bool (n,)."""
    chosen = group[rows]
    return np.append(np.diff(chosen) != 0, True)[: len(chosen)]


def _measure(prob: np.ndarray, labels: np.ndarray, threshold: float, last: np.ndarray) -> dict[str, float]:
    """All metrics of some steps with labels; `last` marks the last of each sequence."""
    errors = {
        name: float(step_errors(name, prob, labels, threshold).mean()) for name in ("log_loss", "brier", "error_rate")
    }
    if prob.ndim > 1:
        return errors | {"f_score": _mean_f_score(prob.argmax(axis=1), labels.astype(np.int64), prob.shape[1])}
    called = prob >= threshold
    hits = float((called & (labels == 1)).sum())
    found = {
        "precision": hits / called.sum() if called.any() else 0.0,
        "recall": hits / (labels == 1).sum() if (labels == 1).any() else 0.0,
        "f_score": 2 * hits / max(called.sum() + (labels == 1).sum(), 1),
    }
    measured = errors | binary_metrics(prob, labels) | {name: float(value) for name, value in found.items()}
    return (
        measured | {"auroc_last": binary_metrics(prob[last], labels[last])["auroc"]}
        if _ranked(labels[last])
        else measured
    )


def _intervals(
    prob: np.ndarray, labels: np.ndarray, threshold: float, sequence: np.ndarray, groups: np.ndarray
) -> dict[str, Interval]:
    """Bootstrap an interval of 95 % of every metric of steps with labels, all sequences of a group at a time."""
    last = np.append(np.diff(sequence) != 0, True)[: len(sequence)]
    return bootstrap_intervals(
        lambda rows: _measure(prob[rows], labels[rows], threshold, last[rows]),
        groups[sequence],
        resamples=RESAMPLES,
        biased=BIASED,
    )


def _errors_by_sequence(
    metrics: Sequence[str],
    prob: np.ndarray,
    threshold: float,
    *,
    labels: np.ndarray,
    sequence: np.ndarray,
    groups: np.ndarray,
    rows: str,
) -> list[ExampleErrors]:
    """Add up the errors of the steps with labels of each sequence; those of a group are resampled together."""
    known, size = np.isfinite(labels), len(groups)
    count = np.bincount(sequence, weights=known, minlength=size)
    totals = {name: np.where(known, step_errors(name, prob, labels, threshold), 0.0) for name in metrics}
    return [
        example_errors(name, np.bincount(sequence, weights=each, minlength=size), count, rows=rows, position=groups)
        for name, each in totals.items()
    ]


def _ranked(labels: np.ndarray) -> bool:
    return len(np.unique(labels)) == 2


def _mean_f_score(called: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Mean of the F-scores of the classes that are there."""
    hits = np.bincount(labels[called == labels], minlength=num_classes)
    both = np.bincount(called, minlength=num_classes) + np.bincount(labels, minlength=num_classes)
    return float((2 * hits[both > 0] / both[both > 0]).mean())


def _slice_names(columns: tuple[str, ...], layout: Layout, table: Mapping[str, Any]) -> list[str]:
    names = []
    for column in columns:
        values = {as_key(value) for value in layout.first_of_series(table[column]) if not pd.isna(value)}
        names += [f"{column}={value}" for value in sorted(values)]
    return names


def _by_step(problem: LabellingProblem, labels: np.ndarray, probabilities: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Log loss, and AUROC of a yes, by how many steps have been seen."""
    lengths = np.diff(problem.store.offsets)[problem.sequences["test"]]
    step = np.concatenate([np.arange(1, length + 1) for length in lengths])
    width = max(1, -(-int(lengths.max()) // MOST_BINS))
    number = (step - 1) // width
    known = np.isfinite(labels)
    curves: dict[str, dict[str, list[float]]] = {name: {"log_loss": [], "auroc": []} for name in probabilities}
    for one in range(int(number.max()) + 1):
        rows = (number == one) & known
        for name, prob in probabilities.items():
            here = step_errors("log_loss", prob[rows], labels[rows])
            curves[name]["log_loss"].append(float(here.mean()) if len(here) else float("nan"))
            ranked = prob.ndim == 1 and _ranked(labels[rows])
            curves[name]["auroc"].append(binary_metrics(prob[rows], labels[rows])["auroc"] if ranked else float("nan"))
    return {"step": [(one + 1) * width for one in range(int(number.max()) + 1)], "curves": curves}


def _as_table(
    layout: Layout,
    fitted: Fitted,
    labels: np.ndarray,
    mine: np.ndarray,
    others: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """One row per step of the test part: place, step (from 1), label, probability of it or of a yes, baselines."""
    places = layout.places(fitted.schema)
    lengths = np.diff(layout.offsets)
    step = np.arange(len(labels)) - np.repeat(layout.offsets[:-1], lengths) + 1
    if fitted.classes is None:
        said = {"prob": mine} | {f"baseline_{name}": prob for name, prob in others.items()}
        named: np.ndarray = labels
    else:
        classes = np.array(fitted.classes, dtype=object)
        named = np.array([classes[int(each)] if np.isfinite(each) else None for each in labels], dtype=object)
        said = {"called": classes[mine.argmax(axis=1)], "prob": mine.max(axis=1)}
    return pd.DataFrame({**places, "step": step, "label": named, **said})


def _sequence_of(table: pd.DataFrame, schema: Schema) -> pd.Series:
    """Name the sequence of each row of the predictions."""
    first, *others = schema.keys
    names = table[first].map(as_key)
    for other in others:
        names = names + "/" + table[other].map(as_key)
    return names


def _worst(table: pd.DataFrame, fitted: Fitted, threshold: float) -> pd.DataFrame:
    """The sequences whose labels were least expected; where each step has its own, how many were meant, called and right."""
    rows = table[table["label"].notna()]
    sequence = _sequence_of(rows, fitted.schema)
    if fitted.classes is None and fitted.label.of == "step":
        meant, called = rows["label"] == 1, rows["prob"] >= threshold
        loss = step_errors("log_loss", rows["prob"].to_numpy(), rows["label"].to_numpy())
        counts = {fitted.label.column: meant, "called": called, "both": meant & called}
        steps = pd.DataFrame({"sequence": sequence, "steps": 1, "mean loss": loss, **counts})
        how = {"steps": "sum", "mean loss": "mean", **dict.fromkeys(counts, "sum")}
        found = steps.groupby("sequence", sort=False).agg(how)
        return found.sort_values("mean loss", ascending=False, kind="stable").head(WORST).reset_index()
    if fitted.classes is None:
        prob = rows["prob"].to_numpy()
        loss = step_errors("log_loss", prob, rows["label"].to_numpy())
    else:
        loss = (rows["called"] != rows["label"]).to_numpy(dtype=float)
    frame = pd.DataFrame(
        {"sequence": sequence, "steps": 1, "mean loss": loss, fitted.label.column: rows["label"], "last": rows["prob"]}
    )
    found = frame.groupby("sequence", sort=False).agg(
        {"steps": "sum", "mean loss": "mean", fitted.label.column: "last", "last": "last"}
    )
    found = found.rename(columns={"last": "last probability"}).sort_values("mean loss", ascending=False, kind="stable")
    return found.head(WORST).reset_index()


def _draw_by_step(plt: Any, scores: Scores) -> tuple[Any, str]:
    steps, curves = scores.details["by_step"]["step"], scores.details["by_step"]["curves"]
    kinds = [("log_loss", "log loss [nats]")]
    if any(np.isfinite(curve["auroc"]).any() for curve in curves.values()):
        kinds.insert(0, ("auroc", "area under the ROC curve"))
    figure, axes = plt.subplots(1, len(kinds), figsize=(5.5 * len(kinds), 4), squeeze=False)
    for axis, (kind, title) in zip(axes[0], kinds, strict=True):
        for name, curve in curves.items():
            style = (
                {"color": MODEL, "linewidth": 2.4, "zorder": 3}
                if name == "model"
                else {"linewidth": 1.2, "alpha": 0.85}
            )
            axis.plot(steps, curve[kind], label=name.replace("_", " "), **style)
        axis.set(xlabel="step", ylabel=title)
    axes[0, 0].legend(loc="best", fontsize=9)
    return figure, (
        "Each point: all test sequences at that step. Forwards, it is told by what was known then; a network that reads both ways "
        "has seen what comes after, too."
    )


def _gates(
    names: pd.Series, told: list[tuple[Any, str]], prepared: Artifact, model: Artifact
) -> dict[str, tuple[Any, str]]:
    """Look into the cell while it reads two sequences: those that were chosen, or the first; `names` are those of all steps."""
    reader, store = LABELLING.load_predictor(model.path).network.input, open_store(prepared)
    number = dict(zip(names.drop_duplicates(), open_examples(prepared, "test"), strict=True))
    shown = told or [(name, "the first of the test part") for name in list(number)[:1]]
    read = [
        read_sequence(
            reader, torch.from_numpy(features(store, steps_of(store, np.array([number[name]])))), f"{name}: {title}"
        )
        for name, title in shown[:SHOWN_INSIDE]
    ]
    return gates_picture(reader, read, "steps")


def _told(scores: Scores, fitted: Fitted) -> list[tuple[Any, str]]:
    """Of sequences with a yes, and of those without, one that was told well and one that was told badly: names, and what they are."""
    table = scores.predictions
    sequence = _sequence_of(table, fitted.schema)
    loss = pd.Series(step_errors("log_loss", table["prob"].to_numpy(), table["label"].to_numpy()), index=table.index)
    loss = loss.where(table["label"].notna()).groupby(sequence, sort=True).mean().dropna()
    has_yes = table["label"].groupby(sequence, sort=True).max().reindex(loss.index) == 1
    return chosen(loss, has_yes, f"{fitted.label.column} = 1", f"{fitted.label.column} = 0")


def _courses(scores: Scores, fitted: Fitted, raw: pd.DataFrame, told: list[tuple[Any, str]]) -> list[Course]:
    """Those that were chosen, over time."""
    table, shown = scores.predictions, list(scores.details["shown"])
    sequence = _sequence_of(table, fitted.schema)
    names = _sequence_of(raw, fitted.schema) if shown else None
    time = None if fitted.schema.time is None else fitted.schema.time.column
    found = []
    for name, title in told:
        rows = table[sequence == name]
        found.append(
            Course(
                title=f"{name}: {title}",
                at=rows["step"].to_numpy(),
                prob=rows["prob"].to_numpy(),
                marked=(rows["label"] == 1).to_numpy(),
                measured=measured_in(raw[names == name], time, shown) if names is not None and time is not None else {},
            )
        )
    return found
