"""Transcription from recordings to text: nothing leaks, numbers agree with others' code, serving equals evaluation."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torchmetrics.functional.text import char_error_rate, word_error_rate

from gateline.data.audio import decode, encode
from gateline.data.store import SequenceStore
from gateline.data.tokenizers import UNKNOWN, tokenizer_from_json
from gateline.data.utterances import SOUND, Spoken, joined_pools, utterances_of
from gateline.errors import DataError, Preempted, WorkloadError
from gateline.evaluation import evaluate
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.models.transcriber import TranscriberSettings
from gateline.predictors.transcription import RecordingTranscriber
from gateline.table import TABLE, read_table
from gateline.tasks.transcription import TASK, TranscriptionEvaluation, TranscriptionPreprocess
from gateline.training import RunSettings, train
from gateline.training.run import read_settings
from gateline.workload import Workload
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import read_section
from tests.tiny_speech import RATE, VOICES, say, tiny_speech, tiny_speech_table

Made = tuple[RecordingTranscriber, Artifact, Artifact, Artifact]


def table(**changed: bytes) -> pd.DataFrame:
    """The recordings as ingest makes a table of them; some with other bytes."""
    frame = tiny_speech_table()
    for name, content in changed.items():
        frame.at[int(frame.index[frame["path"] == f"{name.replace('_', '-')}.wav"][0]), "audio"] = content
    return frame


def prepare(folder: Path, frame: pd.DataFrame | None = None, **changes: Any) -> Artifact:
    content = tiny_speech(**changes)
    if not (raw := folder.with_name("raw")).exists():
        with write_artifact(raw, "raw"):
            pass
    with write_artifact(folder, "prepared", {"raw": open_artifact(raw, "raw")}) as draft:
        TASK.prepare(
            table() if frame is None else frame,
            Schema.model_validate(content["schema"]),
            read_section("preprocess", TranscriptionPreprocess, content["preprocess"]),
            draft,
        )
    return open_artifact(folder, "prepared")


def workload(**changes: Any) -> Workload:
    return Workload("tiny_speech", "transcription", "", "test", tiny_speech(**changes))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("speech")
    prepared = prepare(folder / "prepared")
    model = train(workload(), prepared, folder / "model", RunSettings(seed=1))
    return (
        TASK.load_predictor(model.path),
        prepared,
        model,
        evaluate(workload(), prepared, model, folder / "evaluation"),
    )


class Unsure(torch.nn.Module):
    """A network that hears above all what was too rare to be known."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs, steps = self.network(features, lengths)
        return log_probs + 50.0 * (torch.arange(log_probs.shape[2]) == UNKNOWN), steps


@pytest.mark.parametrize("width", [1, 8])
def test_what_was_too_rare_to_be_known_is_never_written(made: Made, width: int) -> None:
    """An answer was `lo\ufffd`; the next best label is what one can read."""
    predictor, *_ = made
    recordings = table()["audio"].tolist()[:8]
    unsure = copy.copy(predictor)
    unsure._network = Unsure(predictor._network)  # type: ignore[assignment]  # which is called as one
    assert unsure.transcribe(recordings, width).texts == predictor.transcribe(recordings, width).texts


def test_validation_writes_as_answers_do(made: Made) -> None:
    predictor, prepared, _, _ = made
    dataset = TASK.dataset(prepared, "validation")
    batch = dataset.__getitems__(np.arange(4))
    score = TASK.scorer(prepared, "ctc")
    plain, _ = score(predictor._network, batch, None)
    unsure, _ = score(Unsure(predictor._network), batch, None)
    for metric in ("word_error_rate", "character_error_rate"):
        assert plain[metric] == unsure[metric]


# ── What is prepared ─────────────────────────────────────────────────────────────────────────────────────────────────


def features_of(prepared: Artifact, part: str) -> list[np.ndarray]:
    store = SequenceStore.load(prepared.path / SOUND)
    numbers = np.load(prepared.path / "examples" / f"{part}.npy")
    return [np.array(store.arrays["features"][store.offsets[n] : store.offsets[n + 1]]) for n in numbers]


