"""Section `model` of a forecasting workload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field, model_validator

from gateline.cells import build_cell
from gateline.inventory import critical_ratio
from gateline.models.forecaster.ridge_path import RidgePathSettings
from gateline.models.sequence_input import require_cell
from gateline.models.stack import ONE_STEP_AT_A_TIME, CellOptions, Layers, Size, StackSettings
from gateline.workload.section import Section

Probability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

MEDIAN = 0.5


def _reads_vectors(cell: str) -> str:
    require_cell(cell, reads_pictures=False)
    return cell


class InventorySettings(Section):
    """What a unit too much and a unit too little cost, or how often the stock is to suffice."""

    holding_cost: Positive | None = None
    """Of one unit that is left over when the lead time ends."""
    shortage_cost: Positive | None = None
    """Of one unit that is missing."""
    service_level: Level | None = None
    """Share of lead times in which the stock is to suffice; in place of both costs, from which it follows."""

    @model_validator(mode="after")
    def _says_it_once(self) -> InventorySettings:
        costs = [self.holding_cost is not None, self.shortage_cost is not None]
        if (all(costs) and self.service_level is None) or (not any(costs) and self.service_level is not None):
            return self
        given = self.model_dump(exclude_none=True)
        raise ValueError(f"either `holding_cost` and `shortage_cost`, or `service_level`; got {given or 'nothing'}")

    @property
    def costs(self) -> tuple[float, float]:
        """Holding and shortage cost; those of a service level add up to 1."""
        if self.service_level is not None:
            return 1 - self.service_level, self.service_level
        return self.holding_cost or 0.0, self.shortage_cost or 0.0

    @property
    def level(self) -> float:
        """Share of lead times in which the stock is to suffice."""
        return critical_ratio(*self.costs)


class ForecasterSettings(Section):
    """Section `model` of a forecasting workload."""

    mode: Literal["direct", "recursive", "segment"] = "direct"
    """direct: an encoder reads the past, a decoder writes all steps in one pass. recursive: the decoder takes one step at a
    time and reads its own forecast of the step before. segment: encoder and decoder work on segments of several steps, which
    makes long windows short."""
    cell: Annotated[str, AfterValidator(_reads_vectors)] = "lstm"
    """A file of `gateline.cells`."""
    cell_options: CellOptions = {}
    """What the cell has of its own, e.g. `num_heads` of `slstm`."""
    hidden_size: Size = 64
    num_layers: Layers = 1
    bidirectional: bool = False
    """Let the encoder read the past in both directions; the decoder goes on from a learnt mix of both last states. Not with
    `mode: segment`, where encoder and decoder are one."""
    dropout: Probability = 0.0
    """Of what the head reads, and between layers."""
    variational_dropout: bool = False
    """Drop the same features at all steps of a sequence, between layers."""
    weight_drop: Probability = 0.0
    """Of hidden-to-hidden weights: the same ones at all steps that a stack of cells reads. Encoder and decoder each drop their
    own; with `mode: segment`, where they are one, its pass over the past and the one over what is asked draw anew. Not with
    `mode: recursive`."""
    residual: bool = False
    """Add to the output of a layer what it read."""
    normalisation: Literal["none", "last_value", "revin", "last_season"] = "none"
    """last_value: each window is read and forecast as its difference from the last observed target. revin: less its own mean
    and divided by its own deviation, and the forecast taken back. last_season: as its departure from its own last season,
    divided by how large these are in its past."""
    season: Count | None = None
    """Steps of a season, with `normalisation: last_season`."""
    affine: bool = False
    """Learn a scale and a shift of what is normalised. With `normalisation: revin` only."""
    series: Literal["auto", "none", "one_hot", "embedding"] = "auto"
    """How the network is told which series a window is from. auto: one_hot up to 16 series, an embedding for more; a segment
    forecaster always uses an embedding. none: it is not told."""
    embedding_size: Size = 8
    """Numbers that stand for one text of a text column, or for one series."""
    quantiles: tuple[Level, ...] = ()
    """Levels to forecast, in rising order and 0.5 among them, which is the point forecast; needs `training.loss: pinball`.
    Empty: the point forecast only."""
    intervals: tuple[Level, ...] = ()
    """Coverages, e.g. 0.8, of intervals calibrated after training on the validation part; since that part also
    chose the epoch, they tend to be too narrow, see `gateline.conformal`."""
    inventory: InventorySettings | None = None
    """Decide on stock: the reserve beside the forecast is calibrated after training on the validation part."""
    segment: Count | None = None
    """Steps of a segment; `lookback` is a multiple of it. With `mode: segment` only."""
    teacher_forcing: Share = 0.0
    """Share of steps, in training, at which the decoder reads what was observed in place of its own forecast. With
    `mode: recursive` only."""
    decoder: Literal["recurrent", "linear"] = "recurrent"
    """recurrent: cells read what is known ahead of each step; linear: all steps at once from the encoder's last step and all
    that is known ahead, which costs next to nothing. linear with `mode: direct` only."""
    attention: Literal["none", "dot", "additive"] = "none"
    """Every step of a recurrent decoder looks back at all encoder steps. Not with `mode: segment`."""
    linear_path: bool = False
    """Add a linear function of the past target, one weight per lag and step: the cells learn what it leaves over. With
    `mode: direct` only."""

    ridge_path: RidgePathSettings | None = None
    """Beside the cells, a linear function of the newest past steps of the target and, where asked, of the covariates and of what
    is known ahead, fitted in closed form before training and then held. Not with `mode: recursive`."""

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, value: object) -> object:
        if isinstance(value, Mapping) and "kind" in value:
            raise ValueError("`mode: direct`, as `kind: encoder_decoder` is called now")
        return value

    @model_validator(mode="after")
    def _keys_of_the_mode(self) -> ForecasterSettings:
        if self.mode == "segment" and self.segment is None:
            raise ValueError("`segment`, the number of steps of a segment, with `mode: segment`")
        elsewhere = {
            "segment": ("segment", self.segment is not None),
            "teacher_forcing": ("recursive", self.teacher_forcing > 0),
            "decoder: linear": ("direct", self.decoder == "linear"),
            "linear_path": ("direct", self.linear_path),
        }
        for key, (mode, given) in elsewhere.items():
            if given and self.mode != mode:
                raise ValueError(f"`{key}` only with `mode: {mode}`, got it with `mode: {self.mode}`")
        if self.ridge_path is not None and self.mode == "recursive":
            raise ValueError("no `ridge_path` with `mode: recursive`, whose steps are forecast from the one before")
        if self.attention != "none" and (self.mode == "segment" or self.decoder == "linear"):
            raise ValueError("`attention: none` where no decoder goes step by step")
        if self.mode == "segment" and self.series == "one_hot":
            raise ValueError("`series: embedding` or `series: none` with `mode: segment`")
        if self.mode == "segment" and self.bidirectional:
            raise ValueError("no `bidirectional` with `mode: segment`, where encoder and decoder are one")
        if self.mode == "recursive" and self.weight_drop:
            raise ValueError(f"no `weight_drop` with `mode: recursive`: {ONE_STEP_AT_A_TIME}")
        if (self.season is not None) != (self.normalisation == "last_season"):
            raise ValueError(
                f"`season` with `normalisation: last_season`, and only there; got {self.season} with `{self.normalisation}`"
            )
        if self.affine and self.normalisation != "revin":
            raise ValueError(f"`affine` only with `normalisation: revin`, got it with `{self.normalisation}`")
        return self

    @model_validator(mode="after")
    def _cell_can_be_built(self) -> ForecasterSettings:
        with torch.device("meta"):  # the cell says what it refuses, and no memory is taken
            build_cell(self.cell, input_size=1, hidden_size=self.hidden_size, **self.cell_options)
        return self

    @model_validator(mode="after")
    def _levels_in_order(self) -> ForecasterSettings:
        for name in ("quantiles", "intervals"):
            levels = getattr(self, name)
            if list(levels) != sorted(set(levels)):
                raise ValueError(f"`{name}` in rising order, each once, got {list(levels)}")
        if self.quantiles and MEDIAN not in self.quantiles:
            raise ValueError(f"0.5 among `quantiles`: it is the point forecast; got {list(self.quantiles)}")
        return self

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels that the network writes: the quantiles, or the point forecast alone in the place of the median."""
        return self.quantiles or (MEDIAN,)

    def decoder_stack(self) -> StackSettings:
        """Say how cells are stacked in a decoder: as in the encoder, in the direction of time."""
        return self.stack().model_copy(update={"bidirectional": False})

    def stack(self) -> StackSettings:
        """Say how cells are stacked in the encoder."""
        return StackSettings(
            **{name: getattr(self, name) for name in StackSettings.model_fields if hasattr(self, name)}
        )
