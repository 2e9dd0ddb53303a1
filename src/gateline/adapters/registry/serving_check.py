"""The infrastructure check: ask what was registered, in an environment of its own, and compare with the model that was trained.

with serving_check(settings, requirements, say) as check:   # the other process imports its libraries meanwhile
check.ask(to, name, version, requests)
...                                                     # it answers meanwhile
check.conclude()                                        # marks the version; refuses one that failed
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gateline.adapters.answer_requests import PEAK_MEMORY
from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.golden_requests import ONE, GoldenRequest
from gateline.adapters.registry.model_files import fetch
from gateline.adapters.registry.package import PACKAGE_TAG, package_digest, without_bytecode
from gateline.adapters.registry.serving_environment import python_for
from gateline.errors import GatelineError, RegistryError, TryAgainError
from gateline.input_check import FLAGS
from gateline.workload.address import without_users
from gateline.workload.gates import Serving

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ANSWERS_AGREE = 1e-5
"""Of a number, or of how large the numbers are that the model answers, see `GoldenRequest.scale`."""
CHECK_SECONDS = 900
CHECK_TAG = "gateline.serving_check"
PASSED, FAILED = "passed", "failed"
MEBIBYTE = 2**20


class ServingCheck:
    """One registered version being asked.

    Args:
        settings: environment and limits.
        requirements: what the environment is made of, until the version says otherwise.
        say: takes one line of progress.
        folder: where the registered files are fetched to.
    """

    def __init__(
        self, settings: Serving, requirements: Sequence[str], say: Callable[[str], None], folder: Path
    ) -> None:
        self.settings, self.say, self.folder = settings, say, folder
        self._start(requirements)

    def _start(self, requirements: Sequence[str]) -> None:
        asks = Path(__file__).resolve().parents[1] / "answer_requests.py"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment["OMP_NUM_THREADS"] = "1"  # as it was trained; on cores that others use, threads wait for each other
        python = python_for(self.settings.environment, requirements, self.say, reads=(self.folder, asks, PEAK_MEMORY))
        self.requirements, self.environment = requirements, python.environment
        self.process = subprocess.Popen(  # noqa: S603  (a Python)
            [*python.command, "-I", str(asks)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environment,
        )

    def stop(self) -> None:
        """End the other process."""
        self.process.kill()
        self.process.communicate()

    def ask(self, to: Connection, name: str, version: ModelVersion, requests: Sequence[GoldenRequest]) -> None:
        """Fetch a registered version and hand it, with the requests, to the other process; whoever concludes waits.

        A version that was registered before has the requirements of that day, and is tried with those.

        Raises:
            RegistryError: it has other files than were registered; it is marked so.
            TryAgainError: its files cannot be fetched, or its environment cannot be built; it is not marked.
        """
        self.to, self.name, self.version, self.requests = to, name, version, requests
        try:
            model = fetch(version, self.folder, do="Run register again")
        except GatelineError as error:  # gone ones, too: they were uploaded a moment ago
            raise self._untried(error.found) from error
        if not (model / "MLmodel").is_file():  # of a folder that is not there, MLflow fetches an empty one
            raise self._untried("none of its files where MLflow keeps them")
        said = version.tags.get(PACKAGE_TAG)
        if said is not None and package_digest(model) != said:
            raise self._failed("other files than it was registered with; `gateline verify` names the first")
        without_bytecode(model)
        listed = (model / "requirements.txt").read_text(encoding="utf-8").split()
        if sorted(listed) != sorted(self.requirements):
            self.stop()
            self._start(listed)
        question = json.dumps(
            {
                "model": str(model),
                "requirements": listed,
                "requests": [json.loads(each.request) for each in requests],
                "timed": [each.name for each in requests].index(ONE),
            }
        )
        if self.process.stdin is not None:
            try:
                self.process.stdin.write(question)
                self.process.stdin.close()
            except BrokenPipeError:  # it ended already; why, is read with its answer
                pass
            self.process.stdin = None

    def conclude(self) -> dict[str, Any]:
        """Wait for the answers, compare, and mark the version.

        Returns:
            What was measured: `start_seconds`, `latency_ms`, `memory_mb`, `requests`, `environment`, `python`.

        Raises:
            RegistryError: it fails, answers otherwise than the trained model, or takes more than it may; it is marked so.
            TryAgainError: it could not be asked; what it is marked with stays.
        """
        try:
            output, complaints = self.process.communicate(timeout=CHECK_SECONDS)
        except subprocess.TimeoutExpired as error:
            if self.settings.start_seconds + len(self.requests) * self.settings.latency_ms / 1000 < CHECK_SECONDS:
                raise self._failed(f"no answer after {CHECK_SECONDS} s, which gates.serving does not allow") from error
            raise self._untried(f"no answer after {CHECK_SECONDS} s") from error
        try:
            said = json.loads(output)
        except ValueError as error:
            last = without_users((complaints.strip().splitlines() or ["no answer"])[-1])
            raise self._untried(f"its process ended with exit code {self.process.returncode}: {last}") from error
        if said["unmet"]:
            raise self._untried(f"requirements that its environment does not meet: {', '.join(said['unmet'])}")
        if "failed" in said:
            raise self._failed(without_users(said["failed"]))
        answers = said["answers"]
        for golden, answer in zip(self.requests, answers, strict=True):
            if problem := difference(golden, answer):
                raise self._failed(f"{golden.name}: {problem}")
        measured = {
            "start_seconds": round(said["start_seconds"], 2),
            "latency_ms": round(1000 * said["latency_seconds"], 2),
            "memory_mb": round(said["peak_memory_bytes"] / MEBIBYTE, 1),
        }
        if problem := excess(measured, self.settings):
            raise self._failed(problem)
        result = measured | {
            "requests": [golden.name for golden in self.requests],
            "environment": self.environment,
            "python": said["python"],
        }
        self._mark(f"{PASSED}: {json.dumps(result)}")
        return result

    def _mark(self, words: str) -> None:
        self.to.client.set_model_version_tag(self.name, self.version.version, CHECK_TAG, words[:5000])

    def _failed(self, found: str) -> RegistryError:
        self._mark(f"{FAILED}: {found}")
        return RegistryError(
            f"{self.name} version {self.version.version}",
            expected="the answers of the model that was evaluated, from what was registered, in an environment of its own",
            found=found[:400],
            do=f"It is marked as {CHECK_TAG}={FAILED} and not promoted; look at its files in MLflow, delete the version and run "
            "register again",
        )

    def _untried(self, found: str) -> TryAgainError:
        return TryAgainError(
            f"{self.name} version {self.version.version}",
            expected="to ask it for answers in an environment of its own",
            found=found[:400],
            do="That is no fault of the model, and nothing was marked or promoted. Run register again; where libraries are "
            "others than it was registered with, say `gates.serving.environment: fresh`",
        )


@contextmanager
def serving_check(settings: Serving, requirements: Sequence[str], say: Callable[[str], None]) -> Iterator[ServingCheck]:
    """Start a process that holds nothing of this one; it imports its libraries while this one works.

    Raises:
        TryAgainError: its environment cannot be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # in an image, somebody else reads it
        check = ServingCheck(settings, requirements, say, Path(folder))
        try:
            yield check
        finally:
            check.stop()


