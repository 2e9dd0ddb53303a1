"""Transcription: what is said in a recording, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn

from gateline.data.audio import encode
from gateline.data.example_kinds import complete
from gateline.data.examples import (
    ExampleSplit,
    as_key,
    check_split,
    groups_of,
    open_examples,
    save_examples,
    split_examples,
    split_in_words,
)
from gateline.data.joined_recordings import Strings
from gateline.data.log_mel import LogMel, Normaliser, log_mel
from gateline.data.order import Order, SequentialOrder, shuffled
from gateline.data.prepared_windows import STATE
from gateline.data.splits import PARTS
from gateline.data.store import SequenceStore
from gateline.data.tokenizers import Encoded, FittedTokenizer, Tokenizer, tokenizer_from_json, vocabulary_report
from gateline.data.utterances import (
    FEATURES,
    RECORDING,
    SOUND,
    STRING,
    Sounds,
    Spoken,
    TranscriptBatch,
    UtteranceDataset,
    open_utterances,
    require_steps,
    save_utterances,
    utterances_of,
)
from gateline.edit_distance import edit_distance
from gateline.errors import ArtifactError, DataError, WorkloadError, examples, refuse_taken, require_known
from gateline.losses import summed_ctc
from gateline.manifest import Artifact, Draft
from gateline.models.ctc_decoding import ctc_greedy
from gateline.models.transcriber import Transcriber, TranscriberSettings
from gateline.predictors import FLAGS
from gateline.predictors.transcription import BATCH, RecordingTranscriber, writable
from gateline.table import TABLE, as_frame, clean, write_table
from gateline.tasks import Scorer
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import Section

if TYPE_CHECKING:
    from gateline.workload.training import Training

BASELINES = ("most_frequent", "segments")
GATE_METRICS = ("word_error_rate", "character_error_rate", "sentence_error_rate")
OF_A_KIND = (f"{STRING}_word_error_rate", f"{RECORDING}_word_error_rate")
METRICS = (*GATE_METRICS, "greedy_word_error_rate", *OF_A_KIND)
LOSS = "ctc"
KIND, POOL, COUNT = "kind", "pool", "recordings"
"""Columns that the table of the test part has of its own: string or recording, what is resampled together, and of how many."""

Speed = Annotated[float, Field(gt=0.5, lt=2)]


class TranscriptionPreprocess(Section):
    """Section `preprocess` of a transcription workload."""

    audio: str
    """Column of the recordings, as files."""
    text: str
    """Column of what is said."""
    tokenizer: Tokenizer
    """What the labels are: characters for any language, words where there are few of them."""
    features: LogMel = LogMel()
    strings: Strings | None = None
    """Recordings joined to longer utterances; null: each stands for itself."""
    speeds: Annotated[tuple[Speed, ...], Field(min_length=1)] = (1.0,)
    """At which training recordings are heard: 1.1 is a tenth faster and higher (Ko et al., 2015, Interspeech)."""
    split: ExampleSplit


class TranscriptionEvaluation(Section):
    """Section `evaluation` of a transcription workload."""

    baselines: Annotated[tuple[Literal[BASELINES], ...], Field(min_length=1)] = BASELINES  # type: ignore[valid-type]
    slices: tuple[str, ...] = ()
    """Columns whose values get metrics of their own; with strings, also `kind`."""


class Transcription:
    """The task `transcription`."""

    name = "transcription"
    examples_are = "utterances"
    Preprocess = TranscriptionPreprocess
    Model = TranscriberSettings
    Evaluation = TranscriptionEvaluation
    monitors = ("loss", "word_error_rate", "character_error_rate")
    gate_metrics = GATE_METRICS
    own_columns = (
        KIND,
        POOL,
        COUNT,
        "utterance",
        "target",
        "answer",
        "log_prob",
        "greedy",
        "edits",
        "words",
        "baseline_*",
    )
    requirements = ("scipy", "soundfile", "tokenizers")

    def columns_beside(self, schema: Schema, preprocess: TranscriptionPreprocess) -> Sequence[str]:
        """All but sound and transcript."""
        return [name for name in schema.columns if name not in (preprocess.audio, preprocess.text)]

    def check(
        self,
        schema: Schema,
        preprocess: TranscriptionPreprocess,
        evaluation: TranscriptionEvaluation | None,
        gates: Gates | None,
    ) -> None:
        """Refuse sections that do not fit together.

        Raises:
            WorkloadError: a column is not in the schema or of another type, or a gate names what is not computed.
        """
        for where, name, kind in (("audio", preprocess.audio, "bytes"), ("text", preprocess.text, "text")):
            require_known(f"preprocess.{where}", name, schema.columns)
            if (found := schema.columns[name].type) != kind:
                raise WorkloadError(
                    f"preprocess.{where}",
                    expected=f"a column of type {kind}",
                    found=f"{name} ({found})",
                    do="Name another",
                )
        if preprocess.tokenizer.max_length is not None:
            raise WorkloadError(
                "preprocess.tokenizer.max_length",
                expected="none: a transcript that is cut is not what is said",
                found=str(preprocess.tokenizer.max_length),
                do="Leave it out",
            )
        if preprocess.strings is not None:
            require_known("preprocess.strings.by", preprocess.strings.by, schema.columns)
        refuse_taken("schema.columns", self.columns_beside(schema, preprocess), self.own_columns)
        refuse_taken("preprocess", (preprocess.audio, preprocess.text), (KIND, POOL, COUNT, "log_prob", FLAGS))
        check_split(preprocess.split, schema)
        if evaluation is not None:
            for name in evaluation.slices:
                require_known("evaluation.slices", name, _sliced_by(schema, preprocess))
        if evaluation is not None and gates is not None:
            measured = METRICS if preprocess.strings else METRICS[: -len(OF_A_KIND)]
            gates.require_measured(evaluation.baselines, measured, GATE_METRICS)

    def check_training(self, model: TranscriberSettings, training: Training) -> None:  # noqa: ARG002
        """Refuse a loss that does not train transcripts.

        Raises:
            WorkloadError: another loss than ctc.
        """
        if training.loss != LOSS:
            raise WorkloadError(
                "training.loss", expected=f"`{LOSS}`", found=f"`{training.loss}`", do=f"Say `loss: {LOSS}`"
            )

    def check_network(self, model: TranscriberSettings, preprocess: TranscriptionPreprocess) -> None:
        """Refuse a network that cannot be made, before it is made.

        Raises:
            WorkloadError: its settings do not fit together.
        """
        with torch.device("meta"):
            Transcriber(num_features=preprocess.features.bands, num_labels=5, settings=model)

    def check_evaluation(self, model: TranscriberSettings, evaluation: TranscriptionEvaluation) -> None:
        """Every network answers what is measured."""

    def check_data(self, model: TranscriberSettings, prepared: Artifact) -> None:
        """Refuse utterances that are too short for what is said in them: their loss would be infinite.

        Raises:
            DataError: there are some.
        """
        for part in ("train", "validation"):
            require_steps(self.dataset(prepared, part), model.time_reduction, part)

    def check_scoring(self, prepared: Artifact, evaluation: TranscriptionEvaluation, gates: Gates) -> None:
        """Refuse an evaluation that cannot be made of these data.

        Raises:
            WorkloadError: a slice is no column, a baseline has nothing to learn from, or a gate names what is not computed.
        """
        state = prepared.read_json(STATE)
        for name in evaluation.slices:
            require_known("evaluation.slices", name, state["sliced_by"])
        if "segments" in evaluation.baselines and state["single_words"] < 2:
            raise WorkloadError(
                "evaluation.baselines",
                expected="no `segments`: it learns from training recordings of one word, and there are none of two different",
                found="`segments`",
                do="Leave it out",
            )
        if not state["strings"]:
            for name in set(gates.limits) & set(OF_A_KIND):
                require_known("gates.limits", name, METRICS[: -len(OF_A_KIND)])

    def explain(
        self,
        schema: Schema,  # noqa: ARG002
        preprocess: TranscriptionPreprocess,
        facts: Mapping[str, Any],
    ) -> Iterator[str]:
        """Say in words what preprocess would do."""
        features, strings = preprocess.features, preprocess.strings
        size = f", {facts['vocabulary']['size']:,} of them" if facts else ""
        yield f"write down `{preprocess.text}` of the recordings in `{preprocess.audio}`, as {preprocess.tokenizer.kind} tokens{size}"
        yield (
            f"hear them at {features.sampling_rate:,} Hz as {features.bands} mel bands every {1000 * features.step_seconds:g} ms"
        )
        if preprocess.speeds != (1.0,):
            yield f"hear training recordings also at the speeds {examples(preprocess.speeds)}"
        if strings is not None:
            yield (
                f"join {strings.recordings[0]} to {strings.recordings[1]} recordings of the same `{strings.by}` to strings, with "
                f"{strings.pause_seconds[0]:g} to {strings.pause_seconds[1]:g} s of silence between them"
            )
        yield split_in_words(preprocess.split, facts.get("rows", {}), "recordings")
        if facts:
            counts = facts["examples"]
            yield "which makes " + ", ".join(
                f"{counts[part]:,} utterances ({facts['hours'][part]:.2f} h) for {part}" for part in PARTS
            )

    def prepare(
        self, raw: pd.DataFrame, schema: Schema, preprocess: TranscriptionPreprocess, draft: Draft
    ) -> pd.DataFrame:
        """Write the folder `prepared`.

            prepared/
            ├── sound/arrays/{features,offsets}.npy     normalised log-mel frames of all utterances, laid end to end
            ├── labels/arrays/{labels,offsets}.npy      tokens of their transcripts
            ├── examples/{train,validation,test}.npy    numbers of each part's utterances
            ├── state.json                              features, normalisation and tokenizer (fitted on the training part)
            └── table.parquet                           the test part as it is asked of a served model: sound and transcript

        Raises:
            DataError: a recording cannot be used, has no transcript, or a part is empty.
        """
        columns = clean(raw, schema)
        texts = [" ".join(text.split()) for text in complete(columns, preprocess.text)]
        if silent := [row for row, text in enumerate(texts) if not text]:
            raise DataError(
                f"column {preprocess.text}",
                expected="a transcript for every recording",
                found=f"an empty one in row {examples(silent)}",
                do="Leave these rows out in the query",
            )
        rows = split_examples(columns, preprocess.split, schema.keys)
        names = _names(columns, schema.keys, len(texts))
        sounds = Sounds(complete(columns, preprocess.audio), names, preprocess.features)
        sounds.check()
        strings = preprocess.strings
        groups = [] if strings is None else [as_key(value) for value in complete(columns, strings.by)]
        dependent = groups_of(columns, preprocess.split, schema.keys)
        spoken = utterances_of(rows, names, groups, strings, preprocess.speeds, dependent)
        said = [" ".join(texts[row] for row in each.utterance.rows) for each in spoken]
        of_part = {part: np.array([n for n, each in enumerate(spoken) if each.part == part]) for part in PARTS}
        _refuse_empty(of_part)
        tokenizer = preprocess.tokenizer.fit([said[n] for n in of_part["train"]])
        encoded = tokenizer.encode(said)
        features = [log_mel(sounds.spoken(each), preprocess.features) for each in spoken]
        kind = preprocess.features.normalisation
        normaliser = Normaliser.fit((features[n] for n in of_part["train"]), kind)
        shapes = save_utterances(draft.path, [normaliser(each) for each in features], encoded)
        save_examples(of_part, draft)
        test = [(spoken[n], said[n]) for n in of_part["test"]]
        write_table(_as_asked(columns, preprocess, sounds, test), draft.path / TABLE)
        split = preprocess.split.model_dump(mode="json")
        draft.write_json(
            STATE,
            {
                "schema": schema.model_dump(mode="json"),
                "audio": preprocess.audio,
                "text": preprocess.text,
                "features": preprocess.features.model_dump(mode="json"),
                "normaliser": normaliser.to_json(),
                "tokenizer": tokenizer.to_json(),
                "strings": strings is not None,
                "single_words": len({said[n] for n in of_part["train"] if " " not in said[n]}),
                "sliced_by": _sliced_by(schema, preprocess),
                "split": split,
            },
        )
        seconds = preprocess.features.step_seconds
        draft.facts |= {
            "task": self.name,
            "arrays": shapes,
            "rows": {part: len(some) for part, some in rows.items()},
            "hours": {part: sum(len(features[n]) for n in some) * seconds / 3600 for part, some in of_part.items()},
            "kinds": {
                part: {kind: sum(spoken[n].kind == kind for n in some) for kind in (STRING, RECORDING)}
                for part, some in of_part.items()
            },
            "vocabulary": vocabulary_report(
                tokenizer, {part: Encoded.of(encoded.row(n) for n in some) for part, some in of_part.items()}
            ),
            "split": split,
        }
        return as_frame(columns).iloc[rows["train"]]

    def dataset(self, prepared: Artifact, part: str) -> UtteranceDataset:
        """Open the utterances of one part."""
        return open_utterances(prepared.path, open_examples(prepared, part))

    def shapes(self, prepared: Artifact) -> dict[str, Any]:
        """Say what the network must know of the prepared data."""
        state = prepared.read_json(STATE)
        store = SequenceStore.load(prepared.path / SOUND)
        return {"num_features": store.arrays[FEATURES].shape[1], "num_labels": len(state["tokenizer"]["tokens"])}

    def build(self, model: TranscriberSettings, shapes: Mapping[str, Any]) -> Transcriber:
        """Build the network, freshly initialised."""
        return Transcriber(num_features=shapes["num_features"], num_labels=shapes["num_labels"], settings=model)

    def start(self, network: nn.Module, dataset: UtteranceDataset) -> None:
        """Set nothing: every weight is learnt."""

    def order(self, prepared: Artifact, dataset: UtteranceDataset, training: Training, seed: int) -> Order:  # noqa: ARG002
        """Draw utterances in a fresh random order every epoch, or those of similar length with a budget of frames."""
        return shuffled(dataset.lengths, training, seed)

    def validation_order(self, prepared: Artifact, dataset: UtteranceDataset, training: Training) -> Order:  # noqa: ARG002
        """Take the validation utterances as they stand."""
        return SequentialOrder(len(dataset), BATCH)

    def loss(
        self,
        network: nn.Module,
        batch: TranscriptBatch,
        kind: str,  # noqa: ARG002  there is one
        carried: None,  # noqa: ARG002  utterances hand nothing on
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Sum -log p(transcript) over a batch, in nats, and count its utterances."""
        log_probs, lengths = cast(Transcriber, network)(batch.features, batch.lengths)
        return *summed_ctc(log_probs, lengths, batch.labels, batch.label_lengths), None

    def scorer(self, prepared: Artifact, kind: str) -> Scorer:  # noqa: ARG002  there is one loss
        """Add up the loss and the errors of greedy decoding."""
        tokenizer = tokenizer_from_json(prepared.read_json(STATE)["tokenizer"])

        def score(
            network: nn.Module,
            batch: TranscriptBatch,
            carried: None,  # noqa: ARG001
        ) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], None]:
            log_probs, lengths = cast(Transcriber, network)(batch.features, batch.lengths)
            found = [tokenizer.decode(tokens) for tokens in ctc_greedy(writable(log_probs), lengths).best()]
            sums = {"loss": summed_ctc(log_probs, lengths, batch.labels, batch.label_lengths)}
            return sums | _edits(tokenizer, batch, found), None

        return score

    def finish(self, network: nn.Module, prepared: Artifact, draft: Draft) -> None:
        """Add nothing."""

    def load_predictor(self, folder: Path) -> RecordingTranscriber:
        """Load a model folder.

        Raises:
            ArtifactError: weights and configuration do not belong together, or a file is damaged.
        """
        from gateline.model_folder import load_network, read_model_json

        config, state = read_model_json(folder, "config.json"), read_model_json(folder, "preprocessing.json")
        try:
            settings = TranscriberSettings(**config["model"])
            network = self.build(settings, config["shapes"])
            predictor = RecordingTranscriber(
                network,
                LogMel(**state["features"]),
                Normaliser.from_json(state["normaliser"]),
                tokenizer_from_json(state["tokenizer"]),
                Schema.model_validate(state["schema"]),
                audio=state["audio"],
                text=state["text"],
                beam_width=settings.beam_width,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                folder, expected="a model of this version", found=" ".join(str(error).split())[:160], do="Train again"
            ) from error
        load_network(network, folder)
        return predictor


