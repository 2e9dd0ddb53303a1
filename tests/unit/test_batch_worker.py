"""What the process that answers batches says of a value that is no number."""

from __future__ import annotations

import pyarrow as pa

from gateline.adapters.serving.batch_worker import answer


class Echo:
    """A model that answers with what it was asked."""

    def predict(self, frame: object) -> object:
        """Give it back."""
        return frame


def test_a_value_that_is_no_number_is_named_with_its_row() -> None:
    table = pa.table({"price": ["1.5", "many", None, "2"]})

    assert answer(Echo(), table, {"price"}).to_pydict() == {
        "refused": ["column price: expected numbers; found 'many' in row 1."]
    }


def test_numbers_written_as_text_and_missing_ones_are_asked() -> None:
    table = pa.table({"price": ["1.5", None, "2"], "shop": ["a", "b", "c"]})

    assert answer(Echo(), table, {"price"}).to_pydict() == {"price": [1.5, None, 2.0], "shop": ["a", "b", "c"]}
