"""The training pipeline: which step reads what; kfp reads the annotations, so none is postponed."""

from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.evaluate.component import evaluate
from components.ingest.component import ingest
from components.preprocess.component import preprocess
from components.register.component import register
from components.train.component import train
from components.validate.component import validate

STEPS = {
    "ingest": ingest,
    "validate": validate,
    "preprocess": preprocess,
    "train": train,
    "evaluate": evaluate,
    "register": register,
}
"""The factory of each step's component, in their order."""


def training_pipeline(images: Mapping[str, str]) -> BaseComponent:
    """Join the six steps.

    Each step gets its own part of the workload as JSON text (`Workload.read(..., step=...)` keeps that part too), so
    editing `gates` leaves the cached training alone.

    Args:
        images: image of each step, named by digest.

    Returns:
        The pipeline. `data_digest` names the raw files, `code_version` the commit.
    """
    make = {step: factory(images[step]) for step, factory in STEPS.items()}
    image_digest = {step: image.partition("@")[2] for step, image in images.items()}

    @dsl.pipeline(name="gateline-training", description="Ingest, validate, preprocess, train, evaluate, register.")
    def training(
        ingest_workload: str,
        validate_workload: str,
        preprocess_workload: str,
        train_workload: str,
        evaluate_workload: str,
        register_workload: str,
        seed: int,
        device: str,
        precision: str,
        processes: int,
        checkpoints: str,
        data_digest: str,
        code_version: str,
    ) -> None:
        def of(step: str) -> dict[str, Any]:
            return {"data_digest": data_digest, "code_version": code_version, "image_digest": image_digest[step]}

        raw = make["ingest"](workload=ingest_workload, **of("ingest")).outputs["raw"]
        report = make["validate"](workload=validate_workload, raw=raw, **of("validate")).outputs["report"]
        prepared = make["preprocess"](workload=preprocess_workload, raw=raw, report=report, **of("preprocess")).outputs[
            "prepared"
        ]
        model = make["train"](
            workload=train_workload,
            prepared=prepared,
            seed=seed,
            device=device,
            precision=precision,
            processes=processes,
            checkpoints=checkpoints,
            **of("train"),
        ).outputs["model"]
        evaluation = make["evaluate"](
            workload=evaluate_workload, prepared=prepared, model=model, **of("evaluate")
        ).outputs["evaluation"]
        release = make["register"](
            workload=register_workload,
            raw=raw,
            report=report,
            prepared=prepared,
            model=model,
            evaluation=evaluation,
            **of("register"),
        )
        # Who is champion is known to the registry alone, so a cached answer would be an old one.
        release.set_caching_options(enable_caching=False)

    return training
