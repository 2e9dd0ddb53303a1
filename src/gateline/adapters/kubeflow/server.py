"""A server of Kubeflow Pipelines, through the client of kfp."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from gateline.errors import RegistryError, UnreachableError, WorkloadError
from gateline.manifest import file_digest

TOKEN = "GATELINE_KUBEFLOW_TOKEN"  # noqa: S105  the variable's name
SECONDS = (5.0, 60.0)
"""To connect, and to wait for an answer: the client of kfp would wait for ever for a server that takes a request and says nothing."""
UPLOAD_SECONDS = (60.0, 300.0)
"""The same for an upload, which is sent as long as the first of the two allows, and is read by Kubeflow before it answers."""
ONCE_AGAIN = 1
"""How often what the server broke off, or left unanswered, is asked again at once; never what starts or makes something."""


def version_name(pipeline: Path) -> str:
    """Name the version of a compiled pipeline by its bytes, so that the same file is the same version.

    Raises:
        WorkloadError: it is no compiled pipeline.
    """
    pipeline_name(pipeline)
    return f"sha256-{file_digest(pipeline)[:16]}"


def pipeline_name(pipeline: Path) -> str:
    """Read the name that a compiled pipeline has.

    Raises:
        WorkloadError: it is no compiled pipeline.
    """
    try:
        spec = next(iter(yaml.safe_load_all(pipeline.read_text(encoding="utf-8"))))
        return str(spec["pipelineInfo"]["name"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, StopIteration, KeyError, TypeError) as error:
        raise WorkloadError(
            f"--pipeline {pipeline}",
            expected="a pipeline as `python -m pipelines.compile` writes it",
            found=" ".join(str(error).split())[:120] or type(error).__name__,
            do="Compile it and name that file",
        ) from error


def required_pipeline(pipeline: Path | None) -> Path:
    """Refuse to go on without a compiled pipeline."""
    if pipeline is None:
        raise WorkloadError(
            "--pipeline",
            expected="a compiled pipeline",
            found="none",
            do="Write one with `python -m pipelines.compile` and name its file",
        )
    return pipeline


class NotLetInError(RegistryError):
    """Kubeflow takes no token, or this one not any more, or not for this."""


class KubeflowServer:
    """A server of Kubeflow Pipelines.

    Args:
        host: its address, e.g. http://localhost:8888.
        namespace: of the user; None where there is only one.

    Raises:
        WorkloadError: the address or the token cannot be one.
        UnreachableError: it does not answer.
        NotLetInError: it wants a token, another one or another namespace.
        RegistryError: it refuses, or something else than Kubeflow answers.
    """

    def __init__(self, host: str, namespace: str | None = None) -> None:
        import kfp
        import kfp_server_api

        _require_address(host)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # tries are told when they are used up
        self.host = host
        self.namespace = namespace
        token = _token()
        with _answers(host), _quiet():
            # Asked here, since kfp's client would wait for ever, or try for 25 seconds to find out what the first answer says.
            settings = kfp_server_api.Configuration(host=host.rstrip("/"))
            if token is not None:
                settings.api_key, settings.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
            first = kfp_server_api.ApiClient(settings)
            _refuse_pages(first, host)
            _give_up_in_time(first)
            health = kfp_server_api.HealthzServiceApi(first).healthz_service_get_healthz()

            class Client(kfp.Client):  # type: ignore[misc]  # kfp has no types
                def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:  # noqa: ARG002  asked while it is made
                    return health

            self.client = Client(host=host, namespace=namespace or "kubeflow", existing_token=token)
            shared = self.client._run_api.api_client  # by all of kfp's interfaces
            _refuse_pages(shared, host)
            _give_up_in_time(shared)

    def upload(self, pipeline: Path) -> tuple[str, str]:
        """Make sure that a compiled pipeline is there, in the user's namespace if it has one.

        Returns:
            Ids of the pipeline and of the version.
        """
        name, version = pipeline_name(pipeline), version_name(pipeline)
        with self.asked():
            # Said in both calls: what the client was made with does not reach them, and without it a pipeline is shared by all.
            page = self.client.list_pipelines(namespace=self.namespace, filter=_named(name))
            pipeline_id = next((each.pipeline_id for each in page.pipelines or []), None)
            if pipeline_id is None:
                made = self.client.upload_pipeline(str(pipeline), pipeline_name=name, namespace=self.namespace)
                pipeline_id = made.pipeline_id
            there = self._version(pipeline_id, version)
            if there is None:
                there = self.client.upload_pipeline_version(
                    str(pipeline), pipeline_version_name=version, pipeline_id=pipeline_id
                ).pipeline_version_id
        return pipeline_id, there

    def _version(self, pipeline_id: str, name: str) -> str | None:
        page = self.client.list_pipeline_versions(pipeline_id, filter=_named(name))
        return next((each.pipeline_version_id for each in page.pipeline_versions or []), None)

    def experiment(self, name: str) -> str:
        """Find or make an experiment, and say its id."""
        with self.asked():
            return str(self.client.create_experiment(name, namespace=self.namespace).experiment_id)

    def delete_recurring_run(self, run: str) -> None:
        """Delete a recurring run and leave what it started alone: by default Kubeflow ends its running runs with it."""
        # The client of kfp 2.17 cannot say so; the interface beneath it can.
        self.client._recurring_run_api.recurring_run_service_delete_recurring_run(run, propagation_policy="ORPHAN")

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Say what went wrong as an error of ours, and keep the client from printing.

        Raises:
            UnreachableError: no answer, or a fault of the server's.
            NotLetInError: 401, 403, or a page to log in.
            RegistryError: it refuses.
        """
        with _answers(self.host), _quiet():
            yield


