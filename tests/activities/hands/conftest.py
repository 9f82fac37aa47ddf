"""The hands on a real store; a cluster in memory that counts writes, metrics by script, and a clock that is set."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.actions import build, specs
from activities.call_evidence import CallEvidence
from activities.casebook import Casebook
from activities.evidence import EvidenceHands, EvidenceLimits
from activities.foresight import Foresight
from activities.gathering import Gathering
from activities.keeping import KeepHands, KeepLimits
from activities.looking import Looking, LookLimits
from activities.messages import CloseInput, GatherInput, GatherResult, RestoreInput, StepInput, VerifyInput
from activities.people import PeopleHands
from activities.recovery import RecoveryHands
from activities.restores import RestoreHands
from activities.rulebook import Rulebook, RulebookPaths
from activities.shared_lists import SharedLists
from activities.step_checks import StepChecks
from activities.steps import StepHands
from activities.verification import VerifyHands
from firebreak.domain import ids
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.codec import format_time, to_data
from firebreak.domain.condition import AnswerStatus, MetricAnswer, MetricQuery, Point
from firebreak.domain.errors import FirebreakError, PermanentError
from firebreak.domain.incident import Incident, IncidentOutcome, Mode
from firebreak.domain.message import NoticeText, PagerAction, Route
from firebreak.domain.target import ResourceKind
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.storage.sqlite_store import TIMELINE_FILE, TimelineStore
from firebreak.triage.intake import correlation_key

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)

SEVERITY = """\
kind: severity
name: p1
summary: for tests
durations: {window: 10s, step: 1s, stale_after: 10s, recheck: 5s, quiet: 20s, watch: 2m, doubt: 10s, hold_for: 10s}
thresholds: {errors: 0.1, seconds: 1}
conditions:
  failing:
    dimension: errors
    query: app_errors{service=$service}
    op: ">"
    threshold: $errors
    for: $hold_for
    inputs: ['app_errors{service=$service}']
  slow:
    dimension: latency
    query: app_latency{service=$service}
    op: ">"
    threshold: $seconds
    for: $hold_for
    inputs: ['app_latency{service=$service}']
tree: {any: [failing, slow]}
may_act: {dimensions: 2}
"""
POLICY = "kind: policy\nname: default\nsummary: for tests\nbaseline: {offset: 7d}\n"
SERVICES = """\
kind: services
cluster_label: cluster
services:
  pay:
    team: payments
    chat_channel: C0PAYMENTS1
    pager_key: paypaypaypaypaypaypaypaypaypaypa
    target: {namespace: shop, kind: Deployment, name: {label: deployment}}
    params: {flags: shop-flags}
"""
RUNBOOK = """\
kind: runbook
name: heal
summary: for tests
match: {severity: P1, params: [flags]}
durations: {stale_after: 10s, step: 1s, hold: 5s, within: 1m, settle: 2s, poll: 1s, restore_hold: 10s, far: 1h}
thresholds: {errors: 0.1}
conditions:
  few_errors:
    dimension: errors
    query: app_errors{service=$service}
    op: "<"
    threshold: $errors
    inputs: ['app_errors{service=$service}']
  part_is_dead:
    dimension: health
    query: app_probe{service=$service}
    op: "=="
    threshold: 0
    inputs: ['app_probe{service=$service}']
  part_answers:
    dimension: health
    query: app_probe{service=$service}
    op: "=="
    threshold: 1
    inputs: ['app_probe{service=$service}']
evidence: [pods, events]
hold: $hold
recovery: [few_errors]
tiers:
  - name: degrade
    steps:
      - id: flag-off
        action: set_flag
        params: {config_map: $flags, key: recommend.enabled, value: "false"}
        check: [part_is_dead]
        verify: {conditions: [few_errors], hold: $hold, within: $within, settle: $settle, poll: $poll}
        undo: action
        restore: {conditions: [part_answers], hold: $restore_hold, within: $far, poll: $poll}
  - name: restart
    steps:
      - id: restart
        action: restart_workload
        check: action
        verify: {conditions: [few_errors], hold: $hold, within: $within, settle: $settle, poll: $poll}
        undo: none
        undo_reason: nothing to put back
  - name: page
    steps:
      - {id: call, action: page}
