"""What is particular to each model, against formulas; `tests/contracts/test_models.py` has what all have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from gateline.errors import DataError, WorkloadError
from gateline.models import encoder_decoder, frame_predictor
from gateline.models.classifier import Classifier, ClassifierSettings, summary
from gateline.models.encoder_decoder import Translator, TranslatorSettings
from gateline.models.frame_predictor import FramePredictor, FramePredictorSettings
from gateline.models.labeller import Labeller, LabellerSettings
from gateline.models.language_model import LanguageModel, LanguageModelSettings
from gateline.models.sequence_input import SequenceDropout
from gateline.models.stack import Bridge
from gateline.models.tokens import TokenEmbedding
from gateline.models.transcriber import Convolutions, Stacking, Transcriber, TranscriberSettings
from gateline.randomness import locked_dropout, rows_of_batch, step_by_step

LENGTHS = torch.tensor([5, 2, 4])


def normal(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape)).float()


def tokens(rng: np.random.Generator, num: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(num, size=shape))


# ── Classifier ───────────────────────────────────────────────────────────────────────────────────────────────────────


def classifier(pooling: str, **settings: Any) -> Classifier:
    made = ClassifierSettings.model_validate({"hidden_size": 4, "pooling": pooling, **settings})
    return Classifier(num_classes=3, num_features=2, settings=made).eval()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_last_step_is_what_nn_lstm_ends_with(bidirectional: bool, rng: np.random.Generator) -> None:
    model, x = classifier("last", bidirectional=bidirectional), normal(rng, 3, 5, 2)
    pooled = []
    for row, length in enumerate(LENGTHS.tolist()):
        ends = []
        for cell, reverse in zip(model.input.stack.cells()[0], (False, True), strict=False):
            part = x[row : row + 1, :length]
            y, _ = cell(part.flip(1) if reverse else part)
            ends.append(y[0, -1])
        pooled.append(torch.cat(ends))

    torch.testing.assert_close(model(x, LENGTHS), model.head(torch.stack(pooled)))


@pytest.mark.parametrize(("pooling", "reduce"), [("mean", lambda y: y.mean(0)), ("max", lambda y: y.amax(0))])
def test_pooling_looks_at_the_real_steps_only(pooling: str, reduce: Any, rng: np.random.Generator) -> None:
    model, x = classifier(pooling), normal(rng, 3, 5, 2)
    y, _ = model.input(x)
    pooled = torch.stack([reduce(y[row, :length]) for row, length in enumerate(LENGTHS.tolist())])

    torch.testing.assert_close(model(x, LENGTHS), model.head(pooled))
    torch.testing.assert_close(model(x), model.head(torch.stack([reduce(row) for row in y])))


def test_the_weights_of_attention_say_what_was_read(rng: np.random.Generator) -> None:
    model, x = classifier("attention"), normal(rng, 3, 5, 2)
    logits, weights = model.explain(x, LENGTHS)
    assert weights is not None
    y, _ = model.input(x, lengths=LENGTHS)

    torch.testing.assert_close(logits, model.head((weights[:, :, None] * y).sum(1)))
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    for row, length in enumerate(LENGTHS.tolist()):
        assert (weights[row, :length] > 0).all()
        assert (weights[row, length:] == 0).all()
    assert classifier("mean").explain(x, LENGTHS)[1] is None


def test_the_summary_of_inputs_looks_at_the_real_steps_only(rng: np.random.Generator) -> None:
    x, lengths = torch.tensor(rng.normal(size=(4, 6, 3))), torch.tensor([6, 1, 3, 5])

    found = summary(x, lengths)

    for row, length in enumerate(lengths.tolist()):
        real = x[row, :length]
        expected = torch.cat([real[-1], real.mean(dim=0), real.amin(dim=0), real.amax(dim=0)])
        torch.testing.assert_close(found[row], expected)
    torch.testing.assert_close(summary(x, None)[0], found[0])
    with pytest.raises(WorkloadError, match="summary"):
        Classifier(num_classes=2, num_tokens=5, settings=ClassifierSettings(hidden_size=4, summary=True))


def test_embedding_settings_need_tokens() -> None:
    made = ClassifierSettings(hidden_size=4, embedding_dropout=0.1)
    with pytest.raises(WorkloadError, match=r"model\.embedding_dropout"):
        Classifier(num_classes=2, num_features=3, settings=made)


def test_a_cell_for_pictures_is_refused_where_steps_are_vectors() -> None:
    with pytest.raises(WorkloadError, match="steps are vectors; found 'conv_lstm'"):
        Labeller(num_classes=2, num_features=3, settings=LabellerSettings(hidden_size=4, cell="conv_lstm"))
    with pytest.raises(WorkloadError, match="steps are vectors"):
        Transcriber(
            num_features=3, num_labels=2, settings=TranscriberSettings(hidden_size=4, channels=4, cell="conv_lstm")
        )


# ── Dropout ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_embedding_dropout_leaves_out_words_wherever_they_occur(rng: np.random.Generator) -> None:
    torch.manual_seed(int(rng.integers(2**31)))
    embedding = TokenEmbedding(400, 3, dropout=0.25)
    text = torch.arange(400).repeat(5, 1)
    read = embedding(text)

    kept = (read != 0).all(dim=2)
    assert torch.equal(kept, (read != 0).any(dim=2))  # all of a word or nothing
    assert (kept == kept[0]).all()
    assert float(kept[0].float().mean()) == pytest.approx(0.75, abs=0.1)
    torch.testing.assert_close(read[kept], embedding.weight[text][kept] / 0.75)
    assert torch.equal(embedding.eval()(text), embedding.weight[text])


@pytest.mark.parametrize("locked", [False, True])
def test_locked_dropout_is_the_same_at_all_steps(locked: bool, rng: np.random.Generator) -> None:
    torch.manual_seed(int(rng.integers(2**31)))
    dropped = SequenceDropout(0.5, locked)(torch.ones(20, 30, 10)) == 0

    assert bool((dropped == dropped[:, :1]).all()) == locked
    assert not (dropped == dropped[:1]).all()  # rows differ


def always_true(shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """In place of the draw that says when the truth is read."""
    return torch.zeros(tuple(shape), device=device)


def test_dropout_that_is_locked_is_the_same_at_all_steps_of_a_translator_that_takes_them_one_by_one(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it reads the truth at every step all the same, it computes what the one pass over all steps computes."""
    monkeypatch.setattr(encoder_decoder, "rows_rand", always_true)
    dropout = {"dropout": 0.5, "input_dropout": 0.3, "output_dropout": 0.3, "embedding_dropout": 0.3}
    settings = TranslatorSettings(hidden_size=8, num_layers=3, variational_dropout=True, **dropout)
    model = Translator(num_source_tokens=9, num_target_tokens=7, settings=settings).double().train()
    source, before = tokens(rng, 9, 4, 6), tokens(rng, 7, 4, 5)
    written = []
    for teacher_forcing in (1.0, 0.5):
        torch.manual_seed(1)  # of the words that are left out
        with rows_of_batch(0, 4, 4, seed=3):
            written.append(model(source, before, teacher_forcing=teacher_forcing))

    torch.testing.assert_close(written[1], written[0], rtol=0, atol=1e-12)


