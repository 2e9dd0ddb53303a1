"""Every link from the raw data to a registered model is checked: a change of any one is found and named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from typer.testing import CliRunner

from gateline.adapters.container_engine import compare_image
from gateline.adapters.mlflow_server import connected
from gateline.adapters.provenance import dvc_md5_of
from gateline.adapters.registry import kept_decision
from gateline.adapters.registry.ledger import append, new_entry, read_ledger
from gateline.adapters.registry.verify import verify
from gateline.cli import app
from gateline.errors import RegistryError, TryAgainError
from gateline.ledger import NOT_PROMOTED, PROMOTED
from gateline.manifest import digest_of, dump_json
from tests.components.chain import Chain, chain, git, registered_once

__all__ = ["chain", "registered_once"]  # fixtures


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(dump_json(content))


def edit_passport(chain: Chain, change: Callable[[Any], None], *, seal: bool = False) -> None:
    """Edit the passport inside the model; sealed, the tags say its new digest, as one who covers his tracks would."""
    edit(chain.papers / "passport.json", change)
    if seal:
        digest = digest_of(json.loads((chain.papers / "passport.json").read_text()))
        chain.client.set_model_version_tag("tiny", "1", "gateline.passport_digest", digest)
        (logged,) = chain.client.search_logged_models([chain.client.get_run(chain.run_id).info.experiment_id])
        chain.client.set_logged_model_tags(logged.model_id, {"gateline.passport_digest": digest})


def edit_workload_file(chain: Chain) -> None:
    """Another workload from the first commit on, so that neither the file nor the commit holds that of the passport."""
    path = chain.root / "workloads" / "tiny.yaml"
    path.write_text(path.read_text().replace("hidden_size: 12", "hidden_size: 13"))
    edit_passport(chain, lambda passport: passport["code"].pop("commit"), seal=True)


def edit_lock(chain: Chain) -> None:
    edit_passport(chain, lambda passport: passport.update(lock_file="0" * 64), seal=True)


def other_metrics(chain: Chain) -> None:
    """Better numbers, with every digest that names them renewed: only the verdict says that something is wrong."""
    edit(chain.papers / "metrics.json", lambda metrics: metrics["test"].update(mae=0.5))


def move_alias(chain: Chain) -> None:
    """To another version, of the same files."""
    version = chain.client.get_model_version("tiny", "1")
    other = chain.client.create_model_version("tiny", str(version.source), version.run_id, tags=version.tags)
    chain.client.set_registered_model_alias("tiny", "champion", other.version)


def edit_entry(chain: Chain) -> None:
    """Change who decided; the entry behind it had seen another."""
    with connected("tiny", create=False) as to:
        append(to, "tiny", new_entry(NOT_PROMOTED, 2, 1, "worse", seen=read_ledger(to, "tiny")))
    said = json.loads(chain.client.get_model_version("tiny.ledger", "1").tags["gateline.entry"])
    text = json.dumps({**said, "by": "somebody else"})
    chain.client.set_model_version_tag("tiny.ledger", "1", "gateline.entry", text)


def delete_logged_model(chain: Chain) -> None:
    (logged,) = chain.client.search_logged_models([chain.client.get_run(chain.run_id).info.experiment_id])
    chain.client.delete_logged_model(logged.model_id)


MUTATIONS: dict[str, tuple[Callable[[Chain], object], str]] = {
    "a raw file": (lambda chain: flip(chain.artifacts / "raw" / "files" / "sales" / "sales.csv"), "raw data"),
    "the table of the raw data": (lambda chain: flip(chain.artifacts / "raw" / "table.parquet"), "raw data"),
    "the report on the data": (lambda chain: flip(chain.artifacts / "report" / "report.json"), "report"),
    "an array of the prepared data": (
        lambda chain: flip(chain.artifacts / "prepared" / "arrays" / "values.npy"),
        "prepared data",
    ),
    "the md5 of DVC": (
        lambda chain: edit_passport(
            chain, lambda passport: passport["dvc_md5"].update(model="0" * 32 + ".dir"), seal=True
        ),
        "DVC md5",
    ),
    "the errors that a difference is compared with chance by": (
        lambda chain: flip(chain.papers / "errors.parquet"),
        "evaluation",
    ),
    "the same errors, gone": (lambda chain: (chain.papers / "errors.parquet").unlink(), "evaluation"),
    "a metric that MLflow shows": (
        lambda chain: chain.client.log_metric(chain.run_id, "test/mae", 0.001, step=10),
        "evaluation",
    ),
    "the digest that a version is found again by": (
        lambda chain: chain.client.set_model_version_tag("tiny", "1", "gateline.registration_digest", "0" * 64),
        "tags",
    ),
    "a setting in the workload": (
        lambda chain: edit(chain.papers / "workload.json", lambda workload: workload["training"].update(epochs=9)),
        "workload",
    ),
    "the workload's file": (edit_workload_file, "workload file"),
    "the code inside the model": (
        lambda chain: flip(next(chain.top.rglob("gateline/training/loop.py"))),
        "code",
    ),
    "the commit": (
        lambda chain: edit_passport(chain, lambda passport: passport["code"].update(commit="0" * 40), seal=True),
        "commit",
    ),
    "the lock file": (edit_lock, "lock file"),
    "the image": (
        lambda chain: chain.client.set_model_version_tag(
            "tiny", "1", "gateline.images", json.dumps({"register": "registry.example/train@sha256:" + "b" * 64})
        ),
        "image",
    ),
    "the pipeline": (
        lambda chain: edit_passport(chain, lambda passport: passport["pipeline"].update(digest="0" * 64), seal=True),
        "pipeline",
    ),
    "the seed": (
        lambda chain: edit_passport(chain, lambda passport: passport["settings"].update(seed=8), seal=True),
        "settings",
    ),
    "the preprocessing state": (
        lambda chain: flip(next(chain.top.rglob("preprocessing.json"))),
        "preprocessing state",
    ),
    "the weights": (lambda chain: flip(next(chain.top.rglob("weights.pt"))), "weights"),
    "the settings inside the model": (lambda chain: flip(next(chain.top.rglob("config.json"))), "model"),
    "a file more inside the model": (
        lambda chain: (next(chain.top.rglob("weights.pt")).parent / "extra.py").write_text("print(1)"),
        "model",
    ),
    "the evaluation in MLflow": (
        lambda chain: flip(next((chain.root / "mlruns").rglob("evaluation/predictions.parquet"))),
        "evaluation",
    ),
    "the numbers inside the model": (other_metrics, "evaluation"),
    "the verdict": (
        lambda chain: edit_passport(chain, lambda passport: passport["verdict"].update(passed=False), seal=True),
        "verdict",
    ),
    "the requirements": (
        lambda chain: (chain.top / "requirements.txt").write_text("torch==1.0\n"),
        "requirements",
    ),
    "the signature": (
        lambda chain: (
            (chain.top / "MLmodel").write_text(
                (chain.top / "MLmodel").read_text().replace('"name": "price"', '"name": "cost"', 1)
            )
            and None
        ),
        "signature",
    ),
    "the code that MLflow runs": (lambda chain: flip(chain.top / "served_model.py"), "package"),
    "a stray module beside the library": (
        lambda chain: (chain.top / "code" / "sitecustomize.py").write_text("print(1)\n"),
        "package",
    ),
    "a file that no model needs, gone": (lambda chain: (chain.top / "conda.yaml").unlink(), "package"),
    "the loader": (
        lambda chain: (chain.top / "MLmodel").write_text(
            (chain.top / "MLmodel").read_text().replace("mlflow.pyfunc.loaders.code_model", "os.path")
        ),
        "package",
    ),
    "an adapter inside the model": (
        lambda chain: flip(chain.top / "code" / "gateline" / "adapters" / "served_model.py"),
        "package",
    ),
    "the digest of the package": (
        lambda chain: chain.client.set_model_version_tag("tiny", "1", "gateline.package_digest", "0" * 64),
        "package",
    ),
    "the serving check": (
        lambda chain: chain.client.set_model_version_tag(
            "tiny", "1", "gateline.serving_check", "failed: another sales"
        ),
        "serving check",
    ),
    "the decision": (
        lambda chain: chain.client.set_model_version_tag(
            "tiny", "1", "gateline.decision", json.dumps({"promoted": True, "reasons": [], "checks": []})
        ),
        "decision",
    ),
    "the decision, gone from the version": (
        lambda chain: chain.client.delete_model_version_tag("tiny", "1", "gateline.decision"),
        "decision",
    ),
    "an entry of the ledger": (edit_entry, "ledger"),
    "the decision at an entry of the ledger": (
        lambda chain: chain.client.set_model_version_tag(
            "tiny.ledger", "1", "gateline.decision", json.dumps({"promoted": True, "reasons": [], "checks": []})
        ),
        "ledger",
    ),
    "an entry of the ledger, gone": (
        lambda chain: chain.client.delete_model_version("tiny.ledger", "1"),
        "ledger",
    ),
    "the ledger, gone": (lambda chain: chain.client.delete_registered_model("tiny.ledger"), "ledger"),
    "the alias, moved to another version": (move_alias, "decision"),
    "the logged model": (delete_logged_model, "package"),
    "the code that trained": (
        lambda chain: edit_passport(chain, lambda passport: passport["code"].update(trained="0" * 64), seal=True),
        "code",
    ),
    "the commit on the version": (
        lambda chain: chain.client.set_model_version_tag("tiny", "1", "gateline.git_commit", "0" * 40),
        "tags",
    ),
    "a tag of the version": (
        lambda chain: chain.client.set_model_version_tag("tiny", "1", "gateline.raw_digest", "0" * 64),
        "tags",
    ),
    "a library in the passport": (
        lambda chain: edit_passport(chain, lambda passport: passport["libraries"].update(torch="1.0")),
        "package",
    ),
    "the digest of the passport": (
        lambda chain: chain.client.set_model_version_tag("tiny", "1", "gateline.passport_digest", "0" * 64),
        "passport",
    ),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_change_of_one_link_is_named(what: str, chain: Chain) -> None:
    mutate, link = MUTATIONS[what]
    mutate(chain)
    assert chain.first_broken()[0] == link, chain.first_broken()


def test_an_untouched_chain_holds_and_says_what_it_could_not_see(chain: Chain) -> None:
    found = verify("models:/tiny@champion", chain.root)

    assert not found.failed(), found.failed()
    assert {link.name for link in found.unchecked} <= {"image"}, found.unchecked
    outside = verify("tiny/1", None)
    assert not outside.failed()
    assert {"raw data", "prepared data", "commit", "lock file"} <= {link.name for link in outside.unchecked}


def test_the_command_prints_a_line_all_links_or_json(chain: Chain) -> None:
    run = CliRunner().invoke
    fine = run(app, ["verify", "tiny"])
    assert fine.exit_code == 0, fine.output
    assert "tiny version 1" in fine.stdout
    assert run(app, ["verify", "tiny", "--strict"]).exit_code == 2, "there is no image here to look at"

    flip(next(chain.top.rglob("weights.pt")))

    refused = run(app, ["verify", "tiny"])
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert "tiny version 1, weights: expected" in refused.stderr
    everything = run(app, ["verify", "tiny", "--all"])
    assert everything.exit_code == 2
    assert "holds" in everything.stdout
    said = json.loads(run(app, ["verify", "tiny", "--json"]).stdout)
    assert not said["holds"]
    assert [link["name"] for link in said["links"] if link["state"] == "broken"] == ["weights", "model", "package"]


def test_the_file_of_the_package_is_named_and_what_mlflow_adds_is_let_pass(chain: Chain) -> None:
    mlflow.pyfunc.load_model("models:/tiny/1")  # leaves bytecode and a note of its own behind
    assert (chain.top / "registered_model_meta").is_file()
    found = {link.name: link for link in verify("tiny", chain.root).links}["package"]
    assert found.state == "holds", found
    (chain.top / "code" / "stray.py").write_text("")
    flip(chain.top / "served_model.py")

    assert chain.first_broken() == ("package", "code/stray.py was not registered with it")
    (chain.top / "code" / "stray.py").unlink()
    assert chain.first_broken() == ("package", "served_model.py has other bytes than were registered")


def test_an_alias_that_the_ledger_does_not_say_is_named(chain: Chain) -> None:
    move_alias(chain)

    (link,) = verify("tiny/1", chain.root).failed()
    assert (link.name, link.words) == ("champion", "version 2 by its alias, version 1 by the ledger")


def test_later_runs_of_the_workload_break_no_older_model(chain: Chain, made: Path) -> None:
    """Another file of the workload, other artifacts, a later commit: what the passport names is still at its commit."""
    path = chain.root / "workloads" / "tiny.yaml"
    path.write_text(path.read_text().replace("hidden_size: 12", "hidden_size: 13"))
    (chain.root / "requirements.lock").write_text("torch==99\n")
    shutil.rmtree(chain.artifacts / "model")
    shutil.copytree(made / "weak" / "model", chain.artifacts / "model")

    found = verify("tiny", chain.root)

    assert not found.failed(), found.failed()
    assert next(link for link in found.links if link.name == "workload file").words.endswith("at the commit")


def test_what_the_artifacts_lost_is_found_in_the_cache_of_dvc_byte_for_byte(chain: Chain) -> None:
    files = chain.root / ".dvc" / "cache" / "files" / "md5"
    keep_as_dvc_does(chain.artifacts / "prepared", files)
    array = hashlib.md5((chain.artifacts / "prepared" / "arrays" / "values.npy").read_bytes()).hexdigest()
    shutil.rmtree(chain.artifacts)

    links = {link.name: link for link in verify("tiny", chain.root).links}
    assert links["prepared data"].state == "holds"
    assert links["prepared data"].words.startswith("DVC's cache")
    assert links["report"].state == "unchecked"
    assert links["raw data"].words.startswith("at its source"), "the workload's own file is still there"

    flip(files / array[:2] / array[2:])
    assert chain.first_broken() == ("prepared data", "DVC's cache holds other bytes of arrays/values.npy")
    (files / array[:2] / array[2:]).unlink()
    links = {link.name: link for link in verify("tiny", chain.root).links}
    assert "dvc pull" in links["prepared data"].words


def keep_as_dvc_does(folder: Path, files: Path) -> None:
    """Put a folder into a cache as DVC lays it out."""
    entries = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        entries.append({"md5": md5, "relpath": path.relative_to(folder).as_posix()})
        (files / md5[:2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, files / md5[:2] / md5[2:])
    name = dvc_md5_of(folder)
    (files / name[:2]).mkdir(parents=True, exist_ok=True)
    listing = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    (files / name[:2] / name[2:]).write_text(listing)


def test_images_are_compared_with_what_an_engine_has(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is a script that says of the image what is in a file."""
    (tmp_path / "bin").mkdir()
    engine = tmp_path / "bin" / "podman"
    engine.write_text(f"#!/bin/sh\ncat {tmp_path}/facts\n")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{engine.parent}:{os.environ['PATH']}")
    name, commit = "registry.example/train@sha256:" + "a" * 64, git(chain.root, "rev-parse", "HEAD")

    def said(names: list[str], revision: str) -> tuple[str, str]:
        labels = {"org.opencontainers.image.revision": revision}
        (tmp_path / "facts").write_text(json.dumps([{"RepoDigests": names, "Config": {"Labels": labels}}]))
        link = next(link for link in verify("tiny", chain.root).links if link.name == "image")
        return link.state, link.words

    assert said([name], commit)[0] == "holds"
    for revision in ("unknown", ""):
        state, words = said([name], revision)
        assert state == "unchecked", words
        assert "has no label org.opencontainers.image.revision" in words
    state, words = said([name], "b" * 40)
    assert state == "broken"
    assert "was built of commit bbbb" in words
    state, words = said(["registry.example/train@sha256:" + "c" * 64], commit)
    assert state == "broken"
    assert "other digests" in words
    assert compare_image("registry.example/train:latest", commit)[0] == "unchecked", "a name that any image may bear"
    said([name], commit)
    assert compare_image(name, None)[0] == "unchecked", "without git no image is known to be of the code"


