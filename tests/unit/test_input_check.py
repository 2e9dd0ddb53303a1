"""What training has not seen is said of the answers that were made of it, and of no other."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.data.tokenizers import Tokenizer
from gateline.input_check import InputCheck
from gateline.training_statistics import training_statistics
from gateline.workload.schema import Schema

SCHEMA = Schema.model_validate(
    {
        "keys": ["ward"],
        "columns": {
            "ward": {"type": "text"},
            "pulse": {
                "type": "float",
                "unit": "bpm",
                "min": 10,
                "max": 300,
                "violation": "missing",
                "max_violations": 99,
            },
            "beds": {"type": "integer", "min": 0},
            "kind": {"type": "text"},
            "note": {"type": "text"},
        },
    }
)
TRAINING = pd.DataFrame(
    {
        "ward": pd.array(["a", "b"] * 5, dtype="str"),
        "pulse": np.linspace(60, 90, 10),
        "beds": np.arange(10.0),
        "kind": pd.array(["x", "y"] * 5, dtype="str"),
        "note": pd.array(["all is well"] * 10, dtype="str"),
    }
)
TOKENIZER = Tokenizer.model_validate({"kind": "word"}).fit(["all is well"] * 3)


def check(columns: list[str]) -> InputCheck:
    return InputCheck(training_statistics(TRAINING, SCHEMA), columns, {"note": TOKENIZER} if "note" in columns else {})


def flags(asked: dict[str, Any], answer: dict[str, Any], place: list[str]) -> list[str]:
    return (
        check(list(asked)).flags(pd.DataFrame(asked), {name: np.array(v) for name, v in answer.items()}, place).tolist()
    )


def test_the_usual_is_not_said() -> None:
    assert flags({"pulse": [60.0, 90.0, np.nan], "beds": [0, 9, 4]}, {"risk": [0.1, 0.2, 0.3]}, []) == ["", "", ""]


def test_a_row_of_its_own_has_flags_of_its_own() -> None:
    said = flags({"pulse": [55.0, 70.0, 400.0], "kind": ["x", "z", "y"]}, {"risk": [0.1, 0.2, 0.3]}, [])
    assert said == [
        "pulse: 55 below the 60 bpm of training",
        "kind: 'z' not seen in training",
        "pulse: 400 above 300 bpm, taken as missing",
    ]


def test_another_patient_is_nothing_unusual() -> None:
    schema = SCHEMA.model_copy(update={"keys": ("kind", "beds")})
    asked = pd.DataFrame({"kind": ["z", "x"], "beds": [10_000.0, 3.0], "pulse": [70.0, 91.0]})
    answer = {name: asked[name].to_numpy() for name in schema.keys} | {"risk": np.zeros(2)}

    said = InputCheck(training_statistics(TRAINING, schema), ["kind", "beds", "pulse"], {}).flags(
        asked, answer, list(schema.keys)
    )

    assert said.tolist() == ["", "pulse: 91 above the 90 bpm of training"]


@pytest.mark.parametrize(
    ("low", "high"),
    [(1 / 3, 2 / 3), (2 / 3, 4 / 3), (-2 / 3, -1 / 3), (float(np.float32(0.1)), float(np.float32(0.7)))],
)
def test_the_least_and_the_largest_of_training_are_not_beyond_it(low: float, high: float) -> None:
    """Statistics keep 12 digits of them."""
    schema = Schema.model_validate({"columns": {"share": {"type": "float"}}})
    statistics = training_statistics(pd.DataFrame({"share": np.array([low, high], dtype=float)}), schema)
    asked = pd.DataFrame({"share": np.array([low, high, np.nan, low - 1e-9, high + 1e-9])})

    said = InputCheck(statistics, ["share"], {}).flags(asked, {"x": np.zeros(5)}, [])

    assert said[:3].tolist() == ["", "", ""]
    assert " below the " in said[3]
    assert " above the " in said[4]


def test_a_long_category_that_training_has_seen_is_not_said() -> None:
    seen, other = (f"{group} / {'and furnishing ' * 6}tables" for group in ("Home", "Garden"))
    schema = Schema.model_validate({"columns": {"category": {"type": "text"}}})
    statistics = training_statistics(pd.DataFrame({"category": pd.array([seen, "food"], dtype="str")}), schema)
    asked = pd.DataFrame({"category": [seen, "food", None, other]})

    said = InputCheck(statistics, ["category"], {}).flags(asked, {"x": np.zeros(4)}, [])

    assert said.tolist() == ["", "", "", f"category: {other[:40]!r} not seen in training"]


def test_an_answer_has_the_flags_of_its_series() -> None:
    asked = {"ward": ["b", "a", "b", "b"], "beds": [50.0, 3.0, 70.0, 4.0]}
    assert flags(asked, {"ward": ["a", "b", "b"], "risk": [1.0, 2.0, 3.0]}, ["ward"]) == [
        "",
        *["beds: 70 above the 9 of training in 2 rows"] * 2,
    ]


def test_an_answer_to_the_whole_request_has_all_of_its_flags() -> None:
    assert flags({"beds": [1.0, 2.0, 99.0]}, {"risk": [0.5]}, []) == ["beds: 99 above the 9 of training"]


def test_a_text_of_unknown_words_is_said_and_one_that_merely_is_new_is_not() -> None:
    said = flags({"note": ["all well", "all is very bad", "well is all"]}, {"class": ["x"] * 3}, [])
    assert said == ["", "note: 50% of the tokens unknown", ""]


def test_a_text_of_which_only_the_beginning_is_read_is_said() -> None:
    statistics = training_statistics(TRAINING, SCHEMA)
    asked = pd.DataFrame({"note": ["all is well", "all is well all is", "well " * 9]})

    said = InputCheck(statistics, ["note"], {"note": TOKENIZER}, None, {"note": 3}).flags(asked, {"x": np.zeros(3)}, [])

    assert said.tolist() == ["", "note: 5 tokens, the first 3 are read", "note: 9 tokens, the first 3 are read"]


def test_a_refused_value_is_named_by_the_clients_own_row() -> None:
    frame = pd.DataFrame({"beds": [3.0, -1.0, -2.0]}, index=[10, 20, 30])
    error = check(["beds"]).refused_rows(frame)
    assert re.match(r"request, row 20, 30, column beds: expected values from 0 to any; found -2.0, -1.0\.", str(error))
    assert check(["pulse"]).refused_rows(pd.DataFrame({"pulse": [1000.0]})) is None


def test_what_a_request_may_hold_beyond_the_table_is_not_refused() -> None:
    """The beginning of a book is shorter than a book, and another row's fault is not its own."""
    book = {**SCHEMA.columns, "note": SCHEMA.columns["note"].model_copy(update={"min_length": 1000})}
    statistics = training_statistics(TRAINING, SCHEMA.model_copy(update={"columns": book}))
    beginning = pd.DataFrame({"note": ["ROMEO:"]})

    assert "of 1000 to any number of characters" in str(InputCheck(statistics, ["note"], {}).refused_rows(beginning))
    assert InputCheck(statistics, ["note"], {}, {"note": SCHEMA.columns["note"]}).refused_rows(beginning) is None


@pytest.mark.parametrize("empty", [None, ""])
def test_a_text_without_words_is_no_unknown_word(empty: str | None) -> None:
    assert flags({"note": ["all", empty]}, {"class": ["x"] * 2}, []) == ["", ""]
