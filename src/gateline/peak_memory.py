"""The largest memory of this process. Also run by path where nothing of the project may be imported, so it imports nothing of it."""

from __future__ import annotations

import resource
from pathlib import Path

STATUS = Path("/proc/self/status")
KIBIBYTE = 1024


def peak_memory() -> int:
    """Largest resident set of this process so far, in bytes.

    `ru_maxrss` of Linux is no less than what the process that started this one held at that moment, so it is asked only where there
    is no /proc.
    """
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return KIBIBYTE * int(line.split()[1])
    return KIBIBYTE * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
