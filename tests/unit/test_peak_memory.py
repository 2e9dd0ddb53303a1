"""What a process says of its memory is its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateline import peak_memory

LARGE = 300 * 2**20
STARTS = """
import subprocess, sys
held = bytearray(int(sys.argv[1]))
held[::4096] = b"x" * len(held[::4096])
subprocess.run([sys.executable, "-I", "-c", sys.argv[2], sys.argv[3]], check=True)
"""
SAYS = """
import runpy, sys
print(runpy.run_path(sys.argv[1])["peak_memory"]())
"""


@pytest.mark.skipif(
    not peak_memory.STATUS.exists(), reason="Linux says what a process held, others what its parent held, too"
)
def test_a_process_does_not_answer_for_the_one_that_started_it() -> None:
    command = [sys.executable, "-c", STARTS, str(LARGE), SAYS, str(Path(peak_memory.__file__))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < LARGE / 2


def test_what_is_held_is_counted_with_and_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = bytearray(LARGE)
    held[::4096] = b"x" * len(held[::4096])
    assert peak_memory.peak_memory() > LARGE
    monkeypatch.setattr(peak_memory, "STATUS", tmp_path / "absent")
    assert peak_memory.peak_memory() > LARGE
