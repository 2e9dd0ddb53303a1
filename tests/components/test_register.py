"""A model is registered once, checked as it was registered, and becomes champion only if it wins."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml

from gateline.adapters.drift_check import check_drift
from gateline.adapters.kubeflow.run_notes import RELEASE, read_notes
from gateline.adapters.mlflow_server import connected
from gateline.adapters.provenance import KUBEFLOW_RUN
from gateline.adapters.registry.changes import promote, roll_back
from gateline.adapters.registry.decision import as_record, enter
from gateline.adapters.registry.history import KINDS, NOT_COMPARED, explain
from gateline.adapters.registry.ledger import read_ledger
from gateline.adapters.registry.notification import NOTIFIED_TAG, PENDING
from gateline.adapters.registry.package import PACKAGE_TAG, package_digest
from gateline.adapters.registry.register import is_registered
from gateline.adapters.registry.requests import as_request
from gateline.adapters.registry.versions import LIBRARY, MODEL_TAG
from gateline.errors import TryAgainError
from gateline.judgement import Check
from gateline.manifest import open_artifact
from gateline.promotion import Decision
from gateline.table import read_table
from gateline.workload import Workload
from gateline.workload.gates import Baseline, Gates
from tests.steps import run_here
from tests.tiny import tiny_table, write_tiny

Here = Callable[[], Path]


def register(made: Path, which: str, folder: Path, workload: Path | None = None) -> int:
    """Run the step on copies, so that it finds five folders and writes the sixth beside them."""
    target = folder / which
    if not target.exists():
        shutil.copytree(made / which, target)
    return run_here("register", workload or made / "tiny.yaml", target)


def decision(folder: Path, which: str) -> dict[str, Any]:
    answer: dict[str, Any] = open_artifact(folder / which / "release", "release").read_json("decision.json")
    return answer


def client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


def test_the_run_of_the_pipeline_that_asked_learns_what_was_decided(
    made: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here()
    decided = {}
    for which, asked in (("strong", "run-1"), ("weak", "run-2"), ("strong", "run-3")):
        monkeypatch.setenv(KUBEFLOW_RUN, asked)
        assert register(made, which, folder) == 0
        decided[asked] = decision(folder, which)
        shutil.rmtree(folder / which / "release")

    for asked, content in decided.items():
        assert read_notes("tiny", asked).release == {key: content[key] for key in RELEASE}
    told = [read_notes("tiny", asked).release for asked in decided]
    assert [(each["version"], each["alias"], each["promoted"]) for each in told] == [
        (1, "champion", True),
        (2, "challenger", False),
        (1, "champion", True),
    ]
    assert read_notes("tiny", "run-4").release == {}
    assert read_notes("another", "run-1").release == {}
    assert client().get_experiment_by_name("another") is None, "whoever only looks makes nothing"


def versions() -> int:
    return len(client().search_model_versions("name = 'tiny'"))


def test_the_better_model_is_champion_in_the_end_whatever_the_order(
    made: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here()

    assert register(made, "weak", folder) == 0
    said = capsys.readouterr()
    assert "tiny version 1 is registered as champion: models:/tiny@champion" in said.out
    assert said.err == ""
    assert client().get_registered_model("tiny").aliases == {"champion": 1}

    assert register(made, "weak", folder) == 0
    assert "this very model" in capsys.readouterr().out
    assert versions() == 1
    assert decision(folder, "weak")["promoted"]

    assert register(made, "strong", folder) == 0
    assert "replaces version 1" in capsys.readouterr().out
    assert client().get_registered_model("tiny").aliases == {"champion": 2}
    made_decision = decision(folder, "strong")
    assert made_decision["champion_before"] == 1
    assert made_decision["comparison"]["upper_bound"] < 0
    metrics = json.loads((folder / "strong" / "evaluation" / "metrics.json").read_text())
    assert made_decision["comparison"]["challenger"] == pytest.approx(metrics["test"]["mae"], rel=1e-5)
    assert {check["name"] for check in made_decision["checks"]} >= {"slice shop=east", "slice shop=west", "champion"}

    assert register(made, "weak", folder) == 0
    assert "version 2 stays champion" in capsys.readouterr().out
    assert client().get_registered_model("tiny").aliases == {"champion": 2, "challenger": 1}
    assert not decision(folder, "weak")["promoted"]
    assert versions() == 2

    with connected("tiny") as to:
        ledger = read_ledger(to, "tiny")
    assert [(entry.version, entry.kind) for entry in ledger.entries] == [
        (1, "promoted"),
        (2, "promoted"),
        (1, "not promoted"),
    ]
    assert [step.after for step in ledger.steps] == [1, 2, 2]


def test_the_same_weights_under_other_gates_or_with_another_library_are_another_version(
    made: Path, here: Here, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here()
    content = yaml.safe_load((made / "tiny.yaml").read_text())
    content["gates"]["serving"] = {"latency_ms": 9_999}
    (folder / "other.yaml").write_text(yaml.safe_dump(content))
    assert register(made, "strong", folder) == 0
    assert register(made, "weak", folder) == 0
    assert versions() == 2

    for _ in range(2):
        assert register(made, "weak", folder, folder / "other.yaml") == 0
        assert versions() == 3
        assert decision(folder, "weak")["comparison"]["attempts"] == 1, "the same weights are no other challenger"
    gates = open_artifact(folder / "weak" / "release", "release").read_json("passport.json")["workload"]["digest"]
    assert client().get_model_version("tiny", "3").tags["gateline.workload_digest"] == gates
    assert client().get_model_version("tiny", "2").tags["gateline.workload_digest"] != gates
    assert register(made, "strong", folder, folder / "other.yaml") == 0
    assert "version 1 is this very model" in capsys.readouterr().out
    assert versions() == 3

    shutil.copytree(LIBRARY, folder / "gateline", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "gateline" / "adapters" / "served_model.py").open("a") as served:
        served.write("# corrected\n")
    monkeypatch.setattr("gateline.adapters.registry.versions.LIBRARY", folder / "gateline")
    for _ in range(2):
        assert register(made, "strong", folder) == 0
        assert versions() == 4
    assert "version 1 stays champion" in capsys.readouterr().out
    with connected("tiny") as to:
        promote(to, "tiny", 4, print, why="the same model, served by corrected code")
    files = mlflow.artifacts.download_artifacts("models:/tiny@champion", dst_path=str(folder / "fetched"))
    assert (Path(files) / "served_model.py").read_text().endswith("# corrected\n")
    assert register(made, "strong", folder) == 0
    assert "version 4 is this very model" in capsys.readouterr().out


def test_registering_again_keeps_the_decision(made: Path, here: Here) -> None:
    folder = here()
    assert register(made, "weak", folder) == 0
    assert register(made, "strong", folder) == 0
    first = decision(folder, "strong")
    assert first["champion_before"] == 1
    assert first["comparison"]["difference"] < 0

    assert register(made, "strong", folder) == 0

    assert decision(folder, "strong") == first


def test_what_the_registry_lost_is_noticed(made: Path, here: Here) -> None:
    folder = here()
    assert register(made, "weak", folder) == 0
    release = open_artifact(folder / "weak" / "release", "release")
    assert is_registered("tiny", release)

    client().delete_registered_model_alias("tiny", "champion")
    assert not is_registered("tiny", release)
    client().set_registered_model_alias("tiny", "champion", "1")
    client().delete_model_version("tiny", "1")
    assert not is_registered("tiny", release)


def test_the_release_says_what_the_model_came_from(made: Path, here: Here) -> None:
    folder = here()
    assert register(made, "strong", folder) == 0
    release = open_artifact(folder / "strong" / "release", "release")
    passport = release.read_json("passport.json")
    assert {*passport} == {*NOT_COMPARED, *(link for links in KINDS.values() for link in links)}, (
        "explain knows each link"
    )
    assert release.facts == {"name": "tiny", "version": 1, "alias": "champion", "promoted": True}
    assert set(release.inputs) == {"raw", "report", "prepared", "model", "evaluation"}
    for kind, digest in release.inputs.items():
        assert passport["artifacts"][kind]["digest"] == digest
    pinned = yaml.safe_load((made / "tiny.yaml").read_text())["source"]["files"][0]["sha256"]
    assert list(passport["raw"]["files"].values()) == [pinned]
    assert passport["seed"] == 7
    assert passport["verdict"]["passed"]
    assert {"torch", "numpy", "mlflow"} <= set(passport["libraries"])
    experiment = client().get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client().search_runs([experiment.experiment_id])
    names = {Path(file.path).name for file in client().list_artifacts(run.info.run_id, "release")}
    assert {"passport.json", "decision.json"} <= names
    assert run.outputs is not None
    assert len(run.outputs.model_outputs) == 1


def test_a_champion_that_was_trained_on_the_test_part_is_not_beaten_on_it(
    made: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here()
    content = yaml.safe_load((made / "tiny.yaml").read_text())
    content["preprocess"]["split"] |= {
        "validate_from": "2024-03-01T00:00:00Z",
        "test_from": "2024-03-05T00:00:00Z",
    }
    content["training"]["epochs"] = 1
    (folder / "later.yaml").write_text(yaml.safe_dump(content))
    (folder / "later").mkdir()
    for kind in ("raw", "report"):
        shutil.copytree(made / kind, folder / "later" / kind)
    for step in ("preprocess", "train", "evaluate", "register"):
        assert run_here(step, folder / "later.yaml", folder / "later") == 0
    assert client().get_registered_model("tiny").aliases == {"champion": 1}
    capsys.readouterr()

    assert register(made, "strong", folder) == 0  # eight epochs against one: it would win
    assert "version 1 stays champion" in capsys.readouterr().out
    refused = [check for check in decision(folder, "strong")["checks"] if not check["passed"]]
    assert [check["name"] for check in refused] == ["unseen"]
    assert "the champion has seen the test part" in refused[0]["reason"]
    assert "the test part begins 2024-02-28" in refused[0]["reason"]
    assert client().get_registered_model("tiny").aliases == {"champion": 1, "challenger": 2}


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_model_that_evaluate_rejected_is_not_registered(
    made: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here()
    shutil.copytree(made / "strong", folder / "strong")
    no = {"passed": False, "reasons": ["mae 9 against 8 of ridge"]}
    edit_json(folder / "strong" / "evaluation" / "manifest.json", lambda manifest: manifest["facts"].update(verdict=no))
    assert register(made, "strong", folder) == 2
    assert "mae 9 against 8 of ridge" in capsys.readouterr().err
    assert not client().search_registered_models()
    assert not (folder / "strong" / "release").exists()


def test_gates_that_were_tightened_after_evaluate_hold(
    made: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here()
    workload = yaml.safe_load((made / "tiny.yaml").read_text())
    workload["gates"]["limits"] = {"mae": {"max": 0.001}}
    (folder / "tight.yaml").write_text(yaml.safe_dump(workload))
    assert register(made, "strong", folder, folder / "tight.yaml") == 2
    assert "passed other gates" in capsys.readouterr().err
    assert not client().search_registered_models()


def test_folders_of_two_models_are_not_mixed(made: Path, here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here()
    shutil.copytree(made / "strong", folder / "strong")
    shutil.rmtree(folder / "strong" / "model")
    shutil.copytree(made / "weak" / "model", folder / "strong" / "model")
    assert register(made, "strong", folder) == 2
    assert "made from another 'model'" in capsys.readouterr().err
    assert not client().search_registered_models()


def seal(folder: Path) -> None:
    """Make the version say that its files are as they stand now, as one who covers his tracks would."""
    (mlmodel,) = (folder / "mlruns").rglob("MLmodel")
    client().set_model_version_tag("tiny", "1", PACKAGE_TAG, package_digest(mlmodel.parent))


def test_a_registered_model_that_answers_otherwise_gets_no_alias(
    made: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here()
    assert register(made, "strong", folder) == 0
    with connected("tiny") as to:
        roll_back(to, "tiny", None, print, nobody=True)
    (weights,) = (folder / "mlruns").rglob("weights.pt")
    shutil.copy(made / "weak" / "model" / "weights.pt", weights)
    capsys.readouterr()
    assert register(made, "strong", folder) == 2
    assert "other files than it was registered with" in capsys.readouterr().err
    seal(folder)
    assert register(made, "strong", folder) == 2
    assert "another sales" in capsys.readouterr().err
    assert client().get_registered_model("tiny").aliases == {}

    weights.unlink()
    seal(folder)
    assert register(made, "strong", folder) == 2
    assert "weights.pt" in capsys.readouterr().err


def changed_weights(model: Path, made: Path) -> None:
    shutil.copy(made / "strong" / "model" / "weights.pt", model / "weights.pt")


def lost_files(model: Path, made: Path) -> None:
    shutil.rmtree(model.parents[1])


def another_library(model: Path, made: Path) -> None:
    """Make the champion one that a library wrote whose networks have a setting more, as sealed as it was."""
    edit_json(model / "config.json", lambda config: config["model"].update(gates_of_tomorrow=3))
    content = (model / "config.json").read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit_json(model / "manifest.json", lambda manifest: manifest["files"].update({"config.json": entry}))
    client().set_model_version_tag("tiny", "1", MODEL_TAG, open_artifact(model, "model").digest)
    seal(Path.cwd())


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        (changed_weights, "weights.pt"),
        (lost_files, "the files of this version"),
        (
            another_library,
            "this version of Gateline cannot load it: its model folder: expected a model of this version",
        ),
    ],
)
def test_a_champion_that_cannot_be_loaded_is_no_end(
    happens: Callable[[Path, Path], None], words: str, made: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here()
    assert register(made, "weak", folder) == 0
    (weights,) = (folder / "mlruns").rglob("weights.pt")
    happens(weights.parent, made)
    capsys.readouterr()
    assert register(made, "strong", folder) == 0
    assert "version 1 stays champion" in capsys.readouterr().out
    (reason,) = [check["reason"] for check in decision(folder, "strong")["checks"] if not check["passed"]]
    assert words in reason
    assert tempfile.gettempdir() not in reason
    assert decision(folder, "strong")["rows"] is None, "compared on no rows, it is no challenger that counts"
    assert client().get_registered_model("tiny").aliases == {"champion": 1, "challenger": 2}
    if happens is another_library:
        tiny_table().to_csv(folder / "new.csv", index=False)
        found = check_drift("tiny", folder / "new.csv", None, folder / "drift")
        assert {each.column for each in found.findings} >= {"price", "sales"}
    with connected("tiny") as to:
        forced = promote(to, "tiny", 2, print, why="the old one cannot be loaded")
    assert forced is not None
    assert forced.after == 2


def test_a_store_that_does_not_answer_is_no_decision(
    made: Path, here: Here, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here()
    assert register(made, "weak", folder) == 0
    answered = mlflow.artifacts.download_artifacts

    def down(address: str, **named: Any) -> str:
        if address == "models:/tiny/1":
            raise ConnectionError("HTTP 503 Slow Down")
        return answered(address, **named)

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", down)
    assert register(made, "strong", folder) == 75
    assert "Slow Down" in capsys.readouterr().err
    assert not (folder / "strong" / "release").exists()
    assert len(client().search_model_versions("name = 'tiny.ledger'")) == 1

    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert register(made, "strong", folder) == 0
    assert decision(folder, "strong")["promoted"]


def test_a_winner_waits_for_approval_and_what_was_rolled_back_stays_so(
    made: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here()
    workload = yaml.safe_load((made / "tiny.yaml").read_text())
    told = folder / "told.json"
    command = [sys.executable, "-c", f"import sys; open({str(told)!r}, 'w').write(sys.stdin.read())"]
    workload["gates"] |= {"approval": "required", "notify": {"command": command}}
    (folder / "strict.yaml").write_text(yaml.safe_dump(workload))
    assert register(made, "weak", folder) == 0

    assert register(made, "strong", folder, folder / "strict.yaml") == 0
    assert "waits for approval: `gateline promote tiny`" in capsys.readouterr().out
    assert client().get_registered_model("tiny").aliases == {"champion": 1, "challenger": 2}
    assert not decision(folder, "strong")["promoted"]
    assert (json.loads(told.read_text())["kind"], json.loads(told.read_text())["champion"]) == ("awaiting approval", 1)
    entry = client().get_model_version("tiny.ledger", "2")
    assert entry.tags[NOTIFIED_TAG] == "command: told"
    for tag, is_told_again in (
        ("command: told", False),
        (PENDING, True),
    ):  # as register leaves it that is stopped there
        client().set_model_version_tag("tiny.ledger", "2", NOTIFIED_TAG, tag)
        told.unlink()
        assert register(made, "strong", folder, folder / "strict.yaml") == 0
        assert told.exists() is is_told_again
        told.touch()
    assert len(client().search_model_versions("name = 'tiny.ledger'")) == 2
    with connected("tiny") as to:
        promote(to, "tiny", None, print)
        assert client().get_registered_model("tiny").aliases == {"champion": 2}
    client().set_model_version_tag("tiny.ledger", "3", NOTIFIED_TAG, PENDING)
    told.unlink()
    assert register(made, "strong", folder, folder / "strict.yaml") == 0
    assert json.loads(told.read_text())["kind"] == "promoted", "the champion itself, whose register was stopped there"
    with connected("tiny") as to:
        roll_back(to, "tiny", None, print, why="forecasts below zero")
        assert client().get_registered_model("tiny").aliases == {"champion": 1}

    assert register(made, "strong", folder) == 0
    assert "version 2 was rolled back by" in capsys.readouterr().out, "other gates do not bring it back"
    assert client().get_registered_model("tiny").aliases == {"champion": 1, "challenger": 3}
    with connected("tiny") as to:
        explained = explain(to, "tiny", 2)
        assert explained.champion == 1
        settings = {name: (before, after) for name, before, after in explained.changes["settings"]}
        assert settings["workload.training.epochs"] == (1, 8)
        assert settings["workload.gates.approval"][1] == "required"
        assert not explained.changes["data"]
        assert not explained.changes["code"]
        assert explained.remarks == ()


def with_another_shop(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table[table["shop"] == "west"].assign(shop="north")], ignore_index=True)


SUCCESSORS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], dict[str, Any], str]] = {
    "a value that it has never seen": (
        with_another_shop,
        {"schema__columns__shop": {"type": "text", "values": ["east", "north", "west"]}},
        "north",
    ),
    "a column that is no more": (
        lambda table: table.drop(columns="footfall"),
        {"schema__columns__footfall": None, "preprocess__past": []},
        "no footfall",
    ),
    "other windows": (lambda table: table, {"preprocess__windows__horizon": 12}, "12"),
}


@pytest.mark.parametrize("what", SUCCESSORS)
def test_a_champion_that_cannot_read_the_new_data_is_no_end(
    what: str, made: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register(made, "weak", here()) == 0
    change, settings, words = SUCCESSORS[what]
    path = write_tiny(here(), change(tiny_table()), training__epochs=1, **settings)
    content = yaml.safe_load(path.read_text())
    content["schema"]["columns"] = {name: each for name, each in content["schema"]["columns"].items() if each}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    for step in ("ingest", "validate", "preprocess", "train", "evaluate", "register"):
        assert run_here(step, path, here() / "next") == 0, step

    made_of_it = decision(here(), "next")
    assert (made_of_it["promoted"], made_of_it["version"]) == (False, 2)
    reason = next(check["reason"] for check in made_of_it["checks"] if check["name"] == "comparable")
    assert "the champion cannot be scored on this test part" in reason
    assert words in reason
    with connected("tiny", create=False) as to:
        assert read_ledger(to, "tiny").champion == 1
        forced = promote(to, "tiny", 2, print, why="the old one cannot read what comes now")
        assert forced is not None
        assert (forced.after, forced.entry.forced) == (2, True)


def test_who_loses_the_race_is_told_to_run_register_again(here: Here) -> None:
    here()
    c = client()
    c.create_registered_model("tiny")
    one, two, three = (c.create_model_version("tiny", f"s3://bucket/{number}") for number in range(3))
    won = as_record(Decision(True, (Check("champion", True, "better"),), {}), Gates(baselines={"b": Baseline()}), one)
    with connected("tiny") as to:
        enter(to, "tiny", one, None, {**won, "champion_before": None}, read_ledger(to, "tiny"))
        before = read_ledger(to, "tiny")
        enter(to, "tiny", two, one, won, before)
        with pytest.raises(TryAgainError, match=r"expected version 1, .* found version 2, set meanwhile"):
            enter(to, "tiny", three, one, won, before)
    assert c.get_registered_model("tiny").aliases == {"champion": 2}


@pytest.fixture
def endpoint(made: Path, here: Here, tmp_path: Path) -> Iterator[str]:
    """`mlflow models serve` of a registered champion, without the source tree on its path."""
    assert register(made, "strong", here()) == 0
    port = "5791"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        "models:/tiny@champion",
        "--env-manager",
        "local",
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PATH": path}
    with (tmp_path / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", port], cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ping")
                    break
                except OSError:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, 15)
            process.wait()


def ask(endpoint: str, body: dict[str, Any]) -> tuple[int, str]:
    request = urllib.request.Request(endpoint, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_mlflow_serves_rows_of_the_table(made: Path, endpoint: str) -> None:
    from gateline.tasks import task_named

    predictor = task_named("forecasting").load_predictor(made / "strong" / "model")
    rows = predictor.example(read_table(made / "prepared" / "table.parquet"))
    wanted = predictor.predict(rows)
    body = json.loads(as_request(rows))
    assert None in body["dataframe_split"]["data"][-1], "what is not known ahead is null"

    status, answer = ask(endpoint, body)
    assert status == 200
    predictions = json.loads(answer)["predictions"]
    assert [row["sales"] for row in predictions] == pytest.approx(wanted["sales"].tolist(), rel=1e-5)
    assert predictions[0]["time"] == wanted["time"][0].strftime("%Y-%m-%dT%H:%M:%SZ")

    shuffled = {"dataframe_split": {**body["dataframe_split"], "data": body["dataframe_split"]["data"][::-1]}}
    assert ask(endpoint, shuffled) == (200, answer)

    place = {name: index for index, name in enumerate(body["dataframe_split"]["columns"])}
    for change, words in {
        "no rows": "found none",
        "few rows": "expected 30 rows",
        "unknown series": "north",
        "no series": "column shop",
        "out of range": "price",
        "text": "price",
        "bad time": "time",
        "no column": body["dataframe_split"]["columns"][-1],
        "bad origin": "params.origin",
    }.items():
        split = json.loads(json.dumps(body["dataframe_split"]))
        params = {"params": {"origin": "soon"}} if change == "bad origin" else {}
        if change in ("no rows", "few rows"):
            split["data"] = split["data"][: 0 if change == "no rows" else 10]
        if change == "no column":
            split = {"columns": split["columns"][:-1], "data": [row[:-1] for row in split["data"]]}
        for row in split["data"]:
            if change in ("unknown series", "no series"):
                row[place["shop"]] = "north" if change == "unknown series" else None
            if change in ("out of range", "text"):
                row[place["price"]] = -5.0 if change == "out of range" else "cheap"
            if change == "bad time":
                row[place["time"]] = "yesterday"
        status, answer = ask(endpoint, {"dataframe_split": split, **params})
        assert status == 400, (change, answer)
        assert words in re.sub(r"Failed to predict data '.*?'\. ", "", answer), (change, answer)
        assert "Traceback" not in answer, (change, answer)


def test_the_workload_that_register_sees_holds_the_gates_only(made: Path) -> None:
    assert set(Workload.read(made / "tiny.yaml", step="register").sections) == {"gates"}
