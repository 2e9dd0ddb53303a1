"""Load a registered model in a process of its own and answer one request: `answer_request.py URI < request > answer`.

Run by path with `python -I`, so that nothing of the registering process is there: no PYTHONPATH, no module of the project.
What `gateline` is then, is the package that was registered with the model; this file must not import another.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Read the request from stdin as `mlflow models serve` reads it; write its answer to stdout."""
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import infer_and_parse_data, predictions_to_json

    folder = Path(mlflow.artifacts.download_artifacts(sys.argv[1])).resolve()
    model = mlflow.pyfunc.load_model(str(folder))
    frame = infer_and_parse_data(json.load(sys.stdin), schema=model.metadata.get_input_schema())
    answer = model.predict(frame)
    package = Path(str(sys.modules["gateline"].__file__)).resolve()
    if not package.is_relative_to(folder):
        sys.exit(f"the model ran with {package}, which is not registered with it")
    predictions_to_json(answer, sys.stdout)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