def _named(name: str) -> str:
    equals = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [equals]})


def _require_address(host: str) -> None:
    try:
        address = urlsplit(host)
        usable = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # a port that is none, brackets that do not close
        usable = False
    if not usable or host != "".join(host.split()):
        raise WorkloadError(
            "--host",
            expected="the address of Kubeflow Pipelines, such as http://localhost:8888",
            found=repr(host.rpartition("@")[2][:80]),
            do="Correct it",
        )
    if address.username is not None:
        raise WorkloadError(
            "--host",
            expected="an address without a name and a password, which every line about it would show",
            found="one with them",
            do=f"Put a token into {TOKEN}",
        )


def _token() -> str | None:
    """Take the token from the environment, since a flag would be seen in the list of processes; an empty one is none."""
    token = os.environ.get(TOKEN, "").strip()
    if any(not "!" <= letter <= "~" for letter in token):
        raise WorkloadError(
            TOKEN,
            expected="a token: one word of letters, digits and signs",
            found=f"{len(token)} characters with a space, a line break or another that no header can carry",
            do="Put the token alone there, without `Bearer`",
        )
    return token or None


def _refuse_pages(client: Any, host: str) -> None:
    """Take nothing but JSON from a server: the client of kfp reads a login page as an answer in which nothing stands."""
    read = client.deserialize

    def deserialize(response: Any, kind: Any) -> Any:
        if response.data or kind != "object":  # of what is done to a run, no word need be said
            try:
                answer = json.loads(response.data)
            except ValueError:
                answer = None
            if not isinstance(answer, dict):
                raise _no_api(host)
        return read(response, kind)

    client.deserialize = deserialize


def _give_up_in_time(client: Any) -> None:
    """Wait for no answer for ever."""
    import urllib3

    rest, request = client.rest_client, client.rest_client.request
    rest.pool_manager.connection_pool_kw["retries"] = urllib3.Retry(3, read=ONCE_AGAIN)

    def in_time(method: str, url: str, **more: Any) -> Any:
        seconds = UPLOAD_SECONDS if "/pipelines/upload" in urlsplit(url).path else SECONDS
        return request(method, url, **{**more, "_request_timeout": more.get("_request_timeout") or seconds})

    rest.request = in_time


def _no_api(host: str) -> NotLetInError:
    return NotLetInError(
        host,
        expected="Kubeflow's interface, which answers in JSON",
        found="a page, such as one to log in",
        do=f"Put a valid token into {TOKEN}, or correct the address",
    )


@contextmanager
def _answers(host: str) -> Iterator[None]:
    import kfp_server_api
    import urllib3

    try:
        yield
    except (urllib3.exceptions.HTTPError, TimeoutError, OSError) as error:
        last_try = getattr(error, "reason", None) or error  # without its address
        raise UnreachableError(
            host,
            expected="an answer of Kubeflow Pipelines",
            found=" ".join(str(last_try).split())[:160],
            do="Look whether the address is right and the server runs, then run the same command again",
        ) from error
    except UnicodeDecodeError as error:
        raise _no_api(host) from error
    except kfp_server_api.ApiException as error:
        said = " ".join(str(error.body or error.reason).split())[:200]
        if error.status is None or error.status >= 500 or error.status == 429:
            raise UnreachableError(
                host, expected="an answer", found=f"status {error.status}: {said}", do="Run the same command again"
            ) from error
        found = f"status {error.status}: {said}"
        if error.status in (401, 403):
            profile = ", and name your profile with --namespace" if error.status == 403 else ""
            do = f"Put a valid token into {TOKEN}{profile}"
            raise NotLetInError(host, expected="leave to do so", found=found, do=do) from error
        raise RegistryError(
            host, expected="a request that Kubeflow accepts", found=found, do="Look at what it refuses"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The client prints links and warns of versions before 2.0; what `apply` does, it says itself."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        yield