def test_dropout_that_is_locked_is_the_same_at_all_frames_to_come(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_predictor, "rows_rand", always_true)
    settings = FramePredictorSettings(hidden_size=8, num_layers=3, dropout=0.5, variational_dropout=True)
    model = FramePredictor(num_channels=1, settings=settings).double().train()
    past, future = normal(rng, 4, 3, 1, 4, 4).double(), normal(rng, 4, 5, 1, 4, 4).double()
    painted = []
    for teacher_forcing in (1.0, 0.5):
        with rows_of_batch(0, 4, 4, seed=3):
            painted.append(model(past, 5, future=future, teacher_forcing=teacher_forcing))

    torch.testing.assert_close(painted[1], painted[0], rtol=0, atol=1e-12)


def test_what_is_locked_is_drawn_anew_for_the_next_sequence_and_for_another_layer() -> None:
    x = torch.ones(4, 1, 50)
    drawn = []
    for _ in range(2):
        with step_by_step():
            drawn.append([locked_dropout(x, 0.5, training=True, by=by) for by in ("one", "other", "one")])
    (one, other, again), (later, *_) = drawn

    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, later)


# ── Language model ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_tied_weights_are_one_parameter() -> None:
    tied = LanguageModel(num_tokens=50, settings=LanguageModelSettings(hidden_size=6))
    untied = LanguageModel(num_tokens=50, settings=LanguageModelSettings(hidden_size=6, tie_weights=False))

    assert tied.head.output.weight is tied.input.embedding.weight  # type: ignore[union-attr]
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters()) == 50 * 6


