"""Measure two registered versions on the present test part and compare them as register would; changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateline.adapters.mlflow_server import connected
from gateline.adapters.registry.ledger import read_ledger, require_version
from gateline.adapters.registry.model_files import model_files, same_weights
from gateline.adapters.registry.reference import number_of
from gateline.adapters.registry.versions import WEIGHTS, versions_of_weights
from gateline.errors import ArtifactError
from gateline.leakage import seen_by, why_untold
from gateline.manifest import file_digest, open_artifact
from gateline.promotion import Decision, decide, unfair
from gateline.workload import Workload
from gateline.workload.gates import Gates


@dataclass(frozen=True)
class Comparison:
    """Two versions, and what the comparison alone says of the first if the second were champion.

    Register also asks the baselines and limits, and whether a person took the championship from it.

    Args:
        name: of the registered model.
        challenger: its number.
        champion: of the other.
        examples: what they were measured on, in words.
        decision: by the comparison alone.
        remarks: what was not compared.
    """

    name: str
    challenger: int
    champion: int
    examples: str
    decision: Decision
    remarks: tuple[str, ...] = ()


def compare_versions(path: Path, folder: Path, challenger: str, champion: str) -> Comparison:
    """Measure two versions on the test part of the folder `prepared`.

    Args:
        path: the workload's file.
        folder: `prepared`.
        challenger: number or alias.
        champion: number or alias.

    Raises:
        ArtifactError: `prepared` is missing.
        RegistryError: a version or its files are not there.
    """
    from gateline.adapters.registry.register import load_predictor, scored

    workload = Workload.read(path, step="register")
    gates = workload.section("gates", Gates)
    if not folder.exists():
        raise ArtifactError(
            folder,
            expected="the data that preprocess writes, whose test part both are measured on",
            found="none",
            do=f"Run `dvc repro preprocess@{path.stem}`",
        )
    prepared = open_artifact(folder, "prepared")
    with connected(workload.name, create=False) as to:
        versions = [
            require_version(to, workload.name, number_of(to, workload.name, word)) for word in (challenger, champion)
        ]
        a, b = (int(version.version) for version in versions)
        with model_files(workload.name, versions[0]) as mine, model_files(workload.name, versions[1]) as theirs:
            slices, remarks = _slices(folder.parent / "evaluation")
            ours = load_predictor(workload.task, mine.path).test_errors(prepared, gates.metric, slices)
            others, unscored = scored(workload.task, theirs.path, prepared, gates.metric, slices)
            seed = int(mine.facts.get("seed", 0))
            same = versions_of_weights(to, workload.name, file_digest(mine.path / WEIGHTS))
            against = []
            if others is not None:
                against = unfair(
                    same_model=same_weights(mine, theirs),
                    seen=seen_by(theirs, prepared),
                    untold=why_untold(theirs, prepared),
                )
        attempts = read_ledger(to, workload.name).attempts({a, *same}, b, ours.rows)
    decision = decide(
        None,
        ours,
        others,
        gates,
        generator=np.random.default_rng(seed),
        against=against,
        attempts=attempts,
        unscored=unscored,
    )
    return Comparison(workload.name, a, b, f"{len(ours.total):,} test examples", decision, remarks)


def _slices(evaluation: Path) -> tuple[list[str], tuple[str, ...]]:
    """Name the slices that evaluate wrote last; where it did not, say so."""
    path = evaluation / "metrics.json"
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["slices"]), ()
    except (OSError, ValueError, KeyError, TypeError):
        return [], (f"no slices were compared: evaluate's {path} cannot be read",)
