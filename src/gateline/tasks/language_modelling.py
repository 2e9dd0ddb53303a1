"""Language modelling: one long text, the next token at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn

from gateline.batch import StreamBatch
from gateline.data.order import Order, StreamOrder
from gateline.data.prepared_windows import STATE
from gateline.data.splits import PARTS
from gateline.data.store import save_array
from gateline.data.streams import StreamDataset
from gateline.data.text_parts import PlaceSplit
from gateline.data.tokenizers import Encoded, Tokenizer, tokenizer_from_json, vocabulary_report
from gateline.errors import ArtifactError, DataError, WorkloadError, refuse_taken, require_known
from gateline.losses import summed_cross_entropy
from gateline.manifest import Artifact, Draft
from gateline.models.language_model import LanguageModel, LanguageModelSettings
from gateline.predictors import FLAGS
from gateline.predictors.language_modelling import CONTINUATION, METRICS, STREAMS, TEXTS, Writer, passages_in, stream_of
from gateline.table import TABLE, TEXT, as_frame, clean, write_table
from gateline.tasks import Scorer
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import Section

if TYPE_CHECKING:
    from gateline.workload.training import Training

TOKENS = "tokens"

BASELINES = ("unigram", "bigram", "n_gram")
ALL_METRICS = (*METRICS, "perplexity", "accuracy")

Count = Annotated[int, Field(ge=1)]


class LanguageModellingPreprocess(Section):
    """Section `preprocess` of a language modelling workload."""

    text: str
    """Column of the texts. Several rows are read one after the other, each with an end token behind it."""
    tokenizer: Tokenizer
    """character or bpe: words would lose the spaces between them."""
    piece: Annotated[int, Field(ge=2)] = 128
    """Tokens of a training step's streams; gradients end where a piece begins, the state goes on."""
    split: PlaceSplit


class LanguageModellingEvaluation(Section):
    """Section `evaluation` of a language modelling workload."""

    baselines: Annotated[tuple[Literal[BASELINES], ...], Field(min_length=1)] = BASELINES  # type: ignore[valid-type]
    max_order: Annotated[int, Field(ge=2, le=12)] = 7
    """Longest n-gram that `n_gram` tries; the validation part chooses."""
    slices: tuple[Literal["kind"], ...] = ()
    """kind: what kind of character is foretold: letter, capital, space, line end, punctuation, digit."""
    prompt: Annotated[str, Field(min_length=1)] = "The "
    """What the samples in the report begin with."""
    temperatures: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.5, 0.8, 1.0)
    """Of the samples in the report."""
    sample_length: Count = 300
    """Tokens of a sample."""


