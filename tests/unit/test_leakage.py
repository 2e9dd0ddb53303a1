"""A champion that has seen the test part of its challenger is found by the rule that its own data were split by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.data.examples import HashSplit, parts_of_rows
from gateline.leakage import seen_by, why_untold
from gateline.manifest import Artifact, Json, open_artifact, write_artifact
from gateline.promotion import unfair
from gateline.table import TABLE, write_table
from tests.tiny import prepare_tiny

SPLIT = {"validate_from": "2024-02-15T00:00:00Z", "test_from": "2024-02-28T00:00:00Z", "embargo": "6h"}


def model_of(prepared: Artifact, folder: Path, rule: Mapping[str, Any] | None, raw: str | None = None) -> Artifact:
    """A model folder without a model, which says what it was split by; made from another folder than `prepared`."""
    with write_artifact(folder, "model") as draft:
        draft.facts |= {"split": None if rule is None else dict(rule), "raw": raw}
    return open_artifact(folder, "model")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"validate_from": "2024-02-10T00:00:00Z"}, None),
        ({"test_from": "2024-02-28T06:00:00Z"}, None),  # the embargo leaves the six hours before it out
        ({"test_from": "2024-02-28T07:00:00Z"}, "it was trained and chosen on what lies before 2024-02-28T01:00:00"),
        ({"test_from": "2024-03-05T00:00:00Z"}, "the test part begins 2024-02-28T00:00:00"),
        ({"validate_from": "2024-03-08T00:00:00Z", "test_from": "2024-03-09T00:00:00Z"}, "windows; it was trained"),
    ],
)
def test_a_champion_that_was_trained_later_is_found_by_time(
    tmp_path: Path, changes: dict[str, str], words: str | None
) -> None:
    prepared = prepare_tiny(tmp_path / "prepared")
    found = seen_by(model_of(prepared, tmp_path / "model", {"rule": "time", **SPLIT, **changes}), prepared)
    assert (found is None) if words is None else (found is not None and words in found), found


@pytest.mark.parametrize(
    ("theirs", "mine", "words"),
    [
        ({"rule": "time", **SPLIT}, None, "its rows were split by the rule 'time', and the test part by 'hash'"),
        (
            {"rule": "hash", "by": ["patient"], "test": 0.2, "validation": 0.1},
            {},
            "by the rule 'hash', and the test part by 'time'",
        ),
        ({"rule": "time", **SPLIT, "purge": "1h"}, {}, "another version of Gateline wrote the rule"),
        (
            {"rule": "hash", "by": ["patient"], "test": 0.2, "purge": "1h"},
            None,
            "another version of Gateline wrote the rule",
        ),
    ],
)
def test_of_a_rule_that_cannot_be_asked_about_the_test_part_it_is_said_that_nothing_can_be_told(
    tmp_path: Path, theirs: dict[str, Any], mine: dict[str, Any] | None, words: str
) -> None:
    own = {"rule": "hash", "by": ["patient"], "test": 0.2, "validation": 0.1}
    prepared = (
        rows(tmp_path / "prepared", own, {"patient": np.arange(40)})
        if mine is None
        else prepare_tiny(tmp_path / "prepared")
    )
    model = model_of(prepared, tmp_path / "model", theirs)
    untold = why_untold(model, prepared)
    assert untold is not None
    assert words in untold
    assert seen_by(model, prepared) is None


def test_the_windows_that_were_seen_are_those_of_a_loop_over_them(tmp_path: Path) -> None:
    prepared = prepare_tiny(tmp_path / "prepared")
    found = seen_by(
        model_of(prepared, tmp_path / "model", {**SPLIT, "rule": "time", "test_from": "2024-03-01T00:00:00Z"}), prepared
    )
    # Two shops, an origin each hour from 28 February; seen is what begins before 29 February 18:00, six hours before March.
    assert found is not None
    assert found.startswith(f"{2 * 42} of ")


def rows(folder: Path, own: Mapping[str, Json], columns: Mapping[str, Any]) -> Artifact:
    with write_artifact(folder, "prepared") as draft:
        write_table(pd.DataFrame(dict(columns)), draft.path / TABLE)
        draft.write_json("state.json", {"schema": {"keys": ["patient"]}})
        draft.facts |= {"split": dict(own)}
    return open_artifact(folder, "prepared")


@pytest.mark.parametrize(
    ("rule", "share"),
    [
        ({"rule": "hash", "by": ["patient"], "test": 0.2, "validation": 0.1}, 0.0),
        ({"rule": "hash", "by": ["patient"], "test": 0.3, "validation": 0.1}, 0.0),
        ({"rule": "hash", "by": ["patient"], "test": 0.1, "validation": 0.1}, 0.5),
        ({"rule": "hash", "by": ["patient"], "test": 0.2, "validation": 0.1, "salt": "b"}, 0.8),
        ({"rule": "folds", "folds": 5, "fold": 0, "validation": 0.15}, 0.8),
        ({"rule": "column", "column": "ward", "train": ["a"], "validation": ["b"], "test": ["c"]}, 2 / 3),
        ({"rule": "column", "column": "not there", "train": ["a"], "validation": ["b"], "test": ["c"]}, 0.0),
    ],
)
def test_a_champion_that_was_split_by_another_rule_is_found_by_row(
    tmp_path: Path, rule: dict[str, Any], share: float
) -> None:
    columns = {
        "patient": np.array([f"p{n // 2}" for n in range(4000)], dtype=object),
        "ward": np.array([("a", "b", "c")[n % 3] for n in range(4000)], dtype=object),
    }
    own: dict[str, Json] = {"rule": "hash", "by": ["patient"], "test": 0.2, "validation": 0.1}
    prepared = rows(tmp_path / "prepared", own, columns)
    found = seen_by(model_of(prepared, tmp_path / "model", rule), prepared)
    test = int((parts_of_rows(columns, HashSplit.model_validate(own)) == "test").sum())
    if share == 0:
        assert found is None
        return
    assert found is not None
    seen = int(found.split("gives ")[1].split(" of")[0])
    assert f"of the {test} test rows" in found
    assert seen / test == pytest.approx(share, abs=0.06)


def test_a_text_is_cut_by_place_and_only_the_same_text_says_something(tmp_path: Path) -> None:
    own: dict[str, Json] = {"rule": "place", "train": [0.0, 0.8], "validation": [0.8, 0.9], "test": [0.9, 1.0]}
    prepared = dataclasses.replace(rows(tmp_path / "prepared", own, {"text": ["a"]}), inputs={"raw": "1" * 64})
    other = {**own, "train": [0.2, 1.0], "validation": [0.1, 0.2], "test": [0.0, 0.1]}
    assert seen_by(model_of(prepared, tmp_path / "one", own, "1" * 64), prepared) is None
    found = seen_by(model_of(prepared, tmp_path / "two", other, "1" * 64), prepared)
    assert found == "its train part is 20% to 100% of the text, and the test part 90% to 100%"
    assert seen_by(model_of(prepared, tmp_path / "three", other, "2" * 64), prepared) is None
    assert seen_by(model_of(prepared, tmp_path / "four", None), prepared) is None


def test_what_cannot_be_told_is_said_and_is_no_refusal(tmp_path: Path) -> None:
    own: dict[str, Json] = {"rule": "hash", "by": ["patient"], "test": 0.2, "validation": 0.1}
    columns = {"patient": np.array([f"p{n}" for n in range(40)], dtype=object)}
    prepared = dataclasses.replace(rows(tmp_path / "prepared", own, columns), inputs={"raw": "1" * 64})
    place: dict[str, Json] = {"rule": "place", "train": [0.0, 0.8], "validation": [0.8, 0.9], "test": [0.9, 1.0]}
    ward = {"rule": "column", "column": "ward", "train": ["a"], "validation": ["b"], "test": ["c"]}
    for number, (rule, words) in enumerate(
        [(None, "keeps no rule"), (place, "another text"), (ward, "no column ward"), ({"rule": "drawn"}, "'drawn'")]
    ):
        untold = why_untold(model_of(prepared, tmp_path / f"model{number}", rule, "2" * 64), prepared)
        assert untold is not None
        assert words in untold
        (check,) = unfair(same_model=False, seen=None, untold=untold)
        assert check.passed
        assert words in check.reason
    assert why_untold(model_of(prepared, tmp_path / "told", own, "2" * 64), prepared) is None
    divided: dict[str, Json] = {"rule": "column", "column": "part", "train": ["a"], "validation": ["b"], "test": ["c"]}
    parts = dataclasses.replace(
        rows(tmp_path / "parts", divided, {**columns, "part": np.array(["a", "b", "c", "c"] * 10, dtype=object)}),
        inputs={"raw": "1" * 64},
    )
    assert why_untold(model_of(parts, tmp_path / "same data", divided, "1" * 64), parts) is None
    said = why_untold(model_of(parts, tmp_path / "divided anew", divided, "2" * 64), parts)
    assert said == "it was trained on other data, whose column part may have divided the rows otherwise"
    same = dataclasses.replace(model_of(prepared, tmp_path / "same", None), inputs={"prepared": prepared.digest})
    assert why_untold(same, prepared) is None, "its own test part"
