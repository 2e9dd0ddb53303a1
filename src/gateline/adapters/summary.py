"""`gateline show`: what the artifact folders of a workload say, on one screen. Reads no registry and no workload file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateline.errors import ArtifactError
from gateline.manifest import MANIFEST

if TYPE_CHECKING:
    from rich.console import Console

Json = Any

KINDS = ("raw", "report", "prepared", "model", "evaluation", "release")
STEP_OF = dict(zip(KINDS, ("ingest", "validate", "preprocess", "train", "evaluate", "register"), strict=True))
READING = (
    ("report", "report.html", "the data"),
    ("evaluation", "report.html", "the evaluation"),
    ("release", "model_card.html", "the model card"),
    ("release", "decision.json", "the decision"),
    ("release", "passport.json", "the passport"),
)


@dataclass(frozen=True)
class Found:
    """One artifact folder, as its manifest describes it.

    Args:
        path: the folder.
        digest: sha256 of its manifest.
        inputs: digests of what it was made from, by kind.
        facts: what its step said of it.
    """

    path: Path
    digest: str
    inputs: Mapping[str, str]
    facts: Mapping[str, Json]

    def read_json(self, name: str) -> Json:
        """Read one of its JSON files; nothing if it has no such file."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@dataclass(frozen=True)
class Summary:
    """What there is of a workload.

    Args:
        name: of the workload.
        found: its complete folders, by kind.
        stale: kinds that were made from other folders than those that stand there now.
    """

    name: str
    found: Mapping[str, Found]
    stale: tuple[str, ...] = field(default=())


def summarise(name: str, folder: Path) -> Summary:
    """Read the manifests of a workload's artifacts; their bytes are checked by the steps, not here.

    Raises:
        ArtifactError: there is none yet, or a manifest is none.
    """
    found = {kind: artifact for kind in KINDS if (artifact := _read(folder / kind)) is not None}
    if not found:
        raise ArtifactError(
            folder, expected="artifacts of earlier runs", found="none", do=f"Run `gateline run {name}` first"
        )
    stale: list[str] = []
    for kind, artifact in found.items():
        old = any(other not in found or found[other].digest != digest for other, digest in artifact.inputs.items())
        if old or any(other in stale for other in artifact.inputs):
            stale.append(kind)
    return Summary(name, found, tuple(stale))


def _read(folder: Path) -> Found | None:
    path = folder / MANIFEST
    if not path.is_file():
        return None
    text = path.read_bytes()
    try:
        content = json.loads(text)
        return Found(folder, hashlib.sha256(text).hexdigest(), content["inputs"], content["facts"])
    except (ValueError, KeyError, TypeError) as error:
        step = STEP_OF[folder.name]
        raise ArtifactError(
            path, expected="a manifest", found=f"text that is none ({error})", do=f"Run {step} again"
        ) from error


def print_summary(summary: Summary, console: Console, here: Path) -> None:
    """Print verdicts, metrics against baselines, the registered version and where the reports are.

    Args:
        summary: what was found.
        console: where to print.
        here: folder that paths are shown relative to.
    """
    from rich.table import Table
    from rich.text import Text

    found = summary.found
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    for label, words, style in _lines(found):
        lines.add_row(label, Text(words, style=style))
    if summary.stale:
        again = "made from other folders than those that stand here now; `gateline run` brings them up to date"
        lines.add_row("stale", Text(f"{', '.join(summary.stale)}: {again}", style="yellow"))
    console.print(Text(summary.name, style="bold"))
    console.print(lines)
    if "evaluation" in found:
        scores = found["evaluation"].read_json("metrics.json")
        if scores.get("test"):
            console.print()
            console.print(_scores(scores))
    reports = [
        (what, found[kind].path / name)
        for kind, name, what in READING
        if kind in found and (found[kind].path / name).is_file()
    ]
    if reports:
        console.print()
        for what, path in reports:
            shown = path.relative_to(here) if path.is_relative_to(here) else path
            console.print(Text(f"{what:15} {shown}"), soft_wrap=True, highlight=False)


def _lines(found: Mapping[str, Found]) -> list[tuple[str, str, str]]:
    """Label, words and style of each line about a step that has run."""
    lines = []
    if "raw" in found:
        facts = found["raw"].facts
        lines.append(("data", f"{facts.get('rows', 0):,} rows of {len(facts.get('columns', ()))} columns", ""))
    if "report" in found:
        lines.append(("data verdict", *_verdict(found["report"])))
    if "prepared" in found:
        counts = found["prepared"].facts.get("examples", {})
        parts = sorted(counts, key=("train", "validation", "test").index)
        lines.append(("examples", ", ".join(f"{part} {counts[part]:,}" for part in parts), ""))
    if "model" in found:
        facts = found["model"].facts
        words = [f"{facts['parameters']:,} weights"] if isinstance(facts.get("parameters"), int) else []
        words += [
            f"{key.replace('_', ' ')} {facts[key]}"
            for key in ("best_epoch", "seed", "device", "precision", "processes")
            if key in facts
        ]
        lines.append(("model", ", ".join(words), ""))
    if "evaluation" in found:
        lines.append(("model verdict", *_verdict(found["evaluation"])))
    if "release" in found:
        facts = found["release"].facts
        alias = f"alias {facts['alias']}" if facts.get("alias") else "without an alias"
        # A person may have promoted it since: what stands in the folder is what register decided.
        since = f" (who is champion now, `gateline history {facts.get('name')}` says)"
        promoted = "promoted" if facts.get("promoted") else f"not promoted{since}"
        said = found["evaluation"].facts.get("verdict", {}).get("reasons", ()) if "evaluation" in found else ()
        reasons = [why for why in found["release"].read_json("decision.json").get("reasons") or () if why not in said]
        words_ = f"{facts.get('name')} version {facts.get('version')}, {alias}, {promoted}"
        lines.append(
            (
                "registered",
                words_ + (f": {'; '.join(map(str, reasons))}" if reasons else ""),
                "green" if facts.get("promoted") else "yellow",
            )
        )
    return lines


def _verdict(artifact: Found) -> tuple[str, str]:
    verdict = artifact.facts.get("verdict", {})
    reasons = [str(reason) for reason in verdict.get("reasons", ())]
    if verdict.get("passed"):
        return ("passed" + (f" all {len(reasons)} checks" if reasons else "")), "green"
    return f"refused: {'; '.join(reasons)}", "red"


def _scores(scores: Json) -> Any:
    from rich.table import Table

    mine = {key: value for key, value in scores["test"].items() if isinstance(value, int | float)}
    leading = next((key for key in ("mae", *mine) if key in mine), None)
    mine = dict(sorted(mine.items(), key=lambda item: item[0] != leading))
    table = Table(
        title="test part, in raw units" if "mae" in mine else "test part",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("", style="bold")
    for key in mine:
        table.add_column(key, justify="right")
    table.add_column(f"{leading} against the model's", justify="right")
    table.add_row("model", *(_number(value) for value in mine.values()), "", style="bold")
    baselines = {name: values for name, values in scores.get("baselines", {}).items() if isinstance(values, Mapping)}
    for name, values in sorted(baselines.items(), key=lambda item: _order(item[1].get(leading))):
        theirs, best = values.get(leading), mine.get(str(leading))
        change = f"{theirs / best - 1:+.1%}" if isinstance(theirs, int | float) and best else ""
        table.add_row(name, *(_number(values.get(key)) for key in mine), change)
    return table


def _order(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("inf")


def _number(value: object) -> str:
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "-"
