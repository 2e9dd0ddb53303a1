"""Forecasters against passes that are written out, and against what must hold whatever the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydantic
import pytest
import torch
from sklearn.metrics import mean_pinball_loss

from gateline.batch import ForecastBatch
from gateline.errors import WorkloadError
from gateline.losses import summed_loss, summed_pinball
from gateline.models.forecaster import ForecasterSettings, Shapes, build_forecaster
from gateline.models.forecaster.direct import EncoderDecoder
from gateline.models.forecaster.head import ForecastHead
from gateline.models.forecaster.normalisation import WindowNormalisation
from gateline.models.forecaster.segment import SegmentForecaster

LOOKBACK, HORIZON, SEGMENT, HIDDEN = 12, 6, 3, 8
PLAIN = Shapes(2, 0, 3, LOOKBACK, HORIZON, target_mask=False)
LEVELS = (0.1, 0.25, 0.5, 0.9)


def batch_of(rng: np.random.Generator, rows: int = 4, missing: float = 0.0, known: int = 0) -> ForecastBatch:
    past = torch.from_numpy(rng.normal(size=(rows, LOOKBACK, 2)))
    past[:, :, 1] = torch.from_numpy((rng.random((rows, LOOKBACK)) >= missing).astype(np.float64))
    past[:, :, 0] *= past[:, :, 1]
    return ForecastBatch(
        past=past,
        known=torch.from_numpy(rng.normal(size=(rows, HORIZON, known))),
        series=torch.from_numpy(rng.integers(0, 3, rows)),
        target=torch.from_numpy(rng.normal(size=(rows, HORIZON))),
        observed=torch.from_numpy(rng.random((rows, HORIZON)) > 0.2),
    )


def network_of(shapes: Shapes = PLAIN, **settings: Any) -> Any:
    torch.manual_seed(0)
    return build_forecaster(shapes, ForecasterSettings.model_validate({"hidden_size": HIDDEN} | settings)).double()


def test_a_segment_forecaster_is_segrnn_with_torchs_gru(rng: np.random.Generator) -> None:
    """The paper's equations, window by window and segment by segment, with `nn.GRUCell` under the same weights."""
    network: SegmentForecaster = network_of(mode="segment", segment=SEGMENT, cell="gru", normalisation="last_value")
    batch = batch_of(rng)
    cell = torch.nn.GRUCell(HIDDEN, HIDDEN).double()
    fused: Any = network.encoder.cells()[0][0].layer
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in fused.state_dict().items()})
    assert network.series is not None

    with torch.no_grad():
        for row, series in enumerate(batch.series.tolist()):
            values = batch.past[row, :, 0]
            hidden = torch.zeros(1, HIDDEN, dtype=torch.float64)
            for begin in range(0, LOOKBACK, SEGMENT):
                hidden = cell(network.embed((values - values[-1])[begin : begin + SEGMENT])[None], hidden)
            forecast = []
            for segment in range(HORIZON // SEGMENT):
                asked = torch.cat([network.position[segment], network.series.weight[series]])
                forecast.append(network.head.linear(cell(asked[None], hidden))[0] + values[-1])

            torch.testing.assert_close(network.eval()(batch)[row, :, 0], torch.cat(forecast))


def test_the_last_segment_may_reach_past_the_horizon(rng: np.random.Generator) -> None:
    whole = network_of(Shapes(2, 0, 3, LOOKBACK, 6, target_mask=False), mode="segment", segment=4)
    cut = network_of(Shapes(2, 0, 3, LOOKBACK, 5, target_mask=False), mode="segment", segment=4)
    batch = batch_of(rng)

    torch.testing.assert_close(cut(batch), whole(batch)[:, :5])


def test_a_segment_must_divide_the_lookback() -> None:
    with pytest.raises(WorkloadError, match=r"a divisor of preprocess\.windows\.lookback, 12"):
        network_of(mode="segment", segment=5)


def test_without_teacher_forcing_recursion_is_a_loop_over_its_own_forecasts(rng: np.random.Generator) -> None:
    network = network_of(Shapes(2, 2, 3, LOOKBACK, HORIZON), mode="recursive")
    batch = batch_of(rng, missing=0.2, known=2)

    with torch.no_grad():
        _, state = network.encoder(network.encoder_inputs(batch))
        expected = []
        for row in range(4):
            values = batch.past[row, :, 0][batch.past[row, :, 1] > 0]
            before, carried = values[-1], tuple(tuple(part[row : row + 1] for part in cell) for cell in state)
            for step in range(HORIZON):
                told = network.known_inputs(batch)[row : row + 1, step : step + 1]
                y, carried = network.decoder(torch.cat([told, before.view(1, 1, 1)], dim=2), carried)
                before = network.head.linear(y).squeeze()
                expected.append(before)

    torch.testing.assert_close(network(batch)[:, :, 0], torch.stack(expected).view(4, HORIZON))


@pytest.mark.parametrize("mode", ["direct", "recursive"])
@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_what_attention_compares_is_computed_once(mode: str, attention: str, rng: np.random.Generator) -> None:
    network = network_of(mode=mode, attention=attention)
    batch, asked = batch_of(rng), []
    network.attention.key.register_forward_hook(lambda _, given, __: asked.append(given[0].shape))
    forecast = network(batch)

    assert asked == [(4, LOOKBACK, HIDDEN)]
    with torch.no_grad():  # and it is what the decoder looks back at
        network.attention.key.weight.mul_(3)
    assert not torch.allclose(network(batch), forecast)


@pytest.mark.parametrize("mode", ["direct", "recursive"])
@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_the_weights_of_attention_say_what_a_forecast_was_read_from(
    mode: str, attention: str, rng: np.random.Generator
) -> None:
    """The forecast is made again of the decoder and of the encoder's steps, weighed by hand."""
    network, batch = network_of(mode=mode, attention=attention).eval(), batch_of(rng)
    decoded: list[torch.Tensor] = []
    network.decoder.register_forward_hook(lambda *given: decoded.append(given[2][0]))

    with torch.no_grad():
        forecast, weights = network.explain(batch)
        encoded, _ = network.encoder(network.encoder_inputs(batch))
        looked_at = torch.einsum("but,bth->buh", weights, encoded)
        expected = network.head(torch.cat([torch.cat(decoded, dim=1), looked_at], dim=2)).squeeze(2)

    assert weights.shape == (4, HORIZON, LOOKBACK)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(4, HORIZON).double())
    torch.testing.assert_close(forecast, expected)
    assert torch.equal(network(batch), forecast)


