"""`gateline compare`: train variants of a workload's network over several seeds, and lay them beside each other.

PROJECT/artifacts/NAME/compare/
├── comparison.json             every run: settings, validation, test, seconds
├── comparison.md               the table
├── VARIANT-SEED-DIGEST.json    one finished run; the same command again does not train it again
└── VARIANT-SEED-DIGEST/        one that is under way, with its checkpoint
"""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateline.adapters.compare.runs import log_comparison
from gateline.adapters.compare.table import as_markdown
from gateline.adapters.document import write_between_marks
from gateline.adapters.dvc_run import prepare_workload
from gateline.adapters.mlflow_server import tracking_uri
from gateline.adapters.progress import training_progress
from gateline.adapters.project import Project, replace_text
from gateline.adapters.search.interruption import Interruption
from gateline.adapters.settings_check import check_settings
from gateline.device import configure_process
from gateline.errors import UnreachableError, WorkloadError
from gateline.evaluation import Scores, without_nan
from gateline.manifest import Artifact, digest_of, open_artifact
from gateline.passport import code_version
from gateline.tasks import task_named
from gateline.training import RunSettings, settings_of_weights, train
from gateline.workload import Workload
from gateline.workload.budgets import with_budget
from gateline.workload.gates import Gates
from gateline.workload.overrides import with_settings
from gateline.workload.section import Section
from gateline.workload.training import Training
from gateline.workload.variants import PRESENT, own_variants, variants_of, with_variant

FOLDER = "compare"
MARKS = "variants"
"""The table stands in a document between ``<!-- variants -->`` and ``<!-- /variants -->``."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to.

    Args:
        workload: that was varied.
        command: that prints the table.
        monitor: what the best epoch of a run was chosen by, on the validation part.
        metric: of the gates, on the test part.
        runs: one record for each variant and seed, in the order in which they were asked for.
        unlogged: why MLflow does not have everything.
    """

    workload: Workload
    command: str
    monitor: str
    metric: str
    runs: Sequence[dict[str, Any]]
    unlogged: UnreachableError | None = None

    def markdown(self) -> str:
        """The table of its document."""
        return as_markdown(self.command, self.monitor, self.metric, self.runs)


