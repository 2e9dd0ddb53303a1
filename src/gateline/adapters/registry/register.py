"""From a judged model to a registered version: log it, check what was registered, compare, promote, write the release.

MLflow and torch are imported inside the functions, so that a refusal does not wait for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gateline.adapters import tracking
from gateline.adapters.door import tell
from gateline.adapters.kubeflow.run_notes import note_release
from gateline.adapters.mlflow_server import Connection, connected
from gateline.adapters.registry.decision import as_record, enter, recorded, rolled_back
from gateline.adapters.registry.golden_requests import golden_requests
from gateline.adapters.registry.inputs import Inputs, accepted
from gateline.adapters.registry.kept_decision import digest_of_decision
from gateline.adapters.registry.ledger import CHALLENGER, CHAMPION, open_ledger, read_ledger, version_by_alias
from gateline.adapters.registry.model_card import describe
from gateline.adapters.registry.model_files import model_files, same_weights
from gateline.adapters.registry.notification import tell_pending, to_be_told
from gateline.adapters.registry.requests import as_request
from gateline.adapters.registry.serving_check import serving_check
from gateline.adapters.registry.versions import (
    Papers,
    is_same_model,
    make_papers,
    registered_version,
    requirements_of,
    versions_of_weights,
)
from gateline.comparison import ExampleErrors
from gateline.errors import ArtifactError, DataError, RegistryError, WorkloadError
from gateline.judgement import Verdict
from gateline.leakage import seen_by, why_untold
from gateline.ledger import Ledger
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.promotion import Decision, decide, unfair
from gateline.table import TABLE, read_table
from gateline.workload import Workload
from gateline.workload.gates import Gates

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

    from gateline.tasks import Predictor


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
        └── model_card.html   what it is, from evidence only; model_card.md is the same for a page of Kubeflow

    Args:
        workload: its section `gates`.
        inputs: what the model was made from and how it was judged.
        folder: the folder `release` to write.

    Raises:
        ArtifactError: the verdict of validate or of evaluate is no, or would be under the gates as they are now.
        RegistryError: what was registered does not answer as this model does, or the registry is not as its ledger says.
        TryAgainError: another champion was set, or another challenger compared on the same rows, since the comparison; run
            again to be compared with it, and counted.
        UnreachableError: MLflow does not answer.
    """
    gates = workload.section("gates", Gates)
    verdict = accepted(inputs, gates)
    with connected(workload.name) as to:
        run = tracking.run_of_model(to, workload.name, inputs.prepared, inputs.model)
        tracking.write_report(to, run, workload.name, inputs.raw, inputs.report)
        tracking.write_training(to, run, workload.name, inputs.prepared, inputs.model)
        tracking.write_evaluation(to, run, inputs.evaluation)
        tracking.say_for_whom(to, run)
        predictor = load_predictor(workload.task, inputs.model.path)
        papers = make_papers(to, run, workload, inputs, predictor, verdict)
        lines: list[str] = []
        ledger = open_ledger(to, workload.name, lines.append)
        number = ledger.champion
        champion = None if number is None else to.client.get_model_version(workload.name, str(number))
        if champion is not None and is_same_model(champion, papers):
            version, decided = champion, recorded(to, workload.name, ledger, champion, verdict)
            step = next((each for each in reversed(ledger.steps) if each.effective and each.after == number), None)
            digest = None if step is None or step.entry.forced else step.entry.decision
            lines.append(f"{workload.name} version {champion.version} is this very model, and champion already")
        else:
            version, decision, ledger = _register_and_decide(
                to, run, workload, papers, predictor, gates, verdict, champion
            )
            decided = as_record(decision, gates, champion)
            digest = digest_of_decision(decided)
            step = enter(to, workload.name, version, champion, decided, ledger, tags=to_be_told(gates.notify))
            lines += _lines(workload.name, version, champion, decision, decided)
        lines += tell_pending(to, workload.name, gates.notify, step)
        decided |= {
            "name": workload.name,
            "version": int(version.version),
            "alias": CHAMPION if decided["promoted"] else CHALLENGER,
            "mlflow_run_id": run.info.run_id,
        }
        card = describe(to, version, papers, decided, digest)
        with write_artifact(folder, "release", inputs.by_kind()) as draft:
            (draft.path / "model_card.html").write_text(card.html, encoding="utf-8")
            (draft.path / "model_card.md").write_text(card.markdown, encoding="utf-8")
            draft.write_json("passport.json", papers.passport)
            draft.write_json("decision.json", decided)
            draft.facts |= {key: decided[key] for key in ("name", "version", "alias", "promoted")}
        release = open_artifact(folder, "release")
        tracking.write_release(to, run, release)
        note_release(to, decided)
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