def test_changed_test_recordings_change_nothing_that_training_sees(tmp_path: Path) -> None:
    loud = encode(0.9 * np.sign(say("mid", "ann", 6)), RATE)
    plain, altered = prepare(tmp_path / "a"), prepare(tmp_path / "b", table(ann_low_6=loud, bob_high_7=loud))

    assert plain.read_json("state.json") == altered.read_json("state.json")
    for part in ("train", "validation"):
        pairs = zip(features_of(plain, part), features_of(altered, part), strict=True)
        assert all(np.array_equal(left, right) for left, right in pairs)
    pairs = zip(features_of(plain, "test"), features_of(altered, "test"), strict=True)
    assert not all(left.shape == right.shape and np.array_equal(left, right) for left, right in pairs)


def test_no_recording_stands_in_utterances_of_two_parts() -> None:
    frame = table()
    settings = read_section("preprocess", TranscriptionPreprocess, tiny_speech()["preprocess"])
    rows = {
        "train": np.flatnonzero(frame["take"] < 5),
        "validation": np.flatnonzero(frame["take"] == 5),
        "test": np.flatnonzero(frame["take"] > 5),
    }

    spoken = utterances_of(rows, frame["path"].tolist(), frame["voice"].tolist(), settings.strings, (0.9, 1.0))

    for each in spoken:
        assert set(each.utterance.rows) <= set(rows[each.part].tolist())
        assert frame["voice"].iloc[list(each.utterance.rows)].nunique() == 1
        assert each.speed == 1.0 or each.part == "train"
    pools: dict[int, int] = {}
    for each in spoken:
        if each.part == "test":
            for row in each.utterance.rows:
                assert pools.setdefault(row, each.utterance.pool) == each.utterance.pool
    alone = [each for each in spoken if each.kind == "recording" and each.part == "train"]
    assert len(alone) == 2 * len(rows["train"])  # at each of the two speeds


@pytest.mark.parametrize("strings", [tiny_speech()["preprocess"]["strings"], None])
def test_what_one_voice_says_is_resampled_together(strings: dict[str, Any] | None, tmp_path: Path) -> None:
    split = {"rule": "hash", "by": ["voice"], "validation": 0.3, "test": 0.4, "salt": "4"}

    prepared = prepare(tmp_path / "a", preprocess__strings=strings, preprocess__split=split)

    tested = read_table(prepared.path / TABLE)
    assert tested["voice"].nunique() > 1
    assert tested["pool"].tolist() == pd.factorize(tested["voice"])[0].tolist()


def test_pools_that_share_a_group_are_one_by_whatever_way() -> None:
    pools = [np.array(rows) for rows in ([0, 1], [2], [3, 4], [5], [6])]
    assert joined_pools(pools, np.array([0, 1, 2, 3, 1, 3, 4])) == [0, 1, 0, 0, 2]
    assert joined_pools(pools, np.arange(7)) == [0, 1, 2, 3, 4]


def test_the_normalised_training_frames_have_mean_0_and_deviation_1(made: Made) -> None:
    together = np.concatenate(features_of(made[1], "train"))

    assert np.allclose(together.mean(axis=0), 0, atol=1e-3)
    assert np.allclose(together.std(axis=0), 1, atol=1e-3)


def test_the_order_of_the_rows_changes_no_utterance(tmp_path: Path, made: Made, rng: np.random.Generator) -> None:
    shuffled = table().sample(frac=1, random_state=int(rng.integers(2**31)), ignore_index=True)

    other = prepare(tmp_path / "other", shuffled)

    def strings(prepared: Artifact) -> set[tuple[str, bytes]]:
        rows = read_table(prepared.path / TABLE)
        return set(zip(rows["said"], rows["audio"], strict=True))

    assert strings(other) == strings(made[1])


def test_the_test_table_holds_what_is_evaluated(made: Made) -> None:
    rows = read_table(made[1].path / TABLE)
    heard = features_of(made[1], "test")

    assert set(rows["kind"]) == {"string", "recording"}
    for place in range(len(rows)):
        assert np.array_equal(made[0].features(rows["audio"][place], "it"), heard[place])
        assert len(rows["said"][place].split()) == rows["recordings"][place]
    assert rows["path"].isna().tolist() == (rows["kind"] == "string").tolist()  # several files, so no name of one
    assert rows["voice"].notna().all()