def test_no_gradient_goes_back_through_a_carried_state(rng: np.random.Generator) -> None:
    model = LanguageModel(num_tokens=9, settings=LanguageModelSettings(hidden_size=6))
    text = tokens(rng, 9, 2, 8)
    _, state = model(text[:, :4])
    own = tuple(tuple(part.detach() for part in cell) for cell in state)
    after_all = torch.autograd.grad(model(text[:, 4:], state)[0].sum(), list(model.parameters()))
    after_own = torch.autograd.grad(model(text[:, 4:], own)[0].sum(), list(model.parameters()))

    assert all(part.requires_grad for cell in state for part in cell)
    for carried, cut in zip(after_all, after_own, strict=True):
        torch.testing.assert_close(carried, cut, rtol=0, atol=0)


def test_what_comes_next_does_not_see_what_comes_next(rng: np.random.Generator) -> None:
    model = LanguageModel(num_tokens=9, settings=LanguageModelSettings(hidden_size=6)).eval()
    text = tokens(rng, 9, 2, 8)
    changed = text.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 9

    assert torch.equal(model(text)[0][:, :5], model(changed)[0][:, :5])
    with pytest.raises(ValidationError, match="bidirectional"):
        LanguageModelSettings(hidden_size=6, bidirectional=True)


# ── Encoder-decoder ──────────────────────────────────────────────────────────────────────────────────────────────────


def translator(**settings: Any) -> Translator:
    made = TranslatorSettings(**{"hidden_size": 8, "embedding_size": 5} | settings)
    return Translator(num_source_tokens=9, num_target_tokens=7, settings=made).double().eval()


@pytest.mark.parametrize("input_feeding", [False, True])
def test_without_teacher_forcing_the_decoder_reads_what_it_wrote(input_feeding: bool, rng: np.random.Generator) -> None:
    model, source, before = translator(input_feeding=input_feeding), tokens(rng, 9, 3, 5), tokens(rng, 7, 3, 4)
    logits = model(source, before, LENGTHS, teacher_forcing=0.0)
    own = torch.cat([before[:, :1], logits.argmax(dim=2)[:, :-1]], dim=1)

    torch.testing.assert_close(model(source, own, LENGTHS), logits)


def test_one_draw_of_dropped_weights_serves_all_steps_or_there_is_none(rng: np.random.Generator) -> None:
    source, before = tokens(rng, 9, 3, 5), tokens(rng, 7, 3, 4)
    model = translator(weight_drop=0.5).train()

    assert model(source, before).isfinite().all()  # one pass
    with pytest.raises(WorkloadError, match=r"model\.weight_drop.*each would drop other weights; found 0\.5"):
        model(source, before, teacher_forcing=0.9)
    assert model.eval()(source, before, teacher_forcing=0.0).isfinite().all()  # nothing is dropped
    with pytest.raises(ValidationError, match="no `weight_drop` with `input_feeding`"):
        translator(weight_drop=0.5, input_feeding=True)


