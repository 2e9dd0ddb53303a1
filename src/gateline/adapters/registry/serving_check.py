"""Ask what was registered, in a process of its own, and compare with the model that was evaluated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gateline.adapters.mlflow_server import shown, tracking_uri
from gateline.errors import RegistryError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ANSWERS_AGREE = 1e-5
CHECK_SECONDS = 300


@contextmanager
def clean_process() -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds nothing of this one; it imports its libraries while this one works."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["MLFLOW_TRACKING_URI"] = tracking_uri()
    process = subprocess.Popen(  # noqa: S603  (this very Python)
        [sys.executable, "-I", str(Path(__file__).parents[1] / "answer_request.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(process: subprocess.Popen[str], uri: str, request: str) -> None:
    """Hand a request for a registered model to the process; whoever reads its answer waits."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # it ended already; why, is read with its answer
            process.stdin.write(json.dumps({"model": uri, "request": json.loads(request)}))
            process.stdin.close()
        process.stdin = None


def check_answer(name: str, version: ModelVersion, expected: Mapping[str, Any], process: subprocess.Popen[str]) -> None:
    """Refuse a version that answers otherwise than the model in this process.

    Raises:
        RegistryError: it fails, or its forecasts differ by more than ANSWERS_AGREE.
    """
    try:
        output, complaints = process.communicate(timeout=CHECK_SECONDS)
        answer = pd.DataFrame(json.loads(output)["predictions"])
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        last = shown((complaints.strip().splitlines() or ["no answer"])[-1]) if process.returncode else str(error)
        raise _wrong_answer(name, version, last[:300]) from error
    wanted = pd.DataFrame(expected["data"], columns=expected["columns"])
    if list(answer.columns) != list(wanted.columns) or len(answer) != len(wanted):
        raise _wrong_answer(name, version, f"{len(answer)} rows of {', '.join(map(str, answer.columns))}")
    for column in wanted:
        if pd.api.types.is_numeric_dtype(wanted[column]):
            numbers = pd.to_numeric(answer[column], errors="coerce").to_numpy(float)
            same = np.allclose(numbers, wanted[column].to_numpy(float), ANSWERS_AGREE, ANSWERS_AGREE, equal_nan=True)
        else:
            same = answer[column].tolist() == wanted[column].tolist()
        if not same:
            raise _wrong_answer(name, version, f"another {column}")


def _wrong_answer(name: str, version: ModelVersion, found: str) -> RegistryError:
    return RegistryError(
        f"{name} version {version.version}",
        expected="the answers of the model that was evaluated, from what was registered, in a clean process",
        found=found,
        do="It got no alias; look at its files in MLflow, delete the version and run register again",
    )
