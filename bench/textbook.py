"""The textbook engine: a web handler that starts a workflow, one worker with default options.

It does the same job with the same hands (tree, ledger, actions); only the way they are put together is the tutorial's.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from aiohttp import web
from temporalio.client import Client
from temporalio.worker import Worker

from activities import notices
from bench.textbook_workflow import TextbookWorkflow
from firebreak.domain import ids
from firebreak.domain.alert import Alert, Disposition, IntakeClass
from firebreak.domain.codec import to_data
from firebreak.domain.incident import Incident, Mode
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.engine.hands import Hands, hands
from firebreak.gateway.alertmanager import parse_webhook
from firebreak.settings import Settings, load_settings
from firebreak.triage.intake import correlation_key
from workflows.converter import DATA_CONVERTER

QUEUE = "textbook"


def _incident(alert: Alert, made: Hands, now: datetime) -> Incident:
    resolution = made.rulebook.current().resolve(alert)
    key = correlation_key(resolution.cluster, resolution.service, alert)
    return Incident(
        id=ids.incident_id(key, alert.key, now),
        opened_at=now,
        accepted_at=now,
        intake_class=IntakeClass.P1_CANDIDATE,
        correlation_key=key,
        service=resolution.service,
        target=resolution.target,
        alert=alert,
        refusal=resolution.refusal,
        pod=resolution.pod,
        bindings=resolution.bindings,
    )


async def _take(body: bytes, made: Hands, client: Client) -> None:
    """The alert's incident in the record, then its workflow; only then the sender hears 200."""
    for alert in parse_webhook(body).alerts:
        incident = _incident(alert, made, datetime.now(UTC))
        opened, joined = (
            EntryDraft(
                incident_id=incident.id,
                key=key,
                kind=kind,
                at=incident.opened_at,
                actor="alertmanager",
                body=to_data(incident),
            )
            for key, kind in (("opened", EntryKind.INCIDENT_OPENED), ("joined", EntryKind.ALERT_JOINED))
        )
        page = notices.unclassified(incident.id, 0, incident.opened_at, notices.UNCLASSIFIED_AFTER, Mode.ACT)
        incident_id, disposition = await made.store.open_or_join(
            incident, opened=opened, joined=joined, messages=(page,)
        )
        if disposition is Disposition.OPENED:
            await client.start_workflow(
                TextbookWorkflow.run, incident_id, id=ids.incident_workflow_id(incident_id), task_queue=QUEUE
            )


async def _serve(settings: Settings) -> None:
    client = await Client.connect(settings.temporal_address, data_converter=DATA_CONVERTER)
    async with (
        hands(settings) as made,
        Worker(client, task_queue=QUEUE, workflows=[TextbookWorkflow], activities=list(made.activities)),
    ):

        async def take(request: web.Request) -> web.Response:
            await _take(await request.read(), made, client)
            return web.json_response({"accepted": 1})

        async def ready(_: web.Request) -> web.Response:
            return web.json_response({"status": "ready"})

        app = web.Application()
        app.router.add_post("/v1/alerts/alertmanager", take)
        app.router.add_get("/readyz", ready)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, settings.gateway_host, settings.gateway_port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(load_settings()))
