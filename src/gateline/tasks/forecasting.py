"""Forecasting: several related series, the next steps of one column, in its own unit."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from pydantic import AfterValidator, Field, model_validator
from torch import nn

from gateline.batch import SCORING_BATCH, ForecastBatch
from gateline.conformal import Intervals, require_enough
from gateline.data.calendar import Calendar
from gateline.data.inputs import TARGET
from gateline.data.order import Order, SequentialOrder, ShuffledOrder
from gateline.data.prepared_windows import STATE, WINDOWS, open_store, open_windows, read_windows
from gateline.data.scaling import Transform
from gateline.data.series_encoding import (
    Encoding,
    Scaling,
    fewest_present,
    regular_table,
    rows_with_values,
    unix_seconds,
)
from gateline.data.splits import TimeSplit, window_runs
from gateline.data.store import SERIES, VALUES
from gateline.data.windows import WindowDataset
from gateline.errors import ArtifactError, WorkloadError, examples, refuse_taken, require_known
from gateline.inventory import SafetyStock
from gateline.inventory import require_enough as require_enough_demand
from gateline.losses import ELEMENTWISE, summed_loss, summed_pinball
from gateline.manifest import Artifact, Draft
from gateline.metrics import (
    COMPETITION_METRICS,
    FORECAST_METRICS,
    INVENTORY_METRICS,
    PINBALL,
    PROBABILISTIC_METRIC,
    SCALE_FREE_METRIC,
    STEP_METRIC,
    WINDOW_METRICS,
)
from gateline.models.forecaster import ForecasterNetwork, ForecasterSettings, Shapes, build_forecaster
from gateline.predictors.forecasting import Forecaster, columns_of_answer
from gateline.table import TABLE, as_frame, clean, write_table
from gateline.tasks import Scorer, refuse_batch_tokens
from gateline.workload.gates import Gates
from gateline.workload.schema import Column, Instant, Schema
from gateline.workload.section import Section, Span, format_span

if TYPE_CHECKING:
    from gateline.workload.training import Training

BASELINES = ("last_value", "seasonal_naive", "seasonal_median", "climatology", "ridge", "nlinear", "gradient_boosting")
"""Baselines of every forecast."""
OF_VOLATILITY = ("ewma", "har", "ewma_quantiles")
"""Baselines that read the columns of `evaluation.volatility`."""
OF_QUANTILES = ("historical_quantiles", "ewma_quantiles")
"""Baselines that forecast the quantiles of the model."""
MORE_BASELINES = (*BASELINES, "naive2", *OF_VOLATILITY, "historical_quantiles")
NAIVE2 = "naive2"
OWA = "owa"

INTERVALS = "intervals.json"
RESERVE = "reserve.json"

Pair = tuple[torch.Tensor, torch.Tensor]
"""Sum and count."""

Steps = Annotated[int, Field(ge=1)]


class Windows(Section):
    """How much of the past is read and how far ahead is forecast, in steps of `schema.grid.frequency`."""

    lookback: Steps
    horizon: Steps
    stride: Steps = 1
    """Steps between the origins that the network is trained on; validation, test and the baselines take every origin. With a factor in common with the
    steps of a day, the network never starts at some of its hours; `training.examples_per_epoch` spares as much time."""


class Split(Section):
    """Training before `validate_from`, validation before `test_from`, test from then on."""

    rule: Literal["time"] = "time"
    validate_from: Instant
    test_from: Instant
    test_until: Instant | None = None
    embargo: Span | None = None
    """Left out before each border, so that the earlier part's last targets are not the later part's neighbours."""

    @model_validator(mode="after")
    def _in_order(self) -> Split:
        moments: list[datetime] = [self.validate_from, self.test_from]
        if self.test_until is not None:
            moments.append(self.test_until)
        if moments != sorted(set(moments)):
            raise ValueError(f"validate_from < test_from < test_until, got {' and '.join(map(str, moments))}")
        return self

    def parts(self) -> TimeSplit:
        """Turn into the rule itself."""
        gap = {} if self.embargo is None else {"embargo": self.embargo}
        return TimeSplit(self.validate_from, self.test_from, self.test_until, **gap)


class ForecastingPreprocess(Section):
    """Section `preprocess` of a forecasting workload."""

    target: str
    past: tuple[str, ...] = ()
    """Columns known up to the moment of forecasting."""
    known: tuple[str, ...] = ()
    """Columns known ahead for every step to forecast; the most powerful, and the easiest way to leak."""
    static: tuple[str, ...] = ()
    """Columns with one value per series. Here as in `past` and `known`, a text column gets a learnt embedding; a text that
    training has not seen, or none, has a code of its own."""
    calendar: Calendar = Calendar()
    transforms: dict[str, Transform] = {}
    """By column; a column without one is only standardised."""
    scaling: Scaling = "column"
    """column: one mean and deviation for all series; series: one for each, where series differ in level or spread."""
    windows: Windows
    split: Split


class Volatility(Section):
    """Columns of `preprocess`, known up to the origin, that say how much moves: what the baselines of volatility read."""

    ewma: str
    """Exponentially weighted volatility, in the unit of the target."""
    har: Annotated[tuple[str, ...], Field(min_length=1)]
    """Volatilities of a short, a middle and a long horizon."""


class Inventory(Section):
    """Which lead time a model that decides on stock is measured by."""

    lead_time: Steps | None = None
    """Steps until an order arrives; null: all steps that are forecast."""
    review_period: Annotated[int, Field(ge=0)] = 0
    """Steps between two looks at the stock, which it has to last for beside the lead time; 0: it is always looked at."""
    beside: tuple[Literal[BASELINES], ...] = ("seasonal_naive",)  # type: ignore[valid-type]
    """Baselines whose forecasts are given a reserve of the textbook, and cost what they then cost."""

    def steps(self, horizon: int) -> int:
        """Count the steps that the stock has to last for."""
        return (self.lead_time or horizon - self.review_period) + self.review_period


def _step_metric(name: str) -> str:
    if STEP_METRIC.fullmatch(name) is None:
        raise ValueError(f"mae or rmse, then _at_ or _to_ and a step, e.g. mae_at_7 or rmse_to_3; got {name!r}")
    return name


class ForecastingEvaluation(Section):
    """Section `evaluation` of a forecasting workload."""

    season: Steps
    """Steps of one season, e.g. 24 for hours with a daily pattern; what the seasonal baselines repeat."""
    cycle: Steps
    """Steps after which the whole pattern repeats, e.g. 168 for hours of a week; the positions of `seasonal_median`."""
    baselines: Annotated[tuple[Literal[MORE_BASELINES], ...], Field(min_length=1)] = BASELINES  # type: ignore[valid-type]
    metrics: tuple[Literal[COMPETITION_METRICS], ...] = ()  # type: ignore[valid-type]
    """More metrics: those of the M competitions, with `season` as theirs. `owa` needs the baseline `naive2`."""
    volatility: Volatility | None = None
    """What the baselines `ewma`, `har` and `ewma_quantiles` read."""
    inventory: Inventory = Inventory()
    slices: tuple[str, ...] = ()
    """Key columns whose values get metrics of their own."""
    step_metrics: tuple[Annotated[str, AfterValidator(_step_metric)], ...] = ()
    """Metrics of some steps ahead, measured beside those of all: `mae_at_7` of the seventh alone, `rmse_to_3` of the first
    three together."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> ForecastingEvaluation:
        if OWA in self.metrics and not ({"smape", "mase"} <= set(self.metrics) and NAIVE2 in self.baselines):
            raise ValueError(
                "`smape` and `mase` among `metrics`, and `naive2` among `baselines`, with the metric `owa`"
            )
        if self.volatility is None and (lacking := [name for name in self.baselines if name in OF_VOLATILITY]):
            raise ValueError(f"`volatility`, the columns to read, with the baseline `{lacking[0]}`")
        if "beside" in self.inventory.model_fields_set and not set(self.inventory.beside) <= set(self.baselines):
            raise ValueError(f"{list(self.inventory.beside)} of `inventory.beside` among `baselines`")
        return self


