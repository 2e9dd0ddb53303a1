"""`gateline` on the command line: write a workload, check it, run it, see what became of it, and put it to use.

Each command parses its arguments, makes one call and prints. Imports stand in the commands, so `--help` is quick. One file
per kind of command; the order of the imports is the order in `gateline --help`.
"""

# ruff: noqa: I001

from __future__ import annotations

from gateline.cli.app import app
from gateline.cli import workloads  # noqa: F401  (each file adds its commands)
from gateline.cli import runs  # noqa: F401
from gateline.cli import serving  # noqa: F401
from gateline.cli import drift  # noqa: F401
from gateline.cli import cluster  # noqa: F401
from gateline.cli import trust  # noqa: F401
from gateline.cli import registry  # noqa: F401

__all__ = ["app"]
