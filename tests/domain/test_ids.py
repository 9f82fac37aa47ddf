"""Ids are made from incident and step alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from firebreak.domain import ids

AT = datetime(2026, 11, 21, 8, 36, 44, tzinfo=UTC)


def test_the_same_opening_alert_gives_the_same_incident_id() -> None:
    """A crash between opening and acknowledging must not open a second incident."""
    first = ids.incident_id("lab/pay", "f@1", AT)
    assert first == ids.incident_id("lab/pay", "f@1", AT)
    assert first.startswith("inc-20261121-083644-")
    assert ids.is_incident_id(first)


def test_another_alert_or_time_gives_another_incident_id() -> None:
    """Two incidents of one service are told apart."""
    names = {
        ids.incident_id("lab/pay", "f@1", AT),
        ids.incident_id("lab/pay", "f@2", AT),
        ids.incident_id("lab/order", "f@1", AT),
        ids.incident_id("lab/pay", "f@1", AT + timedelta(seconds=1)),
    }
    assert len(names) == 4


def test_workflow_ids_name_their_incident() -> None:
    """What Temporal shows can be looked up in the record."""
    incident = ids.incident_id("lab/pay", "f@1", AT)
    assert incident in ids.incident_workflow_id(incident)
    assert incident in ids.restore_workflow_id(incident, 1, 0)


def test_each_step_and_its_undo_have_keys_of_their_own() -> None:
    """One annotation per step: the next one must not overwrite it."""
    keys = {ids.step_annotation(ids.step_key("i", t, s, undo=u)) for t in (0, 1) for s in (0, 1) for u in (False, True)}
    assert len(keys) == 8
    assert all(key.startswith("firebreak.dev/step-") and len(key.split("/")[1]) <= 63 for key in keys)


@pytest.mark.parametrize("seconds", [0, 0.25, -62135596800, 1795291200])
def test_the_record_of_an_alert_about_the_engine_says_its_start(seconds: float) -> None:
    """To the second, also one before 1970; the record of another fingerprint says none."""
    start = datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
    record = ids.own_alert_record("f1", start)
    assert record.startswith(ids.own_alert_records("f1"))
    assert ids.own_alert_start(record, "f1") == start.replace(microsecond=0)
    for other in ("engine-f1-7-1795291200", "engine-f1--99999999999", "engine-f1-", "parked-1"):
        assert ids.own_alert_start(other, "f1") is None
