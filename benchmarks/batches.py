"""Memory of what `gateline predict` reads, over files that grow: ``python -m benchmarks.batches``.

Writes series of 25 hours in no order into a parquet file, and asks for batches of 10,000 rows, in a process of its own for each
file: with series that must stay together, so that all rows have to be sorted, and row by row. Then the same with a recording of
32 KiB in every row, as bytes, for a four-hundredth of the series.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import command
from benchmarks.machine import where
from benchmarks.tables import markdown, write_result

HOURS, CHUNK, BATCH = 25, 1_000_000, 10_000
RECORDING_BYTES, GROUP = 2**15, 100
"""Of each row that has a recording, and rows of a row group there."""
FEWER = 400
MOST_MIB = 512
READ = """
import json, sys, time
from pathlib import Path
from gateline.adapters.serving.input_batches import Asked, InputBatches
from gateline.peak_memory import peak_memory
whole = sys.argv[2] == "series"
types = {"shop": "string", "time": "string", "price": "double"} | ({"sound": "binary"} if sys.argv[4] == "recordings" else {})
asked = Asked(types, tuple(types), ("shop",) if whole else (), "time" if whole else None)
began, rows = time.monotonic(), 0
for batch in InputBatches(Path(sys.argv[1]), asked, Path(sys.argv[1]).parent).batches(int(sys.argv[3])):
    rows += len(batch)
print(json.dumps({"rows": rows, "peak_mib": peak_memory() >> 20, "seconds": round(time.monotonic() - began, 1)}))
"""


def write(path: Path, series: int, *, recordings: bool) -> None:
    """Write rows in no order."""
    chunk = GROUP if recordings else CHUNK
    random = np.random.default_rng(0)
    order = random.permutation(series * HOURS)
    writer = None
    for first in range(0, len(order), chunk):
        some = order[first : first + chunk]
        table = pa.table(
            {
                "shop": pa.array([f"shop {number:07d}" for number in some // HOURS]),
                "time": pa.array((some % HOURS) * 3_600_000_000, pa.timestamp("us", "UTC")),
                "price": random.normal(size=len(some)),
            }
        )
        if recordings:
            sounds = [random.bytes(RECORDING_BYTES) for _ in some]
            table = table.append_column("sound", pa.array(sounds, pa.binary()))
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__)
    flags.add_argument(
        "--series",
        type=command.whole(FEWER),
        nargs="+",
        default=[40_000, 400_000],
        help="in each file of numbers (default: 40000 400000)",
    )
    args = flags.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.parquet"
        for holds, series in [
            *(("numbers", each) for each in args.series),
            *(("recordings", each // FEWER) for each in args.series),
        ]:
            write(path, series, recordings=holds == "recordings")
            for how in ("series", "rows"):
                argv = [sys.executable, "-c", READ, str(path), how, str(BATCH), holds]
                done = subprocess.run(argv, capture_output=True, text=True, check=True)
                size = path.stat().st_size >> 20
                rows.append({"holds": holds, "kept_together": how, "file_mib": size, **json.loads(done.stdout)})
    cells = [
        [
            f"{each['rows']:,}",
            each["file_mib"],
            each["holds"],
            "whole series" if each["kept_together"] == "series" else "row by row",
            each["peak_mib"],
            each["seconds"],
        ]
        for each in sorted(rows, key=lambda each: (each["holds"], each["kept_together"], each["rows"]))
    ]
    peak = max(each["peak_mib"] for each in rows)
    reached = "reached" if peak <= MOST_MIB else "**missed**"
    words = f"\n\nMiB and seconds; the interpreter and its libraries included. Reach: at most {MOST_MIB} MiB, however long the file; {reached}."
    write_result(
        "batches",
        {"machine": where(), "rows": rows},
        markdown(["rows", "file", "of", "kept together", "peak", "seconds"], cells) + words,
        command.sizes_to_record(flags, args, "series"),
    )


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
