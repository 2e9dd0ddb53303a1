"""What train would refuse before it reads any data: the settings of a workload, and values that a search may try."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from gateline.errors import WorkloadError
from gateline.tasks import task_named
from gateline.training import read_settings
from gateline.workload import Workload
from gateline.workload.overrides import with_settings
from gateline.workload.search import Dimension, Scalar

MOST_TRIES = 256
"""Combinations of the other settings after which a value has the benefit of the doubt; its trials may still fail."""


def check_settings(workload: Workload, preprocess: Any, searched: Sequence[Dimension]) -> None:
    """Refuse settings that train would refuse, and values to search whose every trial it would.

    A value that is refused only beside some of the others may be tried.

    Args:
        workload: all of it.
        preprocess: its section of that name.
        searched: the settings to search. Of a range, both ends are looked at.

    Raises:
        WorkloadError: the sections do not fit together or the windows, or train takes a value with none of the others.
    """
    _check(workload, preprocess)
    for dimension in searched:
        others = [other for other in searched if other is not dimension]
        for value in _values(dimension):
            tries = itertools.product(*(_values(other) for other in others))
            refused: WorkloadError | None = None
            for rest in itertools.islice(tries, MOST_TRIES):
                settings = {dimension.key: value} | {other.key: at for other, at in zip(others, rest, strict=True)}
                try:
                    _check(with_settings(workload, settings), preprocess)
                    break
                except WorkloadError as error:
                    refused = refused or error  # the first is beside the present settings, and says it best
            else:
                if refused is not None and next(tries, None) is None:
                    where = refused.where.removeprefix(f"{workload.place}: ")
                    raise WorkloadError(
                        f"{workload.place}: search.settings.{dimension.key}",
                        expected="values that train takes",
                        found=f"{value!r}, which it refuses ({where}: expected {refused.expected}; found {refused.found})",
                        do=refused.do,
                    ) from refused


def _check(workload: Workload, preprocess: Any) -> None:
    model, _ = read_settings(workload)
    task_named(workload.task).check_network(model, preprocess)


def _values(dimension: Dimension) -> Iterator[Scalar]:
    """List the values of a setting, the present one first; of a range, it and the ends."""
    values = dimension.choices if dimension.kind == "choice" else (dimension.low, dimension.high)
    yield dimension.present
    yield from (value for value in values if value != dimension.present)
