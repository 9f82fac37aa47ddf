"""The connection to Temporal: queues, TLS files, our converter."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import activity

from firebreak.domain.alert import IntakeClass
from firebreak.domain.errors import SettingsInvalid
from firebreak.engine.temporal import STICKY_TIMEOUT, connect, incident_worker, reset_stickiness, task_queue
from firebreak.servers.process import free_port
from firebreak.settings import Settings


def test_each_class_has_a_queue_of_its_own() -> None:
    """A prefix keeps two engines on one cluster apart."""
    settings = Settings(task_queue_prefix="blue")
    assert {task_queue(settings, c) for c in IntakeClass} == {"blue-p1", "blue-other"}


async def test_a_tls_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Before anything is dialled."""
    settings = Settings(temporal_address="127.0.0.1:1", temporal_tls_ca=tmp_path / "missing.pem")
    with pytest.raises(SettingsInvalid, match="missing"):
        await connect(settings)


async def test_an_address_that_is_none_is_named() -> None:
    """No traceback of the SDK, which calls it a URL."""
    with pytest.raises(SettingsInvalid, match=r"FIREBREAK_TEMPORAL_ADDRESS \(127\.0\.0\.1:99999\)"):
        await connect(Settings(temporal_address="127.0.0.1:99999"))


async def test_a_server_that_is_not_there_is_an_error() -> None:
    """At the start, not at the first alert."""
    with pytest.raises(RuntimeError):
        await connect(Settings(temporal_address=f"127.0.0.1:{free_port()}"))


@pytest.mark.servers
async def test_a_namespace_that_is_not_there_is_named(temporal_address: str) -> None:
    """At the start: workers said that they were ready, and ended again and again."""
    with pytest.raises(SettingsInvalid, match="no namespace shop") as caught:
        await connect(Settings(temporal_address=temporal_address, temporal_namespace="shop"))
    assert "FIREBREAK_TEMPORAL_NAMESPACE" in caught.value.next_step()


@pytest.mark.servers
async def test_the_client_speaks_our_values(temporal_address: str) -> None:
    """timedelta and frozen values go through, which the default converter refuses."""
    client = await connect(Settings(temporal_address=temporal_address))
    converter = client.data_converter
    payloads = await converter.encode([Sample(span=timedelta(milliseconds=1500))])
    assert await converter.decode(payloads, [Sample]) == [Sample(span=timedelta(milliseconds=1500))]


@pytest.mark.servers
async def test_a_worker_hands_a_dead_ones_tasks_on_soon(temporal_address: str) -> None:
    """Sticky tasks of a killed worker wait three seconds, not ten; slots and cache are as set."""
    client = await connect(Settings(temporal_address=temporal_address))
    worker = incident_worker(client, "q", [hand], slots=7, cached=11)
    config = worker.config(active_config=False)
    assert config["sticky_queue_schedule_to_start_timeout"] == STICKY_TIMEOUT == timedelta(seconds=3)
    assert config["max_concurrent_workflow_tasks"] == 7
    assert config["max_cached_workflows"] == 11
    assert len(config["workflows"]) == 2


@pytest.mark.servers
async def test_a_workflow_that_is_gone_needs_not_be_reset_stickiness(temporal_address: str) -> None:
    """It has ended, or Temporal is a new one: no error."""
    client = await connect(Settings(temporal_address=temporal_address))
    ended = await client.start_workflow("Any", id=f"ended-{uuid.uuid4()}", task_queue="nobody-listens")
    await ended.terminate()
    await reset_stickiness(client, ended.id)
    await reset_stickiness(client, "nobody-knows-it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    span: timedelta


@activity.defn(name="hand")
async def hand() -> None:
    """Nothing."""
