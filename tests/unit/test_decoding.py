"""Search and sampling, against looking at every sequence there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from gateline.models.ctc_decoding import ctc_beam_search, ctc_greedy
from gateline.models.decoding import (
    BeamSettings,
    Hypotheses,
    SamplingSettings,
    Step,
    beam_search,
    greedy,
    length_penalty,
    sample,
)

END, V = 1, 3


def remembering_model(rng: np.random.Generator, sharpness: float = 1.5) -> Step:
    """A model whose next token depends on all tokens before it and on its row, through a table drawn at random.

    The state is the number that the tokens so far spell, nested as a stack's state is.
    """
    table = torch.from_numpy(rng.standard_normal((4096, V)) * sharpness)

    def step(tokens: torch.Tensor, memory: Any, state: Any) -> tuple[torch.Tensor, Any]:
        (row,), (spelled, (extra, nothing)) = memory, state
        spelled = (spelled * V + tokens + 1) % 1021
        return table[(spelled * 7 + row * 131 + extra) % 4096], (spelled, (extra, nothing))

    return step


def start(batch: int) -> tuple[Any, Any, torch.Tensor]:
    rows = torch.arange(batch)
    return (rows,), (torch.zeros(batch, dtype=torch.long), (rows * 3, None)), torch.zeros(batch, dtype=torch.long)


def log_prob(step: Step, row: int, batch: int, sequence: tuple[int, ...]) -> float:
    """Log p of one row's sequence, token by token."""
    memory, state, token = start(batch)
    total = 0.0
    for following in sequence:
        logits, state = step(token, memory, state)
        total += float(torch.log_softmax(logits, dim=1)[row, following])
        token = torch.full((batch,), following)
    return total


def all_sequences(longest: int) -> Iterator[tuple[int, ...]]:
    """Everything that ends within `longest` tokens, and everything that is cut there."""
    for length in range(1, longest + 1):
        for body in itertools.product([t for t in range(V) if t != END], repeat=length - 1):
            yield (*body, END)
    yield from itertools.product([t for t in range(V) if t != END], repeat=longest)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_a_wide_beam_finds_what_looking_at_every_sequence_finds(alpha: float, rng: np.random.Generator) -> None:
    step, longest = remembering_model(rng), 4
    settings = BeamSettings(width=V**longest, length_penalty=alpha, max_length=longest)
    found = beam_search(step, *start(3), end=END, settings=settings, num_best=5)

    for row in range(3):
        scores = {
            sequence: log_prob(step, row, 3, sequence) / ((5 + len(sequence)) / 6) ** alpha
            for sequence in all_sequences(longest)
        }
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:5]
        assert [tuple(found.tokens[row, n, : found.lengths[row, n]].tolist()) for n in range(5)] == [
            tuple(t for t in sequence if t != END) for sequence in best
        ]
        assert found.scores[row].tolist() == pytest.approx([scores[sequence] for sequence in best])


@pytest.mark.parametrize("width", [2, 3, 5])
def test_the_score_of_a_narrow_beam_is_that_of_its_sequence(width: int, rng: np.random.Generator) -> None:
    """Whatever was pruned, parents and states were kept together."""
    step = remembering_model(rng)
    settings = BeamSettings(width=width, length_penalty=0.6, max_length=8)
    found = beam_search(step, *start(4), end=END, settings=settings, num_best=2)

    for row in range(4):
        for n in range(2):
            body = tuple(found.tokens[row, n, : found.lengths[row, n]].tolist())
            sequence = body if len(body) == 8 else (*body, END)
            wanted = log_prob(step, row, 4, sequence) / length_penalty(len(sequence), 0.6)
            assert float(found.scores[row, n]) == pytest.approx(wanted)
        assert found.scores[row, 0] >= found.scores[row, 1]


