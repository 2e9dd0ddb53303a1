"""The model as MLflow serves it: rows of the table in raw units in, answers in raw units out.

MLflow runs this file when it loads a registered model ("models from code"), so nothing is unpickled. It comes with the
package `gateline` as it was at registration, and with the model folder, whose weights are read with `weights_only=True`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext  # type: ignore[attr-defined]  # as MLflow documents it

FOLDER = "model_folder"
"""Under this name the model folder stands among the artifacts."""


class ServedModel(PythonModel):
    """Answers requests with the predictor of the model's task."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder."""
        from gateline.tasks import task_named

        folder = Path(context.artifacts[FOLDER])
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.predictor = task_named(config["task"]).load_predictor(folder)
        self.times = [name for name, kind in self.predictor.output_columns if kind == "time"]
        self.check = input_check(self.predictor, folder)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002  (MLflow's signature)
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Answer one request.

        Args:
            context: not read.
            model_input: rows of the table, in raw units.
            params: what the task's predictor takes beside rows, by name, e.g. `origin` of a forecast.

        Raises:
            MlflowException: the request cannot be answered (status 400, with one line that says why).
        """
        from gateline.errors import GatelineError
        from gateline.input_check import FLAGS
        from gateline.table import as_frame, by_column

        # To take a column out of a frame costs ten microseconds, and both the predictor and the check look at nearly all.
        try:
            asked = by_column(model_input) if getattr(self.predictor, "takes_columns", False) else model_input
            answer = self.predictor.answer(asked, **(params or {}))
        except GatelineError as error:
            raise MlflowException.invalid_parameter_value(str(self._plainer(model_input) or error)) from None
        flags = self.check.flags(asked, answer, self.predictor.place_columns)
        return as_frame(answer | {name: as_text(answer[name]) for name in self.times} | {FLAGS: flags})

    def _plainer(self, refused: pd.DataFrame) -> Exception | None:
        """Say what is wrong with a request by the client's own numbers of rows, if it is a matter of rows."""
        if not refused.columns.is_unique:
            return None
        return without_place(refused, self.predictor.place_columns) or self.check.refused_rows(refused)


def input_check(predictor: Any, folder: Path) -> Any:
    """Make what looks at requests, from the statistics of the training part in a model folder."""
    from gateline.input_check import InputCheck
    from gateline.model_folder import TRAINING_STATISTICS, read_model_json

    columns = [name for name, _, _ in predictor.input_columns]
    return InputCheck(
        read_model_json(folder, TRAINING_STATISTICS),
        columns,
        getattr(predictor, "tokenizers", {}),
        getattr(predictor, "asked_columns", None),
        getattr(predictor, "most_tokens", None),
    )


def without_place(frame: pd.DataFrame, columns: list[str]) -> Exception | None:
    """Say which rows of a refused request do not say of which series or time they are.

    The library has refused them, too, but it counts them, and here the client's own numbers of rows are known.
    """
    from gateline.errors import DataError, examples

    for name in columns:
        if name in frame and (missing := frame[name].isna()).any():
            return DataError(
                f"request, column {name}",
                expected="a value in every row",
                found=f"none in row {examples(frame.index[missing].tolist())}",
                do="Add it",
            )
    return None


def as_text(times: Any) -> np.ndarray:
    """Write time stamps in UTC as ISO 8601 text, as requests and answers hold them.

    MLflow's own type for time stamps has no time zone, so an offset in a request would be lost.
    """
    from gateline.table import stamps_of

    return np.datetime_as_string(stamps_of(times).as_unit("s").asi8.view("M8[s]"), timezone="UTC")


mlflow.models.set_model(ServedModel())
