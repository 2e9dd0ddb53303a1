"""Build the images of the steps and of the servers, push them, and say which they are."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateline.adapters.door import run_step, tell
from gateline.adapters.project import Project
from infra.images import registry, servers
from infra.images.build import MAPPING, Settings, build, read_mapping, require_all
from infra.images.content import STEPS
from infra.images.engine import ENGINES, Engine
from infra.images.registry import push, pushed
from infra.images.servers import build_servers


def parser() -> argparse.ArgumentParser:
    """Name the flags."""
    flags = argparse.ArgumentParser(prog="python -m infra.images", description=__doc__)
    commands = flags.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser("build", help="build those of the steps that are not there")
    make.add_argument("--step", action="append", choices=STEPS, help="only this one; may be repeated")
    make.add_argument(
        "--torch", choices=("cpu", "cuda"), help="of the image of train (default: as it was built last, cpu at first)"
    )
    make.add_argument("--wheels", type=Path, metavar="DIR", help="wheels to install from (default: collected by pip)")
    make.set_defaults(do=_build)
    beside = commands.add_parser("servers", help="build those of MLflow, PostgreSQL and the object store")
    beside.set_defaults(do=_servers, torch=None, wheels=None)
    for command in (make, beside):
        command.add_argument("--base", metavar="IMAGE", help="base image (default: python:3.11-slim-bookworm)")
        command.add_argument(
            "--pip-conf", type=Path, metavar="FILE", help="let pip ask an index during the build, as this says"
        )
        command.add_argument("--ca", type=Path, metavar="FILE", help="certificate of that index")
    send = commands.add_parser("push", help="push all that were built to a registry")
    send.add_argument("registry", metavar="REGISTRY", help="host and path before the names, e.g. registry.example/team")
    send.set_defaults(do=_push)
    for command in (make, beside, send):
        command.add_argument("--engine", choices=ENGINES, help="(default: the first that answers)")
    commands.add_parser("show", help="print image, digest and size of each step as JSON").set_defaults(do=_show)
    commands.add_parser(
        "flags", help="print those that were pushed as flags of `python -m pipelines.compile`"
    ).set_defaults(do=_flags)
    return flags


def _build(args: argparse.Namespace) -> None:
    root = Project.find(Path.cwd()).root
    made = build(root, Engine.find(args.engine), _settings(args), args.step or STEPS, tell)
    _tell_of(made, MAPPING)


def _servers(args: argparse.Namespace) -> None:
    root = Project.find(Path.cwd()).root
    _tell_of(build_servers(root, Engine.find(args.engine), _settings(args), tell), servers.MAPPING)


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(args.base, args.torch, args.wheels, args.pip_conf, args.ca)


def _tell_of(images: Mapping[str, Mapping[str, Any]], written: Path) -> None:
    for name, made in images.items():
        variant = f"  torch for {made['torch']}" if "torch" in made else ""
        tell(f"{name:<12} {made['bytes'] / 1e6:6,.0f} MB  {made['image']}{variant}")
    tell(f"written: {written}")


def _push(args: argparse.Namespace) -> None:
    root = Project.find(Path.cwd()).root
    known = push(root, Engine.find(args.engine), args.registry, _built(root), tell)
    for name, there in known.items():
        tell(f"{name:<12} {there['image']}")
    tell(f"written: {registry.MAPPING}")


def _built(root: Path) -> dict[str, dict[str, Any]]:
    found = read_mapping(root)
    path = root / servers.MAPPING
    return {**found, **(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})}


def _show(_: argparse.Namespace) -> None:
    print(json.dumps(read_mapping(Project.find(Path.cwd()).root), indent=2))


def _flags(_: argparse.Namespace) -> None:
    root = Project.find(Path.cwd()).root
    images = read_mapping(root)
    require_all(images)
    there = pushed(root, {step: images[step] for step in STEPS})
    print(" ".join(f"--image {step}={there[step]}" for step in STEPS))


def _run(args: argparse.Namespace) -> None:
    args.do(args)


if __name__ == "__main__":
    sys.exit(run_step(parser(), _run))
