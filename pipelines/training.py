"""The training pipeline: which step reads what; kfp reads the annotations, so none is postponed."""

from collections.abc import Mapping
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

from components.ask.component import ask
from components.conclude.component import conclude
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


IMAGE_OF_BESIDE = "ingest"
"""The step whose image the two tasks beside the steps run in: it reads addresses, knows MLflow and has no torch."""
BESIDE = ("ask", "conclude")
"""Whether there is anything to do, before the steps; and how they ended, whatever became of them."""

SECONDS = {
    **dict.fromkeys(BESIDE, 900),
    "ingest": 2 * 3600,
    "validate": 3600,
    "preprocess": 4 * 3600,
    "train": 72 * 3600,
    "evaluate": 4 * 3600,
    "register": 3600,
}
"""After which a step is stopped; a training that is stopped goes on from its checkpoints when it is run again."""
RETRIES = {step: 10 if step == "train" else 3 for step in (*BESIDE, *STEPS)}
"""Kubeflow cannot choose by exit code: a step that refuses does so again within seconds, one that was preempted goes on."""
WAIT_SECONDS = 120
"""Between two tries, each time: a refused training has used up its tries after 20 minutes, and outlives a server that is away as long."""
ROOM_SECONDS = 24 * 3600
"""That a pod may wait for room on a node."""
CONFIG, SECRET = "gateline", "gateline-s3"
"""ConfigMap and Secret of the namespace, see `infra/kubernetes`: where MLflow and the object store are, and the keys."""
TRACKING, STORE = "MLFLOW_TRACKING_URI", ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL", "AWS_REGION")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
WEBHOOK_SECRET, WEBHOOK = "gateline-webhook", "GATELINE_WEBHOOK"
"""Secret, if there is one, with the address (key `address`) that is told how each run ended, and variable that holds it."""
TELLS = {"gateline-tells": "true"}
"""Label of the pods that tell it; a NetworkPolicy of `infra/kubernetes` lets only them reach who listens."""
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
"""Label of every pod: where Kubeflow's namespace has a mesh, a step is no part of it, as Kubeflow's own pods around it are none."""
KUBEFLOW_RUN = "GATELINE_KUBEFLOW_RUN"
CPU_BESIDE, MEMORY_BESIDE = "500m", "1Gi"
USER = 10001  # as in infra/images/Dockerfile


def training_pipeline(images: Mapping[str, str], digest: str = "") -> BaseComponent:
    """Join the question, the six steps and the last word.

    Each step gets its own part of the workload as JSON text (`Workload.read(..., step=...)` keeps that part too), so
    editing `gates` leaves the cached training alone. What a pod gets is a parameter, too: one pipeline serves every workload.

    Args:
        images: image of each step, named by digest.
        digest: of this very pipeline compiled without it, for the passport.

    Returns:
        The pipeline. `data_digest` names the raw files, `code_version` the library's source, `settings_digest` all the rest.
        With `only_if_changed` it ends early, and well, where none of them is another than in the last run that ended well.
    """
    steps = _six_steps(images, digest)
    image = images[IMAGE_OF_BESIDE]

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
        ingest_cpu: str,
        ingest_memory: str,
        validate_cpu: str,
        validate_memory: str,
        preprocess_cpu: str,
        preprocess_memory: str,
        train_cpu: str,
        train_memory: str,
        train_gpus: str,
        train_gpu_type: str,
        train_node_selector: dict,  # type: ignore[type-arg]  # as kfp reads it
        train_tolerations: list,  # type: ignore[type-arg]
        evaluate_cpu: str,
        evaluate_memory: str,
        register_cpu: str,
        register_memory: str,
        settings_digest: str,
        only_if_changed: bool = False,
    ) -> None:
        def beside(made: Any, name: str) -> Any:
            made.set_cpu_request(CPU_BESIDE).set_cpu_limit(CPU_BESIDE)
            made.set_memory_request(MEMORY_BESIDE).set_memory_limit(MEMORY_BESIDE)
            _as_every_pod(made, name, image, digest)
            # What MLflow knows by now, no cache can say.
            return made.set_caching_options(enable_caching=False)

        # Kubeflow's driver puts the run's id in the place of this where it is all of a task's input, and nothing does in a command.
        # Source: `resolveInputParameter` of kubeflow/pipelines, and `compileCmdAndArgs`, which knows inputs and outputs alone.
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        concluded = beside(conclude(image)(workload=ingest_workload, run=run), "conclude")
        _may_tell(concluded)
        with dsl.ExitHandler(concluded, name="asked-and-done"):
            asked = beside(
                ask(image)(
                    workload=ingest_workload,
                    run=run,
                    data_digest=data_digest,
                    code_version=code_version,
                    settings_digest=settings_digest,
                    only_if_changed=only_if_changed,
                ),
                "ask",
            )
            with dsl.If(asked.outputs["go"] == "yes", name="something-to-do"):
                steps(
                    ingest_workload=ingest_workload,
                    validate_workload=validate_workload,
                    preprocess_workload=preprocess_workload,
                    train_workload=train_workload,
                    evaluate_workload=evaluate_workload,
                    register_workload=register_workload,
                    seed=seed,
                    device=device,
                    precision=precision,
                    processes=processes,
                    checkpoints=checkpoints,
                    data_digest=data_digest,
                    code_version=code_version,
                    ingest_cpu=ingest_cpu,
                    ingest_memory=ingest_memory,
                    validate_cpu=validate_cpu,
                    validate_memory=validate_memory,
                    preprocess_cpu=preprocess_cpu,
                    preprocess_memory=preprocess_memory,
                    train_cpu=train_cpu,
                    train_memory=train_memory,
                    train_gpus=train_gpus,
                    train_gpu_type=train_gpu_type,
                    train_node_selector=train_node_selector,
                    train_tolerations=train_tolerations,
                    evaluate_cpu=evaluate_cpu,
                    evaluate_memory=evaluate_memory,
                    register_cpu=register_cpu,
                    register_memory=register_memory,
                )

    return training


