"""From a judged model to a registered version: log it, check what was registered, compare, promote, write the release.

MLflow and torch are imported inside the functions, so that a refusal does not wait for them.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gateline.adapters import tracking
from gateline.adapters.mlflow_server import Connection, connected, shown, tracking_uri
from gateline.adapters.provenance import dvc_md5, git_state
from gateline.errors import ArtifactError, RegistryError
from gateline.manifest import Artifact, check_made_from, open_artifact, write_artifact
from gateline.passport import make_passport, versions
from gateline.promotion import Check, Decision, Verdict, decide, judge, with_slices
from gateline.table import TABLE, read_table
from gateline.workload import Workload
from gateline.workload.gates import Gates

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

    from gateline.tasks import Predictor

CHAMPION, CHALLENGER = "champion", "challenger"
DECISION_TAG = "gateline.decision"
REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml")
SERVED_FOLDER = "model_folder"  # as in served_model.py, which imports MLflow
SERVED_TYPES: Mapping[str, str] = {
    "float": "double",
    "integer": "double",
    "boolean": "double",
    "text": "string",
    "time": "string",
    "bytes": "binary",
}
"""Numbers are double, the only type of MLflow's that has a missing value; time stamps are ISO 8601 text with their offset."""
ANSWERS_AGREE = 1e-5
CHECK_SECONDS = 300


@dataclass(frozen=True)
class Inputs:
    """The folders of one model, checked to belong together."""

    raw: Artifact
    report: Artifact
    prepared: Artifact
    model: Artifact
    evaluation: Artifact

    def by_kind(self) -> dict[str, Artifact]:
        """Every folder by its kind."""
        return {artifact.kind: artifact for artifact in vars(self).values()}


@dataclass(frozen=True)
class Outcome:
    """What register did: the release, and what it says to a person."""

    release: Artifact
    lines: tuple[str, ...]


def open_inputs(raw: Path, report: Path, prepared: Path, model: Path, evaluation: Path) -> Inputs:
    """Open the five folders and check every link between them.

    Raises:
        ArtifactError: one is missing or changed, or was made from another folder than the one given.
    """
    folders = {"raw": raw, "report": report, "prepared": prepared, "model": model, "evaluation": evaluation}
    inputs = Inputs(**{kind: open_artifact(folder, kind) for kind, folder in folders.items()})
    check_made_from(inputs.report, inputs.raw)
    check_made_from(inputs.prepared, inputs.raw, inputs.report)
    check_made_from(inputs.model, inputs.prepared)
    check_made_from(inputs.evaluation, inputs.prepared, inputs.model)
    return inputs


