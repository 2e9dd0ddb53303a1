"""The folders that register reads, checked to belong together and to have passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateline.errors import ArtifactError
from gateline.judgement import Verdict, judge, with_slices
from gateline.manifest import Artifact, check_made_from, open_artifact
from gateline.paired_errors import ERRORS, PairedErrors
from gateline.table import read_table
from gateline.workload.gates import Gates


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


def accepted(inputs: Inputs, gates: Gates) -> Verdict:
    """Judge a model again under the gates as they are now.

    Raises:
        ArtifactError: the verdict of validate or of evaluate is no, or would be under these gates.
    """
    for artifact in (inputs.report, inputs.evaluation):
        said = artifact.facts["verdict"]
        if not said["passed"]:
            raise ArtifactError(
                artifact.path,
                expected="the verdict yes",
                found="no: " + "; ".join(said["reasons"]),
                do=f"Read {artifact.path / 'report.html'}; only what passes is registered",
            )
    verdict = judged(inputs.evaluation.read_json("metrics.json"), gates, read_errors(inputs.evaluation.path))
    if not verdict.passed:
        raise ArtifactError(
            inputs.evaluation.path,
            expected="a model that passes the gates of this workload",
            found="one that passed other gates, and fails these: " + "; ".join(verdict.reasons),
            do="Run evaluate again with this workload",
        )
    return verdict


def read_errors(folder: Path) -> PairedErrors | None:
    """Read the errors that evaluate wrote into a folder; None where an earlier Gateline wrote none."""
    return PairedErrors.from_table(read_table(folder / ERRORS)) if (folder / ERRORS).exists() else None


def judged(metrics: Mapping[str, Any], gates: Gates, errors: PairedErrors | None) -> Verdict:
    """Judge what evaluate measured, `metrics.json` and the errors beside it, under gates."""
    names, of_baselines = gates.named_metrics(), metrics["baseline_slices"]
    return judge(
        with_slices(metrics["test"], metrics["slices"], names),
        {name: with_slices(each, of_baselines.get(name, {}), names) for name, each in metrics["baselines"].items()},
        metrics["num_examples"],
        gates,
        errors,
    )
