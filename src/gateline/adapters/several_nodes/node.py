"""One node of a training on several: fetch the data, train as torchrun's variables PET_* say, send the model.

python -m gateline.adapters.several_nodes.node --workload JSON --prepared ADDRESS --model ADDRESS --seed N ...
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from gateline.adapters.door import run_step, tell
from gateline.adapters.process_group import join_nodes, words_of
from gateline.adapters.several_nodes.shipment import Shipment
from gateline.manifest import open_artifact


def parser() -> argparse.ArgumentParser:
    """Name the flags, which `gateline.adapters.several_nodes.step` gives."""
    flags = argparse.ArgumentParser(prog="python -m gateline.adapters.several_nodes.node", description=__doc__)
    flags.add_argument("--prepared", required=True, help="address of the data")
    flags.add_argument("--model", required=True, help="address for the model")
    for name in ("workload", "seed", "device", "precision", "checkpoints"):
        flags.add_argument(f"--{name}", required=True, help="as of the train step")
    return flags


def node(args: argparse.Namespace) -> None:
    """Train, unless it was done before this node was started again."""
    made = Shipment(args.model)
    if made.complete:
        tell("the model is there already")
        return
    with tempfile.TemporaryDirectory() as scratch:
        prepared, model = Path(scratch) / "prepared", Path(scratch) / "model"
        Shipment(args.prepared).fetch(prepared, "prepared")
        flags = {
            **{name: getattr(args, name) for name in ("workload", "seed", "device", "precision", "checkpoints")},
            "prepared": prepared,
            "model": model,
        }
        if code := join_nodes("components.train", words_of(flags)):
            sys.exit(code)
        if os.environ.get("PET_NODE_RANK", "0") == "0":
            made.send(open_artifact(model, "model"))


if __name__ == "__main__":
    sys.exit(run_step(parser(), node))