class Forecasting:
    """The task `forecasting`."""

    name = "forecasting"
    examples_are = "windows"
    gate_metrics = (*WINDOW_METRICS, PINBALL)
    own_columns = ("origin", "step", "time", "target", "forecast*", "safety_stock", "reorder_point", "baseline_*")
    requirements = ()
    Preprocess = ForecastingPreprocess
    Model = ForecasterSettings
    Evaluation = ForecastingEvaluation
    monitors = ("loss", "mae", "mae_scaled", "mse_scaled")

    def columns_beside(self, schema: Schema, preprocess: ForecastingPreprocess) -> Sequence[str]:  # noqa: ARG002
        """The keys, which say of which series a window is."""
        return schema.keys

    def check(
        self,
        schema: Schema,
        preprocess: ForecastingPreprocess,
        evaluation: ForecastingEvaluation | None,
        gates: Gates | None,
    ) -> None:
        """Refuse sections that do not fit together.

        Raises:
            WorkloadError: the rows are on no grid of time, or days are to be read by a clock; a column is not in the schema, is
                no number, or has two roles; or a gate names what is not computed.
        """
        if schema.time is None or schema.time.frequency is None:
            raise WorkloadError(
                "schema.time",
                expected="a column of time stamps and their `frequency`: forecasts are made on a regular grid",
                found="no `time`" if schema.time is None else "no `frequency`",
                do="Add e.g. `time: {column: hour, frequency: 1h}`",
            )
        if schema.time.frequency >= timedelta(days=1) and preprocess.calendar.timezone != "UTC":
            raise WorkloadError(
                "preprocess.calendar.timezone",
                expected="UTC for steps of a day or more, whose time stamps are dates",
                found=preprocess.calendar.timezone,
                do="Leave it out: elsewhere midnight in UTC is on another day",
            )
        roles = [
            ("target", preprocess.target),
            *(("past", c) for c in preprocess.past),
            *(("known", c) for c in preprocess.known),
            *(("static", c) for c in preprocess.static),
        ]
        for role, name in roles:
            require_known(f"preprocess.{role}", name, schema.columns)
            usable = ("float", "integer", "boolean") if role == "target" else ("float", "integer", "boolean", "text")
            if schema.columns[name].type not in usable:
                raise WorkloadError(
                    f"preprocess.{role}",
                    expected="a column of numbers" + ("" if role == "target" else " or texts"),
                    found=f"{name} ({schema.columns[name].type})",
                    do="Drop it",
                )
        names = [name for _, name in roles]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise WorkloadError(
                "preprocess",
                expected="one role for each column",
                found=f"{examples(twice)} twice",
                do="The past target is read anyway; a column is one of `past`, `known` and `static`",
            )
        refuse_taken("schema.keys", self.columns_beside(schema, preprocess), self.own_columns)
        answered = (*schema.place_columns, preprocess.target)
        refuse_taken("schema.columns", answered, columns_of_answer(preprocess.target))
        for name in preprocess.transforms:
            require_known("preprocess.transforms", name, [n for n in names if schema.columns[n].type != "text"])
        if evaluation is not None:
            _check_evaluation(preprocess, evaluation)
        if evaluation is not None and gates is not None:
            _check_gates(schema, evaluation, gates)
            _check_comparable(schema.columns[preprocess.target], gates)
        for name in () if evaluation is None else evaluation.step_metrics:
            if int(name.rsplit("_", 1)[1]) > preprocess.windows.horizon:
                raise WorkloadError(
                    "evaluation.step_metrics",
                    expected=f"steps up to preprocess.windows.horizon, {preprocess.windows.horizon}",
                    found=name,
                    do="Name a step that is forecast",
                )

    def check_training(self, model: ForecasterSettings, training: Training) -> None:
        """Refuse a loss that does not train what the network forecasts, and batches made by length.

        Raises:
            WorkloadError: quantiles without the pinball loss, or it without quantiles; a loss of other tasks; a budget of tokens.
        """
        if bool(model.quantiles) != (training.loss == PINBALL):
            raise WorkloadError(
                "training.loss",
                expected=f"`{PINBALL}` with `model.quantiles`, and only then",
                found=f"`{training.loss}` and quantiles {list(model.quantiles)}",
                do=f"Say `loss: {PINBALL}`" if model.quantiles else "Name quantiles, or another loss",
            )
        if training.loss not in (*ELEMENTWISE, PINBALL):
            raise WorkloadError(
                "training.loss",
                expected=f"one of {', '.join(ELEMENTWISE)}, or {PINBALL} for quantiles",
                found=training.loss,
                do="Choose one of them",
            )
        refuse_batch_tokens(training, self.examples_are)

    def check_network(self, model: ForecasterSettings, preprocess: ForecastingPreprocess) -> None:
        """Refuse a network that does not fit the windows, whatever their features.

        Raises:
            WorkloadError: a segment or the lags of the ridge path do not fit the lookback.
        """
        windows = preprocess.windows
        with torch.device("meta"):  # the network says what it refuses, and no memory is taken
            build_forecaster(Shapes(2, 1, 1, windows.lookback, windows.horizon), model)

    def check_evaluation(self, model: ForecasterSettings, evaluation: ForecastingEvaluation) -> None:
        """Refuse to measure decisions on stock of a model that makes none.

        Raises:
            WorkloadError: there is `evaluation.inventory` and no `model.inventory`.
        """
        if model.inventory is None and "inventory" in evaluation.model_fields_set:
            raise WorkloadError(
                "evaluation.inventory",
                expected="no such key without `model.inventory`",
                found="one",
                do="Leave it out, or say in model.inventory what holding and lacking cost",
            )

    def check_data(self, model: ForecasterSettings, prepared: Artifact) -> None:
        """Refuse intervals and service levels that the validation part is too short for; `finish` would, when all training is done.

        Raises:
            DataError: the validation part is too short for a coverage or a service level.
        """
        if not model.intervals and model.inventory is None:
            return
        target, origins = open_store(prepared).arrays[VALUES][:, TARGET], read_windows(prepared, "validation")
        observed = np.isfinite(target)
        at_steps = [observed[origins + step] for step in range(prepared.read_json(STATE)["windows"]["horizon"])]
        require_enough((int(known.sum()) for known in at_steps), model.intervals)
        if model.inventory is not None:
            up_to_steps = itertools.accumulate(at_steps, np.logical_and)
            require_enough_demand((int(known.sum()) for known in up_to_steps), model.inventory.level)

    def check_scoring(self, prepared: Artifact, evaluation: ForecastingEvaluation, gates: Gates) -> None:
        """Refuse an evaluation that cannot be made of these data.

        Raises:
            WorkloadError: a slice is no key, or a gate names what is not computed.
        """
        _check_gates(Encoding.from_json(prepared.read_json(STATE)["encoding"]).schema, evaluation, gates)

    def explain(self, schema: Schema, preprocess: ForecastingPreprocess, facts: Mapping[str, Any]) -> Iterator[str]:
        """Say in words what preprocess would do."""
        target = preprocess.target
        unit = schema.columns[target].unit if target in schema.columns else ""
        past = _columns_in_words(preprocess.past, "known up to now")
        yield f"forecast {target}{f' ({unit})' if unit else ''} from its own past, {past}"
        ahead = [*preprocess.known, *preprocess.calendar.names()]
        static = f", {_columns_in_words(preprocess.static, 'of each series')}" if preprocess.static else ""
        yield f"and {_columns_in_words(ahead, 'known ahead')}{static}"
        if texts := [f"{name} ({count})" for name, count in facts.get("texts", {}).items()]:
            yield f"learn an embedding for each text of {', '.join(texts)}"
        windows, frequency = preprocess.windows, schema.grid.frequency
        yield (
            f"cut windows of {windows.lookback} past steps ({format_span(windows.lookback * frequency)}) and "
            f"{windows.horizon} to forecast ({format_span(windows.horizon * frequency)})"
        )
        split = preprocess.split
        counts = {part: f" ({count:,} windows)" for part, count in facts.get("examples", {}).items()}
        yield (
            f"train until {split.validate_from:%Y-%m-%d %H:%M}{counts.get('train', '')}, validate until "
            f"{split.test_from:%Y-%m-%d %H:%M}{counts.get('validation', '')}, test from then on{counts.get('test', '')}"
        )

    def prepare(
        self, raw: pd.DataFrame, schema: Schema, preprocess: ForecastingPreprocess, draft: Draft
    ) -> pd.DataFrame:
        """Write the folder `prepared`.

            prepared/
            ├── arrays/*.npy          values, raw_target, time (one row per step), offsets
            ├── statics/*.npy         which series each is, and its static columns (one row per series)
            ├── windows/{train,validation,test}.npy     first steps of the windows, in runs of (first row, number, stride)
            ├── state.json            encoding (fitted on the training part), windows, split
            └── table.parquet         the table in raw units, cleaned and without gaps

        Raises:
            DataError: the data do not hold a window for each part, or the target never changes.
        """
        table = regular_table(raw, schema)
        times = unix_seconds(table[schema.grid.column])
        split = preprocess.split.parts()
        encoding = Encoding.fit(
            table,
            split.rows("train", times),
            schema=schema,
            target=preprocess.target,
            past=preprocess.past,
            known=preprocess.known,
            static=preprocess.static,
            calendar=preprocess.calendar,
            transforms=preprocess.transforms,
            scaling=preprocess.scaling,
        )
        store = encoding.encode(table)
        lookback = preprocess.windows.lookback
        cut = partial(
            window_runs,
            times,
            store.offsets,
            np.isfinite(store.arrays[VALUES][:, TARGET]),
            split,
            lookback=lookback,
            horizon=preprocess.windows.horizon,
        )
        origins = cut(stride=preprocess.windows.stride)
        if schema.may_lack_rows:
            of_training = cut()["train"].rows()  # also those that a stride leaves out: other hours have other rows
            least = fewest_present(rows_with_values(table, schema), of_training, lookback)
            encoding = replace(encoding, fewest_present=least)
        store.save(draft.path)
        (draft.path / WINDOWS).mkdir()
        for part, rows in origins.items():
            rows.save(draft.path / WINDOWS / f"{part}.npy")
        write_table(table, draft.path / TABLE)
        windows = preprocess.windows.model_dump(mode="json")
        split_as_json = preprocess.split.model_dump(mode="json")
        draft.write_json(STATE, {"encoding": encoding.to_json(), "windows": windows, "split": split_as_json})
        draft.facts |= {
            "task": self.name,
            "arrays": {name: {"shape": list(a.shape), "dtype": str(a.dtype)} for name, a in store.arrays.items()},
            "series": len(encoding.series),
            "examples": {part: len(rows) for part, rows in origins.items()},
            "split": split_as_json,
            "encoder_features": encoding.encoder_names(),
            "decoder_features": encoding.decoder_names(),
            "texts": {name: len(vocabulary.texts) for name, vocabulary in encoding.vocabularies.items()},
        }
        seen = clean(raw, schema)  # not those that stand in for absent ones
        return as_frame(seen)[split.rows("train", unix_seconds(seen[schema.grid.column]))]

    def dataset(self, prepared: Artifact, part: str) -> WindowDataset:
        """Open the windows of one part, ordered by series, then by time."""
        state = prepared.read_json(STATE)
        return WindowDataset(
            open_store(prepared),
            open_windows(prepared, part),
            inputs=Encoding.from_json(state["encoding"]).inputs(),
            lookback=state["windows"]["lookback"],
            horizon=state["windows"]["horizon"],
        )

    def shapes(self, prepared: Artifact) -> dict[str, Any]:
        """Say what the network must know of the prepared data."""
        state = prepared.read_json(STATE)
        encoding = Encoding.from_json(state["encoding"])
        return {
            "encoder_features": len(encoding.encoder_names()),
            "decoder_features": len(encoding.decoder_names()),
            "num_series": len(encoding.series),
            "lookback": state["windows"]["lookback"],
            "horizon": state["windows"]["horizon"],
            "target_mask": encoding.target in encoding.may_be_missing,
            "static_features": len(encoding.numbers(encoding.static)),
            "units": list(encoding.unit_of_series()),
            **{
                f"{role}_categories": [encoding.vocabularies[name].num_codes for name in encoding.texts(columns)]
                for role, columns in (("past", encoding.past), ("known", encoding.known), ("static", encoding.static))
            },
        }

    def build(self, model: ForecasterSettings, shapes: Mapping[str, Any]) -> ForecasterNetwork:
        """Build the network, freshly initialised."""
        return build_forecaster(Shapes(**shapes), model)

    def start(self, network: nn.Module, dataset: WindowDataset) -> None:
        """Fit what the network computes from all training windows in closed form."""
        device, size = next(network.parameters()).device, len(dataset)
        blocks = (np.arange(first, min(first + SCORING_BATCH, size)) for first in range(0, size, SCORING_BATCH))
        cast(ForecasterNetwork, network).fit_in_closed_form(dataset.__getitems__(rows).to(device) for rows in blocks)

    def order(self, prepared: Artifact, dataset: WindowDataset, training: Training, seed: int) -> Order:  # noqa: ARG002
        """Draw the training windows in a fresh random order every epoch."""
        return ShuffledOrder(len(dataset), training.batch_size, seed, training.examples_per_epoch)

    def validation_order(self, prepared: Artifact, dataset: WindowDataset, training: Training) -> Order:  # noqa: ARG002
        """Take the validation windows as they stand."""
        return SequentialOrder(len(dataset), SCORING_BATCH)

    def loss(
        self,
        network: nn.Module,
        batch: ForecastBatch,
        kind: str,
        carried: None,  # noqa: ARG002  windows hand nothing on
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Sum the loss over the observed steps of a batch, in the scaled space of the target, and count them."""
        forecaster = cast(ForecasterNetwork, network)
        return *_summed(kind, forecaster, forecaster(batch).float(), batch), None

    def scorer(self, prepared: Artifact, kind: str) -> Scorer:
        """Add up the loss (scaled) and the errors, in raw units and in those of each series' deviation."""
        encoding = Encoding.from_json(prepared.read_json(STATE)["encoding"])
        scaler, deviation = encoding.scalers[encoding.target], np.array(encoding.target_deviation)

        def score(network: nn.Module, batch: ForecastBatch, carried: None) -> tuple[dict[str, Pair], None]:  # noqa: ARG001
            forecaster = cast(ForecasterNetwork, network)
            prediction = forecaster(batch).float()  # (B, U, Q)
            total, count = _summed(kind, forecaster, prediction, batch)
            series, point = batch.series.cpu().numpy(), prediction[:, :, forecaster.median]
            forecast, target = (scaler.inverse(each.cpu().numpy(), series) for each in (point, batch.target))
            error = np.where(batch.observed.cpu().numpy(), np.abs(forecast - target), 0.0)
            scaled = error / deviation[series][:, None]
            sums = {"mae": error.sum(), "mae_scaled": scaled.sum(), "mse_scaled": np.square(scaled).sum()}
            return {"loss": (total, count)} | {
                name: (torch.tensor(value).to(count.device), count) for name, value in sums.items()
            }, None

        return score

    def finish(self, network: nn.Module, prepared: Artifact, draft: Draft) -> None:
        """Calibrate `model.intervals` and `model.inventory` on the validation part, and write them into the model folder.

            model/
            ├── intervals.json        see `gateline.conformal.Intervals`; only where intervals are asked for
            └── reserve.json          see `gateline.inventory.SafetyStock`; only where stock is to be decided on

        Raises:
            DataError: the validation part is too short for a coverage or a service level.
        """
        coverages = cast(ForecasterNetwork, network).settings.intervals
        inventory = cast(ForecasterNetwork, network).settings.inventory
        if not coverages and inventory is None:
            return
        state, store, origins = prepared.read_json(STATE), open_store(prepared), read_windows(prepared, "validation")
        lookback, horizon = state["windows"]["lookback"], state["windows"]["horizon"]
        # On the CPU and in float32, as the model is served.
        served = cast(ForecasterNetwork, copy.deepcopy(network).cpu())
        forecaster = Forecaster(served, Encoding.from_json(state["encoding"]), lookback=lookback, horizon=horizon)
        steps = origins[:, None] + np.arange(horizon)
        if coverages:
            intervals = Intervals.calibrate(
                forecaster.scaled(store, origins),
                store.arrays[VALUES][steps, TARGET],
                levels=served.levels,
                coverages=coverages,
            )
            draft.write_json(INTERVALS, intervals.to_json())
        if inventory is not None:
            forecasts = forecaster.forecast_windows(store, origins)
            deviation = np.array(forecaster.encoding.target_deviation)[store.static(SERIES, origins)]
            demand = np.asarray(store.arrays["raw_target"])[steps]
            reserve = SafetyStock.calibrate(forecasts.point, forecasts.uncertainty(deviation), demand, inventory.level)
            draft.write_json(RESERVE, reserve.to_json())

    def load_predictor(self, folder: Path) -> Forecaster:
        """Load a model folder.

        Raises:
            ArtifactError: weights and configuration do not belong together, or a file is damaged.
        """
        from gateline.model_folder import load_network, read_model_json

        config, state = read_model_json(folder, "config.json"), read_model_json(folder, "preprocessing.json")
        try:
            network = self.build(ForecasterSettings(**config["model"]), config["shapes"])
            encoding = Encoding.from_json(state["encoding"])
            settings = network.settings
            intervals = Intervals.from_json(read_model_json(folder, INTERVALS)) if settings.intervals else None
            reserve = SafetyStock.from_json(read_model_json(folder, RESERVE)) if settings.inventory else None
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                folder, expected="a model of this version", found=" ".join(str(error).split())[:160], do="Train again"
            ) from error
        load_network(network, folder)
        lookback, horizon = config["shapes"]["lookback"], config["shapes"]["horizon"]
        return Forecaster(network, encoding, intervals, reserve, lookback=lookback, horizon=horizon)