def test_a_share_of_teacher_forcing_is_the_share_of_true_tokens_that_are_read(rng: np.random.Generator) -> None:
    """A model is told apart by what it reads: its own token is always 3, the true one never."""
    torch.manual_seed(int(rng.integers(2**31)))
    model = translator()
    read: list[torch.Tensor] = []
    model.head.register_forward_hook(lambda _, __, y: torch.full_like(y, -9.0).index_fill(2, torch.tensor(3), 9.0))
    model.embedding.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    before = torch.where((b := tokens(rng, 7, 400, 6)) == 3, 2, b)
    model(tokens(rng, 9, 400, 5), before, None, teacher_forcing=0.3)
    true = torch.cat(read, dim=1) == before

    assert true[:, 0].all()  # the begin token
    assert float(true[:, 1:].double().mean()) == pytest.approx(0.3, abs=0.05)
    assert float(true[:, 1:].double().mean(dim=1).std()) > 0.1  # drawn for each step, not for each row


@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_the_decoder_looks_at_real_source_steps_only(attention: str, rng: np.random.Generator) -> None:
    model = translator(attention=attention)
    logits, weights = model.explain(tokens(rng, 9, 3, 5), tokens(rng, 7, 3, 4), LENGTHS)

    assert logits.shape == (3, 4, 7)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(3, 4, dtype=torch.float64))
    for row, length in enumerate(LENGTHS.tolist()):
        assert (weights[row, :, length:] == 0).all()


@pytest.mark.parametrize("cell", ["lstm", "gru", "slstm"])
def test_the_bridge_mixes_both_directions_within_what_a_state_can_be(cell: str, rng: np.random.Generator) -> None:
    model = translator(cell=cell, num_layers=2)
    bridge = model.bridge
    assert isinstance(bridge, Bridge)
    torch.nn.init.normal_(bridge.balance)
    _, encoded = model.encoder(tokens(rng, 9, 3, 5), lengths=LENGTHS)
    _, state = model.start(tokens(rng, 9, 3, 5), LENGTHS)
    mixed = bridge(encoded)
    share = 1 / (1 + torch.exp(-bridge.balance))

    assert len(mixed) == len(state.stack) == 2
    for layer in range(2):
        for part, forward, backward in zip(mixed[layer], encoded[2 * layer], encoded[2 * layer + 1], strict=True):
            torch.testing.assert_close(part, share[layer] * forward + (1 - share[layer]) * backward)
    assert torch.isfinite(model(tokens(rng, 9, 3, 5), tokens(rng, 7, 3, 4), LENGTHS)).all()


def test_input_feeding_lets_a_step_know_where_the_one_before_it_looked(rng: np.random.Generator) -> None:
    """With it, the second step changes when only the first step's attention does."""
    changed = {}
    for input_feeding in (False, True):
        model = translator(input_feeding=input_feeding)
        source, before = tokens(rng, 9, 1, 5), tokens(rng, 7, 1, 2)
        memory, state = model.start(source)
        first, state = model.step(before[:, 0], memory, state)
        if state.attended is not None:
            torch.testing.assert_close(
                model.head(state.attended)[:, 0], first
            )  # it is what the first token was made of
        plain, _ = model.step(before[:, 1], memory, state)
        attended = None if state.attended is None else state.attended + 1
        other, _ = model.step(before[:, 1], memory, state._replace(attended=attended))
        changed[input_feeding] = not torch.equal(plain, other)

    assert changed == {False: False, True: True}


# ── Transcriber ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("reduction", "factor"), [("convolution", 1), ("convolution", 4), ("stacking", 3)])
def test_an_output_has_the_length_of_its_input_over_the_factor_rounded_up(
    reduction: str, factor: int, rng: np.random.Generator
) -> None:
    settings = {"hidden_size": 4, "channels": 4, "reduction": reduction, "time_reduction": factor}
    made = TranscriberSettings.model_validate(settings)
    model = Transcriber(num_features=2, num_labels=3, settings=made).eval()
    lengths = torch.arange(1, 14)
    log_probs, out = model(normal(rng, 13, 13, 2), lengths)

    assert out.tolist() == [math.ceil(length / factor) for length in range(1, 14)]
    assert log_probs.shape == (13, math.ceil(13 / factor), 3)
    torch.testing.assert_close(log_probs.exp().sum(dim=2), torch.ones(log_probs.shape[:2]))


def test_stacking_lays_frames_side_by_side() -> None:
    frames = torch.arange(1.0, 11).reshape(1, 5, 2)
    stacked, lengths = Stacking(2, 2)(frames, torch.tensor([5]))

    assert stacked.tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0]]]
    assert lengths.tolist() == [3]


