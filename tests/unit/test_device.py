"""What glibc is told to do with freed memory, whatever it answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gateline.device import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_freed_memory


@pytest.mark.parametrize(
    ("most", "told"),
    [
        (2**31, [(M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1)]),
        (2**25, [(M_MMAP_THRESHOLD, 2**30), (M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**31 - 1)]),
        (2**17, [(M_MMAP_THRESHOLD, 2**30), (M_MMAP_THRESHOLD, 2**25)]),
    ],
    ids=["glibc 2.35 and later", "glibc up to 2.34", "one that accepts neither"],
)
def test_trimming_is_turned_off_only_where_a_larger_threshold_holds(
    most: int, told: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:
        heard.append((option, value))
        return int(option != M_MMAP_THRESHOLD or value <= most)

    monkeypatch.setattr("ctypes.CDLL", lambda _name: SimpleNamespace(mallopt=mallopt))
    keep_freed_memory()
    assert heard == told


def test_a_system_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: SimpleNamespace())
    keep_freed_memory()
