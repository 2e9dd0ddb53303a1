"""The parts that `gateline new` draws: near their share, with every kind, and the same again."""

from __future__ import annotations

import numpy as np
import pytest

from gateline.adapters.new_workload.drawn_split import NEAR, draw_split, epochs_for
from gateline.data.examples import HashSplit, parts_of_rows
from gateline.errors import DataError


def names(number: int) -> dict[str, np.ndarray]:
    return {"path": np.array([f"r{place:03}.wav" for place in range(number)], dtype=object)}


def test_a_digest_alone_may_leave_a_part_too_small() -> None:
    plain = parts_of_rows(names(60), HashSplit(by=("path",)))
    assert (plain == "test").sum() < 0.1 * 60 * (1 - NEAR)


@pytest.mark.parametrize("number", [*range(40, 100, 3), 200, 1000, 5000])
def test_parts_are_near_their_share(number: int) -> None:
    drawn = draw_split(names(number), "path")
    rule, counts = drawn.rule, drawn.counts
    assert rule.test * number >= 8
    for part in ("validation", "test"):
        assert abs(counts[part] - rule.test * number) <= NEAR * rule.test * number
    assert 1 <= drawn.min_examples <= counts["test"] // 2
    assert draw_split(names(number), "path").rule == rule
    np.testing.assert_array_equal(drawn.part_of, parts_of_rows(names(number), rule))


def test_many_rows_keep_the_plain_rule() -> None:
    assert draw_split(names(5000), "path").rule == HashSplit(by=("path",))


def test_every_kind_is_in_every_part() -> None:
    kinds = np.array(["rare" if place % 20 == 0 else "common" for place in range(200)], dtype=object)
    part_of = draw_split(names(200), "path", kinds).part_of
    for part in ("train", "validation", "test"):
        assert set(kinds[part_of == part]) == {"rare", "common"}


def test_rows_that_all_go_to_one_part_are_refused() -> None:
    with pytest.raises(DataError, match="examples in every part"):
        draw_split({"path": np.array(["same"] * 50, dtype=object)}, "path")


@pytest.mark.parametrize(("batches", "epochs"), [(0.4, 120), (6, 100), (200, 25)])
def test_few_batches_take_more_epochs_up_to_a_bound(batches: float, epochs: int) -> None:
    assert epochs_for(batches, usual=25, steps=600, most=120) == epochs


@pytest.mark.parametrize("seed", range(5))
def test_later_parts_hold_several_of_few_speakers(seed: int) -> None:
    """Twelve voices, some of which said far more: a tenth of the rows is one of them, which says nothing of another."""
    random = np.random.default_rng(seed)
    voices = np.array([f"voice {place}" for place in random.permutation(60)[:12]], dtype=object)
    speaker = np.repeat(voices, random.integers(60, 160, size=12))
    drawn = draw_split({"speaker": speaker}, "speaker")
    assert min(drawn.groups["validation"], drawn.groups["test"]) >= 2
    assert sum(drawn.groups.values()) == 12
    for part in ("validation", "test"):
        assert drawn.groups[part] == len(set(speaker[drawn.part_of == part]))
