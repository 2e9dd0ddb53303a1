"""Section `model` of a forecasting workload."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gateline.models.stack import StackSettings
from gateline.workload.section import Section

Probability = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class ForecasterSettings(Section):
    """Section `model` of a forecasting workload."""

    mode: Literal["direct", "segment"] = "direct"
    """direct: an encoder reads the past, a decoder writes all steps in one pass; segment: both work on segments of several
    steps, which makes long windows short."""
    cell: str = "lstm"
    """A file of `gateline.cells`."""
    hidden_size: Count = 64
    num_layers: Count = 1
    dropout: Probability = 0.0
    """Of what the head reads, and between layers."""
    normalisation: Literal["none", "last_value"] = "none"
    """last_value: each window is read and forecast as its difference from the last observed target."""
    segment: Count | None = None
    """Steps of a segment; `lookback` is a multiple of it. With `mode: segment` only."""
    decoder: Literal["recurrent", "linear"] = "recurrent"
    """recurrent: cells read what is known ahead of each step; linear: all steps at once from the encoder's last step and all
    that is known ahead, which costs next to nothing. linear with `mode: direct` only."""
    attention: Literal["none", "dot"] = "none"
    """dot: every decoder step looks back at all encoder steps. With `mode: direct` and `decoder: recurrent` only."""
    linear_path: bool = False
    """Add a linear function of the past target, one weight per lag and step: the cells learn what it leaves over. With
    `mode: direct` only."""

    @model_validator(mode="after")
    def _keys_of_the_mode(self) -> ForecasterSettings:
        if self.mode == "segment" and self.segment is None:
            raise ValueError("`segment`, the number of steps of a segment, with `mode: segment`")
        if self.mode != "segment" and self.segment is not None:
            raise ValueError(f"`segment` only with `mode: segment`, got it with `mode: {self.mode}`")
        if self.decoder == "linear" and (self.mode != "direct" or self.attention != "none"):
            raise ValueError(
                "`decoder: linear` only with `mode: direct` and `attention: none`, "
                f"got it with `mode: {self.mode}` and `attention: {self.attention}`"
            )
        if self.mode != "direct" and (self.attention != "none" or self.linear_path):
            raise ValueError(
                f"`attention` and `linear_path` only with `mode: direct`, got them with `mode: {self.mode}`"
            )
        return self

    def stack(self) -> StackSettings:
        """Say how cells are stacked, in an encoder as in a decoder."""
        return StackSettings(
            cell=self.cell, hidden_size=self.hidden_size, num_layers=self.num_layers, dropout=self.dropout
        )