def with_cell(row: int, column: str, value: Any) -> pd.DataFrame:
    frame = table()
    frame.at[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (table(cyd_mid_3=b"no sound"), r"recordings: .*cyd-mid-3\.wav"),
        (with_cell(5, "said", " "), "empty one in row 5"),
        (with_cell(6, "said", None), "none in row 6"),
        (with_cell(7, "audio", None), "none in row 7"),
    ],
)
def test_what_cannot_be_prepared_is_named(frame: pd.DataFrame, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        prepare(tmp_path / "prepared", frame)
    assert not list(tmp_path.glob("prepared*"))


def test_an_utterance_too_short_for_its_transcript_is_refused_before_training(made: Made) -> None:
    TASK.check_data(TranscriberSettings(hidden_size=4, time_reduction=4), made[1])
    with pytest.raises(DataError, match=r"too short .*time_reduction \(64\)"):
        TASK.check_data(TranscriberSettings(hidden_size=4, time_reduction=64), made[1])


# ── Training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_loss_of_a_batch_is_the_sum_of_its_utterances_without_padding(made: Made) -> None:
    dataset = TASK.dataset(made[1], "test")
    network = TASK.build(TranscriberSettings(hidden_size=8, channels=8), TASK.shapes(made[1])).double().eval()

    def loss(rows: list[int]) -> tuple[float, int]:
        batch = dataset.__getitems__(np.array(rows))
        doubled = type(batch)(batch.features.double(), batch.lengths, batch.labels, batch.label_lengths)
        with torch.no_grad():
            total, count, _ = TASK.loss(network, doubled, "ctc", None)
        return float(total), int(count)

    rows = list(range(0, len(dataset), 5))
    assert loss(rows)[1] == len(rows)
    assert loss(rows)[0] == pytest.approx(sum(loss([row])[0] for row in rows), rel=1e-10)


MASKED: dict[str, Any] = {
    "model__spec_augment": {
        "frequency_masks": 2,
        "frequency_width": 4,
        "time_masks": 2,
        "time_width": 6,
        "time_share": 0.3,
    },
    "model__dropout": 0.2,
    "model__num_layers": 2,
    "training__epochs": 2,
}


def test_a_stopped_training_with_masks_goes_on_to_the_same_bytes(made: Made, tmp_path: Path) -> None:
    through = train(workload(**MASKED), made[1], tmp_path / "through", RunSettings(seed=3))
    asked = iter(range(10_000))

    with pytest.raises(Preempted):
        train(workload(**MASKED), made[1], tmp_path / "stopped", RunSettings(seed=3), stop=lambda: next(asked) == 4)
    resumed = train(workload(**MASKED), made[1], tmp_path / "stopped", RunSettings(seed=3))

    assert resumed.digest == through.digest


def test_a_batch_in_parts_hides_the_same_as_a_batch_at_once(made: Made, tmp_path: Path) -> None:
    history = [
        train(
            workload(**MASKED, training__accumulate=parts), made[1], tmp_path / str(parts), RunSettings(seed=3)
        ).read_json("history.json")
        for parts in (1, 3)
    ]

    for whole, cut in zip(*history, strict=True):
        assert cut["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-3)


# ── What is measured ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_model_learns_the_words(made: Made) -> None:
    measured = made[3].read_json("metrics.json")

    assert measured["test"]["word_error_rate"] < 0.1
    assert measured["baselines"]["most_frequent"]["word_error_rate"] > 0.5
    assert measured["baselines"]["segments"]["word_error_rate"] < 0.2
    assert made[3].facts["verdict"]["passed"]


def test_rates_are_those_of_torchmetrics(made: Made) -> None:
    answers = read_table(made[3].path / "predictions.parquet")
    measured = made[3].read_json("metrics.json")

    for column, of in (("answer", measured["test"]), *((f"baseline_{n}", m) for n, m in measured["baselines"].items())):
        found, meant = answers[column].tolist(), answers["target"].tolist()
        assert of["word_error_rate"] == pytest.approx(float(word_error_rate(found, meant)), abs=1e-6)
        assert of["character_error_rate"] == pytest.approx(float(char_error_rate(found, meant)), abs=1e-6)
        assert of["sentence_error_rate"] == pytest.approx(np.mean(answers[column] != answers["target"]))
        for kind in ("string", "recording"):
            rows = answers[answers["kind"] == kind]
            rate = float(word_error_rate(rows[column].tolist(), rows["target"].tolist()))
            assert of[f"{kind}_word_error_rate"] == pytest.approx(rate, abs=1e-6)
    greedy = float(word_error_rate(answers["greedy"].tolist(), answers["target"].tolist()))
    assert measured["test"]["greedy_word_error_rate"] == pytest.approx(greedy, abs=1e-6)
    assert measured["num_examples"] == len(answers) == made[1].facts["examples"]["test"]


def test_the_errors_that_models_are_compared_by_add_up_to_the_metrics(made: Made) -> None:
    predictor, prepared, _, evaluation = made
    measured = evaluation.read_json("metrics.json")
    for metric in TASK.gate_metrics:
        errors = predictor.test_errors(prepared, metric, list(measured["slices"]))

        assert errors.score() == pytest.approx(measured["test"][metric])
        assert {name: pytest.approx(value) for name, value in errors.slices.items()} == {
            name: values[metric] for name, values in measured["slices"].items()
        }
        assert errors.position.tolist() == read_table(prepared.path / TABLE)["pool"].tolist()
    assert set(measured["slices"]) == {*(f"voice={voice}" for voice in VOICES), "kind=string", "kind=recording"}


def test_a_model_is_measured_on_data_prepared_otherwise(made: Made, tmp_path: Path) -> None:
    """The champion of last month had other features: it hears the same recordings in its own way."""
    other = prepare(tmp_path / "other", preprocess__features={"sampling_rate": 16_000, "bands": 20})

    mine = made[0].test_errors(made[1], "word_error_rate")
    theirs = made[0].test_errors(other, "word_error_rate")

    singles = (read_table(other.path / TABLE)["kind"] == "recording").to_numpy()  # strings were joined at another rate
    assert np.array_equal(mine.total[singles], theirs.total[singles])
    assert np.array_equal(mine.count, theirs.count)


def test_models_that_write_capitals_and_that_do_not_have_other_tasks(tmp_path: Path, made: Made) -> None:
    """One that has lower case only cannot be wrong about capitals: its test rows are said to be others."""
    table = tiny_speech_table()
    shouted = prepare(
        tmp_path / "shouted", table.assign(said=table["said"].str.upper()), schema__columns__said={"type": "text"}
    )
    lower = copy.copy(made[0])
    lower.tokenizer = tokenizer_from_json({**made[0].tokenizer.to_json(), "lowercase": True})
    with_capitals, without = (each.test_errors(shouted, "word_error_rate") for each in (made[0], lower))
    assert with_capitals.score() == 1
    assert without.score() < 0.5
    assert with_capitals.rows != without.rows
    assert lower.test_errors(made[1], "word_error_rate").rows == made[0].test_errors(made[1], "word_error_rate").rows


# ── What is served ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_is_what_was_evaluated(made: Made, rng: np.random.Generator) -> None:
    predictor, prepared, _, evaluation = made
    rows, expected = read_table(prepared.path / TABLE), read_table(evaluation.path / "predictions.parquet")
    order = rng.permutation(len(rows))

    answer = predictor.predict(rows.loc[order, ["audio"]].reset_index(drop=True))

    assert answer.columns.tolist() == ["said", "log_prob"]
    assert answer["said"].tolist() == expected["answer"].to_numpy()[order].tolist()
    assert np.allclose(answer["log_prob"], expected["log_prob"].to_numpy()[order], atol=1e-4)
    for place in order[:3]:
        alone = predictor.predict(rows.loc[[place], ["audio"]])
        assert alone["said"].tolist() == [expected["answer"][place]]


def test_a_beam_of_one_is_greedy_and_the_default_is_the_models(made: Made) -> None:
    predictor, prepared, _, evaluation = made
    rows, expected = read_table(prepared.path / TABLE), read_table(evaluation.path / "predictions.parquet")

    assert predictor.predict(rows[["audio"]], beam_width=1)["said"].tolist() == expected["greedy"].tolist()
    assert predictor.parameters == [("beam_width", "long", 4)]
    wide = predictor.predict(rows[["audio"]], beam_width=16)["log_prob"]
    assert (wide >= predictor.predict(rows[["audio"]], beam_width=2)["log_prob"] - 1e-4).all()  # never less is found
    for width in (0, 101):
        with pytest.raises(DataError, match="beam_width"):
            predictor.predict(rows[["audio"]], beam_width=width)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_another_rate_and_a_second_channel_change_no_word(rate: int, made: Made) -> None:
    content = io.BytesIO()
    samples = say("low high mid", "ann", 9, rate)
    soundfile.write(content, np.stack([samples, samples], axis=1), rate, format="WAV")

    assert made[0].predict(pd.DataFrame({"audio": [content.getvalue()]}))["said"].tolist() == ["low high mid"]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"audio": []}), "rows with a recording"),
        (pd.DataFrame({"sound": [b"x"]}), "audio"),
        (
            pd.DataFrame({"audio": [encode(np.zeros(800), RATE), b"no sound"]}),
            "column audio, row 1: expected a recording",
        ),
        (pd.DataFrame({"audio": [encode(np.zeros(800), RATE), None]}), "none in row 1"),
        (pd.DataFrame({"audio": ["UklGRg=="]}), "bytes"),
        (pd.DataFrame({"audio": [encode(np.zeros(11 * RATE), RATE)]}), "at most 10 s"),
    ],
)
def test_a_request_that_cannot_be_answered_is_one_line(frame: pd.DataFrame, said: str, made: Made) -> None:
    with pytest.raises(DataError, match=said) as refusal:
        made[0].predict(frame)
    assert "\n" not in str(refusal.value)


