"""No file that Gateline reads can run code: weights, checkpoints and arrays are read without unpickling, and nothing else is."""

from __future__ import annotations

import ast
import importlib
import io
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gateline.data.clips import ClipsOfDigits, ClipsOfFilms
from gateline.data.examples import open_examples
from gateline.data.runs import Runs
from gateline.data.store import SequenceStore
from gateline.errors import ArtifactError
from gateline.manifest import Artifact
from gateline.model_folder import WEIGHTS, load_network
from gateline.processes import _from_bytes
from gateline.training.checkpoints import LAST, Checkpoint, FolderStore
from tests.conftest import ROOT

READERS_OF_PICKLES = {"joblib", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle"}
UNSAFE_CALLS = {"read_pickle", "Unpickler", "jit", "hub", "unsafe_load", "full_load", "fromregex"}
MAY_NAME_PICKLE = {"src/gateline/model_folder.py": {"UnpicklingError"}}
"""Where `pickle` is imported, and all that is taken from it."""


class Payload:
    """Unpickled, it makes the folder: proof that code was run."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        import os

        return os.mkdir, (str(self.proof),)


def as_torch_file(payload: Any) -> bytes:
    content = io.BytesIO()
    torch.save({"weight": payload}, content)
    return content.getvalue()


def as_array_file(payload: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([payload], dtype=object), allow_pickle=True)
    return content.getvalue()


@pytest.fixture
def proof(tmp_path: Path) -> Iterator[Path]:
    """The folder that must not be there in the end; the payload works, or the test would prove nothing."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "control")))
    assert (tmp_path / "control").is_dir()
    yield tmp_path / "proof"
    assert not (tmp_path / "proof").exists(), "code of the file was run"


FORMS: dict[str, Callable[[Any], bytes]] = {"torch": as_torch_file, "plain pickle": pickle.dumps}
every_form = pytest.mark.parametrize("form", FORMS)


@every_form
def test_weights_that_run_code_are_refused(form: str, proof: Path, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(FORMS[form](Payload(proof)))
    with pytest.raises(ArtifactError, match="the weights of this network"):
        load_network(nn.Linear(1, 1), tmp_path)


@every_form
def test_a_checkpoint_that_runs_code_is_none(
    form: str, proof: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / LAST).write_bytes(FORMS[form](Payload(proof)))
    assert Checkpoint(FolderStore(tmp_path), "key").load() is None
    assert "is damaged" in caplog.text


def test_best_weights_of_a_checkpoint_that_run_code_are_none(proof: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(FolderStore(tmp_path), "key")
    checkpoint.save({"step": 1}, 1, {"weight": torch.ones(1)})
    assert checkpoint.load() is not None, "the control"
    (tmp_path / "best-1.pt").write_bytes(as_torch_file(Payload(proof)))
    assert Checkpoint(FolderStore(tmp_path), "key").load() is None


@every_form
def test_a_message_of_another_process_that_runs_code_is_refused(form: str, proof: Path) -> None:
    content = torch.frombuffer(bytearray(FORMS[form](Payload(proof))), dtype=torch.uint8)
    with pytest.raises(pickle.UnpicklingError):
        _from_bytes(content)


def artifact(folder: Path) -> Artifact:
    return Artifact(folder, "prepared", "0" * 64, {}, {})


ARRAYS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "values of series": ("arrays/values.npy", SequenceStore.load),
    "what does not change with time": ("statics/series.npy", SequenceStore.load),
    "numbers of examples": ("examples/test.npy", lambda folder: open_examples(artifact(folder), "test")),
    "runs of rows": ("runs.npy", lambda folder: Runs.load(folder / "runs.npy")),
    "pictures": ("pictures.npy", lambda folder: ClipsOfDigits.open(folder, Any, 1)),  # type: ignore[arg-type]
    "frames of films": ("clips/train.npy", lambda folder: ClipsOfFilms.open(folder, 1)),
    "tokens": (
        "tokens/test.npy",
        lambda folder: importlib.import_module("gateline.tasks.language_modelling").open_stream(
            artifact(folder), "test"
        ),
    ),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_an_array_that_runs_code_is_refused(what: str, proof: Path, tmp_path: Path) -> None:
    name, load = ARRAYS[what]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(as_array_file(Payload(proof)))
    with pytest.raises((ArtifactError, ValueError), match=r"allow_pickle|NumPy array|memory-mapped"):
        load(tmp_path)


@every_form
def test_the_served_model_refuses_weights_that_run_code(form: str, proof: Path, tmp_path: Path) -> None:
    """As `mlflow models serve` loads it; every task's `load_predictor` is tried in tests/contracts/test_tasks.py."""
    from types import SimpleNamespace

    from gateline.adapters.served_model import FOLDER, ServedModel
    from gateline.training import RunSettings, train
    from gateline.workload import Workload
    from tests.tiny import prepare_tiny, tiny_workload

    content = tiny_workload(training__epochs=1)
    prepared = prepare_tiny(tmp_path / "prepared")
    model = train(
        Workload("tiny", "forecasting", "", "test", content), prepared, tmp_path / "model", RunSettings(seed=1)
    )
    context: Any = SimpleNamespace(artifacts={FOLDER: str(model.path)})
    ServedModel().load_context(context)  # the control

    (model.path / WEIGHTS).write_bytes(FORMS[form](Payload(proof)))

    with pytest.raises(ArtifactError, match="the weights of this network"):
        ServedModel().load_context(context)


def test_nothing_else_in_the_source_can_unpickle() -> None:
    """Every `torch.load` says `weights_only=True`, every `np.load` `allow_pickle=False`, and no other reader is there."""
    files = [path for folder in ("src", "components", "pipelines") for path in (ROOT / folder).rglob("*.py")]
    found = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in unsafe(path)]
    loads = sum(path.read_text(encoding="utf-8").count("torch.load(") for path in files)

    assert found == []
    assert loads >= 3, "the search looks at the files that load weights"


def test_the_search_sees_what_is_unsafe(tmp_path: Path) -> None:
    for line in (
        "import torch\ntorch.load('a')",
        "import torch\ntorch.load('a', weights_only=False)",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "import numpy as np\nnp.load('a')",
        "import joblib",
        "from pickle import loads",
        "import pickle\npickle.load(open('a', 'rb'))",
        "import pandas as pd\npd.read_pickle('a')",
        "import torch\ntorch.jit.load('a')",
        "import yaml\nyaml.unsafe_load('a')",
    ):
        (tmp_path / "file.py").write_text(line)
        assert unsafe(tmp_path / "file.py"), line


def unsafe(path: Path) -> list[int]:
    """Lines of a file that could unpickle what they read."""
    relative = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.partition(".")[0] for alias in node.names}
            names = {str(node.module).partition(".")[0]} if isinstance(node, ast.ImportFrom) else names
            if names & READERS_OF_PICKLES or ("pickle" in names and relative not in MAY_NAME_PICKLE):
                lines.append(line)
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            from_pickle = owner == "pickle" and node.attr not in MAY_NAME_PICKLE.get(relative, set())
            if node.attr in UNSAFE_CALLS or from_pickle:
                lines.append(line)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            said = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            unsafe_torch = owner == "torch" and said.get("weights_only") is not True
            if unsafe_torch or (owner in ("np", "numpy") and said.get("allow_pickle") is not False):
                lines.append(line)
    return lines


def test_json_is_all_that_a_model_folder_holds_beside_its_weights(tmp_path: Path) -> None:
    """Preprocessing, vocabularies and conformal intervals are JSON text, which holds no code."""
    from gateline.training import RunSettings, train
    from gateline.workload import Workload
    from tests.tiny import prepare_tiny, tiny_workload

    content = tiny_workload(training__epochs=1, model__intervals=[0.8])
    model = train(
        Workload("tiny", "forecasting", "", "test", content),
        prepare_tiny(tmp_path / "prepared"),
        tmp_path / "model",
        RunSettings(1),
    )
    names = {path.name for path in model.path.iterdir()}
    assert WEIGHTS in names
    assert "intervals.json" in names
    for name in names - {WEIGHTS}:
        json.loads((model.path / name).read_text(encoding="utf-8"))