TASK = Forecasting()


def _summed(kind: str, network: ForecasterNetwork, prediction: torch.Tensor, batch: ForecastBatch) -> Pair:
    """Sum the loss of forecasts (B, U, Q): of all quantiles, or of the point forecast."""
    if kind == PINBALL:
        return summed_pinball(prediction, batch.target, batch.observed, network.quantile_levels)
    return summed_loss(kind, prediction[:, :, network.median], batch.target, batch.observed)


def _check_evaluation(preprocess: ForecastingPreprocess, evaluation: ForecastingEvaluation) -> None:
    if evaluation.volatility is not None:
        if not set(evaluation.baselines) & set(OF_VOLATILITY):
            raise WorkloadError(
                "evaluation.volatility",
                expected=f"no such key without a baseline that reads it ({', '.join(OF_VOLATILITY)})",
                found=f"{examples(evaluation.baselines)} among evaluation.baselines",
                do="Leave it out, or name such a baseline",
            )
        read = (preprocess.target, *preprocess.past, *preprocess.known)
        for name in (evaluation.volatility.ewma, *evaluation.volatility.har):
            require_known("evaluation.volatility", name, read)
    horizon, inventory = preprocess.windows.horizon, evaluation.inventory
    if inventory.steps(horizon) > horizon or inventory.review_period >= horizon:
        raise WorkloadError(
            "evaluation.inventory",
            expected=f"a lead time and review period of {horizon} steps together, as many as are forecast, or fewer",
            found=f"{inventory.lead_time} and {inventory.review_period}",
            do="Shorten them, or lengthen preprocess.windows.horizon",
        )


