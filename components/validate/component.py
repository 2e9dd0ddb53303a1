"""Kubeflow's face of the step validate: its command line in a container; kfp reads the annotations, so none is postponed."""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent


def validate(image: str) -> BaseComponent:
    """Make the component; digests are parameters, since Kubeflow's cache key sees no content of artifacts and images."""

    @dsl.container_component
    def validate(
        workload: str,
        raw: dsl.Input[dsl.Dataset],
        report: dsl.Output[dsl.Artifact],
        data_report: dsl.Output[dsl.HTML],
        data_digest: str,
        code_version: str,
        image_digest: str,
    ) -> dsl.ContainerSpec:
        """Judge the data."""
        return dsl.ContainerSpec(
            image=image,
            command=[
                *("python", "-m", "components.validate", "--workload", workload),
                *("--raw", raw.path),
                *("--report", report.path),
                *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
            ],
        )

    return validate
