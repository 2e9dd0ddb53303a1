"""Kubeflow's face of the step ingest: its command line in a container; kfp reads the annotations, so none is postponed."""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent


def ingest(image: str) -> BaseComponent:
    """Make the component; digests are parameters, since Kubeflow's cache key sees no content of artifacts and images."""

    @dsl.container_component
    def ingest(
        workload: str,
        raw: dsl.Output[dsl.Dataset],
        data_digest: str,
        code_version: str,
        image_digest: str,
    ) -> dsl.ContainerSpec:
        """Fetch the raw files and make the table."""
        return dsl.ContainerSpec(
            image=image,
            command=[
                *("python", "-m", "components.ingest", "--workload", workload),
                *("--raw", raw.path),
                *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
            ],
        )

    return ingest
