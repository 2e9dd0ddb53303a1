"""Load a registered model in a process of its own and answer one request: `answer_request.py < question > answer`.

The question is JSON: `model`, the URI of a registered version, and `request`, as a client of `mlflow models serve` sends
it. Run by path with `python -I`, so that nothing of the registering process is there: no PYTHONPATH, no module of the
project. What `gateline` is then, is the package that was registered with the model; this file must not import another.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Read the question from stdin; write the answer to stdout as `mlflow models serve` writes it."""
    import mlflow.pyfunc
    import torch  # noqa: F401  (the model will need it; whoever asks is still busy)
    from mlflow.pyfunc.scoring_server import infer_and_parse_data, predictions_to_json

    question = json.load(sys.stdin)
    folder = Path(mlflow.artifacts.download_artifacts(question["model"])).resolve()
    model = mlflow.pyfunc.load_model(str(folder))
    answer = model.predict(infer_and_parse_data(question["request"], schema=model.metadata.get_input_schema()))
    package = Path(str(sys.modules["gateline"].__file__)).resolve()
    if not package.is_relative_to(folder):
        sys.exit(f"the model ran with {package}, which is not registered with it")
    predictions_to_json(answer, sys.stdout)


if __name__ == "__main__":
    main()