def test_a_convolution_reads_three_steps_around_every_other(rng: np.random.Generator) -> None:
    layers = Convolutions(2, 3, 2)
    x = normal(rng, 1, 6, 2)
    weight, bias = layers.layers[0].get_parameter("weight"), layers.layers[0].get_parameter("bias")  # (3, 2, 3), (3,)
    around = torch.cat([torch.zeros(1, 2), x[0], torch.zeros(1, 2)])
    wanted = [torch.einsum("tf,oft->o", around[2 * step : 2 * step + 3], weight) + bias for step in range(3)]

    torch.testing.assert_close(layers(x, torch.tensor([6]))[0][0], torch.relu(torch.stack(wanted)))
    with pytest.raises(ValidationError, match="1, 2, 4, 8"):
        TranscriberSettings(hidden_size=4, time_reduction=3)


# ── Frame predictor ──────────────────────────────────────────────────────────────────────────────────────────────────


def predictor(**settings: Any) -> FramePredictor:
    made = FramePredictorSettings(**{"hidden_size": 4} | settings)
    return FramePredictor(num_channels=2, settings=made).double().eval()


def film(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.random(shape))


@pytest.mark.parametrize("patch", [1, 2])
def test_frames_keep_their_shape_and_stay_within_0_and_1(patch: int, rng: np.random.Generator) -> None:
    model, past = predictor(patch=patch), film(rng, 3, 4, 2, 6, 4)
    frames = model.predict(past, 5, torch.tensor([4, 1, 2]))

    assert frames.shape == (3, 5, 2, 6, 4)
    assert ((frames > 0) & (frames < 1)).all()
    assert torch.equal(model.whole(model.patched(past)), past)


def test_each_frame_is_read_for_the_next(rng: np.random.Generator) -> None:
    """Reading the true frames in one pass, or one's own step by step, is the same once they are the same frames."""
    model, past = predictor(patch=2), film(rng, 3, 4, 2, 6, 4)
    frames = model.predict(past, 4)
    at_once = torch.sigmoid(model(past, 4, future=frames, teacher_forcing=1.0))

    torch.testing.assert_close(at_once, frames, rtol=0, atol=1e-12)


def test_the_true_frames_are_read_in_the_share_of_teacher_forcing(rng: np.random.Generator) -> None:
    torch.manual_seed(int(rng.integers(2**31)))
    model, past, future = predictor(), film(rng, 300, 2, 2, 2, 2), film(rng, 300, 6, 2, 2, 2)
    read: list[torch.Tensor] = []
    model.forecaster.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    model(past, 6, future=future, teacher_forcing=0.3)
    true = (torch.cat(read, dim=1)[:, 1:] == future[:, :5]).flatten(2).all(dim=2)

    assert torch.equal(read[0][:, 0], past[:, -1])
    assert float(true.double().mean()) == pytest.approx(0.3, abs=0.06)


def test_a_frame_predictor_says_what_does_not_fit(rng: np.random.Generator) -> None:
    with pytest.raises(WorkloadError, match="steps are pictures; found 'lstm'"):
        predictor(cell="lstm")
    with pytest.raises(DataError, match="multiples of 4; found 6 x 8"):
        predictor(patch=4)(film(rng, 1, 2, 2, 6, 8), 3)
    with pytest.raises(ValidationError, match="bidirectional"):
        predictor(bidirectional=True)


def test_frames_read_one_by_one_are_not_trained_with_weights_dropped_for_each(rng: np.random.Generator) -> None:
    model, past, future = predictor(weight_drop=0.5).train(), film(rng, 3, 2, 2, 4, 4), film(rng, 3, 2, 2, 4, 4)

    assert model(past, 2, future=future, teacher_forcing=1.0).isfinite().all()
    for share in (0.0, 0.5):
        with pytest.raises(WorkloadError, match="each would drop other weights"):
            model(past, 2, future=future, teacher_forcing=share)
    assert model.eval().predict(past, 2).isfinite().all()
