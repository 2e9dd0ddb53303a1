"""What a transcriber is trained and tested on: recordings, and strings of them, as features and labels, laid end to end.

    FOLDER/
    ├── sound/arrays/features.npy     (N, M) normalised log-mel frames of every utterance, and offsets.npy
    └── labels/arrays/labels.npy      tokens of every transcript, and offsets.npy

E utterances, N frames of all of them, T of the longest of a batch, M mel bands, U labels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import Dataset

from gateline.batch import Batch
from gateline.data.audio import decode, resample
from gateline.data.joined_recordings import Strings, Utterance, generator, join, pools_of, samples_of
from gateline.data.log_mel import LogMel
from gateline.data.store import SequenceStore
from gateline.data.tokenizers import Encoded
from gateline.data.windows import VariableLengthDataset
from gateline.errors import DataError, examples

SOUND, LABELS = "sound", "labels"
FEATURES = "features"
KEPT_BYTES = 2**28  # of decoded recordings, while a table is prepared
STRING, RECORDING = "string", "recording"
"""Kinds of utterance."""


@dataclass(frozen=True)
class Spoken:
    """One utterance of one part.

    Args:
        part: train, validation or test.
        utterance: its recordings.
        speed: at which it is heard; 1.1 is a tenth faster and higher.
    """

    part: str
    utterance: Utterance
    speed: float = 1.0

    @property
    def kind(self) -> str:
        """Whether it is one recording or a string of several."""
        return RECORDING if len(self.utterance.rows) == 1 else STRING


def utterances_of(
    parts: Mapping[str, np.ndarray],
    names: Sequence[str],
    groups: Sequence[str],
    strings: Strings | None,
    speeds: Sequence[float],
    dependent: np.ndarray | None = None,
) -> list[Spoken]:
    """List the utterances of all parts: strings, and each recording alone.

    In training, a recording alone is heard at each of the speeds, and a string at one of them. Utterances that share recordings,
    or whose recordings depend on each other, are of one pool.

    Args:
        parts: int64 rows of the table, by part.
        names: of every row of the table, each once.
        groups: what `strings.by` says of every row; not read without strings.
        strings: how recordings are joined; None: not at all.
        speeds: of the training part.
        dependent: int64, of every row of the table the group that the split keeps together; None: each row its own.
    """
    dependent = np.arange(len(names)) if dependent is None else dependent
    listed = []
    for part, rows in parts.items():
        train, of_part = part == "train", list[Spoken]()
        if strings is None:
            pools = [np.array([row]) for row in rows.tolist()]
        else:
            size = None if train else strings.pool
            within = [groups[row] for row in rows], [names[row] for row in rows]
            pools = pools_of(rows, *within, size, strings.seed)
            for place, utterance in enumerate(join(pools, strings, part)):
                drawn = float(generator(strings.seed, part, "speed", str(place)).choice(speeds)) if train else 1.0
                of_part.append(Spoken(part, utterance, drawn))
        pool_of = {int(row): number for number, pool in enumerate(pools) for row in pool}
        alone = [Utterance((row,), (), pool_of[row]) for row in rows.tolist()]
        of_part += [Spoken(part, utterance, speed) for utterance in alone for speed in (speeds if train else (1.0,))]
        joined = joined_pools(pools, dependent)
        listed += [
            replace(each, utterance=replace(each.utterance, pool=joined[each.utterance.pool])) for each in of_part
        ]
    return listed


def joined_pools(pools: Sequence[np.ndarray], dependent: np.ndarray) -> list[int]:
    """Say which pools belong together, since recordings of them are of one group, directly or by way of other pools.

    Args:
        pools: int64 rows of the table, P times.
        dependent: int64, the group of every row of the table.

    Returns:
        Number of what each pool belongs to, as they first come; 0 to P - 1 where no pool shares a group with another.
    """
    root = list(range(len(pools)))

    def first(place: int) -> int:
        while root[place] != place:
            root[place] = place = root[root[place]]
        return place

    pool_of: dict[int, int] = {}
    for place, pool in enumerate(pools):
        for group in dependent[pool].tolist():
            low, high = sorted((first(pool_of.setdefault(group, place)), first(place)))
            root[high] = low
    firsts = [first(place) for place in range(len(pools))]
    number = {place: n for n, place in enumerate(dict.fromkeys(firsts))}
    return [number[place] for place in firsts]


class Sounds:
    """Samples of the recordings of a table, decoded when they are asked for.

    Args:
        contents: bytes of every row.
        names: of every row, for errors.
        settings: sampling rate and longest recording.
    """

    def __init__(self, contents: Sequence[bytes], names: Sequence[str], settings: LogMel) -> None:
        self._contents, self._names, self._settings = contents, names, settings
        self._kept: dict[tuple[int, float], np.ndarray] = {}
        self._room = KEPT_BYTES

    def check(self) -> None:
        """Decode everything once.

        Raises:
            DataError: some recordings cannot be used; names up to five of them.
        """
        broken = []
        for row in range(len(self._contents)):
            try:
                self.recording(row)
            except DataError as error:
                broken.append(f"{error.where}: {error.found}")
        if broken:
            raise DataError(
                "recordings",
                expected=f"recordings of at most {self._settings.longest_seconds:g} s",
                found=examples(broken),
                do="Convert or leave them out, or raise preprocess.features.longest_seconds",
            )

    def recording(self, row: int, speed: float = 1.0) -> np.ndarray:
        """Decode one recording, and play it at a speed: float32 (N,)."""
        if (row, speed) in self._kept:
            return self._kept[row, speed]
        settings = self._settings
        if speed != 1.0:
            samples = at_speed(self.recording(row), speed)
        else:
            samples = decode(
                self._contents[row],
                self._names[row],
                sampling_rate=settings.sampling_rate,
                longest_seconds=settings.longest_seconds,
            )
        if self._room >= samples.nbytes:  # strings ask for the same recordings again and again
            self._kept[row, speed] = samples
            self._room -= samples.nbytes
        return samples

    def spoken(self, spoken: Spoken) -> np.ndarray:
        """Put the samples of an utterance together: float32 (N,)."""
        rate = self._settings.sampling_rate
        recordings = {row: self.recording(row, spoken.speed) for row in set(spoken.utterance.rows)}
        return samples_of(spoken.utterance, recordings, rate)


def at_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Play samples (N,) faster or slower, and with that higher or lower.

    Source: Ko et al. (2015), Audio augmentation for speech recognition, Interspeech.
    """
    if speed == 1.0:
        return samples
    return resample(samples.astype(np.float64), round(100 * speed), 100).astype(np.float32)