def _check_gates(schema: Schema, evaluation: ForecastingEvaluation, gates: Gates) -> None:
    for name in evaluation.slices:
        require_known("evaluation.slices", name, schema.keys)
    for name in gates.baselines:
        require_known("gates.baselines", name, evaluation.baselines)
    asked = [("gates.limits", name) for name in gates.limits]
    asked += [
        (f"gates.baselines.{name}.metrics", each) for name, rule in gates.baselines.items() for each in rule.metrics
    ]
    for where, name in asked:
        place, _, metric = name.rpartition("/")
        if place:
            require_known(where, place.partition("=")[0], evaluation.slices)
        # Evaluate says whether the model has these quantiles and intervals.
        if not PROBABILISTIC_METRIC.fullmatch(metric) and metric not in INVENTORY_METRICS:
            require_known(where, metric, (*FORECAST_METRICS, *evaluation.metrics, *evaluation.step_metrics))
    # The champion is compared by resampling windows, which needs a mean over windows.
    require_known("gates.metric", gates.metric, TASK.gate_metrics)


def _check_comparable(target: Column, gates: Gates) -> None:
    if target.units and not SCALE_FREE_METRIC.fullmatch(gates.metric):
        raise WorkloadError(
            "gates.metric",
            expected="mae_scaled or mse_scaled, as the target has several units",
            found=gates.metric,
            do="Compare by one of them, and put limits in raw units on slices",
        )


def _columns_in_words(names: Sequence[str], what: str) -> str:
    return f"{len(names)} columns {what} ({examples(list(names))})" if names else f"nothing {what}"
