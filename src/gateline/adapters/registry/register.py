"""From a judged model to a registered version: log it, check what was registered, compare, promote, write the release.

MLflow and torch are imported inside the functions, so that a refusal does not wait for them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gateline.adapters import tracking
from gateline.adapters.door import tell
from gateline.adapters.mlflow_server import Connection, connected
from gateline.adapters.registry.champion import CHALLENGER, CHAMPION, champion_folder, set_alias, version_by_alias
from gateline.adapters.registry.golden_requests import golden_requests
from gateline.adapters.registry.inputs import Inputs, accepted
from gateline.adapters.registry.model_card import describe
from gateline.adapters.registry.requests import as_request
from gateline.adapters.registry.serving_check import serving_check
from gateline.adapters.registry.versions import Papers, make_papers, registered_version, requirements_of
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.promotion import Check, Decision, Verdict, decide
from gateline.table import TABLE, read_table
from gateline.workload import Workload
from gateline.workload.gates import Gates

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

    from gateline.tasks import Predictor

DECISION_TAG = "gateline.decision"


@dataclass(frozen=True)
class Outcome:
    """What register did: the release, and what it says to a person."""

    release: Artifact
    lines: tuple[str, ...]


def register(workload: Workload, inputs: Inputs, folder: Path) -> Outcome:
    """Register a model under the workload's name, and make it champion if it wins.

        release/
        ├── passport.json     what the model came from, digest by digest
        ├── decision.json     champion compared, who won, why, with the numbers
        └── model_card.html   what it is, from evidence only

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
    verdict = accepted(inputs, gates)
    with connected(workload.name) as to:
        run = tracking.run_of_model(to, workload.name, inputs.prepared, inputs.model)
        tracking.write_report(to, run, workload.name, inputs.raw, inputs.report)
        tracking.write_training(to, run, workload.name, inputs.prepared, inputs.model)
        tracking.write_evaluation(to, run, inputs.evaluation)
        predictor = load_predictor(workload.task, inputs.model.path)
        papers = make_papers(to, run, workload, inputs, predictor, verdict)
        champion = version_by_alias(to, workload.name, CHAMPION)
        if champion is not None and champion.tags.get("gateline.model_digest") == inputs.model.digest:
            version, decided = champion, _recorded(champion, verdict)
            lines = [f"{workload.name} version {champion.version} is this very model, and champion already"]
        else:
            version, decision = _register_and_decide(to, run, workload, papers, predictor, gates, verdict, champion)
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
            set_alias(to, workload.name, version, champion, decision)
            lines = _lines(workload.name, version, champion, decision)
        decided |= {
            "name": workload.name,
            "version": int(version.version),
            "alias": CHAMPION if decided["promoted"] else CHALLENGER,
            "mlflow_run_id": run.info.run_id,
        }
        card = describe(to, version, papers, decided)
        with write_artifact(folder, "release", inputs.by_kind()) as draft:
            (draft.path / "model_card.html").write_text(card.html, encoding="utf-8")
            draft.write_json("passport.json", papers.passport)
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
        return not release.facts["promoted"] or version_by_alias(to, name, CHAMPION) is not None


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


def load_predictor(task: str, folder: Path) -> Predictor:
    """Load a model folder to answer as serving does: on the CPU, in float32."""
    from gateline.device import configure_process
    from gateline.tasks import task_named

    configure_process("cpu", "float32")
    return task_named(task).load_predictor(folder)


def _register_and_decide(
    to: Connection,
    run: Run,
    workload: Workload,
    papers: Papers,
    predictor: Predictor,
    gates: Gates,
    verdict: Verdict,
    champion: ModelVersion | None,
) -> tuple[ModelVersion, Decision]:
    inputs = papers.inputs
    with serving_check(gates.serving, requirements_of(workload.task), tell) as check:
        table = read_table(inputs.prepared.path / TABLE)
        request = as_request(predictor.example(table))
        version = registered_version(to, run, workload.name, papers, predictor, request)
        check.ask(to, workload.name, version, golden_requests(predictor, table))
        slices = list(inputs.evaluation.read_json("metrics.json")["slices"])
        challenger = predictor.test_errors(inputs.prepared, gates.metric, slices)
        theirs = None
        if champion is not None:
            with champion_folder(workload.name, champion) as folder:
                theirs = load_predictor(workload.task, folder).test_errors(inputs.prepared, gates.metric, slices)
        decision = decide(
            verdict,
            challenger,
            theirs,
            gates,
            dependence=predictor.dependence,
            generator=np.random.default_rng(int(inputs.model.facts.get("seed", 0))),
        )
        check.conclude()
    return version, decision


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
