"""Kubeflow's face of the step evaluate: its command line in a container; kfp reads the annotations, so none is postponed."""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent


def evaluate(image: str) -> BaseComponent:
    """Make the component; digests are parameters, since Kubeflow's cache key sees no content of artifacts and images."""

    @dsl.container_component
    def evaluate(
        workload: str,
        prepared: dsl.Input[dsl.Dataset],
        model: dsl.Input[dsl.Model],
        evaluation: dsl.Output[dsl.Artifact],
        test_metrics: dsl.Output[dsl.Metrics],
        evaluation_report: dsl.Output[dsl.HTML],
        data_digest: str,
        code_version: str,
        image_digest: str,
    ) -> dsl.ContainerSpec:
        """Judge the model against the baselines."""
        return dsl.ContainerSpec(
            image=image,
            command=[
                *("python", "-m", "components.evaluate", "--workload", workload),
                *("--prepared", prepared.path),
                *("--model", model.path),
                *("--evaluation", evaluation.path),
                *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
            ],
        )

    return evaluate
