"""Windows and sequences of the store: which there are, what they hold, and that nothing but the batch is copied."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gateline.data.inputs import Inputs
from gateline.data.loading import load
from gateline.data.order import BucketedOrder, SequentialOrder
from gateline.data.runs import Runs
from gateline.data.splits import PARTS, TimeSplit, by_time, window_runs
from gateline.data.store import SequenceStore
from gateline.data.windows import VariableLengthDataset, WindowDataset

HOUR = 3600
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def listed_windows(
    times: np.ndarray,
    offsets: np.ndarray,
    observed: np.ndarray,
    split: TimeSplit,
    lookback: int,
    horizon: int,
    stride: int,
) -> Mapping[str, list[int]]:
    """The definition, window by window."""
    found: dict[str, list[int]] = {part: [] for part in PARTS}
    for first, end in pairwise(offsets):
        for origin in range(first + lookback, end - horizon + 1):
            for part in PARTS:
                begin, after = split.bounds(part)
                inside = times[origin] >= begin and times[origin + horizon - 1] < after
                if inside and observed[origin : origin + horizon].any():
                    found[part].append(int(origin))
    earliest = min(times[found["train"]])
    found["train"] = [row for row in found["train"] if (times[row] - earliest) // HOUR % stride == 0]
    return found


@pytest.mark.parametrize("stride", [1, 3])
def test_windows_as_runs_are_the_windows_one_by_one(stride: int, rng: np.random.Generator) -> None:
    """On series of random length, begin and gaps."""
    lookback, horizon = int(rng.integers(1, 20)), int(rng.integers(1, 12))
    lengths = rng.integers(5, 200, size=6)
    begins = rng.integers(0, 60, size=6)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    hours = np.concatenate([begin + np.arange(length) for begin, length in zip(begins, lengths, strict=True)])
    times = int(BEGIN.timestamp()) + HOUR * hours
    observed = rng.random(len(times)) < 0.9
    for gap in rng.integers(0, len(times), size=8):
        observed[gap : gap + rng.integers(1, 3 * horizon)] = False
    split = TimeSplit(BEGIN + timedelta(hours=70), BEGIN + timedelta(hours=120), embargo=timedelta(hours=2))
    expected = listed_windows(times, offsets, observed, split, lookback, horizon, stride)
    if not all(expected.values()):
        pytest.skip("the draw left a part without windows")

    runs = window_runs(times, offsets, observed, split, lookback=lookback, horizon=horizon, stride=stride)

    for part in PARTS:
        assert runs[part].rows().tolist() == expected[part]
        assert len(runs[part]) == len(expected[part])
        places = rng.integers(0, len(expected[part]), size=20)
        assert runs[part][places].tolist() == [expected[part][place] for place in places]
        ordered = by_time(runs[part].rows(), times)
        assert ordered.tolist() == sorted(expected[part], key=lambda row: (times[row], row))


def test_a_year_without_gaps_is_one_run_per_series() -> None:
    hours = 24 * 365
    times = np.tile(int(BEGIN.timestamp()) + HOUR * np.arange(hours), 2)
    split = TimeSplit(BEGIN + timedelta(days=200), BEGIN + timedelta(days=300))
    runs = window_runs(times, np.array([0, hours, 2 * hours]), np.ones(2 * hours, bool), split, lookback=24, horizon=6)

    assert {part: found.runs.shape for part, found in runs.items()} == dict.fromkeys(PARTS, (2, 3))


def test_runs_are_read_back(tmp_path: Path) -> None:
    runs = Runs.of([(5, 3, 1), (100, 4, 10)])
    runs.save(tmp_path / "runs.npy")

    assert Runs.load(tmp_path / "runs.npy").rows().tolist() == [5, 6, 7, 100, 110, 120, 130]
    assert len(Runs.of([])) == 0


def test_a_gathered_batch_equals_slices_taken_row_by_row(rng: np.random.Generator, tmp_path: Path) -> None:
    values = rng.normal(size=(120, 4)).astype(np.float32)
    values[rng.random((120, 4)) < 0.2] = np.nan
    SequenceStore({"values": values}, np.array([0, 60, 120]), {"series": np.array([7, 3])}).save(tmp_path)
    inputs = Inputs(num_values=4, encoder=[0, 4, 1, 2, 6, 3], decoder=[2, 6, 3])
    origins = Runs.of([(8, 49, 1), (68, 24, 2)])
    dataset = WindowDataset(SequenceStore.load(tmp_path), origins, inputs=inputs, lookback=8, horizon=4)
    places = rng.integers(0, len(origins), size=10)
    batch = dataset.__getitems__(places)

    for row, origin in enumerate(origins.rows()[places]):
        past, ahead = values[origin - 8 : origin], values[origin : origin + 4]
        zero, there = np.nan_to_num, np.isfinite
        encoder = [zero(past[:, 0]), there(past[:, 0]), zero(past[:, 1]), zero(past[:, 2]), there(past[:, 2])]
        np.testing.assert_array_equal(batch.past[row], np.column_stack([*encoder, zero(past[:, 3])]))
        decoder = [zero(ahead[:, 2]), there(ahead[:, 2]), zero(ahead[:, 3])]
        np.testing.assert_array_equal(batch.known[row], np.column_stack(decoder))
        np.testing.assert_array_equal(batch.target[row], zero(ahead[:, 0]))
        np.testing.assert_array_equal(batch.observed[row], there(ahead[:, 0]))
        assert batch.series[row] == (7 if origin < 60 else 3)
    assert inputs.encoder_of(values)[origins.rows()[places[0]] - 1].tolist() == batch.past[0, -1].tolist()
    assert inputs.decoder_of(values)[origins.rows()[places[0]]].tolist() == batch.known[0, 0].tolist()
    assert torch.equal(dataset[int(places[3])].past[0], batch.past[3])


def test_data_that_were_moved_gather_the_same_batch(rng: np.random.Generator) -> None:
    """To the device where they are; tests/gpu moves them to another."""
    values = rng.normal(size=(50, 2)).astype(np.float32)
    store = SequenceStore({"values": values}, np.array([0, 50]), {"series": np.array([0])})
    dataset = WindowDataset(store, np.arange(5, 40), inputs=Inputs(2, [0, 2, 1], [1]), lookback=5, horizon=2)
    moved = dataset.to(torch.device("cpu"))

    assert dataset.nbytes == 50 * 2 * 4
    assert moved.device == torch.device("cpu")
    ours, theirs = (each.__getitems__(np.array([3, 9]))._tensors() for each in (dataset, moved))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


MEMORY = """
import pathlib, sys
import numpy as np
from gateline.data.inputs import Inputs
from gateline.data.order import ShuffledOrder
from gateline.data.runs import Runs
from gateline.data.store import SequenceStore
from gateline.data.windows import WindowDataset
from gateline.peak_memory import peak_memory as peak

