"""The model card says what was measured, each number under its key and with its data's digest, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from gateline.adapters.mlflow_server import connected
from gateline.adapters.registry.ledger import read_ledger
from gateline.adapters.registry.model_card import LONGEST, make_model_card
from gateline.adapters.registry.versions import Papers
from gateline.manifest import open_artifact
from tests.browser import PHONE, SCREEN, in_a_browser, seen
from tests.steps import run_here


@pytest.fixture
def release(made: Path, here: Callable[[], Path]) -> Path:
    folder = here() / "strong"
    shutil.copytree(made / "strong", folder)
    assert run_here("register", made / "tiny.yaml", folder) == 0
    return folder


def test_every_number_of_the_card_is_in_mlflow_under_its_key(release: Path) -> None:
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    version = client.get_model_version("tiny", "1")
    card = str(version.description)
    logged = client.get_run(str(version.run_id)).data.metrics

    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line.startswith("|")]
    numbers = {row[-1].strip("`"): row[1].split()[0] for row in rows if "/" in row[-1]}
    assert {"test/mae", "baseline/ridge/mae", "slice/shop_east/mae"} <= set(numbers)
    for key, text in numbers.items():
        assert float(text.replace(",", "")) == pytest.approx(logged[key], rel=1e-3), key
    prepared = open_artifact(release / "prepared", "prepared")
    assert prepared.digest[:12] in card
    assert "CC0-1.0" in card
    assert "gateline replay models:/tiny/1" in card
    assert "there is no champion yet" in card
    with connected("tiny", create=False) as to:
        (entry,) = read_ledger(to, "tiny").entries
    assert str(entry.decision)[:12] in card
    page = (release / "release" / "model_card.html").read_text(encoding="utf-8")
    for words in (prepared.digest, "golden requests", "slice/shop_east/mae", "Limits that the numbers show"):
        assert words in page, words


def test_a_card_with_many_slices_fits_into_the_registry(made: Path, tmp_path: Path) -> None:
    """MLflow keeps 5,000 characters; the page has all slices, and a value that is markup is text there."""
    from gateline.adapters.registry.inputs import open_inputs

    shutil.copytree(made / "strong", tmp_path / "strong")
    metrics_path = tmp_path / "strong" / "evaluation" / "metrics.json"
    metrics: dict[str, Any] = json.loads(metrics_path.read_text())
    inputs = open_inputs(*(tmp_path / "strong" / kind for kind in ("raw", "report", "prepared", "model", "evaluation")))
    metrics["slices"] = {f"shop=<b>{number}</b>": {"mae": 2.0 + number} for number in range(300)}
    metrics["baselines"]["ridge"]["mae"] = metrics["test"]["mae"] / 2
    metrics_path.write_text(json.dumps(metrics))
    passport = {
        "workload": {"digest": "0" * 64},
        "raw": {"files": {}},
        "code": {},
        "seed": 7,
        "machine": {},
        "python": "3",
        "libraries": {},
        "images": {},
    }
    workload = {
        "name": "tiny",
        "task": "forecasting",
        "description": "A | B",
        "source": {"licence": "CC0", "citation": "", "homepage": ""},
    }
    papers = Papers(passport, workload | {"gates": {}, "preprocess": {}}, inputs)
    decided = {"promoted": False, "awaiting_approval": False, "checks": [], "champion_before": 3}
    decided |= {"decided_at": "2026-01-02T03:04:05+00:00"}

    card = make_model_card(papers, 4, decided, "0" * 64, None)

    assert len(card.markdown) <= LONGEST
    assert re.search(r"\d+ slices more are in the HTML", card.markdown)
    for text in (card.markdown, card.html):
        assert re.search(
            "Register: not promoted(</b>)? on 2026-01-02, decided by the gates .* against champion version 3\\.", text
        )
        assert "gateline history tiny" in text, "a card is not written again when the champion changes"
    waits = make_model_card(papers, 4, decided | {"awaiting_approval": True}, "0" * 64, None)
    assert "Register: wins and waits for approval on 2026-01-02, decided by the gates" in waits.markdown
    by_hand = make_model_card(papers, 4, decided | {"promoted": True, "decided_at": None}, None, None)
    assert "Register: decided nothing, a person made it champion. Who is champion now" in by_hand.markdown
    assert "ridge is not worse" in card.markdown
    assert card.html.count("slice/shop_") == 300 + card.html.count("Worst on")
    assert "<b>299</b>" not in card.html
    assert "golden requests" not in card.html, "what was not measured is not said"


@in_a_browser
def test_the_card_reads_well_on_a_phone_and_on_a_screen(release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    shutil.copy(release / "release" / "model_card.html", folder / "report.html")
    for width in (PHONE, SCREEN):
        found = seen(folder, width)
        assert found["title"] == "tiny version 1: the model card"
        assert found["scrolls"] <= found["width"], found["wide"]
        assert found["problems"] == []
        assert found["console"] == []
        assert found["small"] == 0
