"""What a step tells Kubeflow beside its folder: numbers and pages for the page of a run, and how it ended.

A container learns from the executor input where its outputs go and writes them into the executor output file; an artifact that is not
named there has no metadata, and none at all for Kubeflow's local runner. A page is no copy: its address points into the folder.
This runs in images without kfp.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateline.errors import WorkloadError
from gateline.manifest import MANIFEST, dump_json, file_digest

OUTCOME = "outcome.json"
"""How a step ended, beside the executor output file: ``exit_code``, and ``said``, the line that says why (empty when done)."""
PAGES = {
    "data_report": ("report", "report.html"),
    "evaluation_report": ("evaluation", "report.html"),
    "model_card": ("release", "model_card.md"),
}
"""Artifacts that are a page: in which folder, and which file of it."""
NUMBERS = {"training_metrics": ("model", "history.json"), "test_metrics": ("evaluation", "metrics.json")}
"""Artifacts that are numbers, as metadata: in which folder, and which file of it has more."""


@dataclass(frozen=True)
class KubeflowTask:
    """A run of a step by Kubeflow.

    Args:
        output_file: the executor output file to write.
        artifacts: name, uri and metadata of each output.
    """

    output_file: Path
    artifacts: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, text: str) -> KubeflowTask:
        """Read the executor input.

        Raises:
            WorkloadError: the text is none.
        """
        try:
            outputs = json.loads(text)["outputs"]
            artifacts = {name: dict(each["artifacts"][0]) for name, each in outputs.get("artifacts", {}).items()}
            return cls(Path(outputs["outputFile"]), artifacts)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise WorkloadError(
                "--executor-input",
                expected="the executor input of Kubeflow, as JSON",
                found=repr(text[:80]),
                do="Leave the flag away; Kubeflow alone gives it",
            ) from error

    def write_outputs(self, folders: Mapping[str, Path]) -> None:
        """Write what the outputs are and where.

        Args:
            folders: of this step's flags, by name of the artifact; the one that is an output was just written.
        """
        if not self.artifacts:
            return
        told = {}
        for name, artifact in self.artifacts.items():
            uri, metadata = artifact.get("uri", ""), dict(artifact.get("metadata", {}))
            if name in PAGES or name in NUMBERS:
                folder, file = (PAGES | NUMBERS)[name]
                uri = f"{self.artifacts[folder]['uri'].rstrip('/')}/{file}"
                metadata |= numbers_of(folder, folders[folder]) if name in NUMBERS else {}
            elif name in folders:
                metadata |= facts_of(folders[name])
            told[name] = {"artifacts": [{"name": artifact.get("name", ""), "uri": uri, "metadata": metadata}]}
        self.output_file.parent.mkdir(parents=True, exist_ok=True)
        self.output_file.write_text(dump_json({"artifacts": told}), encoding="utf-8")

    def write_outcome(self, exit_code: int, said: str) -> None:
        """Note how the step ended, for whoever cannot rely on the exit code; a note is not worth failing for."""
        with contextlib.suppress(OSError):
            self.output_file.parent.mkdir(parents=True, exist_ok=True)
            note = dump_json({"exit_code": exit_code, "said": " ".join(said.split())})
            self.output_file.with_name(OUTCOME).write_text(note, encoding="utf-8")


def numbers_of(kind: str, folder: Path) -> dict[str, float]:
    """List the numbers of a folder that a person looks for first: of a training its best epoch, of an evaluation the test part."""
    facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["facts"]
    if kind == "evaluation":
        return _finite(facts.get("metrics", {}))
    records = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    best: Mapping[str, Any] = next((record for record in records if record.get("epoch") == facts.get("best_epoch")), {})
    return _finite({key: value for key, value in best.items() if key != "epoch"}) | _finite(
        {key: facts.get(key) for key in ("best_epoch", "parameters")}
    )


def facts_of(folder: Path) -> dict[str, str]:
    """Say which folder it is, and the verdict in it if there is one."""
    manifest = folder / MANIFEST
    verdict = json.loads(manifest.read_text(encoding="utf-8"))["facts"].get("verdict")
    judged = {} if verdict is None else {"verdict": "passed" if verdict["passed"] else "rejected"}
    return {"digest": file_digest(manifest), **judged}


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Keep the numbers; JSON has no word for the others."""
    return {
        key: value
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