def register(workload: Workload, inputs: Inputs, folder: Path) -> Outcome:
    """Register a model under the workload's name, and make it champion if it wins.

        release/
        ├── passport.json     what the model came from, digest by digest
        └── decision.json     champion compared, who won, why, with the numbers

    Args:
        workload: its section `gates`.
        inputs: what the model was made from and how it was judged.
        folder: the folder `release` to write.

    Raises:
        ArtifactError: the verdict of validate or of evaluate is no, or would be under the gates as they are now.
        RegistryError: what was registered does not answer as this model does, or the champion changed meanwhile.
        UnreachableError: MLflow does not answer.
    """
    gates = workload.section("gates", Gates)
    verdict = _accepted(inputs, gates)
    with connected(workload.name) as to:
        run = tracking.run_of_model(to, workload.name, inputs.prepared, inputs.model)
        tracking.write_report(to, run, workload.name, inputs.raw, inputs.report)
        tracking.write_training(to, run, workload.name, inputs.prepared, inputs.model)
        tracking.write_evaluation(to, run, inputs.evaluation)
        champion = _version_by_alias(to, workload.name, CHAMPION)
        if champion is not None and champion.tags.get("gateline.model_digest") == inputs.model.digest:
            version, decided = champion, _recorded(champion, verdict)
            lines = [f"{workload.name} version {champion.version} is this very model, and champion already"]
        else:
            version, decision = _register_and_decide(to, run, workload, inputs, gates, verdict, champion)
            decided = {
                "promoted": decision.promote,
                "reasons": decision.reasons,
                "checks": [vars(check) for check in decision.checks],
                "comparison": dict(decision.comparison),
                "champion_before": None if champion is None else int(champion.version),
                "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            # Before the alias: whoever comes after a kill finds why this version became champion.
            to.client.set_model_version_tag(workload.name, version.version, DECISION_TAG, json.dumps(decided))
            _set_alias(to, workload.name, version, champion, decision)
            lines = _lines(workload.name, version, champion, decision)
        decided |= {
            "name": workload.name,
            "version": int(version.version),
            "alias": CHAMPION if decided["promoted"] else CHALLENGER,
            "mlflow_run_id": run.info.run_id,
        }
        passport = make_passport(
            workload,
            inputs.by_kind(),
            dvc={kind: md5 for kind, artifact in inputs.by_kind().items() if (md5 := dvc_md5(artifact.path))},
            git=git_state(),
            training_code=run.data.tags["gateline.code"],
            verdict=verdict.as_json(),
        )
        with write_artifact(folder, "release", inputs.by_kind()) as draft:
            draft.write_json("passport.json", passport)
            draft.write_json("decision.json", decided)
            draft.facts |= {key: decided[key] for key in ("name", "version", "alias", "promoted")}
        release = open_artifact(folder, "release")
        tracking.write_release(to, run, release)
    return Outcome(release, tuple(lines))


def is_registered(name: str, release: Artifact) -> bool:
    """Say whether the registry still holds what a release says: its version, and an alias of a champion if it got that.

    Another champion since then is right: a release says what was decided, not what is.
    """
    from mlflow.exceptions import MlflowException

    with connected(name) as to:
        try:
            to.client.get_model_version(name, str(release.facts["version"]))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return not release.facts["promoted"] or _version_by_alias(to, name, CHAMPION) is not None


def _recorded(champion: ModelVersion, verdict: Verdict) -> dict[str, Any]:
    """Read back the decision that made a version champion; without one it was made champion by hand."""
    try:
        decided: dict[str, Any] = json.loads(champion.tags[DECISION_TAG])
        if decided["promoted"]:
            return decided
    except (KeyError, TypeError, ValueError):
        pass
    by_hand = Check("champion", True, "it was made champion by other means than register")
    return {
        "promoted": True,
        "reasons": [*verdict.reasons, by_hand.reason],
        "checks": [vars(check) for check in (*verdict.checks, by_hand)],
        "comparison": {},
        "champion_before": None,
        "decided_at": None,
    }


def _accepted(inputs: Inputs, gates: Gates) -> Verdict:
    for artifact in (inputs.report, inputs.evaluation):
        said = artifact.facts["verdict"]
        if not said["passed"]:
            raise ArtifactError(
                artifact.path,
                expected="the verdict yes",
                found="no: " + "; ".join(said["reasons"]),
                do=f"Read {artifact.path / 'report.html'}; only what passes is registered",
            )
    metrics = inputs.evaluation.read_json("metrics.json")
    names, of_baselines = gates.named_metrics(), metrics["baseline_slices"]
    verdict = judge(
        with_slices(metrics["test"], metrics["slices"], names),
        {name: with_slices(each, of_baselines.get(name, {}), names) for name, each in metrics["baselines"].items()},
        metrics["num_examples"],
        gates,
    )
    if not verdict.passed:
        raise ArtifactError(
            inputs.evaluation.path,
            expected="a model that passes the gates of this workload",
            found="one that passed other gates, and fails these: " + "; ".join(verdict.reasons),
            do="Run evaluate again with this workload",
        )
    return verdict


def _register_and_decide(
    to: Connection,
    run: Run,
    workload: Workload,
    inputs: Inputs,
    gates: Gates,
    verdict: Verdict,
    champion: ModelVersion | None,
) -> tuple[ModelVersion, Decision]:
    with _clean_process() as other:
        from gateline.device import configure_process
        from gateline.tasks import task_named

        configure_process("cpu", "float32")
        task = task_named(workload.task)
        predictor = task.load_predictor(inputs.model.path)
        request = _as_request(predictor.example(read_table(inputs.prepared.path / TABLE)))
        version = _registered(to, run, workload.name, inputs, predictor, request)
        _ask(other, f"models:/{workload.name}/{version.version}", request)
        slices = list(inputs.evaluation.read_json("metrics.json")["slices"])
        challenger = predictor.test_errors(inputs.prepared, gates.metric, slices)
        theirs = None
        if champion is not None:
            with _champion_folder(workload.name, champion) as folder:
                theirs = task.load_predictor(folder).test_errors(inputs.prepared, gates.metric, slices)
        decision = decide(
            verdict,
            challenger,
            theirs,
            gates,
            dependence=predictor.dependence,
            generator=np.random.default_rng(int(inputs.model.facts.get("seed", 0))),
        )
        expected = json.loads(_as_request(predictor.predict(_frame(request, predictor))))["dataframe_split"]
        _check_answer(workload.name, version, expected, other)
    return version, decision


# --- the logged model and its version


def _registered(
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
    package = Path(__file__).parent.parent
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
        input_example=_frame(request, predictor),
        pip_requirements=_requirements(task_named(str(inputs.model.facts["task"])).requirements),
    )
    return to.client.finalize_logged_model(model.model_id, "READY")


def _columns(columns: list[tuple[str, str, bool]]) -> Any:
    from mlflow.types.schema import ColSpec, Schema

    return Schema([ColSpec(SERVED_TYPES[kind], name, required=needed) for name, kind, needed in columns])


def _requirements(of_task: Sequence[str]) -> list[str]:
    """The versions that run here; without `+cpu` and the like, so that any build of the same version serves."""
    return [f"{name}=={version.split('+')[0]}" for name, version in versions((*REQUIREMENTS, *of_task)).items()]


def _as_request(frame: pd.DataFrame) -> str:
    """Write rows as a client of `mlflow models serve` sends them: time stamps as text, files in base64, null for what is missing."""
    columns = {
        name: values.dt.strftime("%Y-%m-%dT%H:%M:%SZ") if pd.api.types.is_datetime64_any_dtype(values) else values
        for name, values in frame.items()
    }
    rows = pd.DataFrame(columns).astype(object)
    rows = rows.where(rows.notna(), None)
    return json.dumps(
        {
            "dataframe_split": {
                "columns": list(rows.columns),
                "data": [list(map(_in_json, row)) for row in rows.to_numpy()],
            }
        }
    )


def _in_json(value: Any) -> Any:
    return b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def _frame(request: str, predictor: Predictor) -> pd.DataFrame:
    """Read a request back as MLflow does: numbers as float64, also whole ones and those of an empty column; files as bytes."""
    content = json.loads(request)["dataframe_split"]
    frame = pd.DataFrame(content["data"], columns=content["columns"])
    for name, kind, _ in predictor.input_columns:
        if name not in frame:
            continue
        if kind == "bytes":
            frame[name] = frame[name].map(b64decode, na_action="ignore")
        elif SERVED_TYPES[kind] == "double":
            frame[name] = frame[name].astype("float64")
    return frame


# --- the check of what was registered


@contextmanager
def _clean_process() -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds nothing of this one; it imports its libraries while this one works."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["MLFLOW_TRACKING_URI"] = tracking_uri()
    process = subprocess.Popen(  # noqa: S603  (this very Python)
        [sys.executable, "-I", str(Path(__file__).with_name("answer_request.py"))],
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


def _ask(process: subprocess.Popen[str], uri: str, request: str) -> None:
    """Hand a request for a registered model to the process; whoever reads its answer waits."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # it ended already; why, is read with its answer
            process.stdin.write(json.dumps({"model": uri, "request": json.loads(request)}))
            process.stdin.close()
        process.stdin = None


def _check_answer(
    name: str, version: ModelVersion, expected: Mapping[str, Any], process: subprocess.Popen[str]
) -> None:
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


# --- the comparison


@contextmanager
def _champion_folder(name: str, champion: ModelVersion) -> Iterator[Path]:
    """Fetch the champion's model folder, checked to be what was registered.

    Raises:
        RegistryError: its files are gone or changed, or Gateline did not register it.
    """
    import mlflow
    import yaml
    from mlflow.exceptions import MlflowException

    where = f"{name} version {champion.version}"
    do = f"Register a model that can be compared, or remove its alias: it is {CHAMPION} now"
    with tempfile.TemporaryDirectory() as scratch:
        try:
            top = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{champion.version}", dst_path=scratch))
            flavor = yaml.safe_load((top / "MLmodel").read_text(encoding="utf-8"))["flavors"]["python_function"]
            model = open_artifact(top / flavor["artifacts"][SERVED_FOLDER]["path"], "model")
        except (OSError, KeyError, TypeError, yaml.YAMLError, ArtifactError, MlflowException) as error:
            found = " ".join(shown(error).split())[:200]
            raise RegistryError(where, expected="the files of the champion", found=found, do=do) from error
        if model.digest != champion.tags.get("gateline.model_digest"):
            raise RegistryError(
                where, expected="the model that was registered", found="another one in its place", do=do
            )
        yield model.path


def _set_alias(
    to: Connection, name: str, version: ModelVersion, champion: ModelVersion | None, decision: Decision
) -> None:
    """Give the alias that the decision says, if the champion is still the one that was compared with.

    Raises:
        RegistryError: another champion was set meanwhile.
    """
    before = None if champion is None else champion.version
    now = _version_by_alias(to, name, CHAMPION)
    current = None if now is None else now.version
    if current != before:
        raise RegistryError(
            f"alias {CHAMPION} of {name}",
            expected=f"version {before}, which the challenger was compared with",
            found=f"version {current}, set meanwhile",
            do="Run register again; it compares with the new champion",
        )
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    entry = {
        "version": int(version.version),
        "champion_before": None if before is None else int(before),
        "promoted": decision.promote,
        "reason": (decision.reasons or [""])[-1][:500],
    }
    to.client.set_registered_model_tag(name, f"gateline.ledger.{moment}.v{version.version}", json.dumps(entry))
    if decision.promote:
        to.client.set_registered_model_alias(name, CHAMPION, version.version)
        challenger = _version_by_alias(to, name, CHALLENGER)
        if challenger is not None and challenger.version == version.version:
            to.client.delete_registered_model_alias(name, CHALLENGER)
    else:
        to.client.set_registered_model_alias(name, CHALLENGER, version.version)


def _version_by_alias(to: Connection, name: str, alias: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return to.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _lines(name: str, version: ModelVersion, champion: ModelVersion | None, decision: Decision) -> list[str]:
    alias = CHAMPION if decision.promote else CHALLENGER
    lines = [f"{name} version {version.version} is registered as {alias}: models:/{name}@{alias}"]
    numbers = {key: value for key, value in decision.comparison.items() if math.isfinite(value)}
    if decision.promote and champion is None:
        return [*lines, "promoted: it passes the gates, and there was no champion to compare it with"]
    if decision.promote:
        why = next(check.reason for check in decision.checks if check.name == "champion")
        return [*lines, f"promoted, it replaces version {champion.version if champion else 0}: {why}"]
    stays = f"version {champion.version} stays champion" if champion is not None else "there is no champion"
    return [
        *lines,
        f"not promoted, {stays}: {'; '.join(decision.reasons)}" + ("" if numbers else " (nothing to compare)"),
    ]