def _six_steps(images: Mapping[str, str], digest: str) -> BaseComponent:
    """Join the steps; a pipeline of its own, since kfp does not pass what only limits use into the branch of a condition."""
    make = {step: factory(images[step]) for step, factory in STEPS.items()}
    image_digest = {step: image.partition("@")[2] for step, image in images.items()}

    @dsl.pipeline(name="six-steps")
    def six_steps(
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
        ingest_cpu: str,
        ingest_memory: str,
        validate_cpu: str,
        validate_memory: str,
        preprocess_cpu: str,
        preprocess_memory: str,
        train_cpu: str,
        train_memory: str,
        train_gpus: str,
        train_gpu_type: str,
        train_node_selector: dict,  # type: ignore[type-arg]  # as kfp reads it
        train_tolerations: list,  # type: ignore[type-arg]
        evaluate_cpu: str,
        evaluate_memory: str,
        register_cpu: str,
        register_memory: str,
    ) -> None:
        def task(step: str, cpu: Any, memory: Any, **arguments: Any) -> Any:
            made = make[step](
                data_digest=data_digest, code_version=code_version, image_digest=image_digest[step], **arguments
            )
            made.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
            _as_every_pod(made, step, images[step], digest)
            return made

        raw = task("ingest", ingest_cpu, ingest_memory, workload=ingest_workload).outputs["raw"]
        report = task("validate", validate_cpu, validate_memory, workload=validate_workload, raw=raw).outputs["report"]
        prepared = task(
            "preprocess", preprocess_cpu, preprocess_memory, workload=preprocess_workload, raw=raw, report=report
        ).outputs["prepared"]
        trained = task(
            "train",
            train_cpu,
            train_memory,
            workload=train_workload,
            prepared=prepared,
            seed=seed,
            device=device,
            precision=precision,
            processes=processes,
            checkpoints=checkpoints,
        )
        trained.set_accelerator_type(train_gpu_type).set_accelerator_limit(train_gpus)
        kubernetes.add_node_selector_json(trained, train_node_selector)
        kubernetes.add_toleration_json(trained, train_tolerations)
        # Workers and processes that share memory do so there, and a pod's own has 64 MB.
        kubernetes.empty_dir_mount(trained, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit="2Gi")  # noqa: S108
        model = trained.outputs["model"]
        evaluation = task(
            "evaluate", evaluate_cpu, evaluate_memory, workload=evaluate_workload, prepared=prepared, model=model
        ).outputs["evaluation"]
        release = task(
            "register",
            register_cpu,
            register_memory,
            workload=register_workload,
            raw=raw,
            report=report,
            prepared=prepared,
            model=model,
            evaluation=evaluation,
        )
        # Who is champion is known to the registry alone, so a cached answer would be an old one.
        release.set_caching_options(enable_caching=False)
        # Whom it promoted, where `gates.notify.webhook_env` of the workload names the variable.
        _may_tell(release)

    return six_steps


def _may_tell(task: Any) -> None:
    """Give a task the webhook's address, if there is one, and the way to it."""
    kubernetes.use_secret_as_env(task, WEBHOOK_SECRET, {"address": WEBHOOK}, optional=True)
    for key, value in TELLS.items():
        kubernetes.add_pod_label(task, key, value)


def _as_every_pod(task: Any, step: str, image: str, digest: str) -> None:
    """Give a step what every pod has: tries and time, the servers' addresses and keys, and what the passport asks for."""
    # Argo counts its `maxDuration` from the beginning of the first try, and starts no other after it and stops what runs: so it is
    # the time of all tries, not of a wait, which has no upper limit and therefore does not grow.
    # Source: kubeflow/pipelines#13452 and #14245, `processNodeRetries` in argo-workflows.
    longest = (RETRIES[step] + 1) * (ROOM_SECONDS + SECONDS[step] + WAIT_SECONDS)
    task.set_retry(
        RETRIES[step], backoff_duration=f"{WAIT_SECONDS}s", backoff_factor=1, backoff_max_duration=f"{longest}s"
    )
    kubernetes.set_timeout(task, SECONDS[step])
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    # Without a tracking server a pod does not even start, rather than lose its results with itself.
    kubernetes.use_config_map_as_env(task, CONFIG, {TRACKING: TRACKING})
    kubernetes.use_config_map_as_env(task, CONFIG, {key: key for key in STORE}, optional=True)
    # Where the cluster lends rights to service accounts, there is no secret. Every task has the keys, also those whose code opens no
    # store: Kubeflow's launcher, which carries the artifacts, runs in the task's container, and where the ConfigMap `kfp-launcher` has no
    # `providers` it opens an s3:// pipeline root of Amazon's by these variables, AWS_REGION among them, without which it ends. A store of
    # another kind needs `providers`. Source: `ProvideSessionInfo` and `newS3Client` of kubeflow/pipelines, and its issue #10846.
    kubernetes.use_secret_as_env(task, SECRET, {key: key for key in KEYS}, optional=True)
    # Kubeflow labels every pod of a run so; in MLflow the runs of the steps are found by it.
    kubernetes.use_field_path_as_env(task, KUBEFLOW_RUN, "metadata.labels['pipeline/runid']")
    for key, value in NO_SIDECAR.items():
        kubernetes.add_pod_label(task, key, value)
    task.set_env_variable("GATELINE_IMAGE", image)
    if digest:
        task.set_env_variable("GATELINE_PIPELINE_DIGEST", digest)
