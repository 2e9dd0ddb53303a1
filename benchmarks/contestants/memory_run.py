"""One training run of this project, in a process of its own that reports its memory. Prints one line of JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from gateline.device import configure_process
from gateline.manifest import open_artifact
from gateline.peak_memory import peak_memory
from gateline.training import RunSettings, train
from gateline.workload import Workload

VALUES = "values.npy"


def mapped() -> dict[str, int]:
    """Bytes of the training data that are resident in this process, and how many of all mapped data it has copied."""
    resident, copied = [0], 0
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            inside = line.endswith(VALUES)
        elif inside and name == "Rss:":
            resident.append(1024 * int(rest[0]))
        elif inside and name == "Anonymous:":
            copied += 1024 * int(rest[0])
    return {
        "mapped": max(resident),
        "copied": copied,
    }  # the validation part maps the same file, and touches its end only


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--workload", required=True, help="its JSON text")
    flags.add_argument("--prepared", required=True, type=Path)
    flags.add_argument("--model", required=True, type=Path)
    given = flags.parse_args()
    configure_process("cpu", "float32")
    measured = {"imported": peak_memory()}

    def on_epoch(_record: Mapping[str, float]) -> None:
        """The data are still open here."""
        measured.update({"peak": peak_memory(), "pss": proportional(), **mapped()})

    prepared = open_artifact(given.prepared, "prepared")
    model = train(
        Workload.read(given.workload, "train"), prepared, given.model, RunSettings(0, "cpu", "float32"), [on_epoch]
    )
    print(json.dumps({**measured, "parameters": model.facts["parameters"]}))


def proportional() -> int:
    """Resident bytes of this process, pages that others map too counted by their share (PSS)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])


if __name__ == "__main__":
    main()
