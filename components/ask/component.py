"""Kubeflow's face of the question before the steps; kfp reads the annotations, so none is postponed."""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent


def ask(image: str) -> BaseComponent:
    """Make the component; its answer is `go`, yes or no."""

    @dsl.container_component
    def ask(
        workload: str,
        run: str,
        data_digest: str,
        code_version: str,
        settings_digest: str,
        only_if_changed: bool,
        go: dsl.OutputPath(str),  # type: ignore[valid-type]  # as kfp reads it
    ) -> dsl.ContainerSpec:
        """Has anything changed since the last run that ended well?"""
        return dsl.ContainerSpec(
            image=image,
            command=[
                *("python", "-m", "components.ask", "--workload", workload),
                *("--run", run),
                *("--data-digest", data_digest),
                *("--code-version", code_version),
                *("--settings-digest", settings_digest),
                *("--only-if-changed", only_if_changed),
                *("--go", go),
                *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
            ],
        )

    return ask
