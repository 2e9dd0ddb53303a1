"""Section `gates`: what a model must pass before anyone relies on it."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gateline.errors import require_known
from gateline.workload.section import Section

Share = Annotated[float, Field(ge=0, lt=1)]


class Baseline(Section):
    """How the model must compare with one baseline, by the metric of the gates."""

    rule: Literal["superior", "non_inferior"] = "superior"
    """superior: better by more than `margin`; non_inferior: not worse by more than `margin`."""
    margin: Share = 0.0
    """Relative to the baseline's metric, e.g. 0.02 is 2 %."""
    metrics: tuple[str, ...] = ()
    """Compared as well, all of which must hold by the same rule and margin; of accuracy, auroc, bleu and the like more is
    better, of errors less. One of a slice is written ``KEY=VALUE/METRIC``, e.g. ``city=BASEL/mae_at_7``."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    """With it the rule must be *shown* to hold: the one-sided bound of the difference on the same test examples, by the same
    bootstrap as the champion's, whose `resamples` it takes, lies beyond the margin. Of the gates' metric, and of those among `metrics` that are sums over
    examples; auroc, bleu, and metrics of slices are compared as measured. None: all of them are."""


class Limit(Section):
    """Absolute bounds of one metric on the test part, in its own unit."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Limit:
        if self.min is None and self.max is None:
            raise ValueError("`min` or `max`: a limit without bounds passes everything")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` at or below `max`: nothing lies between {self.min:g} and {self.max:g}")
        return self


class Champion(Section):
    """How a challenger must compare with the champion on the same test examples."""

    rule: Literal["superior", "non_inferior"] = "superior"
    """superior: shown to be better by more than `margin` of the champion's metric; non_inferior: not to be worse by more."""
    margin: Share = 0.0
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """One-sided confidence of the block-bootstrap bound on the difference. Of the first challenger on a test part and of all that follow together: the k-th is tested with (1 - confidence) / (k (k + 1))."""
    resamples: Annotated[int, Field(ge=100)] = 2000

    @model_validator(mode="after")
    def _resolves_the_bound(self) -> Champion:
        if self.resamples < (least := _resamples_for(self.confidence)):
            raise ValueError(f"`resamples` of at least {least}: a bound at this confidence is read off the 10 farthest")
        return self


def _resamples_for(confidence: float) -> int:
    return math.ceil(round(10 / (1 - confidence), 6))


class Serving(Section):
    """Where what was registered is asked the golden requests before it may be promoted, and what it may take."""

    environment: Literal["process", "fresh"] = "process"
    """fresh: an environment built from the model's own requirements, kept for the next time; in an image, the image.
    process: the libraries that are here, in a process that holds nothing of this one. Both prove that every requirement of
    the model is there in exactly its version."""
    start_seconds: Annotated[float, Field(gt=0)] = 120.0
    """From the start of the process to the first answer that can be given, imports included."""
    latency_ms: Annotated[float, Field(gt=0)] = 10_000.0
    """Of an answer to the request for one row or sequence, the middle of five."""
    memory_mb: Annotated[float, Field(gt=0)] = 8_192.0
    """The most that the process holds while it answers all golden requests, in MiB."""


class Notify(Section):
    """Who is told of each decision, in JSON. What cannot be told is said, and never changes the decision."""

    command: tuple[str, ...] = ()
    """Program and arguments, started without a shell; reads the decision from its standard input."""
    webhook_env: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Environment variable that holds the address to POST to: an address often is a secret, and none stands in this file."""


class Gates(Section):
    """What a model must pass. All of it, or it is not registered as champion."""

    metric: str = "mae"
    """The metric that baselines and champion are compared by; lower is better."""
    min_examples: Annotated[int, Field(ge=1)] = 100
    """Test examples (windows, sentences, recordings) below which nothing can be judged, so the verdict is no."""
    baselines: Annotated[dict[str, Baseline], Field(min_length=1)]
    limits: dict[str, Limit] = {}
    slice_margin: Share = 0.10
    """How much worse, relative to the champion, the metric of any slice of `evaluation.slices` may get. A slice that is large
    enough must be shown not to be worse by more."""
    small_slices: Literal["report", "refuse"] = "report"
    """Slices too small to tell. report: they are named, and refused only where they are seen to be worse; refuse: always."""
    champion: Champion = Champion()
    approval: Literal["none", "required"] = "none"
    """required: a challenger that wins waits as challenger until a person says `gateline promote`."""
    notify: Notify = Notify()
    serving: Serving = Serving()

    @model_validator(mode="after")
    def _resolves_the_bounds(self) -> Gates:
        for name, rule in self.baselines.items():
            least = 0 if rule.confidence is None else _resamples_for(rule.confidence)
            if self.champion.resamples < least:
                raise ValueError(
                    f"`champion.resamples` of at least {least}, or a lower `baselines.{name}.confidence`: its bound is read off "
                    "the 10 farthest"
                )
        return self

    def compared_metrics(self) -> list[str]:
        """Name every metric by which a baseline is compared, each once: `metric` first."""
        return list(dict.fromkeys([self.metric, *(name for rule in self.baselines.values() for name in rule.metrics)]))

    def require_measured(
        self, baselines: Collection[str], metrics: Collection[str], comparable: Collection[str]
    ) -> None:
        """Refuse, before anything is trained, what evaluate would not find among its figures.

        Args:
            baselines: those that `evaluation` names.
            metrics: what the task measures; of slices, too.
            comparable: metrics that models may be compared by.

        Raises:
            WorkloadError: a gate names something else.
        """
        for name, rule in self.baselines.items():
            require_known("gates.baselines", name, baselines)
            for metric in rule.metrics:
                require_known(f"gates.baselines.{name}.metrics", metric.rpartition("/")[2], metrics)
        for name in self.limits:
            require_known("gates.limits", name.rpartition("/")[2], metrics)
        require_known("gates.metric", self.metric, comparable)

    def named_metrics(self) -> set[str]:
        """Name every metric that something is asked of beside `metric`."""
        return {*self.limits, *(name for rule in self.baselines.values() for name in rule.metrics)}
