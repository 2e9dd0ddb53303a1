"""Values change in the text of a YAML file, and not a letter besides."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateline.adapters.yaml_text import with_values
from gateline.errors import WorkloadError

TEXT = """\
# head
name: a # the name
model:   # the network

    # how wide
    hidden_size:   96   # so wide
    kind: "lstm"
    rate: 1.0e-3
    query: |
      SELECT # no comment
        1
training: {loss: absolute,   epochs: 3} # in one line
empty: {}
nothing:
last:
  list: [1,
    2]
"""


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({"name": "b"}, ["-name: a # the name", "+name: b # the name"]),
        ({"model.hidden_size": 128}, ["-    hidden_size:   96   # so wide", "+    hidden_size:   128   # so wide"]),
        ({"model.kind": "no"}, ['-    kind: "lstm"', "+    kind: 'no'"]),
        ({"model.rate": 1e-05}, ["-    rate: 1.0e-3", "+    rate: 1.0e-05"]),
        ({"model.new": None}, ["+    new: null"]),
        ({"model.deep.er": True}, ["+    deep: {er: true}"]),
        (
            {"training.epochs": 5, "training.clip": 0.5},
            [
                "-training: {loss: absolute,   epochs: 3} # in one line",
                "+training: {loss: absolute,   epochs: 5, clip: 0.5} # in one line",
            ],
        ),
        ({"empty.a": 1}, ["-empty: {}", "+empty: {a: 1}"]),
        ({"nothing": 4}, ["-nothing:", "+nothing: 4"]),
        ({"last.new": 1}, ["+  new: 1"]),
        ({}, []),
    ],
)
def test_only_the_value_changes(values: dict[str, Any], lines: list[str]) -> None:
    changed = with_values(TEXT, values, "x.yaml")
    found = [line for line in difflib.ndiff(TEXT.splitlines(), changed.splitlines()) if line[0] in "+-"]
    assert sorted(line[0] + line[2:] for line in found) == sorted(lines)


def test_every_value_of_a_real_workload_can_be_changed(root: Path) -> None:
    text = (root / "workloads" / "flight_delays.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    for section in ("model", "training"):
        for key in content[section]:
            changed = with_values(text, {f"{section}.{key}": 12345}, "x.yaml")
            expected = {**content, section: {**content[section], key: 12345}}
            assert yaml.safe_load(changed) == expected
            assert len(changed.splitlines()) == len(text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "model: &shared\n  a: 1\nother: *shared\n",
        "model:\n  a: &x 1\nother: *x\n",
        "model: [1]\n",
        "model:\n  a: {b: 1}\n",
        "<<: {model: 3}\n",
    ],
)
def test_what_cannot_be_followed_is_refused_and_says_what_to_do(text: str) -> None:
    with pytest.raises(WorkloadError, match=r"x\.yaml: expected plain.*Set by hand: model\.a: 2"):
        with_values(text, {"model.a": 2}, "x.yaml")
