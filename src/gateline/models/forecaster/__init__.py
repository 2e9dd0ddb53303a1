"""Forecasters: from windows of many series to the next steps of one target, in one of several modes."""

from __future__ import annotations

from gateline.models.forecaster.base import ForecasterNetwork
from gateline.models.forecaster.direct import EncoderDecoder, LinearDecoder
from gateline.models.forecaster.recursive import RecursiveForecaster
from gateline.models.forecaster.segment import SegmentForecaster
from gateline.models.forecaster.settings import ForecasterSettings
from gateline.models.forecaster.shapes import Shapes
from gateline.models.sequence_input import require_cell

__all__ = ["ForecasterNetwork", "ForecasterSettings", "Shapes", "build_forecaster"]

MODES: dict[str, type[ForecasterNetwork]] = {
    "direct": EncoderDecoder,
    "recursive": RecursiveForecaster,
    "segment": SegmentForecaster,
}


def build_forecaster(shapes: Shapes, settings: ForecasterSettings) -> ForecasterNetwork:
    """Build the network of `settings.mode`, freshly initialised.

    Raises:
        WorkloadError: the settings do not fit the shapes, or the cell reads pictures.
    """
    require_cell(settings.cell, reads_pictures=False)
    kind = LinearDecoder if settings.decoder == "linear" else MODES[settings.mode]
    return kind(shapes, settings)
