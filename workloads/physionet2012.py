"""Make one file of set A of the PhysioNet Challenge 2012: ``python -m workloads.physionet2012 set-a.zip data/set-a_long.csv.gz``.

The archive, https://physionet.org/files/challenge-2012/1.0.0/set-a.zip, holds one small file per patient with the columns Time,
Parameter and Value. The result holds the rows of all of them, by rising number of the patient and otherwise in their order, behind a
column RecordID. The same archive makes the same bytes, whose sha256 `workloads/vital_signs.yaml` names.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path, PurePosixPath

HEADER = "Time,Parameter,Value"


def long_table(archive: Path, target: Path) -> str:
    """Write the rows of all patients into one packed csv file.

    Args:
        archive: set-a.zip.
        target: file to write.

    Returns:
        The sha256 of the file.

    Raises:
        ValueError: the archive holds no patients, or a file of another form.
    """
    with zipfile.ZipFile(archive) as packed:
        members = {PurePosixPath(name).stem: name for name in packed.namelist() if name.endswith(".txt")}
        patients = sorted((stem for stem in members if stem.isdigit()), key=int)
        if not patients:
            raise ValueError(f"{archive}: expected files such as set-a/132539.txt, found none")
        target.parent.mkdir(parents=True, exist_ok=True)
        # No name but the table's own, and a time that is always the same: then the bytes follow from the rows alone.
        with (
            target.open("wb") as raw,
            gzip.GzipFile("set-a_long.csv", "wb", 9, raw, mtime=1) as zipped,
            io.TextIOWrapper(zipped, encoding="utf-8", newline="\n") as table,
        ):
            table.write(f"RecordID,{HEADER}\n")
            for patient in patients:
                head, *rows = packed.read(members[patient]).decode("utf-8").splitlines()
                if head != HEADER:
                    raise ValueError(f"{members[patient]}: expected the columns {HEADER}, found {head[:80]!r}")
                for row in rows:
                    table.write(f"{patient},{row}\n")
    return hashlib.sha256(target.read_bytes()).hexdigest()


def main() -> None:
    """Read the command line."""
    flags = argparse.ArgumentParser(prog="python -m workloads.physionet2012", description=__doc__)
    flags.add_argument("archive", type=Path)
    flags.add_argument("target", type=Path)
    given = flags.parse_args()
    sys.stdout.write(f"{given.target}: sha256 {long_table(given.archive, given.target)}\n")


if __name__ == "__main__":
    main()
