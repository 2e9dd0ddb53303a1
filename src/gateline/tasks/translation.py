"""Translation: sentences of one language, and what they are in another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import pandas as pd
import torch
from pydantic import Field
from torch import nn

from gateline.batch import SCORING_BATCH, TranslationBatch
from gateline.data.example_kinds import complete
from gateline.data.examples import (
    ExampleSplit,
    check_split,
    groups_of,
    open_examples,
    save_examples,
    split_examples,
    split_in_words,
)
from gateline.data.order import Order, SequentialOrder, shuffled
from gateline.data.pairs import PairDataset
from gateline.data.prepared_windows import STATE
from gateline.data.store import SequenceStore
from gateline.data.tokenizers import Encoded, Tokenizer, tokenizer_from_json, vocabulary_report
from gateline.errors import ArtifactError, WorkloadError, refuse_taken, require_known
from gateline.losses import summed_cross_entropy
from gateline.manifest import Artifact, Draft
from gateline.models.encoder_decoder import Translator, TranslatorSettings
from gateline.models.sequence_input import real_steps
from gateline.predictors import FLAGS
from gateline.predictors.translation import SentenceTranslator
from gateline.table import TABLE, as_frame, clean, write_table
from gateline.tasks import Scorer
from gateline.text_metrics import GATE_METRIC, METRICS
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import Section

if TYPE_CHECKING:
    from gateline.workload.training import Training

SOURCE, TARGET = "source", "target"
TOKENS = "tokens"
LOSS = "cross_entropy"
BASELINES = ("copy_source", "translation_memory", "dictionary")


class TranslationPreprocess(Section):
    """Section `preprocess` of a translation workload."""

    source: str
    """Column of the sentences that are read."""
    target: str
    """Column of their translations."""
    tokenizer: Tokenizer
    """Of both languages, each with a vocabulary of its own."""
    shared: bool = False
    """One vocabulary for both, where they have many words and names in common."""
    split: ExampleSplit


class TranslationEvaluation(Section):
    """Section `evaluation` of a translation workload."""

    baselines: Annotated[tuple[Literal[BASELINES], ...], Field(min_length=1)] = BASELINES  # type: ignore[valid-type]
    slices: tuple[Literal["length"], ...] = ()
    """length: how many words the source has."""


class Translation:
    """The task `translation`."""

    name = "translation"
    examples_are = "sentences"
    Preprocess = TranslationPreprocess
    Model = TranslatorSettings
    Evaluation = TranslationEvaluation
    monitors = ("loss", "error_rate")
    gate_metrics = (GATE_METRIC,)
    own_columns = ("score", "edits", "words", "reference_*", "baseline_*")
    requirements = ("tokenizers",)

    def columns_beside(self, schema: Schema, preprocess: TranslationPreprocess) -> Sequence[str]:  # noqa: ARG002
        """Both texts."""
        return preprocess.source, preprocess.target

    def check(
        self,
        schema: Schema,
        preprocess: TranslationPreprocess,
        evaluation: TranslationEvaluation | None,
        gates: Gates | None,
    ) -> None:
        """Refuse sections that do not fit together.

        Raises:
            WorkloadError: a column is no text, or both sides are the same, or a gate names what is not computed.
        """
        texts = [name for name, column in schema.columns.items() if column.type == "text"]
        require_known("preprocess.source", preprocess.source, texts)
        require_known("preprocess.target", preprocess.target, texts)
        if preprocess.source == preprocess.target:
            raise WorkloadError(
                "preprocess.target",
                expected="another column than `source`",
                found=repr(preprocess.target),
                do="Name the column of the translations",
            )
        refuse_taken("preprocess", self.columns_beside(schema, preprocess), (*self.own_columns, FLAGS))
        check_split(preprocess.split, schema)
        if evaluation is not None and gates is not None:
            gates.require_measured(evaluation.baselines, METRICS, (GATE_METRIC,))

    def check_training(self, model: TranslatorSettings, training: Training) -> None:  # noqa: ARG002
        """Refuse a loss that does not train tokens.

        Raises:
            WorkloadError: another loss than the cross entropy.
        """
        if training.loss != LOSS:
            raise WorkloadError(
                "training.loss", expected=f"`{LOSS}`", found=f"`{training.loss}`", do=f"Say `loss: {LOSS}`"
            )

    def check_network(self, model: TranslatorSettings, preprocess: TranslationPreprocess) -> None:  # noqa: ARG002
        """Refuse a network that cannot be built, whatever the vocabularies.

        Raises:
            WorkloadError: its settings do not fit together.
        """
        with torch.device("meta"):
            Translator(num_source_tokens=8, num_target_tokens=8, settings=model)

    def check_evaluation(self, model: TranslatorSettings, evaluation: TranslationEvaluation) -> None:
        """Every network answers what is measured."""

    def check_data(self, model: TranslatorSettings, prepared: Artifact) -> None:
        """Accept any data."""

    def check_scoring(self, prepared: Artifact, evaluation: TranslationEvaluation, gates: Gates) -> None:  # noqa: ARG002
        """Refuse an evaluation that cannot be made.

        Raises:
            WorkloadError: a gate names what is not computed.
        """
        gates.require_measured(evaluation.baselines, METRICS, (GATE_METRIC,))

    def explain(
        self,
        schema: Schema,  # noqa: ARG002  two columns are all there is
        preprocess: TranslationPreprocess,
        facts: Mapping[str, Any],
    ) -> Iterator[str]:
        """Say in words what preprocess would do."""
        yield f"translate {preprocess.source} into {preprocess.target}"
        tokenizer = preprocess.tokenizer
        unit = {"word": "words", "character": "characters", "bpe": "byte pairs"}[tokenizer.kind]
        sizes = [f"{report['size']:,} in {side}" for side, report in facts.get("vocabulary", {}).items()]
        most = f", at most {tokenizer.size:,}" if tokenizer.size and not sizes else ""
        yield f"read and write {unit}{most}{': ' + ', '.join(sizes) if sizes else ''}" + (
            ", one vocabulary for both" if preprocess.shared else ""
        )
        yield split_in_words(preprocess.split, facts.get("examples", {}), self.examples_are)

    def prepare(
        self, raw: pd.DataFrame, schema: Schema, preprocess: TranslationPreprocess, draft: Draft
    ) -> pd.DataFrame:
        """Write the folder `prepared`.

            prepared/
            ├── source/arrays/{tokens,offsets}.npy      all source sentences laid end to end, END behind each
            ├── target/arrays/{tokens,offsets}.npy      their translations, each between BEGIN and END
            ├── examples/{train,validation,test}.npy    numbers of each part's pairs
            ├── state.json                              tokenizers (fitted on the training part), columns, schema
            └── table.parquet                           the table in raw units, cleaned

        Raises:
            DataError: a sentence is missing, or a part is empty.
        """
        columns = clean(raw, schema)
        texts = {SOURCE: complete(columns, preprocess.source), TARGET: complete(columns, preprocess.target)}
        parts = split_examples(columns, preprocess.split, schema.keys)
        training = {side: [texts[side][row] for row in parts["train"]] for side in texts}
        if preprocess.shared:
            tokenizers = dict.fromkeys(texts, preprocess.tokenizer.fit(training[SOURCE] + training[TARGET]))
        else:
            tokenizers = {side: preprocess.tokenizer.fit(training[side]) for side in texts}
        report = {}
        for side, tokenizer in tokenizers.items():
            whole = tokenizer.encode(texts[side])
            by_part = {
                part: Encoded.of(whole.row(row) for row in rows).cut(preprocess.tokenizer.max_length)
                for part, rows in parts.items()
            }
            report[getattr(preprocess, side)] = vocabulary_report(tokenizer, by_part)
            framed = whole.cut(preprocess.tokenizer.max_length).framed(begin=side == TARGET, end=True)
            (draft.path / side).mkdir()
            SequenceStore({TOKENS: framed.tokens}, framed.offsets).save(draft.path / side)
        save_examples(parts, draft, groups_of(columns, preprocess.split, schema.keys))
        write_table(as_frame(columns), draft.path / TABLE)
        draft.write_json(
            STATE,
            {
                "tokenizers": {side: tokenizer.to_json() for side, tokenizer in tokenizers.items()},
                "columns": [preprocess.source, preprocess.target],
                "max_length": preprocess.tokenizer.max_length,
                "schema": schema.model_dump(mode="json", exclude_none=True),
            },
        )
        draft.facts |= {
            "task": self.name,
            "split": preprocess.split.model_dump(mode="json"),
            "vocabulary": report,
        }
        return as_frame(columns).iloc[parts["train"]]

    def dataset(self, prepared: Artifact, part: str) -> PairDataset:
        """Open the pairs of one part."""
        return PairDataset(_open_side(prepared, SOURCE), _open_side(prepared, TARGET), open_examples(prepared, part))

    def shapes(self, prepared: Artifact) -> dict[str, Any]:
        """Say what the network must know of the prepared data."""
        tokenizers = prepared.read_json(STATE)["tokenizers"]
        return {f"num_{side}_tokens": len(tokenizers[side]["tokens"]) for side in (SOURCE, TARGET)}

    def build(self, model: TranslatorSettings, shapes: Mapping[str, Any]) -> Translator:
        """Build the network, freshly initialised."""
        return Translator(**shapes, settings=model)

    def start(self, network: nn.Module, dataset: PairDataset) -> None:
        """Set nothing: every weight is learnt."""

    def order(self, prepared: Artifact, dataset: PairDataset, training: Training, seed: int) -> Order:  # noqa: ARG002
        """Draw pairs in a fresh random order every epoch, or pairs of similar length with a budget of tokens."""
        return shuffled(dataset.lengths, training, seed)

    def validation_order(self, prepared: Artifact, dataset: PairDataset, training: Training) -> Order:  # noqa: ARG002
        """Take the validation pairs as they stand."""
        return SequentialOrder(len(dataset), SCORING_BATCH // 4)

    def loss(
        self,
        network: nn.Module,
        batch: TranslationBatch,
        kind: str,  # noqa: ARG002  there is one
        carried: None,  # noqa: ARG002  sentences hand nothing on
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Sum the cross entropy of the target tokens of a batch, in nats, and count them."""
        translator = cast(Translator, network)
        settings = translator.settings
        logits = translator(batch.source, batch.before, batch.source_lengths, settings.teacher_forcing)
        real = real_steps(batch.target_lengths, batch.target)
        return *summed_cross_entropy(logits, batch.target, real, label_smoothing=settings.label_smoothing), None

    def scorer(self, prepared: Artifact, kind: str) -> Scorer:  # noqa: ARG002  there is one loss
        """Add up the cross entropy, without smoothing, and how often another token than the likeliest came."""

        def score(
            network: nn.Module,
            batch: TranslationBatch,
            carried: None,  # noqa: ARG001
        ) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], None]:
            logits = cast(Translator, network)(batch.source, batch.before, batch.source_lengths)
            real = real_steps(batch.target_lengths, batch.target)
            assert real is not None  # noqa: S101  there are lengths
            total, count = summed_cross_entropy(logits, batch.target, real)
            misses = (logits.argmax(dim=2) != batch.target) & real
            return {"loss": (total, count), "error_rate": (misses.sum(), count)}, None

        return score

    def finish(self, network: nn.Module, prepared: Artifact, draft: Draft) -> None:
        """Add nothing."""

    def load_predictor(self, folder: Path) -> SentenceTranslator:
        """Load a model folder.

        Raises:
            ArtifactError: weights and configuration do not belong together, or a file is damaged.
        """
        from gateline.model_folder import load_network, read_model_json

        config, state = read_model_json(folder, "config.json"), read_model_json(folder, "preprocessing.json")
        try:
            network = self.build(TranslatorSettings(**config["model"]), config["shapes"])
            source, target = (tokenizer_from_json(state["tokenizers"][side]) for side in (SOURCE, TARGET))
            schema, (read, written) = Schema.model_validate(state["schema"]), state["columns"]
            max_length = state["max_length"]
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                folder, expected="a model of this version", found=" ".join(str(error).split())[:160], do="Train again"
            ) from error
        load_network(network, folder)
        return SentenceTranslator(network, source, target, schema, (read, written), max_length)


TASK = Translation()


def _open_side(prepared: Artifact, side: str) -> Encoded:
    store = SequenceStore.load(prepared.path / side)
    return Encoded(store.arrays[TOKENS], store.offsets)