def test_a_model_of_no_image_or_of_other_code_than_lies_in_it_is_not_said_to_hold(chain: Chain) -> None:
    edit_passport(chain, lambda passport: passport.update(images={}), seal=True)
    chain.client.set_model_version_tag("tiny", "1", "gateline.images", "{}")
    older = json.loads((chain.papers / "manifests" / "model.json").read_text())
    older["facts"]["code"] = "0" * 64
    (chain.papers / "manifests" / "model.json").write_text(dump_json(older))
    edit_passport(chain, lambda passport: passport["code"].update(trained="0" * 64), seal=True)

    links = {link.name: link for link in verify("tiny", chain.root).links}

    assert links["image"].state == "unchecked"
    assert links["code"].state == "unchecked"
    assert links["code"].words.endswith("trained by 000000000000")


def test_a_later_evaluation_in_mlflow_is_told_from_one_that_nobody_logged(chain: Chain) -> None:
    (shown,) = (chain.root / "mlruns").rglob("artifacts/evaluation/manifest.json")
    shown.write_text(shown.read_text() + "\n")
    assert chain.first_broken()[0] == "evaluation"

    chain.client.set_tag(chain.run_id, "gateline.logged.evaluation", hashlib.sha256(shown.read_bytes()).hexdigest())
    link = next(link for link in verify("tiny", chain.root).links if link.name == "evaluation")
    assert link.state == "unchecked"
    assert "a later evaluation" in link.words


