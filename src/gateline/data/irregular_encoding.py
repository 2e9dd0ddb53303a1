"""From irregular series in raw units to the numbers that a network reads at each step: fitted once, saved, and served.

A step is told the last known value of each column, whether it was observed in this very step, and how old it is, so that a
value that was measured just now and one from yesterday are not the same.

Source: Che et al. (2018), Recurrent neural networks for multivariate time series with missing values, Scientific Reports 8, 6085:
masks and time gaps beside the values, "GRU-simple" with the last observation carried forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from gateline.data.categories import Vocabulary
from gateline.data.irregular_steps import Steps, flags_of_length, lay_out
from gateline.data.scaling import Scaler, Transform
from gateline.data.store import STATIC, VALUES, SequenceStore
from gateline.errors import WorkloadError, did_you_mean, examples
from gateline.workload.schema import Schema
from gateline.workload.section import Section, Span, format_span

OBSERVED = "observed"
GAPS = "gaps"
ELAPSED = "elapsed"
"""Arrays beside `values`: what was observed in this step, how old values are, how long the series has lasted."""

LOGARITHM = Transform(kind="log1p")
"""Of hours: from one to two is as far as from one to three days."""


class SeriesInputs(Section):
    """What is read of irregular series: rows of the table with the same keys, in order of time."""

    kind: Literal["series"] = "series"
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    """Numbers that are observed now and then."""
    static: tuple[str, ...] = ()
    """Columns with one value for a whole series, known in its first step; numbers, or texts, each of which becomes a yes or no."""
    step: Span | None = None
    """Rows within one step are averaged, e.g. ``1h``; null: each row is a step of its own."""
    transforms: dict[str, Transform] = {}
    """By column; a column without one is only standardised."""
    clip: Annotated[float, Field(gt=0)] = 6.0
    """Deviations from the mean beyond which a value is taken as that far, so that one slip of a pen does not drown the rest."""

    @model_validator(mode="after")
    def _one_role_each(self) -> SeriesInputs:
        names = [*self.columns, *self.static]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each column once in `columns` and `static`, got {', '.join(twice)} twice")
        return self

    def check(self, schema: Schema) -> None:
        """Refuse columns that are not there, or of a type that cannot be read.

        Raises:
            WorkloadError: names the first of them; or there is no column of times.
        """
        if schema.time is None or not schema.keys:
            raise WorkloadError(
                "schema",
                expected="`time`, which orders the rows of a series, and `keys`, which tell one series from another",
                found="no `time`" if schema.time is None else "no `keys`",
                do="Add e.g. `time: {column: time}` and `keys: [patient]`",
            )
        numbers = ("float", "integer", "boolean")
        roles = [("columns", self.columns, numbers), ("static", self.static, (*numbers, "text"))]
        for role, names, types in roles:
            for name in names:
                where = f"preprocess.inputs.{role}"
                if name not in schema.columns:
                    do = did_you_mean(name, list(schema.columns))
                    raise WorkloadError(where, expected="a column of the schema", found=repr(name), do=do)
                if schema.columns[name].type not in types:
                    found = f"{name} ({schema.columns[name].type})"
                    raise WorkloadError(
                        where, expected=f"a column of type {' or '.join(types)}", found=found, do="Drop it"
                    )
        for name in self.transforms:
            readable = [each for each in (*self.columns, *self.static) if schema.columns[each].type in numbers]
            if name not in readable:
                raise WorkloadError(
                    "preprocess.inputs.transforms",
                    expected="a column of numbers that is read",
                    found=repr(name),
                    do=did_you_mean(name, readable),
                )

    def columns_read(self) -> tuple[str, ...]:
        """Name the columns of the table that are read beside keys and time."""
        return (*self.columns, *self.static)

    def columns_needed(self) -> tuple[str, ...]:
        """Name those without which a request cannot be answered: none, since each may be missing in every row."""
        return ()

    def explain(self) -> Iterator[str]:
        """Say in words what is read."""
        steps = (
            "rows are steps" if self.step is None else f"average the rows of each {format_span(self.step)} of a series"
        )
        yield f"{steps}, counted from its first row"
        yield (
            f"read {len(self.columns)} columns ({examples(self.columns)}): the last known value, whether it is new, and how old "
            "it is"
        )
        if self.static:
            yield f"and what is the same for a whole series: {', '.join(self.static)}"

    def lay_out(
        self, frame: pd.DataFrame, schema: Schema, *, of_request: bool = False, longest: int | None = None
    ) -> Steps:
        """Lay rows out as steps, see `gateline.data.irregular_steps.lay_out`."""
        return lay_out(
            frame,
            schema,
            columns=self.columns,
            once=self.static,
            width=self.step,
            of_request=of_request,
            longest=longest,
        )

    def fit(self, steps: Steps, train: np.ndarray, schema: Schema) -> IrregularEncoding:
        """Fit on some series, see `IrregularEncoding.fit`."""
        return IrregularEncoding.fit(steps, train, schema, self)


@dataclass(frozen=True)
class IrregularEncoding:
    """How irregular series become inputs. V observed columns, F features of a step.

    Args:
        schema: columns, keys, time.
        inputs: which of them are read, and how.
        scalers: of the numbers among them, fitted on the training part.
        gap_scalers: of the age of each observed column, in logarithms of hours, and of the time since the beginning.
        vocabularies: of the static texts, fitted on the training part.
        longest: steps of the longest series of the training part; None in a model from before this was kept.
    """

    schema: Schema
    inputs: SeriesInputs
    scalers: Mapping[str, Scaler]
    gap_scalers: Mapping[str, Scaler]
    vocabularies: Mapping[str, Vocabulary]
    longest: int | None = None

    @classmethod
    def fit(cls, steps: Steps, train: np.ndarray, schema: Schema, inputs: SeriesInputs) -> IrregularEncoding:
        """Fit on some series.

        Args:
            steps: of all series.
            train: int64 or bool, the series that may be looked at.
            schema: columns, keys, time.
            inputs: what is read.
        """
        chosen = np.zeros(steps.num_series, dtype=bool)
        chosen[train] = True
        rows = chosen[steps.series]
        texts = [name for name in inputs.static if schema.columns[name].type == "text"]

        def scaler(name: str, values: np.ndarray) -> Scaler:
            return Scaler.fit(values.astype(np.float64), inputs.transforms.get(name, Transform()))

        scalers = {name: scaler(name, steps.values[rows, place]) for place, name in enumerate(inputs.columns)}
        scalers |= {name: scaler(name, steps.once[name][chosen]) for name in inputs.static if name not in texts}
        ages = dict(zip(inputs.columns, steps.gaps()[rows].T, strict=True)) | {ELAPSED: steps.end[rows]}
        return cls(
            schema=schema,
            inputs=inputs,
            scalers=scalers,
            gap_scalers={name: Scaler.fit(age, LOGARITHM) for name, age in ages.items()},
            vocabularies={name: Vocabulary.fit(pd.Series(steps.once[name][chosen])) for name in texts},
            longest=int(np.diff(steps.offsets)[chosen].max()),
        )

    def encode(self, steps: Steps) -> SequenceStore:
        """Make the numbers that the network reads.

        Args:
            steps: N steps of S series.

        Returns:
            A store of `values` float32 (N, V), the last known values, scaled, 0 (their mean) before the first; `observed` bool
            (N, V); `gaps` float32 (N, V), scaled; `elapsed` float32 (N, 1), scaled; and per series float32 `static` (S, Fs).
        """
        limit = self.inputs.clip
        known, gaps = steps.last_known(), steps.gaps()
        values, ages = np.empty(known.shape, np.float32), np.empty(known.shape, np.float32)
        for place, name in enumerate(self.inputs.columns):
            scaled = self.scalers[name].forward(known[:, place])
            values[:, place] = np.clip(np.nan_to_num(scaled), -limit, limit)
            ages[:, place] = self.gap_scalers[name].forward(gaps[:, place])
        elapsed = self.gap_scalers[ELAPSED].forward(steps.end)[:, None]
        arrays = {
            VALUES: values,
            OBSERVED: np.isfinite(steps.values),
            GAPS: ages,
            ELAPSED: elapsed.astype(np.float32),
        }
        return SequenceStore(arrays, steps.offsets, {STATIC: self._statics(steps)})

    def _statics(self, steps: Steps) -> np.ndarray:
        """One row per series: each number, scaled, 0 where it is missing, and whether it is; each text as a yes or no."""
        columns: list[np.ndarray] = [np.zeros((steps.num_series, 0))]
        for name in self.inputs.static:
            if name in self.vocabularies:
                columns.append(
                    np.eye(self.vocabularies[name].num_codes)[self.vocabularies[name].codes(steps.once[name])]
                )
            else:
                number = self.scalers[name].forward(steps.once[name].astype(np.float64))
                limited = np.clip(np.nan_to_num(number), -self.inputs.clip, self.inputs.clip)
                columns += [limited[:, None], np.isfinite(number)[:, None]]
        return np.concatenate(columns, axis=1).astype(np.float32)

    def feature_names(self) -> list[str]:
        """Name the F features of a step, in order."""
        columns = self.inputs.columns
        names = [*columns, *(f"{name}_observed" for name in columns), *(f"{name}_age" for name in columns), ELAPSED]
        for name in self.inputs.static:
            if name in self.vocabularies:
                names += [f"{name}={text}" for text in ("?", *self.vocabularies[name].texts)]
            else:
                names += [name, f"{name}_known"]
        return names

    def flags(self, steps: Steps) -> np.ndarray:
        """Say of each series what is unusual in it as a whole: object (S,) of texts, empty for nothing."""
        nothing = np.logical_and.reduceat(np.isnan(steps.values).all(axis=1), steps.offsets[:-1])
        empty = np.where(nothing, f"no value of {examples(self.inputs.columns)}", "")
        both = zip(empty, flags_of_length(steps.offsets, self.longest), strict=True)
        return np.array(["; ".join(filter(None, words)) for words in both], dtype=object)

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON values that `from_json` reads back exactly."""
        return {
            "schema": self.schema.model_dump(mode="json"),
            "inputs": self.inputs.model_dump(mode="json"),
            "scalers": {name: scaler.to_json() for name, scaler in self.scalers.items()},
            "gap_scalers": {name: scaler.to_json() for name, scaler in self.gap_scalers.items()},
            "vocabularies": {name: list(vocabulary.texts) for name, vocabulary in self.vocabularies.items()},
            "longest": self.longest,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> IrregularEncoding:
        """Read what `to_json` wrote."""
        return cls(
            schema=Schema.model_validate(value["schema"]),
            inputs=SeriesInputs.model_validate(value["inputs"]),
            scalers={name: Scaler.from_json(scaler) for name, scaler in value["scalers"].items()},
            gap_scalers={name: Scaler.from_json(scaler) for name, scaler in value["gap_scalers"].items()},
            vocabularies={name: Vocabulary(tuple(texts)) for name, texts in value["vocabularies"].items()},
            longest=value.get("longest"),
        )
