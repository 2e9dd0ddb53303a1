"""Kubeflow's face of the step register: its command line in a container; kfp reads the annotations, so none is postponed."""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent


def register(image: str) -> BaseComponent:
    """Make the component; digests are parameters, since Kubeflow's cache key sees no content of artifacts and images."""

    @dsl.container_component
    def register(
        workload: str,
        raw: dsl.Input[dsl.Dataset],
        report: dsl.Input[dsl.Artifact],
        prepared: dsl.Input[dsl.Dataset],
        model: dsl.Input[dsl.Model],
        evaluation: dsl.Input[dsl.Artifact],
        release: dsl.Output[dsl.Artifact],
        model_card: dsl.Output[dsl.Markdown],
        data_digest: str,
        code_version: str,
        image_digest: str,
    ) -> dsl.ContainerSpec:
        """Register the model, and promote it if it wins."""
        return dsl.ContainerSpec(
            image=image,
            command=[
                *("python", "-m", "components.register", "--workload", workload),
                *("--raw", raw.path),
                *("--report", report.path),
                *("--prepared", prepared.path),
                *("--model", model.path),
                *("--evaluation", evaluation.path),
                *("--release", release.path),
                *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
            ],
        )

    return register
