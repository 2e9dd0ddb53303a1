"""The logged model of a model folder, and its version in the registry.

MLflow is imported inside the functions, so that a refusal does not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.inputs import Inputs
from gateline.adapters.registry.requests import SERVED_TYPES, as_rows
from gateline.passport import versions

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

    from gateline.tasks import Predictor

REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml")
SERVED_FOLDER = "model_folder"  # as in served_model.py, which imports MLflow


def registered_version(
    to: Connection, run: Run, name: str, inputs: Inputs, predictor: Predictor, request: str
) -> ModelVersion:
    """Find the version of this very model, or make one."""
    from mlflow.exceptions import MlflowException

    digest = inputs.model.digest
    if not to.client.search_registered_models(f"name = '{name}'"):
        try:
            to.client.create_registered_model(
                name, description=f"Models of the workload {name}, registered by Gateline"
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another process was faster
                raise
    found = to.client.search_model_versions(f"name = '{name}' and tags.`gateline.model_digest` = '{digest}'")
    ready = [version for version in found if version.status == "READY"]
    if ready:
        return min(ready, key=lambda version: int(version.version))
    model = _logged_model(to, run, inputs, predictor, request)
    tags = {
        "gateline.model_digest": digest,
        "gateline.evaluation_digest": inputs.evaluation.digest,
        "gateline.raw_digest": inputs.raw.digest,
    }
    return to.client.create_model_version(name, model.model_uri, run.info.run_id, tags=tags, model_id=model.model_id)


def _logged_model(to: Connection, run: Run, inputs: Inputs, predictor: Predictor, request: str) -> LoggedModel:
    """Log the model to its run, unless a register that was killed did."""
    import mlflow
    from mlflow.models import Model
    from mlflow.types.schema import ParamSchema, ParamSpec

    from gateline.tasks import task_named

    digest = inputs.model.digest
    there = to.client.search_logged_models(
        [to.experiment_id], f"tags.`gateline.model_digest` = '{digest}' AND status = 'READY'", max_results=1
    )
    if there:
        return there[0]
    params = to.client.get_run(run.info.run_id).data.params
    model = to.client.create_logged_model(
        to.experiment_id,
        name="model",
        source_run_id=run.info.run_id,
        tags={"gateline.model_digest": digest},
        params=params,
        model_type=str(inputs.model.facts.get("task", "")),
    )
    package = Path(__file__).parents[2]
    parameters = [ParamSpec(*parameter) for parameter in predictor.parameters]
    signature = mlflow.models.ModelSignature(
        inputs=_columns([(name, kind, needed) for name, kind, needed in predictor.input_columns]),
        outputs=_columns([(name, kind, True) for name, kind in predictor.output_columns]),
        params=ParamSchema(parameters) if parameters else None,  # type: ignore[arg-type]  # None is its default
    )
    Model.log(
        None,
        flavor=mlflow.pyfunc,
        run_id=run.info.run_id,
        model_id=model.model_id,
        python_model=str(package / "adapters" / "served_model.py"),
        artifacts={SERVED_FOLDER: str(inputs.model.path)},
        code_paths=[str(package)],
        signature=signature,
        input_example=as_rows(request, predictor),
        pip_requirements=_requirements(task_named(str(inputs.model.facts["task"])).requirements),
    )
    return to.client.finalize_logged_model(model.model_id, "READY")


def _columns(columns: list[tuple[str, str, bool]]) -> Any:
    from mlflow.types.schema import ColSpec, Schema

    return Schema([ColSpec(SERVED_TYPES[kind], name, required=needed) for name, kind, needed in columns])


def _requirements(of_task: Sequence[str]) -> list[str]:
    """The versions that run here; without `+cpu` and the like, so that any build of the same version serves."""
    return [f"{name}=={version.split('+')[0]}" for name, version in versions((*REQUIREMENTS, *of_task)).items()]
