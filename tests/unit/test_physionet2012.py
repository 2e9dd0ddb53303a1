"""The one file made of the challenge's archive: rows as they were, and the same bytes every time."""

from __future__ import annotations

import gzip
import os
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from workloads.physionet2012 import long_table

MIRROR = Path(os.environ["GATELINE_MIRROR"]) if os.environ.get("GATELINE_MIRROR") else None  # before fixtures clear it
FILES = {
    "set-a/132540.txt": "Time,Parameter,Value\n00:00,RecordID,132540\n00:42,HR,88\n",
    "set-a/132539.txt": "Time,Parameter,Value\n00:00,RecordID,132539\n00:07,Temp,35.1\n01:07,Urine,60\n",
    "set-a/readme.txt": "nothing of it",
}


def archive_of(files: dict[str, str], folder: Path) -> Path:
    with zipfile.ZipFile(folder / "set-a.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder / "set-a.zip"


def test_rows_of_all_patients_stand_behind_their_number(tmp_path: Path) -> None:
    archive = archive_of(FILES, tmp_path)

    first = long_table(archive, tmp_path / "one" / "a.csv.gz")
    again = long_table(archive, tmp_path / "two" / "b.csv.gz")

    assert first == again
    table = pd.read_csv(tmp_path / "one" / "a.csv.gz")
    assert table["RecordID"].tolist() == [132539] * 3 + [132540] * 2
    assert table[["Time", "Parameter"]].iloc[-1].tolist() == ["00:42", "HR"]


def test_other_columns_are_refused(tmp_path: Path) -> None:
    archive = archive_of({"set-a/1.txt": "Time,Value\n00:00,1\n"}, tmp_path)

    with pytest.raises(ValueError, match="expected the columns"):
        long_table(archive, tmp_path / "a.csv.gz")
    with pytest.raises(ValueError, match="found none"):
        long_table(archive_of({"readme.txt": ""}, tmp_path), tmp_path / "a.csv.gz")


@pytest.mark.skipif(
    MIRROR is None, reason="set A is not in the repository, and GATELINE_MIRROR names no folder with it"
)
def test_the_mirrors_file_is_made_again_to_the_byte(tmp_path: Path, root: Path) -> None:
    """Of the mirror's own rows an archive is made, and of it the file that the workload names by its sha256."""
    assert MIRROR is not None
    found = MIRROR / "physionet2012" / "set-a_long.csv.gz"
    head, *rows = gzip.decompress(found.read_bytes()).decode().splitlines()
    assert head == "RecordID,Time,Parameter,Value"
    patients: dict[str, list[str]] = {}
    for row in rows:
        patient, _, rest = row.partition(",")
        patients.setdefault(patient, ["Time,Parameter,Value"]).append(rest)
    files = {f"set-a/{patient}.txt": "\n".join(lines) + "\n" for patient, lines in patients.items()}

    digest = long_table(archive_of(files, tmp_path), tmp_path / "set-a_long.csv.gz")

    workload = yaml.safe_load((root / "workloads" / "vital_signs.yaml").read_text(encoding="utf-8"))
    assert digest == workload["source"]["files"][0]["sha256"]
