"""The logged model of a model folder, and its version in the registry.

MLflow is imported inside the functions, so that a refusal does not wait for it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateline.adapters import tracking
from gateline.adapters.mlflow_server import Connection
from gateline.adapters.provenance import dvc_md5, git_state, image, pipeline
from gateline.adapters.registry.inputs import Inputs
from gateline.adapters.registry.package import PACKAGE_TAG, PACKAGES_FOLDER, package_digest, package_files
from gateline.adapters.registry.requests import SERVED_TYPES, as_rows
from gateline.input_check import FLAGS
from gateline.judgement import Verdict
from gateline.manifest import MANIFEST, Json, digest_of, dump_json, file_digest
from gateline.paired_errors import ERRORS
from gateline.passport import make_passport, versions, workload_of, workload_text
from gateline.workload import Workload

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

    from gateline.tasks import Predictor

REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml")
SERVED_FOLDER = "model_folder"  # as in served_model.py, which imports MLflow
WEIGHTS = "weights.pt"  # as in gateline.model_folder, which imports torch
PAPERS_FOLDER = "papers"
PASSPORT, WORKLOAD, METRICS = "passport.json", "workload.json", "metrics.json"
PASSPORT_TAG, IMAGES_TAG = "gateline.passport_digest", "gateline.images"
MODEL_TAG, WEIGHTS_TAG, LIBRARY_TAG = "gateline.model_digest", "gateline.weights_digest", "gateline.library_digest"
REGISTRATION_TAG = "gateline.registration_digest"
LIBRARY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Papers:
    """What travels inside a registered model, so that it can be traced and made again from the repository and the data.

        papers/
        ├── passport.json      what it came from, digest by digest
        ├── workload.json      every section that shaped it, as `Workload.read` takes it
        ├── metrics.json       of its evaluation
        ├── errors.parquet     of its evaluation: how sure the differences to baselines are
        └── manifests/         raw.json, report.json, ...: the manifest of each folder, which names every file in it

    Args:
        passport: see `gateline.passport.make_passport`.
        workload: see `gateline.passport.workload_of`.
        inputs: the folders.
    """

    passport: Json
    workload: Json
    inputs: Inputs

    @property
    def digest(self) -> str:
        """Of the passport."""
        return digest_of(self.passport)

    @cached_property
    def library(self) -> str:
        """Digest of every file of the library, adapters included: it is registered with the model and serves it."""
        return package_digest(LIBRARY)

    @property
    def registration(self) -> str:
        """Digest of what makes a version another: the folders, the workload with its gates, the verdict, the library.

        Not where it is registered, by which door, from which commit and beside which libraries.
        """
        return registration_of(self.passport, self.library)

    @property
    def weights(self) -> str:
        """sha256 of the weights."""
        return file_digest(self.inputs.model.path / WEIGHTS)

    def write(self, folder: Path) -> None:
        """Write the folder."""
        (folder / "manifests").mkdir(parents=True)
        (folder / PASSPORT).write_text(dump_json(self.passport), encoding="utf-8")
        (folder / WORKLOAD).write_text(workload_text(self.workload), encoding="utf-8")
        for name in (METRICS, ERRORS):
            if (self.inputs.evaluation.path / name).exists():  # an earlier Gateline wrote no errors
                shutil.copyfile(self.inputs.evaluation.path / name, folder / name)
        for kind, artifact in self.inputs.by_kind().items():
            shutil.copyfile(artifact.path / MANIFEST, folder / "manifests" / f"{kind}.json")


def registration_of(passport: Json, library: str) -> str:
    """Compute `Papers.registration`, also of papers that were registered with a library of that digest."""
    return digest_of({name: passport[name] for name in ("workload", "artifacts", "verdict")} | {"library": library})


def make_papers(
    to: Connection, run: Run, workload: Workload, inputs: Inputs, predictor: Predictor, verdict: Verdict
) -> Papers:
    """Write down what a model came from, as the folders, the run, git, DVC and the door know it."""
    artifacts, content = inputs.by_kind(), workload_of(workload, inputs.by_kind())
    place = tracking.where(to.client.get_run(run.info.run_id))
    if name := image():
        place["images"]["register"] = name
    passport = make_passport(
        content,
        artifacts,
        dvc={kind: md5 for kind, artifact in artifacts.items() if (md5 := dvc_md5(artifact.path))},
        git=git_state(),
        training_code=inputs.model.facts.get("code"),
        verdict=verdict.as_json(),
        place=place | {"pipeline": pipeline(within_mlflow_run=to.outer_run_id is not None)},
        served={"requirements": requirements_of(workload.task), "signature": signature_of(predictor).to_dict()},
    )
    return Papers(passport, content, inputs)


def registered_version(
    to: Connection, run: Run, name: str, papers: Papers, predictor: Predictor, request: str
) -> ModelVersion:
    """Find the version that was registered of the same, or make one.

    The same weights under other gates, or with another library to serve them, are another version: its passport says what let
    it in, and its package is what runs.
    """
    from mlflow.exceptions import MlflowException

    inputs, passport = papers.inputs, papers.passport
    digest = inputs.model.digest
    if not to.client.search_registered_models(f"name = '{name}'"):
        try:
            to.client.create_registered_model(
                name, description=f"Models of the workload {name}, registered by Gateline"
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another process was faster
                raise
    found = to.client.search_model_versions(f"name = '{name}' and tags.`{REGISTRATION_TAG}` = '{papers.registration}'")
    ready = [version for version in found if version.status == "READY"]
    if ready:
        return min(ready, key=lambda version: int(version.version))
    model = _logged_model(to, run, papers, predictor, request)
    tags = {
        MODEL_TAG: digest,
        WEIGHTS_TAG: papers.weights,
        LIBRARY_TAG: papers.library,
        REGISTRATION_TAG: papers.registration,
        "gateline.evaluation_digest": inputs.evaluation.digest,
        "gateline.raw_digest": inputs.raw.digest,
        PASSPORT_TAG: papers.digest,
        PACKAGE_TAG: _package(to, run, model),
        "gateline.workload_digest": passport["workload"]["digest"],
        "gateline.code": passport["code"]["version"],
        "gateline.seed": str(passport["seed"]),
        IMAGES_TAG: json.dumps(passport["images"], sort_keys=True),
        **{f"gateline.git_{key}": passport["code"][key] for key in ("commit", "dirty") if key in passport["code"]},
    }
    to.client.set_tag(run.info.run_id, PASSPORT_TAG, papers.digest)
    return to.client.create_model_version(name, model.model_uri, run.info.run_id, tags=tags, model_id=model.model_id)


def is_same_model(version: ModelVersion, papers: Papers) -> bool:
    """Say whether a version is this model, served by this library, whatever the gates were that let it in."""
    return (version.tags.get(MODEL_TAG), version.tags.get(LIBRARY_TAG)) == (papers.inputs.model.digest, papers.library)


def versions_of_weights(to: Connection, name: str, weights: str) -> list[int]:
    """Number every version that has the weights of a sha256."""
    found = to.client.search_model_versions(f"name = '{name}' and tags.`{WEIGHTS_TAG}` = '{weights}'")
    return sorted(int(version.version) for version in found)


def _logged_model(to: Connection, run: Run, papers: Papers, predictor: Predictor, request: str) -> LoggedModel:
    """Log the model to its run, unless a register that was killed did."""
    import mlflow
    from mlflow.models import Model

    inputs = papers.inputs
    tags = {MODEL_TAG: inputs.model.digest, PASSPORT_TAG: papers.digest, REGISTRATION_TAG: papers.registration}
    same = " AND ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
    # MLflow 3.17 compares the status with the column's number as text, which PostgreSQL refuses; so it is compared here.
    found = to.client.search_logged_models([to.experiment_id], same)
    if there := [model for model in found if model.status == "READY"]:
        return there[0]
    params = to.client.get_run(run.info.run_id).data.params
    model = to.client.create_logged_model(
        to.experiment_id,
        name="model",
        source_run_id=run.info.run_id,
        tags=tags,
        params=params,
        model_type=str(inputs.model.facts.get("task", "")),
    )
    with tempfile.TemporaryDirectory() as scratch:
        papers.write(Path(scratch) / PAPERS_FOLDER)
        Model.log(
            None,
            flavor=mlflow.pyfunc,
            run_id=run.info.run_id,
            model_id=model.model_id,
            python_model=str(LIBRARY / "adapters" / "served_model.py"),
            artifacts={SERVED_FOLDER: str(inputs.model.path), PAPERS_FOLDER: str(Path(scratch) / PAPERS_FOLDER)},
            code_paths=[str(LIBRARY)],
            signature=signature_of(predictor),
            input_example=as_rows(request, predictor),
            pip_requirements=requirements_of(str(inputs.model.facts["task"])),
        )
    return to.client.finalize_logged_model(model.model_id, "READY")


def _package(to: Connection, run: Run, model: LoggedModel) -> str:
    """Digest of every file of a logged model; the listing goes to the run, so that a file that changes can be named."""
    import mlflow

    if said := model.tags.get(PACKAGE_TAG):
        return said
    with tempfile.TemporaryDirectory() as scratch:
        listing = package_files(Path(mlflow.artifacts.download_artifacts(model.model_uri, dst_path=scratch)))
    digest = digest_of(listing)
    to.client.log_dict(run.info.run_id, listing, f"{PACKAGES_FOLDER}/{digest}.json")
    to.client.set_logged_model_tags(model.model_id, {PACKAGE_TAG: digest})
    return digest


def signature_of(predictor: Predictor) -> ModelSignature:
    """Say what a request and an answer look like, as MLflow checks them."""
    import mlflow
    from mlflow.types.schema import ParamSchema, ParamSpec

    parameters = [ParamSpec(*parameter) for parameter in predictor.parameters]
    return mlflow.models.ModelSignature(
        inputs=_columns([(name, kind, needed) for name, kind, needed in predictor.input_columns]),
        outputs=_columns([(name, kind, True) for name, kind in (*predictor.output_columns, (FLAGS, "text"))]),
        params=ParamSchema(parameters) if parameters else None,  # type: ignore[arg-type]  # None is its default
    )


def _columns(columns: list[tuple[str, str, bool]]) -> Any:
    from mlflow.types.schema import ColSpec, Schema

    return Schema([ColSpec(SERVED_TYPES[kind], name, required=needed) for name, kind, needed in columns])


def requirements_of(task: str) -> list[str]:
    """The versions that run here; without `+cpu` and the like, so that any build of the same version serves."""
    from gateline.tasks import task_named

    names = (*REQUIREMENTS, *task_named(task).requirements)
    return [f"{name}=={version.split('+')[0]}" for name, version in versions(names).items()]