"""


class Killed(BaseException):
    """The process dies here: no handler of ours runs, and what was on disk stays."""


class SetClock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class ScriptedMetrics:
    """One line of values per metric name; None = no sample. The value holds from its time on."""

    def __init__(self) -> None:
        self.lines: dict[str, list[tuple[datetime, float | None]]] = {}
        self.newest: dict[str, datetime] = {}
        self.status: dict[str, tuple[AnswerStatus, str]] = {}
        self.asked: list[tuple[str, ...]] = []
        self.timeouts: list[timedelta] = []

    def say(self, metric: str, value: float | None, *, since: datetime = START - timedelta(days=1)) -> None:
        kept = [(at, v) for at, v in self.lines.get(metric, []) if at < since]
        self.lines[metric] = [*kept, (since, value)]

    def value(self, metric: str, at: datetime) -> float | None:
        known = [v for since, v in self.lines.get(metric, []) if since <= at]
        return known[-1] if known else None

    async def range_batch(
        self,
        queries: Sequence[MetricQuery],
        *,
        start: datetime,
        end: datetime,
        step: timedelta,
        timeout: timedelta,
    ) -> tuple[MetricAnswer, ...]:
        self.asked.append(tuple(q.expr for q in queries))
        self.timeouts.append(timeout)
        return tuple(self._answer(q, start, end, step) for q in queries)

    def _answer(self, query: MetricQuery, start: datetime, end: datetime, step: timedelta) -> MetricAnswer:
        metric = next(name for name in ("app_errors", "app_latency", "app_probe") if name in query.expr)
        if metric in self.status:
            status, detail = self.status[metric]
            return MetricAnswer(key=query.key, status=status, detail=detail)
        points, at = [], end
        while at >= start:
            value = self.value(metric, at)
            if value is not None and "timestamp(" in query.expr:
                value = min(at, self.newest.get(metric, at)).timestamp()
            if value is not None:
                points.append(Point(at=at, value=repr(value)))
            at -= step
        return MetricAnswer(key=query.key, status=AnswerStatus.OK, points=tuple(reversed(points)))


class Ledger:
    """The real store; dies before or after the n-th call of a method, or answers with an error."""

    def __init__(self, store: TimelineStore) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()
        self.die_before: dict[str, int] = {}
        self.die_after: dict[str, int] = {}
        self.fail: dict[str, FirebreakError] = {}
        self.meanwhile: Callable[[], Awaitable[None]] | None = None  # once, after an intent is on disk

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            if name in self.fail:
                raise self.fail[name]
            if self.die_before.get(name) == self.calls[name]:
                raise Killed(f"before {name}")
            done = await real(*args, **kwargs)
            if self.die_after.get(name) == self.calls[name]:
                raise Killed(f"after {name}")
            if self.meanwhile is not None and name == "append" and args[0][0].kind is EntryKind.INTENT_RECORDED:
                happens, self.meanwhile = self.meanwhile, None
                await happens()
            return done

        return call


class Pages:
    """A pager that keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, PagerAction, str, NoticeText]] = []
        self.refuses: set[str] = set()  # routing keys

    async def send(
        self,
        routing_key: str,
        action: PagerAction,
        *,
        incident_id: str,
        text: NoticeText,
        details: Mapping[str, Any],
    ) -> str:
        if routing_key in self.refuses:
            raise PermanentError(f"PagerDuty refused the event of {incident_id}")
        self.sent.append((routing_key, action, incident_id, text))
        return "receipt"


class Routes:
    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook

    def route(self, service: str) -> Route:
        known = self._rulebook.current().route(service)
        return known if known.pager_key else Route(pager_key="fallback")


class Unhurried(Foresight):
    """Reads nothing of an act before its turn; a first look only where the dispatcher asks for one."""

    def begin(self, key: str, read: Callable[[], Awaitable[Any]], *, kind: str = "") -> None:
        if not kind:
            super().begin(key, read)


