"""Load a registered model in a process of its own and answer requests: `answer_requests.py < question > answers`.

The question is JSON: `model`, the folder of the model as the registry gave it; `requirements`, the lines of its
requirements.txt; `requests`, as a client of `mlflow models serve` sends them; `timed`, the place of the one whose latency is
measured. Run by path with `python -I`, so that nothing of the registering process is there: no PYTHONPATH, no module of the
project. What `gateline` is then, is the package that was registered with the model; this file must not import another, and
reads its one helper by path, too.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

REPEATS = 5
"""How often the answer that is timed is asked for; the middle of the times is the latency."""
PEAK_MEMORY = Path(__file__).resolve().parents[1] / "peak_memory.py"


def main() -> None:
    """Read the question from stdin; write what was found to stdout."""
    began = time.perf_counter()
    import mlflow.pyfunc  # noqa: F401
    import torch  # noqa: F401  (the model will need it; whoever asks is still busy)

    imported = time.perf_counter()
    question = json.load(sys.stdin)
    asked = time.perf_counter()
    result: dict[str, Any] = {"unmet": unmet(question["requirements"])}
    if not result["unmet"]:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # whatever the model prints is no part of the answer
                loaded, answers, latency = ask(
                    Path(question["model"]).resolve(), question["requests"], question["timed"]
                )
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever else it raises is the model's own fault)
            result["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            result |= {
                "answers": answers,
                "start_seconds": (imported - began) + (loaded - asked),
                "latency_seconds": latency,
                "peak_memory_bytes": runpy.run_path(str(PEAK_MEMORY))["peak_memory"](),
                "python": sys.version.split()[0],
            }
    json.dump(result, sys.stdout)


def ask(folder: Path, requests: list[Any], timed: int) -> tuple[float, list[dict[str, Any]], float]:
    """Load the model and answer every request, one of them `REPEATS` times.

    Returns:
        When the model was loaded, the answers, and the latency in seconds of the one that is timed.

    Raises:
        ImportError: it ran with a library that is not registered with it.
    """
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(str(folder))
    package = Path(str(sys.modules["gateline"].__file__)).resolve()
    if not package.is_relative_to(folder):
        raise ImportError(f"the model ran with {package}, which is not registered with it")
    loaded = time.perf_counter()
    answers = [answer(model, request) for request in requests]
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        answer(model, requests[timed])
        seconds.append(time.perf_counter() - began)
    return loaded, answers, statistics.median(seconds)


def answer(model: Any, request: Any) -> dict[str, Any]:
    """Answer one request as `mlflow models serve` does: `predictions`, or the line that refuses it."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import infer_and_parse_data, predictions_to_json

    text = io.StringIO()
    try:
        answered = model.predict(infer_and_parse_data(request, schema=model.metadata.get_input_schema()))
    except MlflowException as error:
        return {"refused": " ".join(str(error.message).split())}
    predictions_to_json(answered, text)
    answers: dict[str, Any] = json.loads(text.getvalue())
    return answers


def unmet(requirements: list[str]) -> list[str]:
    """Say which requirements this environment does not have in exactly that version; builds of a version count as one."""
    lines = []
    for line in requirements:
        name, _, version = line.partition("==")
        try:
            here = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            here = "none"
        if here != version:
            lines.append(f"{line} (here {here})")
    return lines


if __name__ == "__main__":
    main()
