"""A small problem of speech: three words, each a pair of tones, said by four voices; a second or two for each step."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from gateline.data.audio import encode

WORDS: Mapping[str, tuple[float, float]] = {"low": (300, 420), "mid": (700, 520), "high": (1500, 1900)}
"""Hz of the first and the second half of each word."""
VOICES: Mapping[str, float] = {"ann": 1.0, "bob": 0.93, "cyd": 1.08, "dan": 0.97}
RATE = 8000
TAKES = 8  # of each word by each voice


def say(text: str, voice: str, take: int = 0, rate: int = RATE) -> np.ndarray:
    """Say words one after the other: float64 (N,); another take is longer, softer and noisier."""
    random = np.random.default_rng([take, *map(ord, text + voice)])
    pieces = []
    for place, word in enumerate(text.split()):
        if place:
            pieces.append(np.zeros(round(0.12 * rate)))
        for hertz in WORDS[word]:
            seconds = random.uniform(0.08, 0.14)
            time = np.arange(round(seconds * rate)) / rate
            fade = np.minimum(1, np.minimum(time, seconds - time) / 0.01)
            pieces.append(random.uniform(0.2, 0.6) * fade * np.sin(2 * np.pi * VOICES[voice] * hertz * time))
    samples = np.concatenate(pieces)
    return np.clip(samples + random.normal(0, 0.002, len(samples)), -1, 1)


def write_recordings(folder: Path) -> Path:
    """Write ``VOICE-WORD-TAKE.wav`` for every voice, word and take; return the folder."""
    folder.mkdir(parents=True)
    for voice in VOICES:
        for word in WORDS:
            for take in range(TAKES):
                (folder / f"{voice}-{word}-{take}.wav").write_bytes(encode(say(word, voice, take), RATE))
    return folder


def tiny_speech_table() -> pd.DataFrame:
    """The recordings as ingest makes a table of them."""
    rows = [
        {
            "path": f"{voice}-{word}-{take}.wav",
            "voice": voice,
            "said": word,
            "take": take,
            "duration_seconds": len(samples) / RATE,
            "audio": encode(samples, RATE),
        }
        for voice in VOICES
        for word in WORDS
        for take in range(TAKES)
        if len(samples := say(word, voice, take))
    ]
    return pd.DataFrame(rows)


def digest_of_folder(folder: Path) -> str:
    """sha256 of the listing of a folder's files."""
    lines = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in sorted(folder.iterdir())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


TINY_SPEECH: Mapping[str, Any] = {
    "name": "tiny_speech",
    "task": "transcription",
    "description": "Three words of tones, said by four voices.",
    "source": {
        "licence": "CC0-1.0",
        "files": [{"name": "sounds", "path": "sounds/", "sha256": "0" * 64, "format": "audio"}],
        "query": """
            SELECT path, split_part(path, '-', 1) AS voice, split_part(path, '-', 2) AS said,
              CAST(replace(split_part(path, '-', 3), '.wav', '') AS BIGINT) AS take, duration_seconds, audio
            FROM sounds ORDER BY path
        """,
    },
    "schema": {
        "keys": ["path"],
        "rows": {"min": 50, "max": 200},
        "columns": {
            "path": {"type": "text"},
            "voice": {"type": "text", "values": list(VOICES)},
            "said": {"type": "text", "pattern": "[a-z ]+"},
            "take": {"type": "integer", "min": 0},
            "duration_seconds": {"type": "float", "min": 0.05, "max": 5},
            "audio": {"type": "bytes"},
        },
    },
    "preprocess": {
        "audio": "audio",
        "text": "said",
        "tokenizer": {"kind": "word", "words": "spaces"},
        "features": {"sampling_rate": RATE, "bands": 16, "lowest_hz": 100, "longest_seconds": 10},
        "strings": {
            "by": "voice",
            "recordings": [2, 4],
            "pause_seconds": [0.05, 0.2],
            "per_recording": {"train": 2, "validation": 1, "test": 3},
            "pool": 4,
        },
        "split": {"rule": "column", "column": "take", "train": [0, 1, 2, 3, 4], "validation": [5], "test": [6, 7]},
    },
    "model": {"hidden_size": 24, "time_reduction": 4, "channels": 24, "beam_width": 4},
    "training": {
        "loss": "ctc",
        "learning_rate": 0.01,
        "batch_tokens": 500,
        "epochs": 16,
        "patience": 16,
        "monitor": "word_error_rate",
        "schedule": "one_cycle",
    },
    "evaluation": {"baselines": ["most_frequent", "segments"], "slices": ["voice", "kind"]},
    "gates": {
        "metric": "word_error_rate",
        "min_examples": 20,
        "baselines": {"most_frequent": {"rule": "superior"}},
        "limits": {"string_word_error_rate": {"max": 0.3}},
    },
}


def tiny_speech(**changes: Any) -> dict[str, Any]:
    """Copy TINY_SPEECH and set dotted keys, written with two underscores for a dot: ``training__epochs=1``."""
    workload = copy.deepcopy(dict(TINY_SPEECH))
    for key, value in changes.items():
        *path, last = key.split("__")
        section = workload
        for part in path:
            section = section[part]
        section[last] = value
    return workload


def write_tiny_speech(folder: Path, **changes: Any) -> Path:
    """Write the recordings and ``tiny_speech.yaml`` into a folder, the digest pinned; return the workload's path."""
    sounds = write_recordings(folder / "sounds")
    workload = tiny_speech(**changes)
    workload["source"]["files"][0] |= {"path": f"{sounds}/", "sha256": digest_of_folder(sounds)}
    path = folder / "tiny_speech.yaml"
    path.write_text(yaml.safe_dump(workload, sort_keys=False), encoding="utf-8")
    return path
