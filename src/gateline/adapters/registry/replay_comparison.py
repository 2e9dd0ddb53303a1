"""What a replay made beside what the passport says, link by link, and whether that is the same model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateline.adapters.provenance import machine
from gateline.adapters.registry.links import short
from gateline.adapters.registry.versions import METRICS
from gateline.manifest import Artifact, Json, digest_of, file_digest
from gateline.model_folder import WEIGHTS
from gateline.passport import LIBRARIES, versions

RAW_FILES = "raw files"
NAMES = {"raw": "raw data", "report": "report", "prepared": "prepared data"}
COMPUTE_WEIGHTS = ("torch", "numpy")
COMPUTE_DATA = (*COMPUTE_WEIGHTS, "pandas", "pyarrow")
"""Libraries that may round, or write, in another way in another version; no other can change weights or prepared data."""
SIGNED = {"bias": "mae"}
"""Metrics around zero, and the one whose size says what a small difference is."""
SMALL = 1e-3
"""A metric smaller than this is compared as if it were this large."""
State = Literal["equal", "differs", "within tolerance"]


@dataclass(frozen=True)
class Row:
    """One link, as the passport says it and as it came out again.

    Args:
        link: its name.
        passport: what was.
        replayed: what came out.
        state: how they compare.
    """

    link: str
    passport: str
    replayed: str
    state: State


@dataclass(frozen=True)
class Replay:
    """What came of it.

    Args:
        name: of the registered model.
        version: its number.
        rows: all links that were compared, in the order of the data.
        verdict: one line.
        same: the model was made again: equal weights, or metrics within the tolerance where the machine or a library is
            another, or a GPU computed.
    """

    name: str
    version: int
    rows: tuple[Row, ...]
    verdict: str
    same: bool


@dataclass(frozen=True)
class Recipe:
    """All that a replay needs of the registered model."""

    name: str
    version: int
    passport: Json
    workload: Json
    manifests: Mapping[str, Json]
    metrics: Json


def compare(recipe: Recipe, made: Mapping[str, Artifact], code: str, tolerance: float) -> Replay:
    """Compare every link.

    Args:
        recipe: what was registered.
        made: what came out again, by kind.
        code: `code_version` of what made it.
        tolerance: relative difference of a metric that is let pass where the machine or a library is another, or a GPU computed.
    """
    passport, rows = recipe.passport, []

    def row(link: str, was: object, now: object, state: State | None = None) -> None:
        rows.append(Row(link, short(was), short(now), state or ("equal" if was == now else "differs")))

    row("code", passport["code"]["version"], code)
    now = made["model"].facts
    for name, was in passport["settings"].items():
        if isinstance(was, dict):
            for key, value in was.items():
                if value != now[name].get(key):
                    row(f"settings.{name}.{key}", value, now[name].get(key))
        else:
            row(f"settings.{name}", was, now.get(name))
    for name, version in versions(LIBRARIES).items():
        if passport["libraries"].get(name) != version:
            row(f"library {name}", passport["libraries"].get(name), version)
    for name, what in machine().items():
        if passport["machine"].get(name) != what:
            row(f"machine: {name}", passport["machine"].get(name), what)
    files = made["raw"].path / "files"
    again = {
        path.relative_to(made["raw"].path).as_posix(): file_digest(path) for path in files.rglob("*") if path.is_file()
    }
    row(RAW_FILES, digest_of(passport["raw"]["files"]), digest_of(again))
    for kind in ("raw", "report", "prepared"):
        row(NAMES[kind], passport["artifacts"][kind]["digest"], made[kind].digest)
    weights, made_weights = (
        recipe.manifests["model"]["files"][WEIGHTS]["sha256"],
        file_digest(made["model"].path / WEIGHTS),
    )
    row("weights", weights, made_weights)
    worst, test = 0.0, recipe.metrics["test"]
    for name, was in test.items():
        value = made["evaluation"].read_json(METRICS)["test"].get(name)
        apart = apart_by(was, value, test.get(SIGNED.get(name, "")) or SMALL)
        worst = max(worst, apart)
        row(
            f"test/{name}",
            f"{was:.6g}" if was is not None else "-",
            f"{value:.6g}" if value is not None else "-",
            "equal" if apart == 0 else "within tolerance" if apart <= tolerance else "differs",
        )
    row("evaluation", passport["artifacts"]["evaluation"]["digest"], made["evaluation"].digest)
    return Replay(
        recipe.name, recipe.version, tuple(rows), *verdict_on(rows, weights == made_weights, worst, tolerance)
    )


def apart_by(was: float | None, now: float | None, least: float) -> float:
    """Relative difference of two numbers; infinite where one of them is none.

    Args:
        was: in the passport.
        now: in the replay.
        least: what the difference is divided by at least, so that a number near zero need not agree to its last digit.
    """
    if was is None or now is None:
        return 0.0 if was is now else math.inf
    return abs(now - was) / max(abs(was), abs(least), SMALL) if now != was else 0.0


def verdict_on(rows: list[Row], same_weights: bool, worst: float, tolerance: float) -> tuple[str, bool]:
    """Say in a line whether it is the same model, and what differs; and whether that may be.

    Args:
        rows: what was compared.
        same_weights: to the byte.
        worst: largest relative difference of a metric.
        tolerance: what may differ where the machine or a library is another, or a GPU computed.
    """
    differing = [row for row in rows if row.state == "differs"]
    causes = [row for row in differing if row.link in ("code", RAW_FILES) or row.link.startswith("settings.")]
    computing = COMPUTE_DATA if any(row.link == NAMES["prepared"] for row in differing) else COMPUTE_WEIGHTS
    excuses = {f"library {name}" for name in computing}
    elsewhere = [row for row in differing if row.link in excuses or row.link.startswith("machine: ")]
    on_gpu = any(row.link == "settings.device" and row.passport == row.replayed == "cuda" for row in rows)
    if any(row.link == RAW_FILES for row in causes):
        return f"{RAW_FILES}: other data than the passport names; metrics differ by up to {worst:.2g}", False
    if same_weights:
        return f"the weights are equal to the byte, metrics differ by at most {worst:.2g}", worst <= tolerance
    named = "; ".join(
        f"{row.link}: passport {row.passport}, replay {row.replayed}" for row in (causes or elsewhere or differing)
    )
    if on_gpu and not causes and not elsewhere:
        named = "a GPU does not add in the same order every time"
    if not causes and (elsewhere or on_gpu) and worst <= tolerance:
        return f"the weights differ ({named}), metrics by at most {worst:.2g}, within {tolerance:g}", True
    return f"{named}; weights differ, metrics by up to {worst:.2g}", False