def excess(measured: Mapping[str, float], settings: Serving) -> str | None:
    """Say what takes more than it may; None if nothing does."""
    for key, value in measured.items():
        most = getattr(settings, key)
        if not value <= most:
            return f"{key} {value:g}, and gates.serving.{key} allows {most:g}"
    return None


def difference(golden: GoldenRequest, answer: Mapping[str, Any]) -> str | None:
    """Say how an answer differs from what is expected; None if it does not, but for ANSWERS_AGREE of a number."""
    if golden.expected is None:
        return None if "refused" in answer else "answered, and the trained model refuses it"
    if "refused" in answer:
        return f"refused ({str(answer['refused'])[-200:]}), and the trained model answers it"
    there, wanted = (
        pd.DataFrame(answer["predictions"]).drop(columns=FLAGS, errors="ignore"),  # only the served model flags
        pd.DataFrame(golden.expected["data"], columns=golden.expected["columns"]),
    )
    if list(there.columns) != list(wanted.columns) or len(there) != len(wanted):
        return f"{len(there)} rows of {', '.join(map(str, there.columns))}"
    for column in wanted:
        if not _agree(there[column].tolist(), wanted[column].tolist(), ANSWERS_AGREE * golden.scale):
            return f"another {column}"
    return None


def _agree(found: Any, wanted: Any, absolute: float) -> bool:
    """Tell whether two answers are the same, numbers with a fraction up to ANSWERS_AGREE of them or `absolute`, also in lists."""
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(partial(_agree, absolute=absolute), found, wanted))
    if isinstance(found, float) or isinstance(wanted, float):
        there, expected = (math.nan if each is None else each for each in (found, wanted))
        if isinstance(there, float | int) and isinstance(expected, float | int):
            return bool(np.isclose(there, expected, rtol=ANSWERS_AGREE, atol=absolute, equal_nan=True))
    return bool(found == wanted)