def save_utterances(folder: Path, features: Sequence[np.ndarray], labels: Encoded) -> dict[str, Any]:
    """Write features and labels; return the shapes for the manifest."""
    offsets = np.cumsum([0, *map(len, features)], dtype=np.int64)
    stores = {
        SOUND: SequenceStore({FEATURES: np.concatenate(features)}, offsets),
        LABELS: SequenceStore({LABELS: labels.tokens}, labels.offsets),
    }
    shapes: dict[str, Any] = {}
    for name, store in stores.items():
        (folder / name).mkdir()
        store.save(folder / name)
        shapes |= {key: {"shape": list(a.shape), "dtype": str(a.dtype)} for key, a in store.arrays.items()}
    return shapes


@dataclass(frozen=True)
class TranscriptBatch(Batch):
    """Utterances and what is said in them.

    Args:
        features: float32 (B, T, M), log-mel frames; 0 past the length.
        lengths: int64 (B,), frames of each row.
        labels: int64 (B, U), tokens of the transcripts; 0 past the length.
        label_lengths: int64 (B,).
    """

    features: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    label_lengths: torch.Tensor


class UtteranceDataset(Dataset[TranscriptBatch]):
    """Utterances of one part, gathered in batches that are padded to their longest.

    Args:
        sound: store of the features of all utterances.
        labels: store of their labels.
        numbers: int64 (E,), the utterances that belong to the data set.
    """

    def __init__(self, sound: SequenceStore, labels: SequenceStore, numbers: np.ndarray) -> None:
        self._sound = VariableLengthDataset(sound.arrays[FEATURES], sound.offsets, numbers)
        self._labels = VariableLengthDataset(labels.arrays[LABELS], labels.offsets, numbers)
        self._tokens = [labels.arrays[LABELS][labels.offsets[n] : labels.offsets[n + 1]] for n in numbers.tolist()]
        self.lengths = self._sound.lengths
        """int64 (E,), frames of each utterance."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, place: int) -> TranscriptBatch:
        return self.__getitems__(np.array([place]))

    def __getitems__(self, places: np.ndarray) -> TranscriptBatch:
        """Gather a batch: places of this part, int64 (B,)."""
        sound, labels = self._sound.__getitems__(places), self._labels.__getitems__(places)
        return TranscriptBatch(sound.values, sound.lengths, labels.values.long(), labels.lengths)

    def labels(self, place: int) -> np.ndarray:
        """Look at the labels of one utterance: int32 (U,)."""
        return self._tokens[place]

    @property
    def nbytes(self) -> int:
        """Bytes that `to` moves."""
        return self._sound.nbytes + self._labels.nbytes

    @property
    def device(self) -> torch.device:
        """Where batches are gathered."""
        return self._sound.device

    def to(self, device: torch.device) -> Self:
        """Copy everything to a device; batches are gathered and stay there."""
        moved = copy.copy(self)
        moved._sound, moved._labels = self._sound.to(device), self._labels.to(device)
        return moved


def open_utterances(folder: Path, numbers: np.ndarray) -> UtteranceDataset:
    """Open some utterances of a prepared folder."""
    return UtteranceDataset(SequenceStore.load(folder / SOUND), SequenceStore.load(folder / LABELS), numbers)


def steps_needed(labels: np.ndarray) -> int:
    """Count the output steps that CTC needs for labels (U,): one for each, and one between equal neighbours."""
    return len(labels) + int((labels[1:] == labels[:-1]).sum())


def require_steps(dataset: UtteranceDataset, time_reduction: int, part: str) -> None:
    """Refuse utterances that are too short for their transcripts.

    Raises:
        DataError: says how many, and what would help.
    """
    short = []
    for place, frames in enumerate(dataset.lengths.tolist()):
        needed, there = steps_needed(dataset.labels(place)), -(-frames // time_reduction)
        if needed > there:
            short.append(f"{frames} frames for {len(dataset.labels(place))} labels")
    if short:
        raise DataError(
            f"the {part} part",
            expected="at least one output step for each label of a recording, and one between equal neighbours",
            found=f"{len(short):,} of {len(dataset):,} utterances that are too short ({examples(short)})",
            do=f"Lower model.time_reduction ({time_reduction}) or preprocess.features.step_seconds, or look for wrong transcripts",
        )
