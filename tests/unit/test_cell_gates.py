"""The gates in the evaluation report are those of the windows that it names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gateline.data.prepared_windows import STATE, open_store, open_windows, read_windows
from gateline.data.series_encoding import Encoding
from gateline.manifest import open_artifact
from gateline.predictors.forecasting import Forecaster
from gateline.scoring.cell_gates import choose_windows, draw_attention, draw_cell_gates, look_inside
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
