"""Strings of recordings: one speaker each, no pool shared, as long and as far apart as the workload says, the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from gateline.data.joined_recordings import Strings, Utterance, join, pools_of, samples_of
from gateline.errors import WorkloadError
from gateline.workload.section import read_section

SETTINGS = Strings(
    by="speaker", recordings=(3, 7), pause_seconds=(0.05, 0.4), per_recording={"train": 4, "test": 5}, pool=10, seed=1
)
GROUPS = ["ann"] * 50 + ["bob"] * 25
NAMES = [f"{place:03}.wav" for place in range(75)]
ROWS = np.arange(100, 175)


def test_every_recording_stands_in_one_pool_of_its_speaker() -> None:
    pools = pools_of(ROWS, GROUPS, NAMES, 10, seed=1)

    assert sorted(np.concatenate(pools).tolist()) == ROWS.tolist()
    assert [len(pool) for pool in pools] == [10] * 5 + [13, 12]
    for pool in pools:
        assert len({GROUPS[row - 100] for row in pool}) == 1
    assert [len(pool) for pool in pools_of(ROWS, GROUPS, NAMES, None, seed=1)] == [50, 25]


def test_strings_are_as_the_workload_says() -> None:
    pools = pools_of(ROWS, GROUPS, NAMES, 10, seed=1)
    strings = join(pools, SETTINGS, "test")

    assert len(strings) == sum(round(len(pool) * 5 / 5) for pool in pools)
    assert {len(string.rows) for string in strings} == {3, 4, 5, 6, 7}
    for string in strings:
        assert set(string.rows) <= set(pools[string.pool].tolist())
        assert len(set(string.rows)) == len(string.rows)
        assert len(string.pauses) == len(string.rows) - 1
        assert all(0.05 <= pause <= 0.4 for pause in string.pauses)
    assert len({string.rows for string in strings}) > 0.9 * len(strings)


def test_the_order_of_the_table_changes_nothing_and_the_seed_does(rng: np.random.Generator) -> None:
    def spoken(order: np.ndarray, settings: Strings) -> list[list[str]]:
        groups, names = [GROUPS[place] for place in order], [NAMES[place] for place in order]
        pools = pools_of(np.arange(75), groups, names, 10, settings.seed)
        return [[names[row] for row in string.rows] for string in join(pools, settings, "test")]

    as_it_stands = spoken(np.arange(75), SETTINGS)
    assert spoken(rng.permutation(75), SETTINGS) == as_it_stands
    assert spoken(np.arange(75), SETTINGS.model_copy(update={"seed": 2})) != as_it_stands


def test_a_pool_that_is_too_small_makes_none_and_a_part_without_a_number_neither() -> None:
    assert join([np.array([1, 2])], SETTINGS, "test") == []
    assert join([np.arange(20)], SETTINGS, "validation") == []


def test_samples_follow_each_other_with_silence_between() -> None:
    recordings = {4: np.array([1.0, 2.0], dtype=np.float32), 9: np.array([3.0], dtype=np.float32)}

    samples = samples_of(Utterance((9, 4, 9), (0.25, 0.5), 0), recordings, sampling_rate=8)

    assert samples.tolist() == [3, 0, 0, 1, 2, 0, 0, 0, 0, 3]
    assert samples.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recordings": [7, 3]}, r"\[least, most\]"),
        ({"pause_seconds": [0.4, 0.1]}, r"\[least, most\]"),
        ({"pool": 5}, "pool"),
        ({"per_recording": {"training": 4}}, "train, validation and test"),
    ],
)
def test_settings_that_make_no_strings_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        read_section("strings", Strings, {**SETTINGS.model_dump(), **change})
