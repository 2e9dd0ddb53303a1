"""Build the images of the steps, and say which they are."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from gateline.adapters.door import run_step, tell
from gateline.adapters.project import Project
from infra.images.build import MAPPING, Settings, build, read_mapping, require_all
from infra.images.content import STEPS
from infra.images.engine import ENGINES, Engine


def parser() -> argparse.ArgumentParser:
    """Name the flags."""
    flags = argparse.ArgumentParser(prog="python -m infra.images", description=__doc__)
    commands = flags.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser("build", help="build what is not there")
    make.add_argument("--step", action="append", choices=STEPS, help="only this one; may be repeated")
    make.add_argument("--torch", choices=("cpu", "cuda"), default="cpu", help="of the image of train (default: cpu)")
    make.add_argument("--base", metavar="IMAGE", help="base image (default: python:3.11-slim-bookworm)")
    make.add_argument("--engine", choices=ENGINES, help="(default: the first that answers)")
    make.add_argument("--wheels", type=Path, metavar="DIR", help="wheels to install from (default: collected by pip)")
    make.add_argument(
        "--pip-conf", type=Path, metavar="FILE", help="let pip ask an index during the build, as this says"
    )
    make.add_argument("--ca", type=Path, metavar="FILE", help="certificate of that index")
    make.set_defaults(do=_build)
    commands.add_parser("show", help="print image, digest and size of each step as JSON").set_defaults(do=_show)
    commands.add_parser("flags", help="print them as flags of `python -m pipelines.compile`").set_defaults(do=_flags)
    return flags


def _build(args: argparse.Namespace) -> None:
    settings = Settings(args.base, args.torch, args.wheels, args.pip_conf, args.ca)
    root = Project.find(Path.cwd()).root
    for step, made in build(root, Engine.find(args.engine), settings, args.step or STEPS, tell).items():
        tell(f"{step:<11} {made['bytes'] / 1e6:6,.0f} MB  {made['image']}")
    tell(f"written: {MAPPING}")


def _show(_: argparse.Namespace) -> None:
    print(json.dumps(read_mapping(Project.find(Path.cwd()).root), indent=2))


def _flags(_: argparse.Namespace) -> None:
    images = read_mapping(Project.find(Path.cwd()).root)
    require_all(images)
    print(" ".join(f"--image {step}={images[step]['image']}@{images[step]['digest']}" for step in STEPS))


def _run(args: argparse.Namespace) -> None:
    args.do(args)


if __name__ == "__main__":
    sys.exit(run_step(parser(), _run))
