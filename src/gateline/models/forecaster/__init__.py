"""Forecasters: from windows of many series to the next steps of one target, in one of several modes."""

from __future__ import annotations

from torch import nn

from gateline.models.forecaster.direct import EncoderDecoder
from gateline.models.forecaster.segment import SegmentForecaster
from gateline.models.forecaster.settings import ForecasterSettings
from gateline.models.sequence_input import require_cell

__all__ = ["ForecasterSettings", "build_forecaster"]

MODES = {"direct": EncoderDecoder, "segment": SegmentForecaster}


def build_forecaster(
    settings: ForecasterSettings,
    *,
    encoder_features: int,
    decoder_features: int,
    num_series: int,
    lookback: int,
    horizon: int,
) -> nn.Module:
    """Build the network of `settings.mode`, freshly initialised; for the other arguments see the modes.

    Raises:
        WorkloadError: the settings do not fit the windows, or the cell reads pictures.
    """
    require_cell(settings.cell, reads_pictures=False)
    return MODES[settings.mode](
        encoder_features=encoder_features,
        decoder_features=decoder_features,
        num_series=num_series,
        lookback=lookback,
        horizon=horizon,
        settings=settings,
    )
