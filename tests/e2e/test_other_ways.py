"""The ways beside a healing: observing, closing by hand, and people who cannot be reached for a while."""

from __future__ import annotations

from typing import Any

import pytest

from firebreak.cli.game_day import GameDay
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.lab import control
from firebreak.lab.faults import fault_named

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.servers,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),  # a lab is started first
]


def _told_of_its_end(seen: list[TimelineEntry]) -> bool:
    return {"message/chat/closed", "message/postmortem"} <= {entry.key for entry in seen}


async def _silence(world: Any) -> None:
    """The shop as at the start, and no alert fires: the next test's engine must not find this one's."""
    await control.heal(world.lab.state)

    async def silent() -> bool:
        return not await control.firing_alerts(world.lab.state)

    await world.until(silent, "silence")


async def test_an_observing_engine_records_all_and_writes_nothing(world: Any) -> None:
    """Mode observe: verdict, plan and evidence as ever, `would` in place of each write, and a person is paged."""
    since = world.marks()
    async with world.engine("observing", FIREBREAK_MODE="observe") as engine:
        await control.break_shop(world.lab.state, "wedged-pods")
        try:
            incident_id = await world.incident(
                engine,
                lambda seen: any(
                    e.kind is EntryKind.MESSAGE_DELIVERED and e.body["pager"] == "trigger_high" for e in seen
                ),
            )
            await control.mend(world.lab.state)
            await world.incident(engine, _told_of_its_end)
        finally:
            await _silence(world)
        entries = await world.entries(engine, incident_id)
        kinds = world.kinds(entries)
        assert world.writes(since) == []
        assert EntryKind.PLAN_PINNED in kinds
        assert EntryKind.EVIDENCE_KEPT in kinds
        assert EntryKind.INTENT_RECORDED not in kinds
        would = next(e for e in entries if e.kind is EntryKind.STEP_WOULD_APPLY)
        (change,) = would.body["check"]["changes"]
        assert "restartedAt" in change["path"]
        pages = world.pages(since, incident_id)  # all at once: the page does not wait behind the notice
        assert {("trigger", "warning", "notice"), ("trigger", "critical", "page")} == set(pages[:2])
        keys = [key for key, *_ in world.posts(since, incident_id)]
        assert keys[0] == "chat/classified"
        assert "chat/would/0.0" in keys
        code, out, _ = await world.firebreak(engine, "postmortem", incident_id)
        assert code == 0
        assert "restartedAt" in out


async def test_a_person_closes_an_incident_by_hand(world: Any) -> None:
    """`firebreak close` ends it while nothing has healed: reason and name are in the record, nothing is written on."""
    since = world.marks()
    async with world.engine("closed") as engine:
        await control.break_shop(world.lab.state, "unfixable")
        try:
            await world.incident(engine, lambda seen: any(e.kind is EntryKind.EFFECT_RECORDED for e in seen))
            code, _, err = await world.firebreak(engine, "close", "last", "--reason", "known to us", "--by", "ada")
            assert (code, err) == (0, "")
            incident_id = await world.incident(engine, _told_of_its_end)
        finally:
            await _silence(world)
        entries = await world.entries(engine, incident_id)
        (closed,) = [e for e in entries if e.kind is EntryKind.INCIDENT_CLOSED]
        assert closed.actor == "person:ada"
        assert closed.body["outcome"] == "closed_by_hand"
        assert closed.body["reason"] == "known to us"
        assert world.writes(since) == [("deployments", "pay-v1")]
        assert (engine.data_dir / "postmortems" / f"{incident_id}.md").exists()
        assert world.pages(since, incident_id)[-1] == ("resolve", "", "notice")
        code, _, err = await world.firebreak(engine, "close", "last", "--reason", "again")
        assert code != 0
        assert "is over already" in err


async def test_a_bystander_of_an_outage_is_left_alone(world: Any) -> None:
    """While pay is broken and the shop suffers, an alert names recommend, which is well: its verdict is reached on the
    real signals, a person hears of it, and nothing of recommend is written."""
    since = world.marks()
    async with world.engine("bystander") as engine:
        await control.break_shop(world.lab.state, "unfixable")
        try:
            await world.incident(engine, lambda seen: any(e.kind is EntryKind.EFFECT_RECORDED for e in seen))
            assert (
                await world.alert(engine, alertname="SomebodySays", service="recommend", deployment="recommend-v1")
                == 200
            )
            entries = await world.told(engine, "recommend", EntryKind.PERSON_CALLED)
        finally:
            await _silence(world)
        verdicts = [e.body["verdict"] for e in entries if e.kind is EntryKind.VERDICT_REACHED]
        assert verdicts[-1]["truth"] == "true"
        assert not verdicts[-1]["may_act"]
        assert "recommend" in verdicts[-1]["act_reason"]
        assert not {EntryKind.PLAN_PINNED, EntryKind.INTENT_RECORDED, EntryKind.EFFECT_RECORDED} & {
            e.kind for e in entries
        }
        assert not [write for write in world.writes(since) if "recommend" in write[1]]


async def test_people_who_cannot_be_reached_never_stop_the_healing(world: Any) -> None:
    """Chat down and pager rate-limited: healed all the same, each failure is written down, all arrives afterwards."""
    lab = world.lab
    fault = fault_named("wedged-pods")
    async with world.engine("unheard") as engine:
        await control.fetch("POST", f"{lab.state.slack_url}/control", {"mode": "down"})
        await control.fetch("POST", f"{lab.state.pagerduty_url}/control", {"mode": "ratelimited", "retry_after": 2})
        try:
            ending = await GameDay(state=engine.state, data_dir=engine.data_dir).play(fault)
            assert not [p for p in ending.problems if "paged" not in p]
            entries = await world.entries(engine, ending.incident_id)
            failed = {e.body["channel"]: e for e in entries if e.kind is EntryKind.MESSAGE_FAILED}
            assert set(failed) == {"chat", "pager"}
            assert "wait" in failed["pager"].body["error"]
            assert "503" in failed["chat"].body["error"]
            assert not [e for e in entries if e.kind is EntryKind.MESSAGE_DELIVERED and e.body["channel"] == "chat"]
        finally:
            since = world.marks()
            for url in (lab.state.slack_url, lab.state.pagerduty_url):
                await control.fetch("POST", f"{url}/control", {"mode": "ok"})

        async def arrived() -> bool:
            told = [key for key, *_ in world.posts(since, ending.incident_id)]
            paged = world.pages(since, ending.incident_id)
            return told[-1:] == ["chat/closed"] and paged[-1:] == [("resolve", "", "notice")]

        await world.until(arrived, "what was kept back", seconds=150)
        told = [key for key, *_ in world.posts(since, ending.incident_id)]
        assert told == ["chat/classified", "chat/applied/0.0", "chat/healed/0.0", "chat/closed"]
        assert world.pages(since, ending.incident_id)[0] == ("trigger", "warning", "notice")
