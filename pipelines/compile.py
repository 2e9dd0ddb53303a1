"""Compile the training pipeline to a file: `python -m pipelines.compile $(python -m infra.images flags) --output training.yaml`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gateline.adapters.door import run_step
from gateline.adapters.kubeflow.compiled import PINNED, require_faultless
from gateline.adapters.project import replace_text
from gateline.errors import WorkloadError, did_you_mean
from gateline.manifest import file_digest

STEPS = ("ingest", "validate", "preprocess", "train", "evaluate", "register")


def parser() -> argparse.ArgumentParser:
    """Name the flags."""
    flags = argparse.ArgumentParser(prog="python -m pipelines.compile", description=__doc__)
    flags.add_argument(
        "--image",
        required=True,
        action="append",
        metavar="[STEP=]REPO@sha256:DIGEST",
        help="image of every step, or of one; may be given again, and the image of one step goes before that of all",
    )
    flags.add_argument("--output", required=True, type=Path, metavar="FILE.yaml", help="file to write")
    return flags


def images_of(given: Sequence[str]) -> dict[str, str]:
    """Say which image runs which step.

    Raises:
        WorkloadError: an image is not named by digest, a step is unknown, or one has no image.
    """
    images: dict[str, str] = {}
    for argument in given:
        step, equals, image = argument.rpartition("=")
        if not PINNED.fullmatch(image):
            raise WorkloadError(
                "--image",
                expected="REPO@sha256:DIGEST, since a tag may mean something else tomorrow",
                found=repr(image),
                do="Take the digest that the push printed, or ask the registry for it",
            )
        if equals and step not in STEPS:
            raise WorkloadError("--image", expected="a step", found=repr(step), do=did_you_mean(step, STEPS))
        images[step] = image
    for_all = images.pop("", None)
    missing = [step for step in STEPS if for_all is None and step not in images]
    if missing:
        raise WorkloadError(
            "--image", expected="an image for each step", found=f"none for {', '.join(missing)}", do="Name one for all"
        )
    return {step: images.get(step) or str(for_all) for step in STEPS}


def compile_pipeline(args: argparse.Namespace) -> None:
    """Write the pipeline, the same bytes for the same images."""
    images = images_of(args.image)
    if args.output.suffix != ".yaml" or not args.output.parent.is_dir():
        raise WorkloadError(
            "--output", expected="a .yaml file in a folder that exists", found=str(args.output), do="Name another file"
        )
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "pipeline.yaml"
        _compile(images, "", draft)
        _compile(images, file_digest(draft), draft)
        text = draft.read_text(encoding="utf-8")
    require_faultless(text, args.output)
    replace_text(args.output, text)
    print(f"{args.output}: the training pipeline of {len(STEPS)} steps")


def _compile(images: dict[str, str], digest: str, target: Path) -> None:
    from kfp import compiler

    from pipelines.training import training_pipeline

    compiler.Compiler().compile(training_pipeline(images, digest), package_path=str(target))


if __name__ == "__main__":
    sys.exit(run_step(parser(), compile_pipeline))
