"""What every model keeps to. A model joins by a file of its name in `model_examples`; without one this suite fails."""

from __future__ import annotations

import importlib
import inspect
import io
import math
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gateline.models
from gateline.batch import PaddedBatch
from gateline.models.decoding import BeamSettings, beam_search, greedy
from gateline.models.language_model import LanguageModel, LanguageModelSettings
from gateline.randomness import rows_of_batch
from tests.model_example import Batch, Example

FOLDER = Path(__file__).parent / "model_examples"

EXAMPLES: dict[str, Example] = {
    f"{file.stem}: {name}": example
    for file in sorted(FOLDER.glob("*.py"))
    for name, example in importlib.import_module(f"tests.contracts.model_examples.{file.stem}").EXAMPLES.items()
}

every_model = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
every_padded_model = pytest.mark.parametrize(
    "example", [e for e in EXAMPLES.values() if e.timed], ids=[n for n, e in EXAMPLES.items() if e.timed]
)
every_writer = pytest.mark.parametrize(
    "example", [e for e in EXAMPLES.values() if e.start], ids=[n for n, e in EXAMPLES.items() if e.start]
)


@pytest.fixture
def generator(rng: np.random.Generator) -> torch.Generator:
    seed = int(rng.integers(2**31))
    torch.manual_seed(seed)  # of the weights; the suite's own process, and nothing else reads it
    return torch.Generator().manual_seed(seed)


def made(example: Example, generator: torch.Generator) -> tuple[Any, Batch]:
    """A model in eval mode and a batch, in float64: differences are then those of the method, not of rounding."""
    model = example.build().double().eval()
    return model, {name: doubled(tensor) for name, tensor in example.batch(generator).items()}


SEED_OF_STEP = 7


def said(example: Example, model: nn.Module, batch: Batch) -> torch.Tensor:
    """What the model says, with the same random numbers each time: for dropout, and for whose predictions it reads."""
    torch.manual_seed(0)
    return example.output(model, batch)