def plain_beam_search(
    step: Step, row: int, batch: int, width: int, alpha: float, longest: int
) -> list[tuple[float, list[int]]]:
    """The same search of one row with lists, going on to the greatest length whatever was found."""
    going: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    kept: list[tuple[float, list[int]]] = []
    for length in range(1, longest + 1):
        longer = sorted(
            ((log_prob(step, row, batch, (*tokens, new)), (*tokens, new)) for _, tokens in going for new in range(V)),
            reverse=True,
        )
        for total, tokens in longer[:width]:
            if tokens[-1] == END or length == longest:
                kept.append((total / ((5 + length) / 6) ** alpha, [t for t in tokens if t != END]))
        going = [(total, tokens) for total, tokens in longer if tokens[-1] != END][:width]
    return sorted(kept, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_narrow_beam_equals_the_same_search_written_with_lists(
    width: int, alpha: float, rng: np.random.Generator
) -> None:
    for sharpness in (0.3, 1.0, 3.0):
        step = remembering_model(rng, sharpness)
        settings = BeamSettings(width=width, length_penalty=alpha, max_length=6)
        for num_best in (1, 5):
            found = beam_search(step, *start(4), end=END, settings=settings, num_best=num_best)
            for row in range(4):
                wanted = plain_beam_search(step, row, 4, width, alpha, 6)[:num_best]
                real = range(len(wanted))
                assert [found.tokens[row, n, : found.lengths[row, n]].tolist() for n in real] == [t for _, t in wanted]
                assert found.scores[row, : len(wanted)].tolist() == pytest.approx([score for score, _ in wanted])
                assert (found.scores[row, len(wanted) :] == -math.inf).all()


def test_a_wider_beam_beats_greedy_where_the_best_first_token_leads_nowhere() -> None:
    """Token 0 has 0.6, and then all are alike; token 2 has 0.4, and then the end is certain."""
    after = {-1: [0.6, 1e-9, 0.4], 0: [0.4, 0.3, 0.3], 2: [1e-9, 1 - 2e-9, 1e-9]}

    def step(tokens: torch.Tensor, memory: Any, state: Any) -> tuple[torch.Tensor, Any]:
        return torch.tensor([after.get(int(token), after[0]) for token in tokens]).log(), state

    begin = torch.tensor([-1])
    settings = BeamSettings(width=2, length_penalty=0, max_length=3)

    assert beam_search(step, (), None, begin, end=END, settings=settings).best() == [[2]]
    assert greedy(step, (), None, begin, end=END, max_length=3).best() == [[0, 0, 0]]


def test_a_search_goes_on_while_a_longer_sequence_could_still_be_judged_better() -> None:
    """Ending at once has 0.5; token 0 has 0.45 and then goes on for certain, which the length penalty makes the better."""
    after = {-1: [0.45, 0.5, 0.05], 0: [1 - 2e-9, 1e-9, 1e-9], 2: [1e-9, 1 - 2e-9, 1e-9]}

    def step(tokens: torch.Tensor, memory: Any, state: Any) -> tuple[torch.Tensor, Any]:
        return torch.tensor([after.get(int(token), after[0]) for token in tokens]).log(), state

    for alpha, wanted in ((0.0, []), (2.0, [0] * 6)):
        settings = BeamSettings(width=2, length_penalty=alpha, max_length=6)
        assert beam_search(step, (), None, torch.tensor([-1]), end=END, settings=settings).best() == [wanted]


def test_a_row_decodes_alike_alone_and_in_a_batch(rng: np.random.Generator) -> None:
    step, (memory, state, begin) = remembering_model(rng), start(5)
    settings = BeamSettings(width=3, max_length=7)
    together = beam_search(step, memory, state, begin, end=END, settings=settings)
    for row in range(5):
        one = slice(row, row + 1)
        alone = beam_search(
            step,
            (memory[0][one],),
            (state[0][one], (state[1][0][one], None)),
            begin[one],
            end=END,
            settings=settings,
        )
        assert alone.best() == [together.best()[row]]
        torch.testing.assert_close(alone.scores[0], together.scores[row])


def test_greedy_writes_the_most_probable_token_until_the_end(rng: np.random.Generator) -> None:
    step = remembering_model(rng)
    written = greedy(step, *start(3), end=END, max_length=6)
    for row in range(3):
        sequence: tuple[int, ...] = ()
        while len(sequence) < 6 and END not in sequence:
            sequence += (max(range(V), key=lambda token: log_prob(step, row, 3, (*sequence, token))),)

        assert tuple(written.best()[row]) == tuple(t for t in sequence if t != END)
        assert float(written.scores[row, 0]) == pytest.approx(log_prob(step, row, 3, sequence))
        judged = float(written.penalised(0.6, 6).scores[row, 0])
        assert judged == pytest.approx(log_prob(step, row, 3, sequence) / ((5 + len(sequence)) / 6) ** 0.6)


def fixed(probabilities: list[float]) -> Step:
    def step(tokens: torch.Tensor, memory: Any, state: Any) -> tuple[torch.Tensor, Any]:
        return torch.tensor(probabilities).log().expand(len(tokens), -1), state

    return step


def drawn(settings: SamplingSettings, seed: int, probabilities: list[float], rows: int = 20000) -> np.ndarray:
    begin = torch.zeros(rows, dtype=torch.long)
    result = sample(fixed(probabilities), (), None, begin, end=None, settings=settings, seed=seed)
    return np.bincount(result.tokens.flatten().numpy(), minlength=4) / rows


def test_sampling_draws_by_the_models_probabilities() -> None:
    shares = drawn(SamplingSettings(max_length=1), 7, [0.5, 0.3, 0.15, 0.05])

    np.testing.assert_allclose(shares, [0.5, 0.3, 0.15, 0.05], atol=0.015)


def test_temperature_and_top_k_follow_their_formulas() -> None:
    p = np.array([0.5, 0.3, 0.15, 0.05])
    sharp = drawn(SamplingSettings(max_length=1, temperature=0.5), 8, p.tolist())
    few = drawn(SamplingSettings(max_length=1, top_k=2), 9, p.tolist())

    np.testing.assert_allclose(sharp, p**2 / (p**2).sum(), atol=0.015)
    np.testing.assert_allclose(few, [0.625, 0.375, 0, 0], atol=0.015)
    assert few[2:].tolist() == [0, 0]


def test_the_same_seed_draws_the_same(rng: np.random.Generator) -> None:
    step, settings = remembering_model(rng, 0.1), SamplingSettings(max_length=30)

    def draw(seed: int) -> Hypotheses:
        return sample(step, *start(4), end=None, settings=settings, seed=seed)

    torch.manual_seed(1)
    first = draw(3)
    torch.manual_seed(2)
    assert torch.equal(first.tokens, draw(3).tokens)
    assert not torch.equal(first.tokens, draw(4).tokens)
    assert first.lengths.flatten().tolist() == [30] * 4


def test_sampling_ends_at_the_end_token_or_where_it_is_told_to(rng: np.random.Generator) -> None:
    step, settings = remembering_model(rng, 0.1), SamplingSettings(max_length=50)
    ended = sample(step, *start(6), end=END, settings=settings, seed=0)
    told = sample(step, *start(6), end=None, settings=settings, seed=0, stop=lambda written: written[:, -1] == 2)

    assert all(END not in tokens for tokens in ended.best())
    for row, tokens in enumerate(ended.best()):
        sequence = tuple(tokens) if len(tokens) == 50 else (*tokens, END)
        assert float(ended.scores[row, 0]) == pytest.approx(log_prob(step, row, 6, sequence))
    assert all(tokens.index(2) == len(tokens) - 1 for tokens in told.best() if len(tokens) < 50)


def labelling(path: tuple[int, ...]) -> tuple[int, ...]:
    """Join repeats, leave out blanks."""
    return tuple(label for label, _ in itertools.groupby(path) if label)


def labellings(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Log p of every labelling of one row (T, V), summed over all of its alignments."""
    probabilities: dict[tuple[int, ...], float] = {}
    steps = log_probs.numpy()
    for path in itertools.product(range(steps.shape[1]), repeat=len(steps)):
        p = math.exp(sum(steps[t, label] for t, label in enumerate(path)))
        probabilities[labelling(path)] = probabilities.get(labelling(path), 0.0) + p
    return {labels: math.log(p) for labels, p in probabilities.items()}


def ctc_output(rng: np.random.Generator, batch: int, steps: int, labels: int, sharpness: float = 1.0) -> torch.Tensor:
    return torch.log_softmax(torch.from_numpy(rng.standard_normal((batch, steps, labels)) * sharpness), dim=2)


def test_a_wide_ctc_beam_finds_what_looking_at_every_alignment_finds(rng: np.random.Generator) -> None:
    log_probs, lengths = ctc_output(rng, 4, 6, 3), torch.tensor([6, 1, 4, 5])
    found = ctc_beam_search(log_probs, lengths, width=90, num_best=3)

    for row in range(4):
        exact = labellings(log_probs[row, : lengths[row]])
        best = sorted(exact, key=exact.__getitem__, reverse=True)[:3]
        assert [tuple(found.tokens[row, n, : found.lengths[row, n]].tolist()) for n in range(3)] == best
        assert found.scores[row].tolist() == pytest.approx([exact[labels] for labels in best])


def plain_prefix_search(log_probs: np.ndarray, width: int) -> dict[tuple[int, ...], float]:
    """The textbook's prefix beam search with dictionaries, one row (T, V) of probabilities."""
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    for frame in np.exp(log_probs):
        following: dict[tuple[int, ...], list[float]] = {}
        for prefix, (blank, label) in beam.items():
            stay = following.setdefault(prefix, [0.0, 0.0])
            stay[0] += (blank + label) * frame[0]
            if prefix:
                stay[1] += label * frame[prefix[-1]]
            for new in range(1, len(frame)):
                before = blank if prefix and prefix[-1] == new else blank + label
                following.setdefault((*prefix, new), [0.0, 0.0])[1] += before * frame[new]
        kept = sorted(following, key=lambda prefix: -sum(following[prefix]))[:width]
        beam = {prefix: (following[prefix][0], following[prefix][1]) for prefix in kept}
    return {prefix: math.log(sum(both)) for prefix, both in beam.items()}


@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_a_narrow_ctc_beam_equals_the_textbooks(width: int, rng: np.random.Generator) -> None:
    log_probs, lengths = ctc_output(rng, 5, 20, 4), torch.tensor([20, 13, 7, 1, 16])
    found = ctc_beam_search(log_probs, lengths, width=width, num_best=width)

    for row in range(5):
        wanted = plain_prefix_search(log_probs[row, : lengths[row]].numpy(), width)
        real = [n for n in range(width) if found.scores[row, n] > -math.inf]
        assert [tuple(found.tokens[row, n, : found.lengths[row, n]].tolist()) for n in real] == list(wanted)
        assert found.scores[row, real].tolist() == pytest.approx(list(wanted.values()))


def test_ctc_greedy_takes_the_best_label_of_each_step(rng: np.random.Generator) -> None:
    log_probs, lengths = ctc_output(rng, 6, 12, 3), torch.tensor([12, 1, 7, 9, 2, 12])
    found = ctc_greedy(log_probs, lengths)
    for row, length in enumerate(lengths.tolist()):
        path = tuple(log_probs[row, :length].argmax(dim=1).tolist())
        assert tuple(found.best()[row]) == labelling(path)
        assert float(found.scores[row, 0]) == pytest.approx(float(log_probs[row, :length].amax(dim=1).sum()))


def test_the_beam_finds_a_labelling_that_greedy_misses() -> None:
    """Graves (2012), figure 7.6: the blank is the best of both steps, and yet some label is more probable than none."""
    log_probs = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()

    assert ctc_greedy(log_probs, torch.tensor([2])).best() == [[]]
    found = ctc_beam_search(log_probs, torch.tensor([2]), width=3)
    assert found.best() == [[1]]
    assert float(found.scores.exp()) == pytest.approx(0.64)
