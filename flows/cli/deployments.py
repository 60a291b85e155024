"""Command ``ffavatar deploy``: every flow as a deployment of a Prefect server, which any worker of its pool can run.

A deployment stores no secret: the process of a run takes addresses and credentials from the worker's environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL

from flows.captures import render_capture_corpus
from flows.cluster import cluster
from flows.convert import convert
from flows.curriculum import curriculum
from flows.mine import mine
from flows.publish import publish
from flows.recrop import recrop
from flows.retry import retry
from flows.train import train
from infra.console import CallError, print_table, say
from infra.settings import QUIET
from mfhq.masking import has_credentials

NAME = "ffavatar"
"""Name of each flow's deployment: ``prefect deployment run mine/ffavatar``."""
POOL_TYPE = "process"
"""Type of a work pool that ``deploy`` makes; one of another type that is there already is used as it is."""


@dataclass(frozen=True)
class Deployed:
    """Flow that is deployed."""

    flow: Flow[..., Any]
    """The flow."""
    tags: tuple[str, ...]
    """Tags of its runs."""
    cron: str = ""
    """Times of its schedule, in UTC, which is off until an operator turns it on; empty for no schedule."""


DEPLOYED = (
    Deployed(mine, ("corpus",), cron="0 2 * * *"),
    Deployed(retry, ("corpus",), cron="0 4 * * 6"),
    Deployed(publish, ("corpus",), cron="0 4 * * 0"),
    Deployed(cluster, ("corpus",)),
    Deployed(recrop, ("corpus",)),
    Deployed(convert, ("corpus", "captures")),
    Deployed(render_capture_corpus, ("corpus", "captures")),
    Deployed(train, ("training",)),
    Deployed(curriculum, ("training",)),
)
"""All deployments."""


def deploy_command(pool: str, source: str | None, corpus: str | None) -> None:
    """Run ``ffavatar deploy``; the same call again renews the deployments, and keeps schedules as they are.

    Args:
        pool: Name of the work pool.
        source: Default source of ``mine``; None for none.
        corpus: Default corpus; None for none.

    Raises:
        CallError: ``PREFECT_API_URL`` is not set.
    """
    server = PREFECT_API_URL.value()
    if not server:
        raise CallError("PREFECT_API_URL is not set; name the API of a Prefect server, such as http://HOST:4200/api")
    if has_credentials(server):
        raise CallError("PREFECT_API_URL has a password in it; set PREFECT_API_AUTH_STRING instead")
    defaults = {name: value for name, value in {"source": source, "corpus": corpus}.items() if value}
    with get_client(sync_client=True) as client:
        _make_pool(client, pool)
        rows = [_deploy(client, deployed, pool, defaults) for deployed in DEPLOYED]
    print_table(f"deployments at {server}", ("deployment", "schedule (UTC)", "on", "default parameters"), rows)
    say("a worker for them: prefect worker start --pool {pool}", pool=pool)


def _make_pool(client: SyncPrefectClient, pool: str) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=pool, type=POOL_TYPE))
    except ObjectAlreadyExists:
        client.read_work_pool(pool)


def _deploy(
    client: SyncPrefectClient, deployed: Deployed, pool: str, defaults: dict[str, str]
) -> tuple[str, str, str, str]:
    """Create or renew a deployment, and return its row for the operator."""
    flow = deployed.flow
    names = flow.parameters.properties
    parameters = {name: value for name, value in defaults.items() if name in names}
    made: RunnerDeployment = flow.to_deployment(  # type: ignore[assignment]  # Prefect types it as a coroutine, too
        name=NAME,
        tags=list(deployed.tags),
        parameters=parameters,
        schedules=_schedules(client, deployed),
        job_variables={"env": QUIET},
        entrypoint_type=EntrypointType.MODULE_PATH,
        description=flow.description,
    )
    made.apply(work_pool_name=pool)
    stored = client.read_deployment_by_name(f"{flow.name}/{NAME}")
    schedules = [(s.schedule.cron, s.active) for s in stored.schedules if isinstance(s.schedule, CronSchedule)]
    times = ", ".join(cron for cron, _ in schedules)
    on = ", ".join("yes" if active else "no" for _, active in schedules)
    return f"{flow.name}/{NAME}", times, on, ", ".join(f"{k}={v}" for k, v in parameters.items())


def _schedules(client: SyncPrefectClient, deployed: Deployed) -> list[Any]:
    """Return the schedules that an operator has set, or at the first call the project's own, which is off."""
    try:
        known = client.read_deployment_by_name(f"{deployed.flow.name}/{NAME}").schedules
    except ObjectNotFound:
        return [Cron(deployed.cron, timezone="UTC", active=False)] if deployed.cron else []
    kept = set(DeploymentScheduleCreate.model_fields)
    return [DeploymentScheduleCreate(**{k: v for k, v in dict(s).items() if k in kept}) for s in known]