def test_silence_is_answered(made: Made) -> None:
    answer = made[0].predict(pd.DataFrame({"audio": [encode(np.zeros(1), RATE), encode(np.zeros(RATE), RATE)]}))

    assert len(answer) == 2
    assert np.isfinite(answer["log_prob"]).all()


# ── What does not fit together ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preprocess__audio": "audios"}, "Did you mean 'audio'"),
        ({"preprocess__audio": "said"}, "type bytes"),
        ({"preprocess__text": "take"}, "type text"),
        ({"preprocess__tokenizer": {"kind": "word", "max_length": 3}}, "max_length"),
        ({"preprocess__strings__by": "speaker"}, "strings.by"),
        ({"preprocess__split__column": "part"}, "split"),
        ({"evaluation__slices": ["kinds"]}, "Did you mean 'kind'"),
        ({"gates__metric": "accuracy"}, "gates.metric"),
        ({"gates__limits": {"bleu": {"min": 1}}}, "gates.limits"),
        ({"gates__baselines": {"ridge": {}}}, "gates.baselines"),
        ({"schema__columns__kind": {"type": "text"}}, "schema.columns"),
        ({"preprocess__strings": None, "evaluation__slices": []}, "string_word_error_rate"),
    ],
)
def test_sections_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    content = tiny_speech(**changes)
    with pytest.raises(WorkloadError, match=said):
        TASK.check(
            Schema.model_validate(content["schema"]),
            read_section("preprocess", TranscriptionPreprocess, content["preprocess"]),
            read_section("evaluation", TranscriptionEvaluation, content["evaluation"]),
            Gates.model_validate(content["gates"]),
        )


