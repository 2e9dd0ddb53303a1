"""Kubeflow's face of the step preprocess: its command line in a container; kfp reads the annotations, so none is postponed."""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent


def preprocess(image: str) -> BaseComponent:
    """Make the component; digests are parameters, since Kubeflow's cache key sees no content of artifacts and images."""

    @dsl.container_component
    def preprocess(
        workload: str,
        raw: dsl.Input[dsl.Dataset],
        report: dsl.Input[dsl.Artifact],
        prepared: dsl.Output[dsl.Dataset],
        data_digest: str,
        code_version: str,
        image_digest: str,
    ) -> dsl.ContainerSpec:
        """Split, fit on the training part, scale."""
        return dsl.ContainerSpec(
            image=image,
            command=[
                *("python", "-m", "components.preprocess", "--workload", workload),
                *("--raw", raw.path),
                *("--report", report.path),
                *("--prepared", prepared.path),
                *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
            ],
        )

    return preprocess
