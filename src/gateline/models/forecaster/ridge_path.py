"""A linear forecast in closed form beside the cells. B batch, T past steps, U steps to forecast, G groups of series.

A step ahead reads S numbers that all steps read, and K that are known of it alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import one_hot

from gateline.batch import ForecastBatch
from gateline.errors import WorkloadError
from gateline.models.forecaster.shapes import Shapes
from gateline.workload.section import Section


class RidgePathSettings(Section):
    """What it reads, and how small its weights are kept."""

    lags: Annotated[int, Field(ge=1)]
    """Newest past steps of the target that it reads, with the value before in place of a missing one."""
    covariate_lags: Annotated[int, Field(ge=0)] = 0
    """Newest past steps of all that is known up to the origin beside the target, and of where the target is missing."""
    known: bool = False
    """Whether a step reads what is known ahead of it."""
    weights: Literal["all", "unit", "series"] = "all"
    """all: the same for all series. unit: for those of a unit (`units` of the target's column). series: for each alone; each
    must have training windows, and should have more than it has weights."""
    penalty: Annotated[float, Field(gt=0)]
    """Times the sum of the squared weights, against the squared errors summed over all training windows."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """null: the cells start from the linear forecast and learn what it leaves over. A number: the cells learn by themselves,
    and what is forecast is the mean of both, in which the linear one has this share: what errs differently errs less together."""


class RidgePath(nn.Module):
    """Forecast every step by a linear function of the newest past steps of the target and, where asked, of the covariates.

    It is fitted once, before training, and then stays. A linear function of long windows and long horizons has too many weights
    to be learned well step by step; its ridge regression is exact. Of the past target alone it has no intercept.

    Source: Hoerl and Kennard (1970), Ridge Regression; on windows above their last value it is NLinear, Zeng et al. (2023),
    arXiv 2205.13504, in closed form.

    Args:
        shapes: of the batches.
        settings: section `model.ridge_path`.

    Raises:
        WorkloadError: it would look back further than a window.
    """

    weight: torch.Tensor
    """(G, U, S + K), of what all steps read first."""

    def __init__(self, shapes: Shapes, settings: RidgePathSettings) -> None:
        super().__init__()
        for name in ("lags", "covariate_lags"):
            if getattr(settings, name) > shapes.lookback:
                raise WorkloadError(
                    f"model.ridge_path.{name}",
                    expected=f"at most preprocess.windows.lookback, {shapes.lookback}",
                    found=str(getattr(settings, name)),
                    do="Change one of the two",
                )
        self.settings, self.known_counts = settings, shapes.known_categories
        self.past_counts = (*shapes.past_categories, *shapes.known_categories)
        self.intercept = settings.covariate_lags > 0 or settings.known or settings.weights != "all"
        past = shapes.encoder_features - 1 + sum(self.past_counts)  # the target has lags of its own
        self.shared = settings.lags + settings.covariate_lags * past + int(self.intercept)
        self.ahead = shapes.decoder_features + sum(self.known_counts) if settings.known else 0
        one = (0,) * shapes.num_series
        groups = {"all": one, "unit": shapes.units or one, "series": tuple(range(shapes.num_series))}
        self.groups: torch.Tensor
        self.register_buffer("groups", torch.tensor(groups[settings.weights]), persistent=False)  # of each series
        self.register_buffer(
            "weight", torch.zeros(max(groups[settings.weights]) + 1, shapes.horizon, self.shared + self.ahead)
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take the weights (U, S) of a model from before there were groups, too."""
        weight = state_dict.get(f"{prefix}weight")
        if weight is not None and weight.dim() == 2:
            state_dict = {**state_dict, f"{prefix}weight": weight[None]}
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, batch: ForecastBatch, past: torch.Tensor) -> torch.Tensor:
        """Forecast from a batch and its normalised past target (B, T): (B, U), in the type of its weights whatever autocast says."""
        with torch.autocast(past.device.type, enabled=False):
            shared, ahead = self._inputs(batch, past)
            of_shared, of_ahead = self.weight.split([self.shared, self.ahead], dim=2)
            group = self.groups[batch.series]
            if len(self.weight) == 1:
                forecast = nn.functional.linear(shared, of_shared[0])
            else:
                forecast = (of_shared[group] @ shared[:, :, None])[:, :, 0]
            return forecast if ahead is None else forecast + (of_ahead[group] * ahead).sum(dim=2)

    def join(self, forecast: torch.Tensor, median: int, batch: ForecastBatch, past: torch.Tensor) -> torch.Tensor:
        """Join what the cells forecast and the linear forecast.

        Args:
            forecast: (B, U, Q), of the cells, normalised.
            median: which of the Q is the point forecast; the other quantiles move with it.
            batch: what the linear forecast reads beside the past target.
            past: (B, T), normalised.

        Returns:
            (B, U, Q). In training, where the cells learn by themselves, their forecast alone.
        """
        if self.settings.share is None:
            return forecast + self(batch, past)[:, :, None]
        if self.training:
            return forecast
        linear = self(batch, past)[:, :, None]
        return forecast + self.settings.share * (linear - forecast[:, :, median : median + 1])

    def fit(self, windows: Iterable[tuple[ForecastBatch, torch.Tensor, torch.Tensor]]) -> None:
        """Solve the normal equations of each group of series.

        Args:
            windows: batches, and of each the past (B, T) and the target (B, U), both normalised.

        Raises:
            WorkloadError: series that are to have weights of their own have no windows.
        """
        equations: dict[int, _NormalEquations] = {}
        for batch, past, target in windows:
            shared, ahead = self._inputs(batch, past)
            group = self.groups[batch.series]
            for one in group.unique().tolist():
                if one not in equations:
                    equations[one] = _NormalEquations(
                        self.shared, self.ahead, self.weight.shape[1], self.intercept, self.weight.device
                    )
                rows = group == one
                equations[one].add(
                    shared[rows], None if ahead is None else ahead[rows], target[rows], batch.observed[rows]
                )
        for one in range(len(self.weight)):
            if one not in equations:
                series = (self.groups == one).nonzero()[0].item()
                raise WorkloadError(
                    f"model.ridge_path.weights: {self.settings.weights}",
                    expected="training windows for all weights",
                    found=f"none of series {series}, counted from 0",
                    do="Set it to `all`, or leave out series that have too few rows before preprocess.split.validate_from",
                )
            self.weight[one] = equations[one].solve(self.settings.penalty)

    def _inputs(self, batch: ForecastBatch, past: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What all steps read, (B, S), and what is known of each alone, (B, U, K) or None where it reads none of it."""
        kind, settings = self.weight.dtype, self.settings
        shared = [carried(past, batch.past[:, :, 1])[:, -settings.lags :].to(kind)]
        if settings.covariate_lags:
            newest = slice(-settings.covariate_lags, None)
            shared.append(batch.past[:, newest, 1:].to(kind).flatten(1))
            if batch.past_codes is not None:
                codes = batch.past_codes[:, newest]
                shared += [part.to(kind).flatten(1) for part in _columns_of_codes(codes, self.past_counts)]
        if self.intercept:
            shared.append(torch.ones_like(shared[0][:, :1]))  # the last of them
        if not settings.known:
            return torch.cat(shared, dim=1), None
        ahead = [batch.known.to(kind)]
        if batch.known_codes is not None:
            ahead += [part.to(kind) for part in _columns_of_codes(batch.known_codes, self.known_counts)]
        return torch.cat(shared, dim=1), torch.cat(ahead, dim=2)


class _NormalEquations:
    """Sums of products over windows, in float64, of one ridge regression per step ahead that share most of what they read.

    Args:
        shared: numbers S that all steps read.
        ahead: numbers K that are known of a step alone.
        horizon: steps U.
        intercept: whether the last of the shared numbers is a 1, whose weight is not kept small.
        device: where they are summed.
    """

    def __init__(self, shared: int, ahead: int, horizon: int, intercept: bool, device: torch.device) -> None:
        self.intercept = intercept

        def zeros(*size: int) -> torch.Tensor:
            return torch.zeros(*size, dtype=torch.float64, device=device)

        self.gram = zeros(shared, shared)
        self.absent: dict[int, torch.Tensor] = {}
        """Of the windows whose target is missing at a step: what its regression leaves out of `gram`."""
        self.between, self.own = zeros(horizon, shared, ahead), zeros(horizon, ahead, ahead)
        self.moment, self.own_moment = zeros(shared, horizon), zeros(horizon, ahead)

    def add(
        self, shared: torch.Tensor, ahead: torch.Tensor | None, target: torch.Tensor, observed: torch.Tensor
    ) -> None:
        """Add windows: (B, S), (B, U, K), (B, U) and (B, U)."""
        target = torch.where(observed, target, 0).to(shared.dtype)
        self.gram += (shared.T @ shared).double()
        self.moment += (shared.T @ target).double()
        for step in (~observed).any(dim=0).nonzero()[:, 0].tolist():
            missed = shared[~observed[:, step]]
            products = (missed.T @ missed).double()
            self.absent[step] = self.absent[step] + products if step in self.absent else products
        if ahead is not None:
            there = (ahead * observed[:, :, None]).transpose(0, 1)  # (U, B, K)
            self.between += (shared.T @ there).double()
            self.own += (there.mT @ there).double()
            self.own_moment += (there.mT @ target.T[:, :, None])[:, :, 0].double()

    def solve(self, penalty: float) -> torch.Tensor:
        """Solve for the weights of all steps: (U, S + K)."""
        penalties = torch.full(
            (len(self.gram) + self.own.shape[1],), penalty, dtype=torch.float64, device=self.gram.device
        )
        if self.intercept:
            penalties[len(self.gram) - 1] = (
                1e-9 * penalty
            )  # enough to be solved where another column is constant as well
        if not self.absent and not self.own.shape[1]:  # one matrix for all steps
            return cast(torch.Tensor, torch.linalg.solve(self.gram + penalties.diag(), self.moment)).T
        return torch.stack([self._solve_step(step, penalties) for step in range(self.moment.shape[1])])

    def _solve_step(self, step: int, penalties: torch.Tensor) -> torch.Tensor:
        shared = self.gram - self.absent[step] if step in self.absent else self.gram
        between = self.between[step]
        gram = torch.cat([torch.cat([shared, between], dim=1), torch.cat([between.T, self.own[step]], dim=1)])
        moment = torch.cat([self.moment[:, step], self.own_moment[step]])
        return cast(torch.Tensor, torch.linalg.solve(gram + penalties.diag(), moment))


def carried(past: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Let the value before stand for one that is missing; 0 where there is none before it.

    Args:
        past: (B, T), 0 where missing.
        observed: (B, T), 1 where observed.

    Returns:
        (B, T).
    """
    steps = torch.arange(past.shape[1], device=past.device).expand_as(past)
    newest = torch.where(observed > 0, steps, 0).cummax(dim=1).values
    return past.gather(1, newest)


def _columns_of_codes(codes: torch.Tensor, counts: tuple[int, ...]) -> list[torch.Tensor]:
    """Give each code of texts (..., C) a column of its own: C tensors (..., count)."""
    return [one_hot(codes[..., place].long(), count) for place, count in enumerate(counts)]