class World:
    """Documents, store, cluster, metrics; `hands()` makes the hands afresh, as a new process would."""

    def __init__(self, folder: Path, store: TimelineStore, cluster: Any) -> None:
        self.folder = folder
        self.store = store
        self.cluster = cluster
        self.clock = SetClock()
        self.metrics = ScriptedMetrics()
        self.pages = Pages()
        self.start = START
        self.Killed = Killed
        self.flags = cluster.put(
            ResourceKind.CONFIG_MAP, {"metadata": {"name": "shop-flags"}, "data": {"recommend.enabled": "true"}}
        )
        self.documents = folder / "documents"
        (self.documents / "catalog").mkdir(parents=True)
        self.write("severity.yaml", SEVERITY)
        self.write("policy.yaml", POLICY)
        self.write("services.yaml", SERVICES)
        self.write("catalog/heal.yaml", RUNBOOK)
        self.healthy()
        self.again()

    # --- documents ---------------------------------------------------------------------------------------------

    def write(self, name: str, text: str) -> Path:
        path = self.documents / name
        path.write_text(text)
        return path

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace `old`, which must be there exactly once."""
        text = (self.documents / name).read_text()
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        self.write(name, text.replace(old, new))

    # --- metrics -----------------------------------------------------------------------------------------------

    def healthy(self, *, since: datetime = START - timedelta(days=1)) -> None:
        self.metrics.say("app_errors", 0.0, since=since)
        self.metrics.say("app_latency", 0.1, since=since)
        self.metrics.say("app_probe", 0.0, since=since)

    def sick(self, *, since: datetime = START - timedelta(minutes=5)) -> None:
        self.metrics.say("app_errors", 0.5, since=since)
        self.metrics.say("app_latency", 3.0, since=since)

    # --- hands -------------------------------------------------------------------------------------------------

    def again(self, *, mode: Mode = Mode.ACT, ahead: bool = False) -> None:
        """A new process: nothing in memory, everything on disk. `ahead`: it reads ahead, as the engine does; tests that
        change the world between two hands go without."""
        self.ledger = Ledger(self.store)
        self.foresight = Foresight() if ahead else Unhurried()
        paths = RulebookPaths(
            catalog=self.documents / "catalog",
            severity=self.documents / "severity.yaml",
            policy=self.documents / "policy.yaml",
            services=self.documents / "services.yaml",
        )
        self.rulebook = Rulebook(paths, cluster="lab", specs=specs())
        self.casebook = Casebook(self.ledger, self.ledger)
        actions = build(self.cluster, dry_run_first=mode is Mode.ACT, clock=self.clock)
        self.actions = dict(actions)
        looking = Looking(self.metrics, self.clock, LookLimits())
        checks = StepChecks(
            casebook=self.casebook,
            looking=looking,
            actions=self.actions,
            clock=self.clock,
            foresight=self.foresight,
        )
        self.steps = StepHands(casebook=self.casebook, checks=checks, actions=self.actions, clock=self.clock, mode=mode)
        limits = EvidenceLimits(mode=mode, page_deadline=timedelta(seconds=60))
        lists = SharedLists(self.cluster)
        gathering = Gathering(
            casebook=self.casebook,
            metrics=self.metrics,
            cluster=self.cluster,
            rulebook=self.rulebook,
            clock=self.clock,
            swift=limits.query,
        )
        self.keeping = KeepHands(
            casebook=self.casebook,
            cluster=self.cluster,
            lists=lists,
            clock=self.clock,
            limits=KeepLimits(),
            foresight=self.foresight,
        )
        self.evidence = EvidenceHands(
            casebook=self.casebook,
            gathering=gathering,
            keeping=self.keeping,
            clock=self.clock,
            limits=limits,
            foresight=self.foresight,
            first_step=checks,
        )
        self.recovery = RecoveryHands(
            casebook=self.casebook, gathering=gathering, rulebook=self.rulebook, clock=self.clock, limits=limits
        )
        self.verification = VerifyHands(casebook=self.casebook, looking=looking, actions=self.actions, clock=self.clock)
        self.people = PeopleHands(
            casebook=self.casebook,
            pager=self.pages,
            routes=Routes(self.rulebook),
            clock=self.clock,
            evidence=CallEvidence(casebook=self.casebook, cluster=self.cluster, clock=self.clock, lists=lists),
        )
        self.restores = RestoreHands(
            casebook=self.casebook, looking=looking, actions=self.actions, clock=self.clock, mode=mode
        )

    async def run(
        self, hand: Callable[..., Any], given: Any, *, local: bool = True, attempt: int = 1, limit: float = 10
    ) -> Any:
        """As Temporal would call it: a local activity, or (`local=False`) the patient attempt number `attempt`, with
        `limit` seconds."""
        environment = ActivityEnvironment()
        given_time = timedelta(seconds=limit)
        environment.info = dataclasses.replace(
            environment.info, is_local=local, attempt=attempt, start_to_close_timeout=given_time
        )
        return await environment.run(hand, given)

    # --- an incident -------------------------------------------------------------------------------------------

    async def opened(self, *, truncated: int = 0, **labels: str) -> Incident:
        """An incident in the store, as the dispatcher opens it; or an alert that joins or repeats one."""
        said = {"alertname": "PayDown", "service": "pay", "deployment": "pay-v1", "cluster": "lab", **labels}
        alert = Alert(
            fingerprint=ids.label_fingerprint(said), status=AlertStatus.FIRING, labels=said, starts_at=self.clock.at
        )
        found = self.rulebook.current().resolve(alert)
        key = correlation_key(found.cluster, found.service, alert)
        incident = Incident(
            id=ids.incident_id(key, alert.key, self.clock.at),
            opened_at=self.clock.at,
            accepted_at=self.clock.at,
            intake_class=IntakeClass.P1_CANDIDATE,
            correlation_key=key,
            service=found.service,
            target=found.target,
            alert=alert,
            refusal=found.refusal,
            truncated=truncated,
            pod=found.pod,
            bindings=found.bindings,
            elsewhere=found.elsewhere,
        )
        draft = EntryDraft(
            incident_id=incident.id,
            key="opened",
            kind=EntryKind.INCIDENT_OPENED,
            at=self.clock.at,
            body=to_data(incident),
        )
        joined = dataclasses.replace(draft, key=f"joined/{alert.key}/7", kind=EntryKind.ALERT_JOINED)
        joined = dataclasses.replace(joined, body={"alert": to_data(alert)})
        await self.store.open_or_join(incident, opened=draft, joined=joined, messages=())
        return incident

    async def resolve(self, incident: Incident, *, truncated: int = 0) -> None:
        """Its source says that the alert is over, in a body that left `truncated` alerts out."""
        over = dataclasses.replace(incident.alert, status=AlertStatus.RESOLVED, ends_at=self.clock.at)
        await self.store.resolve_alert(over, at=self.clock.at, truncated=truncated)

    async def gather(self, incident: Incident, round: int = 0, *, local: bool = True, **more: Any) -> GatherResult:
        given = GatherInput(incident_id=incident.id, round=round, **more)
        result: GatherResult = await self.run(self.evidence.gather, given, local=local)
        return result

    async def planned(self) -> Incident:
        """A sick service whose plan is pinned; the flag is tier 0, the restart tier 1, the page tier 2."""
        self.sick()
        incident = await self.opened()
        seen = await self.gather(incident)
        assert seen.plan is not None, seen.reason
        self.digest = seen.plan.digest
        return incident

    def step(self, incident: Incident, tier: int = 0, step: int = 0) -> StepInput:
        return StepInput(incident_id=incident.id, plan_digest=self.digest, tier=tier, step=step)

    def look(self, incident: Incident, tier: int = 0, round: int = 0) -> VerifyInput:
        return VerifyInput(incident_id=incident.id, plan_digest=self.digest, tier=tier, step=0, round=round)

    def restore(self, incident: Incident, opened_at: datetime) -> RestoreInput:
        return RestoreInput(incident_id=incident.id, plan_digest=self.digest, tier=0, step=0, opened_at=opened_at)

    async def verified(self) -> Incident:
        """The flag was written, and the service has been healthy since."""
        incident = await self.planned()
        await self.run(self.steps.act, self.step(incident))
        self.healthy(since=self.clock.at)
        self.clock.forward(8)
        seen = await self.run(self.verification.verify, self.look(incident))
        assert seen.record is not None, seen.reason
        return incident

    async def closed_by_hand(self, incident: Incident) -> None:
        ending = CloseInput(incident_id=incident.id, outcome=IncidentOutcome.CLOSED_BY_HAND, reason="enough", by="ada")
        await self.run(self.people.close, ending)

    # --- what is on disk ---------------------------------------------------------------------------------------

    async def kinds(self, incident: Incident) -> list[str]:
        return [e.kind.value for e in await self.store.entries(incident.id)]

    async def bodies(self, incident: Incident, kind: EntryKind) -> list[Mapping[str, Any]]:
        return [e.body for e in await self.store.entries(incident.id) if e.kind is kind]

    def messages(self, incident: Incident) -> dict[str, tuple[str, str, str]]:
        """Every row of the outbox: key -> (pager action, state, due time)."""
        with closing(sqlite3.connect(f"file:{self.folder / TIMELINE_FILE}?mode=ro", uri=True)) as raw:
            rows = raw.execute("SELECT key, pager, state, due_at FROM messages WHERE incident_id = ?", (incident.id,))
            return {key: (pager, state, due) for key, pager, state, due in rows}

    def told(self, incident: Incident, key: str) -> Any:
        """What a row of the outbox adds to the record."""
        with closing(sqlite3.connect(f"file:{self.folder / TIMELINE_FILE}?mode=ro", uri=True)) as raw:
            row = raw.execute("SELECT body FROM messages WHERE (incident_id, key) = (?, ?)", (incident.id, key))
            return json.loads(row.fetchone()[0])

    def due(self, seconds: float = 0) -> str:
        """The clock's time and so many seconds, as the outbox writes it."""
        return format_time(self.clock.at + timedelta(seconds=seconds))

    @property
    def flag(self) -> str:
        """What the cluster says now."""
        key = (self.flags.kind, self.flags.namespace, self.flags.name)
        return str(self.cluster.objects[key]["data"]["recommend.enabled"])


@pytest.fixture(scope="session")
def empty_timeline(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A migrated store without entries: migrating one for each test takes longer than the test."""
    path = tmp_path_factory.mktemp("empty") / TIMELINE_FILE
    TimelineStore.database(path).prepare()
    return path.read_bytes()


@pytest.fixture
async def world(tmp_path: Path, empty_timeline: bytes, fake_world: Any) -> AsyncIterator[World]:
    (tmp_path / TIMELINE_FILE).write_bytes(empty_timeline)
    await fake_world.workload("pay-v1")
    async with await TimelineStore.open(tmp_path / TIMELINE_FILE) as store:
        yield World(tmp_path, store, fake_world.fake)
