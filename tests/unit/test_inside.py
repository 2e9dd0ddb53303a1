"""The gates in the evaluation report are those of the windows that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gateline.data.prepared_windows import STATE, open_store, open_windows, read_windows
from gateline.data.series_encoding import Encoding
from gateline.manifest import open_artifact
from gateline.models.sequence_input import InputSettings, SequenceInput
from gateline.predictors.forecasting import Forecaster
from gateline.scoring.inside import (
    SHOWN_STEPS,
    ReadSequence,
    choose_windows,
    draw_attention,
    draw_cell_gates,
    draw_sequence_gates,
    look_inside,
    read_sequence,
)
from gateline.tasks.forecasting import TASK
from tests.tiny import prepare_tiny


def forecaster(folder: Path, **settings: object) -> tuple[Forecaster, torch.nn.Module]:
    """A model of the tiny problem that has learnt nothing."""
    prepared = prepare_tiny(folder)
    shapes = TASK.shapes(prepared)
    network = TASK.build(TASK.Model.model_validate({"hidden_size": 6} | settings), shapes)
    encoding = Encoding.from_json(prepared.read_json(STATE)["encoding"])
    return Forecaster(network, encoding, lookback=shapes["lookback"], horizon=shapes["horizon"]), network


def test_the_smallest_the_median_and_the_largest_error_of_full_windows_are_chosen() -> None:
    errors = np.array([[3.0, 3], [1, 1], [9, np.nan], [2, 2], [5, 4], [0, np.nan], [4, 4]])

    assert choose_windows(errors).tolist() == [1, 0, 4]
    assert choose_windows(np.array([[np.nan, 2.0]])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", [{"num_layers": 2}, {"mode": "segment", "segment": 8, "normalisation": "last_value"}])
def test_traced_gates_are_those_of_torchs_lstm_on_these_windows(mode: dict[str, object], tmp_path: Path) -> None:
    model, network = forecaster(tmp_path / "prepared", **mode)
    prepared = open_artifact(tmp_path / "prepared", "prepared")
    outputs: list[torch.Tensor] = []
    last_cell = network.encoder.cells()[-1][0]  # type: ignore[union-attr, operator]
    last_cell.layer.register_forward_hook(lambda _cell, _read, written: outputs.append(written[0]))
    traced = {
        name: torch.tensor(part)
        for name, part in model.trace(open_store(prepared), read_windows(prepared, "test")[[5, 50]]).items()
    }

    c = torch.zeros(2, 6)
    for step in range(outputs[0].shape[1]):
        c = traced["forget_gate"][:, step] * c + traced["input_gate"][:, step] * traced["candidate"][:, step]
        torch.testing.assert_close(traced["cell_state"][:, step], c)
        torch.testing.assert_close(outputs[0][:, step], traced["output_gate"][:, step] * torch.tanh(c))
    assert outputs[0].shape[1] == (24 if "num_layers" in mode else 3)


@pytest.mark.parametrize("cell", ["lstm", "gru", "layer_norm_lstm", "slstm"])
def test_every_cell_can_be_looked_into(cell: str, tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    model, _ = forecaster(tmp_path / "prepared", cell=cell)
    prepared = open_artifact(tmp_path / "prepared", "prepared")
    origins = read_windows(prepared, "test")
    target = np.asarray(open_store(prepared).arrays["raw_target"])[origins[:, None] + np.arange(6)]
    forecast = np.full_like(target, 60.0)
    predictions = pd.DataFrame({"target": target.ravel(), "forecast": forecast.ravel()})

    inside = look_inside(model, open_store(prepared), origins, predictions)
    figure, caption = draw_cell_gates(plt, inside, "pieces")
    labels = [axis.get_ylabel() for axis in figure.axes]
    plt.close(figure)

    errors = np.abs(inside.forecast - inside.target).mean(axis=1)
    everywhere = np.abs(forecast - target).mean(axis=1)
    assert errors[0] == np.nanmin(everywhere)
    assert errors[2] == np.nanmax(everywhere)
    assert inside.past.shape == (3, 24)
    assert "cell state\nunit" in labels
    assert sum("gate\nunit" in label for label in labels) == {"gru": 2}.get(cell, 3)
    assert "update gate" in caption if cell == "gru" else "forget gate" in caption


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_cell_state_of_a_sequence_is_that_of_torchs_lstm(bidirectional: bool) -> None:
    """Step by step, with `nn.LSTMCell` under the same weights, on what the layer below wrote."""
    torch.manual_seed(0)
    settings = InputSettings(hidden_size=5, num_layers=2, bidirectional=bidirectional, embedding_size=4)
    reader = SequenceInput(num_tokens=9, num_features=None, settings=settings).eval()
    last: Any = reader.stack.cells()[-1][0]
    below: list[torch.Tensor] = []
    last.layer.register_forward_pre_hook(lambda _, given: below.append(given[0]))
    tokens = torch.randint(0, 9, (70,))
    counted = read_sequence(reader, tokens, "one")
    named = read_sequence(reader, tokens, "one", [str(token) for token in tokens.tolist()])

    cell = torch.nn.LSTMCell(last.layer.input_size, 5)
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in last.layer.state_dict().items()})
    state, memory = (torch.zeros(1, 5), torch.zeros(1, 5)), []
    with torch.no_grad():
        for step in range(70):
            state = cell(below[0][:, step], state)
            memory.append(state[1])
    np.testing.assert_allclose(counted.traced["cell_state"], torch.cat(memory).numpy(), rtol=1e-4, atol=1e-6)
    assert set(counted.traced) == {"input_gate", "forget_gate", "output_gate", "cell_state"}
    assert len(named.steps) == SHOWN_STEPS
    np.testing.assert_array_equal(named.traced["forget_gate"], counted.traced["forget_gate"][:SHOWN_STEPS])


def test_each_sequence_is_drawn_over_its_own_steps_with_the_same_order_of_units() -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(0)
    names = ("input_gate", "forget_gate", "cell_state")
    short, long = ({name: rng.random((steps, 3)) for name in names} for steps in (4, 7))
    sequences = [ReadSequence("short", short, list("word")), ReadSequence("long", long)]
    figure, caption = draw_sequence_gates(plt, sequences, "letters", bidirectional=True)
    axes = np.array(figure.axes[:6]).reshape(3, 2)
    keeps = np.argsort(-np.concatenate([short["forget_gate"], long["forget_gate"]]).mean(axis=0))
    words = [label.get_text() for label in axes[-1, 0].get_xticklabels()]
    plt.close(figure)

    for column, traced in enumerate((short, long)):
        for row, name in enumerate(names):
            np.testing.assert_array_equal(np.asarray(axes[row, column].images[0].get_array()), traced[name].T[keeps])
    assert words == list("word")
    assert [axis.get_title(loc="center") or axis.get_title(loc="left") for axis in axes[0]] == ["short", "long"]
    assert axes[0, 1].get_xlim() == (0.5, 7.5)
    assert "the one that reads backwards is not drawn" in caption
    assert "mean forget gate" in caption


def test_what_the_forecasts_looked_at_is_drawn_where_there_is_attention(tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    model, network = forecaster(tmp_path / "prepared", attention="dot")
    prepared = open_artifact(tmp_path / "prepared", "prepared")
    origins = read_windows(prepared, "test")[:9]
    predictions = pd.DataFrame({"target": np.zeros(54), "forecast": np.arange(54.0)})
    inside = look_inside(model, open_store(prepared), origins, predictions)
    assert inside.attention is not None
    figure, caption = draw_attention(plt, inside.titles, inside.attention)
    drawn = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[:3]]
    plt.close(figure)

    of_series = open_windows(prepared, "test").rows()  # as the data set has them, where `origins` go by time
    places = [int(np.flatnonzero(of_series == origins[place])[0]) for place in (0, 4, 8)]  # forecasts rise
    batch = TASK.dataset(prepared, "test").__getitems__(np.array(places))
    expected = network.explain(batch)[1].detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(drawn, expected, rtol=1e-5)
    assert "0.042 each" in caption  # of 24 past steps
    without, _ = forecaster(tmp_path / "other")
    assert look_inside(without, open_store(prepared), origins, predictions).attention is None


@pytest.mark.parametrize(
    ("settings", "says", "leaves_out"),
    [
        ({}, "read three test windows. A gate", "segment"),
        ({"bidirectional": True}, "the one that reads backwards is not drawn. A gate", "segment"),
        ({"mode": "segment", "segment": 8}, "One step of the cell is a segment of 8 time steps. A gate", "backwards"),
    ],
)
def test_the_caption_says_what_is_drawn(
    settings: dict[str, object], says: str, leaves_out: str, tmp_path: Path
) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    model, _ = forecaster(tmp_path / "prepared", **settings)
    prepared = open_artifact(tmp_path / "prepared", "prepared")
    origins = read_windows(prepared, "test")[:9]
    predictions = pd.DataFrame({"target": np.zeros(54), "forecast": np.arange(54.0)})
    figure, caption = draw_cell_gates(plt, look_inside(model, open_store(prepared), origins, predictions), None)
    plt.close(figure)

    assert says in caption
    assert leaves_out not in caption