@pytest.mark.parametrize("settings", [{}, {"decoder": "linear"}, {"mode": "segment", "segment": 3}])
def test_without_attention_nothing_is_weighed(settings: dict[str, Any], rng: np.random.Generator) -> None:
    network, batch = network_of(**settings).eval(), batch_of(rng)
    forecast, weights = network.explain(batch)

    assert weights is None
    assert torch.equal(forecast, network(batch))


def test_with_full_teacher_forcing_each_step_reads_what_was_observed(rng: np.random.Generator) -> None:
    """The decoder of the direct mode, given the observed targets, writes the same in one pass."""
    network = network_of(mode="recursive", teacher_forcing=1.0).train()
    batch = batch_of(rng)
    batch = ForecastBatch(batch.past, batch.known, batch.series, batch.target, torch.ones_like(batch.observed))
    before = torch.cat([batch.past[:, -1:, 0], batch.target[:, :-1]], dim=1)

    with torch.no_grad():
        encoded, state = network.encoder(network.encoder_inputs(batch))
        asked = torch.cat([network.known_inputs(batch), before[:, :, None]], dim=2)
        expected, _ = network.read_out(network.decoder(asked, state)[0], encoded, network.keys(encoded))

        torch.testing.assert_close(network(batch), expected)
        torch.testing.assert_close(network.eval()(batch)[:, 0], expected[:, 0])
        assert not torch.allclose(network(batch)[:, 1:], expected[:, 1:])


def test_no_forecast_reads_the_target_but_when_told_to(rng: np.random.Generator) -> None:
    batch = batch_of(rng)
    other = ForecastBatch(batch.past, batch.known, batch.series, batch.target + 5, batch.observed)
    modes: list[dict[str, Any]] = [{}, {"mode": "segment", "segment": 3}, {"mode": "recursive", "teacher_forcing": 0.9}]
    for settings in modes:
        network = network_of(**settings).eval()

        assert torch.equal(network(batch), network(other)), settings