TASK = Transcription()


def _edits(
    tokenizer: FittedTokenizer, batch: TranscriptBatch, found: Sequence[str]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    meant = [
        tokenizer.decode(row[:length])
        for row, length in zip(batch.labels.tolist(), batch.label_lengths.tolist(), strict=True)
    ]
    pairs = list(zip(meant, found, strict=True))
    words = [(edit_distance(left.split(), right.split()), len(left.split())) for left, right in pairs]
    characters = [(edit_distance(left, right), len(left)) for left, right in pairs]
    sums = {"word_error_rate": words, "character_error_rate": characters}
    # On the device of the batch, where the loop adds up what every task computes.
    added = {name: torch.tensor(counts, device=batch.labels.device).sum(dim=0) for name, counts in sums.items()}
    return {name: (edits, size) for name, (edits, size) in added.items()}


def _as_asked(
    columns: Mapping[str, Any], preprocess: TranscriptionPreprocess, sounds: Sounds, test: Sequence[tuple[Spoken, str]]
) -> pd.DataFrame:
    """Make the table of the test part: a recording is the bytes that came, a string a wav; what differs within it is missing."""
    table: dict[str, list[Any]] = {name: [] for name in columns}
    for spoken, said in test:
        first, *others = spoken.utterance.rows
        for name, values in columns.items():
            same = all(_equal(values[first], values[row]) for row in others)
            table[name].append(values[first] if same else None)
        table[preprocess.text][-1] = said
        if others:
            table[preprocess.audio][-1] = encode(sounds.spoken(spoken), preprocess.features.sampling_rate)
    arrays = {name: _like(columns[name], values, name == preprocess.audio) for name, values in table.items()}
    utterances = [spoken.utterance for spoken, _ in test]
    own = {
        KIND: pd.array([spoken.kind for spoken, _ in test], dtype="str"),
        POOL: np.array([float(utterance.pool) for utterance in utterances]),
        COUNT: np.array([float(len(utterance.rows)) for utterance in utterances]),
    }
    return pd.DataFrame(arrays | own)


def _like(column: Any, values: list[Any], is_sound: bool) -> Any:
    """Make a column of values that has the type of a column of the table."""
    if is_sound:
        return np.array([*values, None], dtype=object)[:-1]  # with a None, NumPy looks for no other type
    if isinstance(column, np.ndarray) and column.dtype.kind == "f":
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return pd.array(values, dtype="str" if isinstance(column, np.ndarray) else column.dtype)


def _equal(left: Any, right: Any) -> bool:
    return bool(left == right) or bool(pd.isna(left) and pd.isna(right))


def _names(columns: Mapping[str, Any], keys: Sequence[str], size: int) -> list[str]:
    """Name every row by its keys, else by its number."""
    if not keys:
        return [f"row {row}" for row in range(size)]
    return ["/".join(map(as_key, row)) for row in zip(*(columns[key] for key in keys), strict=True)]


def _sliced_by(schema: Schema, preprocess: TranscriptionPreprocess) -> list[str]:
    named = [name for name, column in schema.columns.items() if column.type in ("text", "integer", "boolean")]
    return [*named, KIND] if preprocess.strings is not None else named


def _refuse_empty(of_part: Mapping[str, np.ndarray]) -> None:
    if empty := [part for part, numbers in of_part.items() if not len(numbers)]:
        raise DataError(
            "preprocess.split", expected="recordings in every part", found=f"none in {examples(empty)}", do="Change it"
        )