def test_another_loss_and_another_monitor_are_refused() -> None:
    with pytest.raises(WorkloadError, match="ctc"):
        read_settings(workload(training__loss="squared"))
    with pytest.raises(WorkloadError, match="word_error_rate"):
        read_settings(workload(training__monitor="word_error"))


def test_segments_need_words_that_stand_alone(made: Made, tmp_path: Path) -> None:
    frame = table()
    frame["said"] = frame["said"] + " " + frame["said"]
    prepared = prepare(tmp_path / "two", frame, preprocess__strings=None)
    evaluation = read_section("evaluation", TranscriptionEvaluation, {"baselines": ["segments"]})

    with pytest.raises(WorkloadError, match="Leave it out"):
        TASK.check_scoring(
            prepared, evaluation, Gates.model_validate({"metric": "word_error_rate", "baselines": {"segments": {}}})
        )


def test_the_words_of_check_say_what_is_done(made: Made) -> None:
    content = tiny_speech()
    schema = Schema.model_validate(content["schema"])
    preprocess = read_section("preprocess", TranscriptionPreprocess, content["preprocess"])

    before, after = (
        "\n".join(TASK.explain(schema, preprocess, {})),
        "\n".join(TASK.explain(schema, preprocess, made[1].facts)),
    )

    assert "`said` of the recordings in `audio`" in before
    assert "join 2 to 4 recordings of the same `voice`" in before
    assert "utterances" in after


def test_one_utterance_is_one_recording_or_several() -> None:
    from gateline.data.joined_recordings import Utterance

    assert Spoken("test", Utterance((3,), (), 0)).kind == "recording"
    assert Spoken("test", Utterance((3, 4), (0.1,), 0)).kind == "string"


def test_the_recordings_come_back_as_they_were() -> None:
    samples = say("low", "ann")

    heard = decode(encode(samples, RATE), "it", sampling_rate=RATE, longest_seconds=5)
    assert np.abs(heard - samples).max() <= 2**-16 + 1e-9
    assert torch.from_numpy(heard).dtype == torch.float32