store, lookback = SequenceStore.load(pathlib.Path(sys.argv[1])), int(sys.argv[2])
rows = len(store.arrays["values"])
def dataset(rows):
    return WindowDataset(store, Runs.of([(lookback, rows - lookback, 1)]), inputs=Inputs(1, [0, 1], []), lookback=lookback, horizon=1)
dataset(10_000).__getitems__(np.arange(64))  # what PyTorch itself needs to gather
before = peak()
whole = dataset(rows)
order = ShuffledOrder(len(whole), 64, 0)
for step in range(2000):
    whole.__getitems__(order.batch(0, step))
print(peak() - before)
"""


@pytest.mark.parametrize("lookback", [16, 512])
def test_gathering_takes_the_memory_of_the_file_whatever_the_window(lookback: int, tmp_path: Path) -> None:
    """8 million steps, 32 MB; the windows of 512 steps written out would take 16 GB, one index per window 64 MB."""
    values = np.zeros((8_000_000, 1), dtype=np.float32)
    SequenceStore({"values": values}, np.array([0, len(values)]), {"series": np.array([0])}).save(tmp_path)
    run = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path), str(lookback)], capture_output=True, text=True)

    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 1.3 * values.nbytes


def ragged(rng: np.random.Generator, *features: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    sequences = [rng.normal(size=(length, *features)).astype(np.float32) for length in rng.integers(0, 30, size=40)]
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    return np.concatenate(sequences), offsets, sequences


@pytest.mark.parametrize("features", [(), (3,), (2, 5)])
def test_sequences_are_padded_to_the_longest_of_their_batch(
    features: tuple[int, ...], rng: np.random.Generator
) -> None:
    values, offsets, sequences = ragged(rng, *features)
    dataset = VariableLengthDataset(values, offsets)
    places = rng.integers(0, 40, size=6)
    batch = dataset.__getitems__(places)

    assert batch.lengths.tolist() == [len(sequences[place]) for place in places]
    assert batch.values.shape == (6, int(batch.lengths.max()), *features)
    for row, place in enumerate(places):
        length = len(sequences[place])
        np.testing.assert_array_equal(batch.values[row, :length], sequences[place])
        assert (batch.values[row, length:] == 0).all()


def test_tokens_stay_whole_numbers_and_a_part_has_its_own_rows() -> None:
    dataset = VariableLengthDataset(np.array([5, 6, 7, 8, 9]), np.array([0, 2, 2, 5]), rows=np.array([2, 0]))

    assert dataset.__getitems__(np.array([0, 1])).values.tolist() == [[7, 8, 9], [5, 6, 0]]
    assert dataset.lengths.tolist() == [3, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_learned_of_a_sequence_depends_on_neither_bucket_nor_worker(
    workers: int, rng: np.random.Generator, seed: int
) -> None:
    """A mean over real steps, per sequence: the same in file order, one by one, and in buckets gathered by workers."""
    values, offsets, _ = ragged(rng, 3)
    dataset = VariableLengthDataset(values, offsets)

    def means(order: BucketedOrder | SequentialOrder, workers: int) -> dict[int, list[float]]:
        batches = [order.batch(1, step) for step in range(len(order))]
        loaded = load(dataset, batches, workers=workers)
        return {
            int(row): (batch.values[place].sum(dim=0) / max(1, int(batch.lengths[place]))).tolist()
            for rows, batch in zip(batches, loaded, strict=True)
            for place, row in enumerate(rows)
        }

    expected = means(SequentialOrder(40, 1), 0)
    found = means(BucketedOrder(dataset.lengths, 100, seed), workers)
    assert found.keys() == expected.keys()
    for row, mean in expected.items():
        assert found[row] == pytest.approx(mean, rel=1e-5, abs=1e-6)
