"""What a forecaster must know of the prepared data. T past steps, U steps to forecast."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shapes:
    """Sizes of a batch of windows, see `gateline.batch.ForecastBatch`.

    Args:
        encoder_features: numbers Fp of a past step; the first two are the scaled target and its mask.
        decoder_features: numbers Fk known ahead of a step.
        num_series: number of series; each window says which one it is from.
        lookback: past steps T.
        horizon: steps to forecast U.
        target_mask: whether the target was ever missing in training, so that its mask says something.
        static_features: numbers of a series.
        past_categories: for each text column known up to the origin, how many codes it has.
        known_categories: the same for text columns known ahead.
        static_categories: the same for text columns of a series.
        units: for each series, which unit its target has, counted from 0; empty stands for one unit.
    """

    encoder_features: int
    decoder_features: int
    num_series: int
    lookback: int
    horizon: int
    target_mask: bool = True
    static_features: int = 0
    past_categories: tuple[int, ...] = ()
    known_categories: tuple[int, ...] = ()
    static_categories: tuple[int, ...] = ()
    units: tuple[int, ...] = ()
