"""Read the files of a model folder without running anything that stands in them.

model/
├── weights.pt                  a state_dict, read with weights_only=True
├── config.json                 task, settings of the network, shapes
├── preprocessing.json          the fitted state of preprocess
├── training_statistics.json    what the training part looked like, see `gateline.training_statistics`
└── history.json                one record per epoch
"""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gateline.errors import ArtifactError

WEIGHTS = "weights.pt"
TRAINING_STATISTICS = "training_statistics.json"
"""In `prepared` and in the model folder."""


def read_model_json(folder: Path, name: str) -> Any:
    """Read one JSON file of a model folder.

    Raises:
        ArtifactError: it is missing or no JSON.
    """
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(folder / name, expected="JSON text", found=str(error)[:160], do="Train again") from error


def save_tensors(value: Any, path: Path) -> None:
    """Write tensors and plain values; a full disk shows as one, which `torch.save` to a path would hide."""
    content = io.BytesIO()
    torch.save(value, content)
    try:
        path.write_bytes(content.getbuffer())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def load_network(network: nn.Module, folder: Path) -> None:
    """Put the weights of a model folder into a network.

    Raises:
        ArtifactError: the file is missing or damaged, or holds the weights of another network.
    """
    path = folder / WEIGHTS
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        found = " ".join(str(error).split())[:160]
        raise ArtifactError(path, expected="the weights of this network", found=found, do="Train again") from error
