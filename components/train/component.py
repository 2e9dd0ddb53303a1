"""Kubeflow's face of the step train: its command line in a container; kfp reads the annotations, so none is postponed."""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent


def train(image: str) -> BaseComponent:
    """Make the component; digests are parameters, since Kubeflow's cache key sees no content of artifacts and images."""

    @dsl.container_component
    def train(
        workload: str,
        prepared: dsl.Input[dsl.Dataset],
        model: dsl.Output[dsl.Model],
        training_metrics: dsl.Output[dsl.Metrics],
        seed: int,
        device: str,
        precision: str,
        processes: int,
        checkpoints: str,
        data_digest: str,
        code_version: str,
        image_digest: str,
    ) -> dsl.ContainerSpec:
        """Train."""
        return dsl.ContainerSpec(
            image=image,
            command=[
                *("python", "-m", "components.train", "--workload", workload),
                *("--prepared", prepared.path),
                *("--model", model.path),
                *("--seed", seed, "--device", device, "--precision", precision),
                *("--processes", processes, "--checkpoints", checkpoints),
                *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
            ],
        )

    return train