class Comparing:
    """Variants of a workload in a project, checked before anything is computed.

    Args:
        project: where the workload stands.
        reference: name or path of the workload.
        variants: names; none for all that apply.
        seeds: how many, from that of `params.yaml` on.
        budget: compare with the settings of this budget.
        output: a Markdown document to write the table into.

    Raises:
        WorkloadError: the workload, a variant, the budget or the document cannot be used.
        GatelineError: this is a pod and does not say where MLflow is.
    """

    def __init__(
        self,
        project: Project,
        reference: str,
        *,
        variants: Sequence[str],
        seeds: int,
        budget: str | None,
        output: Path | None,
    ) -> None:
        self.project, self.path, self.budget = project, project.resolve(reference), budget
        self.output = output.resolve() if output else None
        whole = Workload.read(self.path)
        self.workload = whole if budget is None else with_budget(whole, budget)
        if budget is not None and "variants" in whole.sections:
            sections = {**self.workload.sections, "variants": whole.sections["variants"]}
            self.workload = Workload(
                *(self.workload.name, whole.task, whole.description, self.workload.place), sections=sections
            )
        task = task_named(whole.task)
        first = project.run_settings()
        self.run_settings = [RunSettings(first.seed + more, first.device, first.precision) for more in range(seeds)]
        preprocess = self.workload.section("preprocess", task.Preprocess)
        self.variants: dict[str, tuple[Workload, dict[str, Any]]] = {}
        for name in list(dict.fromkeys(variants)) or variants_of(self.workload, task.Model):
            changed, settings = with_variant(self.workload, name, task.Model)
            try:
                settings_of_weights(changed, first)
                check_settings(changed, preprocess, ())
            except WorkloadError as error:
                if variants or name == PRESENT:
                    raise WorkloadError(
                        f"{whole.place}: variant {name}",
                        expected="a variant that train takes",
                        found=f"{name!r}, which it refuses ({error.where}: expected {error.expected}; found {error.found})",
                        do=error.do if name in own_variants(self.workload) else "Leave it out",
                    ) from error
                continue  # not asked for by name
            self.variants[name] = changed, settings
        if self.output is not None:
            write_between_marks(self.output, MARKS, None)
        tracking_uri()
        self.folder = project.artifacts(self.workload.name) / FOLDER

    def prepare(self, say: Say) -> tuple[int, str]:
        """Run the steps up to preprocess, where they are out of date; as `run_workload` does, with its answer."""
        return prepare_workload(self.project, str(self.path), say, self.budget)

    def run(self, say: Say) -> Comparison:
        """Do the runs that are missing, and write the tables.

        Args:
            say: takes a line about every run.

        Raises:
            Preempted: told to stop; running again goes on.
        """
        with contextlib.chdir(self.project.root), Interruption() as interruption:
            prepared = open_artifact(self.folder.parent / "prepared", "prepared")
            self.folder.mkdir(parents=True, exist_ok=True)
            runs = []
            for name, (workload, settings) in self.variants.items():
                for run in self.run_settings:
                    interruption.check()
                    runs.append(self._one(prepared, name, workload, settings, run, interruption, say))
            monitor = self.workload.section("training", Training).monitor
            words = ["gateline compare", self.path.stem, *(["--budget", self.budget] if self.budget else [])]
            command = " ".join([*words, "--variants", *self.variants, "--seeds", str(len(self.run_settings))])
            metric = self.workload.section("gates", Gates).metric
            comparison = Comparison(self.workload, command, monitor, metric, runs)
            self._write(comparison)
            try:
                log_comparison(comparison.workload.name, prepared, monitor, runs, self.folder)
            except UnreachableError as error:
                return replace(comparison, unlogged=error)
            return comparison

    def _one(
        self,
        prepared: Artifact,
        name: str,
        workload: Workload,
        settings: dict[str, Any],
        run: RunSettings,
        interruption: Interruption,
        say: Say,
    ) -> dict[str, Any]:
        """Train and measure one variant with one seed, unless that is done."""
        weights = settings_of_weights(workload, run)
        shaping = [prepared.digest, weights, workload.sections["evaluation"], code_version()]
        key = f"{name}-{run.seed}-{digest_of(shaping)[:12]}"
        done, folder = self.folder / f"{key}.json", self.folder / key
        if done.is_file():
            found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
            return found
        say(f"{name}, seed {run.seed} ...")
        began = time.monotonic()
        with training_progress(workload) as shown:
            model = train(workload, prepared, folder / "model", run, [shown.on_epoch], shown.on_step, stop=interruption)
        trained = time.monotonic() - began
        record = {
            "key": key,
            "variant": name,
            "seed": run.seed,
            "set": settings,
            "settings": weights,
            **measured(workload, prepared, model),
            "train_seconds": round(trained, 1),
        }
        record = without_nan(record)
        replace_text(done, json.dumps(record, indent=2) + "\n")
        shutil.rmtree(folder)
        return record

    def _write(self, comparison: Comparison) -> None:
        content = {
            "workload": self.workload.name,
            "monitor": comparison.monitor,
            "metric": comparison.metric,
            "runs": list(comparison.runs),
        }
        replace_text(self.folder / "comparison.json", json.dumps(content, indent=2) + "\n")
        replace_text(self.folder / "comparison.md", comparison.markdown() + "\n")
        if self.output is not None:
            write_between_marks(self.output, MARKS, comparison.markdown())


def measured(workload: Workload, prepared: Artifact, model: Artifact) -> dict[str, Any]:
    """Measure a trained model on the validation part, by its best epoch, and on the test part, as evaluate does."""
    task = task_named(workload.task)
    scoring = importlib.import_module(f"gateline.scoring.{workload.task}")
    configure_process("cpu", "float32")
    scores: Scores = scoring.score(task, with_fewest_baselines(workload, task.Evaluation), prepared, model)
    history = model.read_json("history.json")
    best = history[int(model.facts["best_epoch"]) - 1]
    return {
        "parameters": model.facts["parameters"],
        "best_epoch": model.facts["best_epoch"],
        "epochs": model.facts["epochs"],
        "validation": {key.removeprefix("validation_"): v for key, v in best.items() if key.startswith("validation_")},
        "test": asked_first(workload.section("gates", Gates), scores.metrics, scores.slices),
        "history": history,
    }


def asked_first(
    gates: Gates, metrics: Mapping[str, float], slices: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Put what the gates ask for before all other metrics; of slices, only what is asked for."""
    of_slices = {f"{place}/{name}": value for place, each in slices.items() for name, value in each.items()}
    asked = [name for name in (gates.metric, *gates.limits) if name in metrics or name in of_slices]
    return {**{name: metrics[name] if name in metrics else of_slices[name] for name in asked}, **metrics}


def with_fewest_baselines(workload: Workload, evaluation: type[Section]) -> Section:
    """Read the section `evaluation` with its first baseline only: they answer the same whatever is varied.

    Where another setting needs the others, they stay.
    """
    section = workload.sections["evaluation"]
    first = section.get("baselines", [])[:1]
    try:
        return with_settings(workload, {"evaluation.baselines": first}).section("evaluation", evaluation)
    except WorkloadError:
        return workload.section("evaluation", evaluation)