def load_predictor(task: str, folder: Path) -> Predictor:
    """Load a model folder to answer as serving does: on the CPU, in float32."""
    from gateline.device import configure_process
    from gateline.tasks import task_named

    configure_process("cpu", "float32")
    return task_named(task).load_predictor(folder)


def scored(
    task: str, champion: Path, prepared: Artifact, metric: str, slices: Sequence[str]
) -> tuple[ExampleErrors | None, str | None]:
    """Score a champion on the test part of another model, whose data may have other columns, values or windows than it reads.

    Returns:
        Its errors, or why there are none.
    """
    from gateline.model_folder import read_model_json

    try:
        was = read_model_json(champion, "config.json")["task"]
        if was != task:
            return None, f"it is a model of the task {was}, and the workload is {task} now"
        return load_predictor(task, champion).test_errors(prepared, metric, slices), None
    except (DataError, WorkloadError) as error:  # what to do about it is told to who sends it data
        return None, f"{error.where}: it expects {error.expected}; found {error.found}"
    except ArtifactError as error:  # another version of the library wrote it
        where = "its model folder" if error.where == str(champion) else Path(error.where).name
        return None, f"this version of Gateline cannot load it: {where}: expected {error.expected}; found {error.found}"


def _register_and_decide(
    to: Connection,
    run: Run,
    workload: Workload,
    papers: Papers,
    predictor: Predictor,
    gates: Gates,
    verdict: Verdict,
    champion: ModelVersion | None,
) -> tuple[ModelVersion, Decision, Ledger]:
    """Register a version, and decide about it by the ledger that is returned.

    It is read last, for somebody may have promoted or rolled back, or been compared, while this one was being tried; what comes
    behind it is found when the decision is entered.
    """
    inputs = papers.inputs
    with serving_check(gates.serving, requirements_of(workload.task), tell) as check:
        table = read_table(inputs.prepared.path / TABLE)
        request = as_request(predictor.example(table))
        version = registered_version(to, run, workload.name, papers, predictor, request)
        check.ask(to, workload.name, version, golden_requests(predictor, table))
        slices = list(inputs.evaluation.read_json("metrics.json")["slices"])
        challenger = predictor.test_errors(inputs.prepared, gates.metric, slices)
        check.conclude()  # whatever is wrong with the champion, this version was tried
        theirs, unscored, against, attempts = None, None, [], 1
        if champion is not None:
            try:
                with model_files(workload.name, champion) as files:
                    theirs, unscored = scored(workload.task, files.path, inputs.prepared, gates.metric, slices)
                    if theirs is not None:
                        against = unfair(
                            same_model=same_weights(files, inputs.model),
                            seen=seen_by(files, inputs.prepared),
                            untold=why_untold(files, inputs.prepared),
                        )
            except RegistryError as error:  # its files were lost or changed
                unscored = f"{error.where}: expected {error.expected}; found {error.found}"
        # A rollback is remembered by the weights, whose version is another where gates or library changed since.
        same, ledger = versions_of_weights(to, workload.name, papers.weights), read_ledger(to, workload.name)
        back = next(filter(None, (rolled_back(workload.name, number, ledger) for number in same)), None)
        if champion is not None:
            attempts = ledger.attempts({int(version.version), *same}, int(champion.version), challenger.rows)
        decision = decide(
            verdict,
            challenger,
            theirs,
            gates,
            generator=np.random.default_rng(int(inputs.model.facts.get("seed", 0))),
            against=against if back is None else [*against, back],
            attempts=attempts,
            unscored=unscored,
        )
    return version, decision, ledger


def _lines(
    name: str, version: ModelVersion, champion: ModelVersion | None, decision: Decision, decided: dict[str, Any]
) -> list[str]:
    alias = CHAMPION if decided["promoted"] else CHALLENGER
    lines = [f"{name} version {version.version} is registered as {alias}: models:/{name}@{alias}"]
    numbers = {key: value for key, value in decision.comparison.items() if math.isfinite(value)}
    if decided["awaiting_approval"]:
        against = "passes the gates" if champion is None else f"wins against version {champion.version}"
        return [*lines, f"it {against} and waits for approval: `gateline promote {name}` makes it champion"]
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