class LanguageModelling:
    """The task `language_modelling`."""

    name = "language_modelling"
    examples_are = "passages"
    Preprocess = LanguageModellingPreprocess
    Model = LanguageModelSettings
    Evaluation = LanguageModellingEvaluation
    monitors = ("loss", "error_rate")
    gate_metrics = METRICS
    own_columns = ("place", "token", "bits", "likeliest", "baseline_*")
    requirements = ("tokenizers",)

    def columns_beside(self, schema: Schema, preprocess: LanguageModellingPreprocess) -> Sequence[str]:  # noqa: ARG002
        """None: tokens are named by their place in the stream."""
        return ()

    def check(
        self,
        schema: Schema,
        preprocess: LanguageModellingPreprocess,
        evaluation: LanguageModellingEvaluation | None,
        gates: Gates | None,
    ) -> None:
        """Refuse sections that do not fit together.

        Raises:
            WorkloadError: the column is no text, the tokenizer loses characters, or a gate names what is not computed.
        """
        require_known("preprocess.text", preprocess.text, [n for n, c in schema.columns.items() if c.type == "text"])
        refuse_taken("preprocess.text", [preprocess.text], (CONTINUATION, FLAGS))
        if preprocess.tokenizer.kind == "word" or preprocess.tokenizer.max_length is not None:
            raise WorkloadError(
                "preprocess.tokenizer",
                expected="kind character or bpe, and no `max_length`: every character of the text has to be there",
                found=f"kind {preprocess.tokenizer.kind}, max_length {preprocess.tokenizer.max_length}",
                do="Take character, or bpe with a size",
            )
        tokenizer = preprocess.tokenizer
        if tokenizer.kind == "character" and (tokenizer.min_count > 1 or tokenizer.size is not None):
            raise WorkloadError(
                "preprocess.tokenizer",
                expected="every character of the training part: one that stands for all rare ones is easily foretold",
                found=f"min_count {tokenizer.min_count}, size {tokenizer.size}",
                do="Leave both out, or take bpe with a size",
            )
        if evaluation is not None and gates is not None:
            gates.require_measured(evaluation.baselines, ALL_METRICS, METRICS)

    def check_training(self, model: LanguageModelSettings, training: Training) -> None:  # noqa: ARG002
        """Refuse another loss, and batches that are not streams.

        Raises:
            WorkloadError: the loss is not the cross entropy, or batches are made by length or drawn at random.
        """
        if training.loss != "cross_entropy":
            raise WorkloadError(
                "training.loss", expected="`cross_entropy`", found=f"`{training.loss}`", do="Say `loss: cross_entropy`"
            )
        if training.batch_tokens is not None or training.examples_per_epoch != 1:
            raise WorkloadError(
                "training",
                expected="neither `batch_tokens` nor `examples_per_epoch`: a text is read from its beginning to its end",
                found=f"batch_tokens {training.batch_tokens}, examples_per_epoch {training.examples_per_epoch:g}",
                do="Say how many streams are read side by side: `batch_size`",
            )

    def check_network(self, model: LanguageModelSettings, preprocess: LanguageModellingPreprocess) -> None:  # noqa: ARG002
        """Refuse a network that cannot be built, whatever the vocabulary."""
        with torch.device("meta"):  # the network says what it refuses, and no memory is taken
            LanguageModel(num_tokens=8, settings=model)

    def check_evaluation(self, model: LanguageModelSettings, evaluation: LanguageModellingEvaluation) -> None:
        """Every network answers what is measured."""

    def check_data(self, model: LanguageModelSettings, prepared: Artifact) -> None:
        """Accept: every network fits every stream."""

    def check_scoring(self, prepared: Artifact, evaluation: LanguageModellingEvaluation, gates: Gates) -> None:  # noqa: ARG002
        """Refuse an evaluation that cannot be made.

        Raises:
            WorkloadError: a gate names what is not computed.
        """
        gates.require_measured(evaluation.baselines, ALL_METRICS, METRICS)

    def explain(
        self,
        schema: Schema,  # noqa: ARG002  the text is all there is
        preprocess: LanguageModellingPreprocess,
        facts: Mapping[str, Any],
    ) -> Iterator[str]:
        """Say in words what preprocess would do."""
        tokenizer = preprocess.tokenizer
        size = facts.get("vocabulary", {}).get("size") or tokenizer.size
        known = f" ({size:,} tokens)" if size else ""
        unit = "characters" if tokenizer.kind == "character" else "byte pairs"
        yield f"foretell {preprocess.text}, one of its {unit} after the other{known}"
        yield f"read it in pieces of {preprocess.piece} tokens, and carry the state from piece to piece"
        counts = facts.get("examples", {})
        for part in PARTS:
            first, after = (f"{100 * place:g} %" for place in getattr(preprocess.split, part))
            yield f"{part}: from {first} to {after} of the characters" + (
                f" ({counts[part]:,} passages)" if part in counts else ""
            )

    def prepare(
        self, raw: pd.DataFrame, schema: Schema, preprocess: LanguageModellingPreprocess, draft: Draft
    ) -> pd.DataFrame:
        """Write the folder `prepared`.

            prepared/
            ├── tokens/{train,validation,test}.npy      int32 (N,), a stream each
            ├── texts.json                              the same as text: pieces, and whether a text ends there
            ├── state.json                              tokenizer (fitted on the training part), settings, schema
            └── table.parquet                           the table in raw units, cleaned

        Raises:
            DataError: there is no text, or a part is shorter than a piece.
        """
        columns = clean(raw, schema)
        texts = [text for text in columns[preprocess.text] if isinstance(text, str) and text]
        # Where there is one text only, nothing comes after its end.
        parts = {
            part: [(text, ends and len(texts) > 1) for text, ends in preprocess.split.pieces(texts, part)]
            for part in PARTS
        }
        tokenizer = preprocess.tokenizer.fit([text for text, _ in parts["train"]])
        streams = {part: stream_of(tokenizer, pieces) for part, pieces in parts.items()}
        for part, stream in streams.items():
            if len(stream) <= preprocess.piece:
                raise DataError(
                    f"the {part} part",
                    expected=f"more than {preprocess.piece} tokens, a piece of the stream",
                    found=f"{len(stream)}",
                    do="Widen its range in preprocess.split, or lower preprocess.piece",
                )
        (draft.path / TOKENS).mkdir()
        for part, stream in streams.items():
            save_array(draft.path / TOKENS / f"{part}.npy", stream)
        write_table(as_frame(columns), draft.path / TABLE)
        draft.write_json(TEXTS, {part: [list(piece) for piece in pieces] for part, pieces in parts.items()})
        draft.write_json(
            STATE,
            {
                "tokenizer": tokenizer.to_json(),
                "column": preprocess.text,
                "piece": preprocess.piece,
                "schema": schema.model_dump(mode="json", exclude_none=True),
            },
        )
        draft.facts |= {
            "task": self.name,
            # What an epoch is made of, and what is scored.
            "examples": {
                part: len(StreamDataset(stream, piece=preprocess.piece))
                if part == "train"
                else passages_in(tokenizer, stream)
                for part, stream in streams.items()
            },
            "tokens": {part: len(stream) for part, stream in streams.items()},
            "characters": {part: sum(len(text) for text, _ in pieces) for part, pieces in parts.items()},
            "split": preprocess.split.model_dump(mode="json"),
            "vocabulary": vocabulary_report(
                tokenizer, {part: Encoded.of([stream]) for part, stream in streams.items()}
            ),
        }
        return pd.DataFrame({preprocess.text: [text for text, _ in parts["train"]]}, dtype=TEXT)

    def dataset(self, prepared: Artifact, part: str) -> StreamDataset:
        """Open the stream of one part: in whole pieces for training, else as streams side by side."""
        piece = prepared.read_json(STATE)["piece"]
        return StreamDataset(open_stream(prepared, part), piece=piece, streams=None if part == "train" else STREAMS)

    def shapes(self, prepared: Artifact) -> dict[str, Any]:
        """Say what the network must know of the prepared data."""
        return {"num_tokens": len(prepared.read_json(STATE)["tokenizer"]["tokens"])}

    def build(self, model: LanguageModelSettings, shapes: Mapping[str, Any]) -> LanguageModel:
        """Build the network, freshly initialised."""
        return LanguageModel(num_tokens=shapes["num_tokens"], settings=model)

    def start(self, network: nn.Module, dataset: StreamDataset) -> None:
        """Nothing of the network is computed in closed form."""

    def order(self, prepared: Artifact, dataset: StreamDataset, training: Training, seed: int) -> Order:  # noqa: ARG002
        """Read as many streams side by side as a batch has rows; less than a piece of each is left over.

        Raises:
            DataError: the text is too short for so many streams.
        """
        if len(dataset) < training.batch_size:
            raise DataError(
                "the training part",
                expected=f"{training.batch_size} pieces or more, one for each stream of a batch",
                found=str(len(dataset)),
                do="Lower training.batch_size or preprocess.piece",
            )
        return StreamOrder(len(dataset) // training.batch_size, training.batch_size)

    def validation_order(self, prepared: Artifact, dataset: StreamDataset, training: Training) -> Order:  # noqa: ARG002
        """Read the validation part as a few streams side by side."""
        return StreamOrder(len(dataset) // STREAMS, STREAMS)

    def loss(
        self,
        network: nn.Module,
        batch: StreamBatch,
        kind: str,  # noqa: ARG002  the only loss there is
        carried: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Sum the cross entropy of the next token over a batch, in nats, and hand on the state."""
        logits, state = cast(LanguageModel, network)(batch.tokens, carried)
        return *summed_cross_entropy(logits, batch.following, batch.observed), state

    def scorer(self, prepared: Artifact, kind: str) -> Scorer:  # noqa: ARG002
        """Add up the loss, and how often another token than the likeliest came."""

        def score(network: nn.Module, batch: StreamBatch, carried: Any) -> tuple[dict[str, Any], Any]:
            logits, state = cast(LanguageModel, network)(batch.tokens, carried)
            total, count = summed_cross_entropy(logits, batch.following, batch.observed)
            misses = (logits.argmax(dim=2) != batch.following) & batch.observed
            return {"loss": (total, count), "error_rate": (misses.sum(), count)}, state

        return score

    def finish(self, network: nn.Module, prepared: Artifact, draft: Draft) -> None:
        """Nothing is left to say."""

    def load_predictor(self, folder: Path) -> Writer:
        """Load a model folder.

        Raises:
            ArtifactError: weights and configuration do not belong together, or a file is damaged.
        """
        from gateline.model_folder import load_network, read_model_json

        config, state = read_model_json(folder, "config.json"), read_model_json(folder, "preprocessing.json")
        try:
            network = self.build(LanguageModelSettings(**config["model"]), config["shapes"])
            schema, column = Schema.model_validate(state["schema"]), state["column"]
            tokenizer = tokenizer_from_json(state["tokenizer"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                folder, expected="a model of this version", found=" ".join(str(error).split())[:160], do="Train again"
            ) from error
        load_network(network, folder)
        return Writer(network, tokenizer, schema, column)


TASK = LanguageModelling()


def open_stream(prepared: Artifact, part: str) -> np.ndarray:
    """Map the stream of one part: int32 (N,)."""
    return np.load(prepared.path / TOKENS / f"{part}.npy", mmap_mode="r", allow_pickle=False)