def test_a_verdict_is_compared_by_its_outcomes_and_not_by_its_sentences(chain: Chain) -> None:
    def reword(passport: Any) -> None:
        verdict = {key: value for key, value in passport["verdict"].items() if key != "digest"}
        verdict["reasons"] = ["in the words of another Gateline"]
        passport["verdict"] = verdict | {"digest": digest_of(verdict)}

    def forget_checks(passport: Any) -> None:
        del passport["verdict"]["checks"]
        reword(passport)

    def other_figure(passport: Any) -> None:
        passport["verdict"]["checks"][1]["figures"]["baseline"] *= 2
        reword(passport)

    def state(change: Callable[[Any], None]) -> tuple[str, str]:
        edit_passport(chain, change, seal=True)
        link = next(link for link in verify("tiny", chain.root).links if link.name == "verdict")
        return link.state, link.words

    assert state(reword)[0] == "holds"
    found, words = state(other_figure)
    assert found == "broken"
    assert "of last_value" in words
    assert state(forget_checks)[0] == "holds", "an earlier Gateline kept sentences only"


def keep_decision_as_file(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one about many slices is kept."""
    monkeypatch.setattr(kept_decision, "MOST_CHARACTERS", 10)
    decided = json.loads(chain.client.get_model_version("tiny", "1").tags["gateline.decision"])
    with connected("tiny", create=False) as to:
        text = kept_decision.keep(to, chain.run_id, decided)
    for name in ("tiny", "tiny.ledger"):
        chain.client.set_model_version_tag(name, "1", "gateline.decision", text)


def test_a_decision_that_is_a_file_is_read(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_decision_as_file(chain, monkeypatch)
    assert not verify("tiny", chain.root).failed()

    (file,) = (chain.root / "mlruns").rglob("decisions/*.json")
    edit(file, lambda content: content.update(promoted=False))
    assert chain.first_broken()[0] == "decision"
    file.unlink()
    assert chain.first_broken()[0] == "decision"


@pytest.mark.parametrize("kept", ["evaluation", "decisions"])
def test_files_that_their_store_does_not_give_just_now_are_no_broken_link(
    kept: str, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_decision_as_file(chain, monkeypatch)
    repository = type(get_artifact_repository(str(chain.root)))
    download, asked = repository.download_artifacts, []

    def busy(self: Any, artifact_path: str, *args: Any, **named: Any) -> str:
        if f"{chain.run_id}/artifacts/{kept}" in f"{self.artifact_uri}/{artifact_path}":
            asked.append(artifact_path)
            raise ConnectionError("503 Slow Down")
        return str(download(self, artifact_path, *args, **named))

    monkeypatch.setattr(repository, "download_artifacts", busy)
    with pytest.raises(TryAgainError, match="503 Slow Down"):
        verify("tiny", chain.root)
    assert asked


def test_a_version_whose_promotion_was_overtaken_is_not_broken(chain: Chain) -> None:
    move_alias(chain)  # makes version 2
    chain.client.delete_model_version_tag("tiny", "2", "gateline.decision")
    with connected("tiny", create=False) as to:
        before = read_ledger(to, "tiny")
        append(to, "tiny", new_entry(PROMOTED, 3, 1, "faster", seen=before))
        append(to, "tiny", new_entry(PROMOTED, 2, 1, "slower", seen=before, decision="0" * 64))
    link = next(link for link in verify("tiny/2", chain.root).links if link.name == "decision")
    assert (link.state, "entry 3 was overtaken" in link.words) == ("unchecked", True), link


def test_what_is_not_there_is_refused_in_one_line(chain: Chain) -> None:
    for reference, words in {
        "nobody": "none",
        "tiny/99": "version 99",
        "tiny@challenger": "alias challenger",
        "models:/": "something else",
    }.items():
        with pytest.raises(RegistryError) as refusal:
            verify(reference, chain.root)
        assert words in str(refusal.value), reference
    assert chain.client.get_experiment_by_name("nobody") is None, "whoever looks makes nothing"


def test_a_model_without_a_passport_is_refused_with_what_to_do(chain: Chain) -> None:
    shutil.rmtree(chain.papers)
    with pytest.raises(RegistryError, match="somebody removed it"):
        verify("tiny", chain.root)
    chain.client.delete_model_version_tag("tiny", "1", "gateline.passport_digest")
    with pytest.raises(RegistryError, match="before models had one"):
        verify("tiny", chain.root)