@pytest.mark.parametrize("settings", [{"normalisation": "revin"}, {"normalisation": "revin", "affine": True}])
def test_window_normalisation_is_undone_exactly(settings: dict[str, Any], rng: np.random.Generator) -> None:
    normalisation = WindowNormalisation(ForecasterSettings.model_validate(settings)).double()
    with torch.no_grad():
        for weight in normalisation.parameters():
            weight.fill_(float(rng.normal()))
    values, observed = torch.from_numpy(rng.normal(50, 9, (5, LOOKBACK))), torch.ones(5, LOOKBACK)
    level = normalisation.level(values, observed)

    there = normalisation(values, level)
    back = normalisation.inverse(there[:, :, None], level)[:, :, 0]

    torch.testing.assert_close(back, values, rtol=1e-12, atol=1e-10)
    if "affine" not in settings:
        torch.testing.assert_close(there.mean(dim=1), torch.zeros(5).double(), rtol=0, atol=1e-9)
        torch.testing.assert_close(there.std(dim=1, correction=0), torch.ones(5).double(), rtol=0, atol=1e-4)


def test_revin_divides_by_the_root_of_the_variance_plus_epsilon() -> None:
    """Equation 2 of the paper; where a window hardly varies it matters what epsilon is added to."""
    normalisation = WindowNormalisation(ForecasterSettings(normalisation="revin")).double()
    values = torch.tensor([[1.0, 1.002, 0.998, 1.0], [7.0, 7.0, 7.0, 7.0], [0.0, 300.0, -300.0, 0.0]]).double()
    variance = values.numpy().var(axis=1, keepdims=True)

    level = normalisation.level(values, torch.ones(3, 4).double())

    expected = (values.numpy() - values.numpy().mean(axis=1, keepdims=True)) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(normalisation(values, level).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(level.scale.numpy(), np.sqrt(variance + 1e-5), rtol=1e-6)


def test_what_is_missing_does_not_count_for_the_level_of_a_window(rng: np.random.Generator) -> None:
    normalisation = WindowNormalisation(ForecasterSettings(normalisation="revin")).double()
    values = torch.from_numpy(rng.normal(50, 9, (3, LOOKBACK)))
    observed = torch.ones(3, LOOKBACK).double()
    observed[0, 4:] = 0
    observed[1] = 0

    level = normalisation.level(values * observed, observed)

    assert level.shift[:, 0].tolist() == pytest.approx([float(values[0, :4].mean()), 0, float(values[2].mean())])
    assert level.scale[0, 0] == pytest.approx(float(values[0, :4].std(correction=0)), rel=1e-5)
    assert level.scale[1, 0] == 1


def test_departures_from_the_last_season_are_those_of_the_loop(rng: np.random.Generator) -> None:
    season, horizon = 3, 5
    settings = ForecasterSettings(normalisation="last_season", season=season)
    normalisation = WindowNormalisation(settings, horizon).double()
    values = torch.from_numpy(rng.normal(50, 9, (2, LOOKBACK)))
    observed = torch.ones(2, LOOKBACK).double()
    observed[1, [0, LOOKBACK - 2]] = 0  # of the past, and of the last season: there the last value stands in
    values *= observed

    level = normalisation.level(values, observed)
    there, target = normalisation(values, level), torch.from_numpy(rng.normal(50, 9, (2, horizon)))

    for row in range(2):
        last = [float(values[row, LOOKBACK - season + place]) for place in range(season)]
        if row == 1:
            last[1] = float(values[row, LOOKBACK - 1])
        left = [float(values[row, t]) - last[(t - LOOKBACK) % season] for t in range(LOOKBACK)]
        counted = [left[t] ** 2 for t in range(LOOKBACK - season) if observed[row, t]]
        scale = (sum(counted) / len(counted) + 1e-5) ** 0.5
        np.testing.assert_allclose(there[row].numpy(), np.array(left) / scale)
        ahead = [last[step % season] for step in range(horizon)]
        np.testing.assert_allclose(
            normalisation.of_target(target, level)[row].numpy(), (target[row].numpy() - ahead) / scale
        )
    back = normalisation.inverse(normalisation.of_target(target, level)[:, :, None], level)[:, :, 0]
    torch.testing.assert_close(back, target)


def test_a_forecast_of_no_departure_is_the_seasonal_naive_one(rng: np.random.Generator) -> None:
    network = network_of(mode="segment", segment=3, normalisation="last_season", season=2, series="none").eval()
    batch = batch_of(rng)
    with torch.no_grad():
        for weight in network.head.parameters():
            weight.zero_()
        forecast = network(batch)[:, :, 0]

    past, seen = batch.past[:, :, 0], batch.past[:, :, 1].bool()
    for row in range(len(past)):
        last = past[row][seen[row]][-1] if seen[row].any() else torch.tensor(0.0)
        for step in range(HORIZON):
            place = LOOKBACK - 2 + step % 2
            assert forecast[row, step] == pytest.approx(float(past[row, place] if seen[row, place] else last), abs=1e-5)


def test_a_season_needs_its_normalisation_and_a_longer_past() -> None:
    with pytest.raises(ValueError, match="`season` with `normalisation: last_season`"):
        ForecasterSettings(season=24)
    with pytest.raises(ValueError, match="`season` with `normalisation: last_season`"):
        ForecasterSettings(normalisation="last_season")
    with pytest.raises(WorkloadError, match="a season shorter than"):
        network_of(normalisation="last_season", season=LOOKBACK)


@pytest.mark.parametrize("mode", [{}, {"mode": "recursive"}, {"mode": "segment", "segment": 3}])
@pytest.mark.parametrize("kind", ["last_value", "revin"])
def test_a_normalised_forecast_follows_the_level_of_its_window(
    mode: dict[str, Any], kind: str, rng: np.random.Generator
) -> None:
    """Windows that lie 1,000 higher are forecast 1,000 higher; under `revin`, ten times as spread ones ten times as far."""
    network, batch = network_of(**mode, normalisation=kind).eval(), batch_of(rng)

    def forecast(scale: float, shift: float) -> torch.Tensor:
        past = batch.past.clone()
        past[:, :, 0] = past[:, :, 0] * scale + shift
        with torch.no_grad():
            return network(ForecastBatch(past, batch.known, batch.series, batch.target, batch.observed))

    torch.testing.assert_close(forecast(1, 1000), forecast(1, 0) + 1000)
    if kind == "revin":
        torch.testing.assert_close(forecast(10, 0), forecast(1, 0) * 10, rtol=1e-4, atol=1e-3)


def test_quantiles_are_in_order_for_any_weights(rng: np.random.Generator) -> None:
    head = ForecastHead(HIDDEN, 5, LEVELS).double()
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(torch.from_numpy(rng.normal(0, 10, tuple(weight.shape))))
        written = head(torch.from_numpy(rng.normal(0, 10, (50, HIDDEN))))

    assert written.shape == (50, 5, 4)
    assert (written.diff(dim=2) >= 0).all()


def test_the_pinball_loss_is_scikit_learns(rng: np.random.Generator) -> None:
    batch, quantiles = batch_of(rng), torch.from_numpy(np.sort(rng.normal(size=(4, HORIZON, 4)), axis=2))
    there = batch.observed.numpy()

    total, count = summed_pinball(quantiles, batch.target, batch.observed, torch.tensor(LEVELS))

    expected = [
        mean_pinball_loss(batch.target.numpy()[there], quantiles.numpy()[there][:, place], alpha=level)
        for place, level in enumerate(LEVELS)
    ]
    assert float(total / count) == pytest.approx(np.mean(expected))
    half = summed_loss("absolute", quantiles[:, :, 2], batch.target, batch.observed)[0] / 2
    assert float(
        summed_pinball(quantiles[:, :, 2:3], batch.target, batch.observed, torch.tensor([0.5]))[0]
    ) == pytest.approx(float(half))


def test_the_levels_of_the_loss_travel_with_the_network_and_are_not_saved() -> None:
    network = network_of(quantiles=LEVELS)

    assert network.quantile_levels.tolist() == pytest.approx(list(LEVELS))
    assert "quantile_levels" not in network.state_dict()
    assert network.to("meta").quantile_levels.device.type == "meta"


def test_the_pinball_loss_finds_the_quantiles_of_what_happens(rng: np.random.Generator) -> None:
    sample = torch.from_numpy(rng.exponential(size=(4000, 1)))
    head = ForecastHead(1, 1, LEVELS).double()
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        written = head(torch.ones(4000, 1).double())
        total, count = summed_pinball(written, sample, torch.ones_like(sample).bool(), torch.tensor(LEVELS))
        (total / count).backward()
        return (total / count).detach()

    optimiser.step(closure)

    found = head(torch.ones(1, 1).double()).flatten().tolist()
    assert found == pytest.approx(np.quantile(sample.numpy(), LEVELS).tolist(), abs=0.05)


def test_every_kind_of_covariate_reaches_the_forecast(rng: np.random.Generator) -> None:
    shapes = Shapes(3, 1, 3, LOOKBACK, HORIZON, True, 1, (3,), (4,), (5,))
    plain = batch_of(rng, known=1)
    changes = {
        "past": torch.cat([plain.past, torch.ones(4, LOOKBACK, 1).double()], dim=2),
        "known": plain.known + 1,
        "past_codes": torch.ones(4, LOOKBACK, 2, dtype=torch.int32),
        "known_codes": torch.ones(4, HORIZON, 1, dtype=torch.int32),
        "static": torch.ones(4, 1).double(),
        "static_codes": torch.ones(4, 1, dtype=torch.int32),
        "series": (plain.series + 1) % 3,
    }
    batch = {
        "past": torch.cat([plain.past, torch.zeros(4, LOOKBACK, 1).double()], dim=2),
        "known": plain.known,
        "past_codes": torch.zeros(4, LOOKBACK, 2, dtype=torch.int32),
        "known_codes": torch.zeros(4, HORIZON, 1, dtype=torch.int32),
        "static": torch.zeros(4, 1).double(),
        "static_codes": torch.zeros(4, 1, dtype=torch.int32),
        "series": plain.series,
    }
    for mode in (
        {},
        {"decoder": "linear"},
        {"mode": "recursive", "series": "embedding"},
        {"mode": "segment", "segment": 3},
    ):
        network = network_of(shapes, **mode).eval()
        before = network(ForecastBatch(**batch, target=plain.target, observed=plain.observed))
        for name, changed in changes.items():
            after = network(ForecastBatch(**{**batch, name: changed}, target=plain.target, observed=plain.observed))

            assert not torch.allclose(before, after), f"{name} with {mode}"


def test_an_unknown_text_adds_nothing_to_a_fresh_network() -> None:
    network = network_of(Shapes(2, 0, 1, LOOKBACK, HORIZON, past_categories=(4,)))

    assert (network.covariates.past.tables[0].weight[0] == 0).all()
    assert (network.covariates.past.tables[0].weight[1:] != 0).all()


def test_many_series_get_an_embedding_and_few_a_number_each() -> None:
    few: EncoderDecoder = network_of(Shapes(2, 0, 16, LOOKBACK, HORIZON))
    many: EncoderDecoder = network_of(Shapes(2, 0, 17, LOOKBACK, HORIZON), embedding_size=5)

    assert few.encoder.input_size == 2 + 16
    assert many.encoder.input_size == 2 + 5
    assert network_of(Shapes(2, 0, 17, LOOKBACK, HORIZON), series="none").encoder.input_size == 2


def test_dropout_that_is_locked_is_the_same_at_all_steps_of_a_recursive_forecaster(
    rng: np.random.Generator,
) -> None:
    forecaster = network_of(mode="recursive", num_layers=2, dropout=0.5, variational_dropout=True).train()
    (first,), (second,) = forecaster.decoder.cells()
    written: list[torch.Tensor] = []
    read: list[torch.Tensor] = []
    first.register_forward_hook(lambda *given: written.append(given[2][0]))
    second.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    forecaster(batch_of(rng))
    factors = (torch.cat(read, dim=1) / torch.cat(written, dim=1)).round(decimals=4)  # (B, U, H)

    assert factors.shape[1] == HORIZON
    assert set(factors.unique().tolist()) == {0.0, 2.0}
    assert (factors == factors[:, :1]).all()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"kind": "encoder_decoder"}, "`mode: direct`, as `kind: encoder_decoder` is called now"),
        ({"mode": "segment"}, "`segment`, the number of steps"),
        ({"segment": 3}, "`segment` only with `mode: segment`"),
        ({"mode": "segment", "segment": 3, "attention": "dot"}, "where no decoder goes step by step"),
        ({"mode": "segment", "segment": 3, "series": "one_hot"}, "`series: embedding` or `series: none`"),
        ({"teacher_forcing": 0.5}, "only with `mode: recursive`"),
        ({"mode": "recursive", "linear_path": True}, "only with `mode: direct`"),
        ({"mode": "recursive", "ridge_path": {"lags": 4, "penalty": 1.0}}, "no `ridge_path` with `mode: recursive`"),
        ({"mode": "recursive", "weight_drop": 0.1}, "each would drop other weights"),
        ({"affine": True}, "only with `normalisation: revin`"),
        ({"quantiles": [0.1, 0.9]}, "0.5 among `quantiles`"),
        ({"quantiles": [0.9, 0.5]}, "in rising order"),
        ({"intervals": [0.9, 0.9]}, "in rising order, each once"),
    ],
)
def test_settings_that_mean_nothing_together_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=why):
        ForecasterSettings.model_validate(settings)