def loss_of(example: Example, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return example.loss(model, batch)


def doubled(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def padded(example: Example, batch: Batch, more: int) -> Batch:
    """The same rows with steps behind them that hold no number, or any token."""
    long = dict(batch)
    for name in example.timed:
        tensor = batch[name]
        shape = (len(tensor), more, *tensor.shape[2:])
        extra = torch.full(shape, math.nan).to(tensor) if tensor.is_floating_point() else torch.ones(shape).to(tensor)
        long[name] = torch.cat([tensor, extra], dim=1)
        for row, length in enumerate(batch["lengths"].tolist()):
            long[name][row, length:] = extra[0, 0]
    return long


def row_of(example: Example, batch: Batch, row: int) -> Batch:
    """One row alone, without any padding."""
    alone = {name: tensor[row : row + 1] for name, tensor in batch.items()}
    for name in example.timed:
        alone[name] = alone[name][:, : int(batch["lengths"][row])]
    return alone


def test_every_model_has_an_example() -> None:
    """A model is a module, or a package of them, that defines what can stand in the section `model` of a workload."""
    models = set()
    for module in pkgutil.walk_packages(gateline.models.__path__, "gateline.models."):
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if found.__module__ == module.name and (found.__doc__ or "").startswith("Section `model` of a"):
                models.add(module.name.split(".")[2])

    assert models == {file.stem for file in FOLDER.glob("*.py")}


@every_padded_model
def test_a_batch_stays_on_its_device(example: Example, generator: torch.Generator) -> None:
    """A tensor on the device `meta` has no numbers: who fetches one, a length say, to wait for it, gets an error."""
    model, batch = made(example, generator)
    meta = torch.device("meta")
    rows = PaddedBatch(batch[example.timed[0]], batch["lengths"]).to(meta)
    there = {name: tensor.to(meta) for name, tensor in batch.items()} | {"lengths": rows.lengths}

    assert rows.lengths.device == rows.values.device == meta
    assert said(example, model.to(meta), there).device == meta


@every_padded_model
def test_padding_changes_nothing(example: Example, generator: torch.Generator) -> None:
    model, batch = made(example, generator)
    short = said(example, model, batch)
    long = said(example, model, padded(example, batch, 5))

    assert torch.isfinite(short).all()
    torch.testing.assert_close(long[:, : short.shape[1]], short, rtol=0, atol=1e-12)
    assert (long[:, short.shape[1] :] == 0).all()


def said_of_all(example: Example, model: nn.Module, batch: Batch) -> torch.Tensor:
    """What a model says of a whole batch in a step of training."""
    rows = len(next(iter(batch.values())))
    with rows_of_batch(0, rows, rows, SEED_OF_STEP):
        return said(example, model, batch)


@every_padded_model
def test_padding_changes_no_loss_and_no_gradient(example: Example, generator: torch.Generator) -> None:
    model, batch = made(example, generator)
    parameters = list(model.parameters())
    total, count = loss_of(example, model, batch)
    long_total, long_count = loss_of(example, model, padded(example, batch, 3))

    assert int(long_count) == int(count)
    torch.testing.assert_close(long_total, total, rtol=1e-12, atol=0)
    for long, short in zip(
        torch.autograd.grad(long_total, parameters), torch.autograd.grad(total, parameters), strict=True
    ):
        torch.testing.assert_close(long, short, rtol=1e-8, atol=1e-12)


@every_model
def test_a_row_alone_equals_the_row_of_a_batch(example: Example, generator: torch.Generator) -> None:
    model, batch = made(example, generator)
    together = said_of_all(example, model, batch)
    for row in range(len(together)):
        with rows_of_batch(row, 1, len(together), SEED_OF_STEP):
            alone = said(example, model, row_of(example, batch, row))
        torch.testing.assert_close(alone[0], together[row, : alone.shape[1]], rtol=0, atol=1e-12)


@every_model
def test_the_loss_of_a_batch_is_the_sum_of_its_rows(example: Example, generator: torch.Generator) -> None:
    model, batch = made(example, generator)
    rows = len(next(iter(batch.values())))
    with rows_of_batch(0, rows, rows, SEED_OF_STEP):
        total, count = loss_of(example, model, batch)
    parts = []
    for row in range(rows):
        with rows_of_batch(row, 1, rows, SEED_OF_STEP):
            parts.append(loss_of(example, model, row_of(example, batch, row)))

    assert int(count) == sum(int(part) for _, part in parts)
    torch.testing.assert_close(total, torch.stack([part for part, _ in parts]).sum(), rtol=1e-10, atol=0)


@every_model
def test_dropout_does_not_depend_on_how_a_batch_is_shared_out(example: Example, generator: torch.Generator) -> None:
    model, batch = made(example, generator)
    model.train()
    together = said_of_all(example, model, batch)
    pieces = []
    for first, count in ((0, 1), (1, 3)):
        with rows_of_batch(first, count, 4, SEED_OF_STEP):
            pieces.append(said(example, model, {name: t[first : first + count] for name, t in batch.items()}))

    torch.testing.assert_close(torch.cat(pieces), together, rtol=0, atol=1e-12)


@every_model
def test_saved_and_loaded_weights_say_exactly_the_same(
    example: Example, generator: torch.Generator, tmp_path: Path
) -> None:
    model, batch = example.build().eval(), example.batch(generator)
    other = example.build().eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    saved, again = io.BytesIO(), io.BytesIO()
    torch.save(model.state_dict(), saved)
    torch.save(other.state_dict(), again)
    before = said(example, model, batch)

    assert torch.equal(said(example, other, batch), before)
    assert saved.getvalue() == again.getvalue()


@every_model
def test_gradients_reach_every_parameter(example: Example, generator: torch.Generator) -> None:
    model, batch = made(example, generator)
    loss_of(example, model, batch)[0].backward()

    unreached = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert unreached == []


@every_model
def test_one_batch_can_be_learned_by_heart(example: Example) -> None:
    torch.manual_seed(0)
    model, batch = example.build(), example.batch(torch.Generator().manual_seed(0))
    model.eval()  # without dropout
    optimiser = torch.optim.Adam(model.parameters(), lr=example.learning_rate)
    total, count = loss_of(example, model, batch)
    first = last = float(total.detach() / count)
    for _ in range(300):
        optimiser.zero_grad()
        (total / count).backward()
        optimiser.step()
        total, count = loss_of(example, model, batch)
        last = float(total.detach() / count)
        if last < 0.1 * first:
            break

    assert last < 0.1 * first


@every_model
def test_bfloat16_says_nearly_the_same(example: Example, generator: torch.Generator) -> None:
    model, batch = example.build().eval(), example.batch(generator)
    exact = said(example, model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = said(example, model, batch)
        total, _ = loss_of(example, model, batch)
    wanted, _ = loss_of(example, model, batch)

    torch.testing.assert_close(rough.float(), exact, rtol=0.02, atol=0.03)
    assert total.dtype == torch.float32
    assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=0.02)


@every_writer
def test_greedy_equals_a_beam_of_one(example: Example, generator: torch.Generator) -> None:
    model, batch = made(example, generator)
    assert example.start is not None
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.mul_(3)  # decided models write more than one token over and over
        start = example.start(model, batch)
        plain = greedy(model.step, *start, end=1, max_length=12)
        beam = beam_search(model.step, *start, end=1, settings=BeamSettings(width=1, length_penalty=0, max_length=12))

    assert beam.best() == plain.best()
    torch.testing.assert_close(beam.scores, plain.scores)


@every_writer
def test_token_by_token_equals_one_pass(example: Example, generator: torch.Generator) -> None:
    model, batch = made(example, generator)
    assert example.start is not None
    memory, state, token = example.start(model, batch)
    steps = [token]
    for _ in range(4):
        logits, state = model.step(steps[-1], memory, state)
        steps.append(logits.argmax(dim=1))
    if "source" in batch:
        logits_at_once = model(batch["source"], torch.stack(steps[:-1], dim=1), batch["lengths"])
    else:
        logits_at_once = model(torch.cat([batch["tokens"][:, :-1], torch.stack(steps[:-1], dim=1)], dim=1))[0]

    torch.testing.assert_close(logits_at_once[:, -1], logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_stream_in_two_chunks_equals_one_pass(cell: str, generator: torch.Generator) -> None:
    model = LanguageModel(num_tokens=8, settings=LanguageModelSettings(hidden_size=6, num_layers=2, cell=cell))
    model.double().eval()
    stream = torch.randint(8, (3, 9), generator=generator)
    whole, end = model(stream)
    first, state = model(stream[:, :4])
    second, state = model(stream[:, 4:], state)

    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=1e-12)
    for carried, wanted in zip(state, end, strict=True):
        for part, whole_part in zip(carried, wanted, strict=True):
            torch.testing.assert_close(part, whole_part, rtol=0, atol=1e-12)
