"""`gateline new` for a folder of recordings: where transcripts are found, what is written, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from gateline.adapters.explanation import explain
from gateline.adapters.ingestion import ingest
from gateline.adapters.new_workload.recordings import in_words, new_recordings
from gateline.adapters.project import Project
from gateline.data.audio import encode
from gateline.errors import DataError, WorkloadError
from gateline.manifest import open_artifact
from gateline.table import read_table
from gateline.tasks import task_named
from gateline.training import read_settings
from gateline.workload import Workload
from gateline.workload.budgets import with_budget
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.source import Source
from gateline.workload.training import Training
from tests.steps import run_until
from tests.tiny_speech import RATE, VOICES, WORDS, say, write_recordings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "workloads").mkdir()
    (tmp_path / "params.yaml").write_text("workloads:\n  - first\nseed: 7\n")
    monkeypatch.chdir(tmp_path)
    return Project.find(tmp_path)


def said_in(path: Path) -> str:
    return path.stem.split("-")[1]


def beside_each(folder: Path) -> None:
    for path in sorted(folder.glob("*.wav")):
        path.with_suffix(".txt").write_text(f"{said_in(path)}\n", encoding="utf-8")


def in_a_table(
    folder: Path, name: str = "transcripts.csv", named: Callable[[Path], str] = lambda path: path.name
) -> None:
    rows = [(named(path), said_in(path), path.stem.split("-")[0]) for path in sorted(folder.glob("*.wav"))]
    frame = pd.DataFrame(rows, columns=["file", "sentence", "client_id"])
    frame.to_csv(folder / name, index=False, sep="\t" if name.endswith(".tsv") else ",")


def check(path: Path) -> Workload:
    """See what `gateline check` sees."""
    workload = Workload.read(path)
    task = task_named(workload.task)
    schema, preprocess = workload.section("schema", Schema), workload.section("preprocess", task.Preprocess)
    task.check(schema, preprocess, workload.section("evaluation", task.Evaluation), workload.section("gates", Gates))
    model, _ = read_settings(workload)
    task.check_network(model, preprocess)
    return workload


def test_a_text_beside_each_recording(project: Project) -> None:
    folder = write_recordings(project.root / "sounds")
    beside_each(folder)

    found = new_recordings(project, "tones", folder)

    workload = check(found.path)
    raw = ingest(workload.section("source", Source), project.root / "raw")
    table = read_table(raw.path / "table.parquet")
    assert len(table) == 96
    assert table["text"].tolist() == [Path(path).stem.split("-")[1] for path in table["path"]]
    assert (found.tokens, found.rate, found.reduction) == ("word", 8000, 4)
    words = dict(in_words(found))
    assert words["transcripts"] == "NAME.txt beside NAME.wav"
    assert words["words"].startswith("3 different")
    content = yaml.safe_load(found.path.read_text())
    assert content["evaluation"]["baselines"] == ["most_frequent", "segments"]
    assert content["source"]["files"][0]["path"] == "sounds/"
    assert yaml.safe_load((project.root / "params.yaml").read_text())["workloads"] == ["first", "tones"]


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("transcripts.csv", lambda path: path.name),
        ("validated.tsv", lambda path: f"clips/{path.name}"),
        ("metadata.csv", lambda path: path.stem),
    ],
)
def test_a_table_in_the_folder(name: str, named: Callable[[Path], str], project: Project) -> None:
    folder = write_recordings(project.root / "sounds")
    in_a_table(folder, name, named)

    found = new_recordings(project, "tones", folder)

    raw = ingest(check(found.path).section("source", Source), project.root / "raw")
    table = read_table(raw.path / "table.parquet")
    assert table["text"].tolist() == [Path(path).stem.split("-")[1] for path in table["path"]]
    assert table["speaker"].tolist() == [path.split("-")[0] for path in table["path"]]
    assert found.transcripts.text == "sentence"
    assert yaml.safe_load(found.path.read_text())["evaluation"]["slices"] == ["speaker"]


def test_a_transcript_without_a_recording_is_said(project: Project) -> None:
    folder = write_recordings(project.root / "sounds")
    in_a_table(folder)
    with (folder / "transcripts.csv").open("a") as table:
        table.write("lost.wav,one,ann\n")

    found = new_recordings(project, "tones", folder)

    assert found.without == 0
    assert ("left out", "1 transcripts without a recording: lost.wav") in list(in_words(found))


def test_a_language_is_read_by_characters_and_some_recordings_say_nothing(project: Project) -> None:
    folder = project.root / "sounds"
    folder.mkdir()
    random = np.random.default_rng(0)
    lexicon = ["".join(random.choice(list("äbcdé'[]-"), size=4)) for _ in range(200)]
    for number in range(60):
        text = " ".join(random.choice(lexicon, size=4)) if number % 6 else ""
        (folder / f"{number}.wav").write_bytes(encode(random.normal(0, 0.1, 32_000), 16_000))
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")

    found = new_recordings(project, "sea", folder)

    assert (found.tokens, found.rate, found.without) == ("character", 16_000, 10)
    raw = ingest(check(found.path).section("source", Source), project.root / "raw")
    assert raw.facts["rows"] == 50


@pytest.mark.parametrize("number", [40, 50, 60])
def test_a_small_folder_becomes_a_workload_that_check_finds_ready(number: int, project: Project) -> None:
    folder = write_recordings(project.root / "sounds")
    for place, path in enumerate(sorted(folder.glob("*.wav"))):
        if place < number:
            path.with_suffix(".txt").write_text(said_in(path))
            path.with_suffix(".txt").rename(folder / f"r{place:03}.txt")
            path.rename(folder / f"r{place:03}.wav")
        else:
            path.unlink()

    found = new_recordings(project, "tones", folder)

    assert explain(project, "tones").notes == []
    assert "search" in Workload.read(found.path).sections  # `gateline tune` has something to try; explain has read it
    assert 3 <= found.split.min_examples <= found.split.counts["test"] // 2
    settings = Workload.read(found.path).section("training", Training)
    assert settings.epochs == 120  # of a few batches each, so 25 would be too few steps to learn anything


def only(number: int) -> Callable[[Path], None]:
    def keep(folder: Path) -> None:
        beside_each(folder)
        for path in sorted(folder.glob("*.wav"))[number:]:
            path.unlink()

    return keep


def hurried(folder: Path) -> None:
    beside_each(folder)
    (folder / "ann-low-0.txt").write_text("low " * 40)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda _: None, "transcripts: NAME"),
        (lambda folder: (folder / "other.csv").write_text("a,b\n1,2\n3,4\n"), "no column names the recordings"),
        (
            lambda folder: [path.unlink() for path in folder.glob("*.wav")] + [(folder / "a.md").write_text("x")],
            "recordings",
        ),
        (only(12), "40 recordings"),
        (hurried, r"ann-low-0\.wav"),
    ],
)
def test_what_cannot_be_one_is_refused_and_nothing_is_written(
    spoil: Callable[[Path], object], words: str, project: Project
) -> None:
    folder = write_recordings(project.root / "sounds")
    spoil(folder)

    with pytest.raises(DataError, match=words):
        new_recordings(project, "tones", folder)
    assert list((project.root / "workloads").iterdir()) == []


def test_a_column_that_is_not_there_and_a_name_that_is_taken(project: Project) -> None:
    folder = write_recordings(project.root / "sounds")
    in_a_table(folder)
    with pytest.raises(DataError, match="Did you mean 'sentence'"):
        new_recordings(project, "tones", folder, text="sentences")
    new_recordings(project, "tones", folder, text="sentence")
    with pytest.raises(WorkloadError, match="--force"):
        new_recordings(project, "tones", folder)


def by_speakers(folder: Path, speakers: int, each: int, blank: int = 0) -> None:
    """Write short recordings, and who speaks in each; of the first ones, nobody knows."""
    folder.mkdir()
    rows = []
    for number in range(speakers * each):
        word = list(WORDS)[number % len(WORDS)]
        (folder / f"{number:04}.wav").write_bytes(encode(say(word, list(VOICES)[number % 4], number % 9), RATE))
        rows.append((f"{number:04}.wav", word, "" if number < blank else f"p{number % speakers}"))
    pd.DataFrame(rows, columns=["file", "sentence", "speaker"]).to_csv(folder / "transcripts.csv", index=False)


def test_few_speakers_show_nothing_however_much_they_say(project: Project) -> None:
    """Of 1,320 recordings by twelve speakers, 110 in the test part were of one, and 95 % confidence was promised from them."""
    by_speakers(project.root / "sounds", speakers=12, each=110)

    found = new_recordings(project, "tones", project.root / "sounds")

    check(found.path)
    assert found.split.rule.by == ("speaker",)
    assert min(found.split.groups["validation"], found.split.groups["test"]) >= 2
    text = found.path.read_text()
    assert "confidence" not in yaml.safe_load(text)["gates"]["baselines"]["most_frequent"]
    assert f"as measured: {found.split.groups['test']} speakers in the test part tell no more" in text
    assert "no second model is promoted before there are more" in text


def test_a_recording_by_nobody_known_is_taken(project: Project) -> None:
    by_speakers(project.root / "sounds", speakers=3, each=30, blank=1)
    found = new_recordings(project, "tones", project.root / "sounds")

    assert run_until("preprocess", found.path, project.root / "artifacts") == ("preprocess", 0)
    assert Workload.read(found.path).section("schema", Schema).columns["speaker"].missing_share == pytest.approx(0.013)


def test_a_speaker_is_in_one_part_where_another_recording_is_of_nobody_known(project: Project) -> None:
    """One empty cell, and each speaker stood in every part."""
    by_speakers(project.root / "sounds", speakers=12, each=8, blank=2)
    found = new_recordings(project, "tones", project.root / "sounds")

    artifacts = project.root / "artifacts"
    assert run_until("preprocess", found.path, artifacts) == ("preprocess", 0)
    assert found.split.rule.by == ("speaker",)
    table = found.table.fillna({"speaker": "nobody known"})
    assert table.assign(part=found.split.part_of).groupby("speaker")["part"].nunique().tolist() == 13 * [1]
    prepared = open_artifact(artifacts / "prepared", "prepared").facts["examples"]
    assert prepared == found.split.counts | {"train": 3 * found.split.counts["train"]}  # at three speeds
    said = "nobody speaks in two parts, as far as is known: 2 recordings of nobody known stay together"
    assert said in dict(in_words(found)).values()
    assert f"by: [speaker] # {said}" in found.path.read_text()


@pytest.mark.slow  # all six steps, a minute on two cores
def test_a_data_set_that_nobody_has_seen_goes_in_and_comes_out_as_a_model(project: Project) -> None:
    folder = project.root / "phrases"
    folder.mkdir()
    random = np.random.default_rng(1)
    for number in range(120):
        voice, text = random.choice(list(VOICES)), " ".join(random.choice(list(WORDS), size=random.integers(1, 4)))
        (folder / f"{number:03}.wav").write_bytes(encode(say(text, voice, number), RATE))
        (folder / f"{number:03}.txt").write_text(text)
    found = new_recordings(project, "phrases", folder)
    assert run_until("register", found.path, project.root / "artifacts") == ("register", 0)

    evaluation = open_artifact(project.root / "artifacts" / "evaluation", "evaluation")
    assert evaluation.facts["metrics"]["word_error_rate"] < 0.3
    assert open_artifact(project.root / "artifacts" / "release", "release").facts["promoted"]
    assert with_budget(Workload.read(found.path), "smoke").section("training", Training).epochs == 3
