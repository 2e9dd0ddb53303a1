"""PostgreSQL, an object store and MLflow on this machine: start them, stop them, say where they are."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from gateline.adapters.door import run_step, tell
from gateline.adapters.project import Project
from infra.local.stack import Stack, ports

FOLDER = ".stack"


def parser() -> argparse.ArgumentParser:
    """Name the flags."""
    flags = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    commands = flags.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("up", help="start what does not run").set_defaults(do=_up)
    down = commands.add_parser("down", help="stop them")
    down.add_argument("--data", action="store_true", help="and remove what they keep")
    down.set_defaults(do=_down)
    commands.add_parser("env", help="print what a shell needs: eval $(python -m infra.local env)").set_defaults(do=_env)
    for command in commands.choices.values():
        command.add_argument("--folder", type=Path, metavar="DIR", help="of the servers' files (default: .stack)")
    return flags


def _stack(args: argparse.Namespace) -> Stack:
    root = Project.find(Path.cwd()).root
    return Stack(root, (args.folder or root / FOLDER).resolve(), ports(), tell)


def _up(args: argparse.Namespace) -> None:
    _stack(args).up()
    tell("to use it: eval $(python -m infra.local env)")


def _down(args: argparse.Namespace) -> None:
    _stack(args).down(with_data=args.data)


def _env(args: argparse.Namespace) -> None:
    for name, value in _stack(args).environment().items():
        print(f"export {name}={shlex.quote(value)}")


def _run(args: argparse.Namespace) -> None:
    args.do(args)


if __name__ == "__main__":
    sys.exit(run_step(parser(), _run))
