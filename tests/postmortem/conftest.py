"""Hand-made incidents, in the form in which the hands write them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from firebreak.domain.action import (
    CheckOutcome,
    CheckResult,
    Effect,
    EffectOutcome,
    FieldChange,
    Intent,
    Progress,
    ProgressState,
)
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.codec import to_data
from firebreak.domain.condition import AnswerStatus, ConditionResult, Dimension, MetricAnswer, Point, Truth
from firebreak.domain.evidence import (
    ChangeKind,
    ContainerState,
    KeptEvent,
    KeptEvidence,
    MissingEvidence,
    PodState,
    PreviousLog,
    RecentChange,
    Termination,
)
from firebreak.domain.incident import Incident
from firebreak.domain.target import BoundTarget, ResourceKind, TargetRef
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.domain.verdict import Facts, NodeResult, Severity, Verdict
from firebreak.timeline.chain import GENESIS, digest_of

START = datetime(2026, 11, 21, 8, 36, 44, 120_000, tzinfo=UTC)
INCIDENT = "inc-20261121-083644-1f0a9c3e"
PAY = TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.DEPLOYMENT, name="pay-v1")
BOUND = BoundTarget(ref=PAY, uid="6f9c2d1e-0000-4000-8000-000000000001", resource_version="411")
LABELS = {"alertname": "PayErrors", "severity": "critical", "service": "pay", "deployment": "pay-v1", "cluster": "lab"}
QUERY = 'sum(rate(http_requests_total{service="pay",code=~"500|503"}[4s])) / sum(rate(http_requests_total[4s]))'


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Story:
    """Writes entries as the store does: gap-free, chained."""

    def __init__(self, labels: Mapping[str, str] | None = None, text: str = "") -> None:
        self.labels = {**LABELS, **(labels or {})}
        self.text = text  # untrusted text that finds its way into reasons
        self.entries: list[TimelineEntry] = []

    def add(
        self,
        seconds: float,
        kind: EntryKind,
        key: str,
        body: Mapping[str, Any],
        *,
        target: str = "",
        uid: str = "",
        actor: str = "engine",
        took: float | None = None,
    ) -> None:
        entry = TimelineEntry(
            seq=len(self.entries) + 101,
            incident_id=INCIDENT,
            key=key,
            kind=kind,
            at=at(seconds),
            actor=actor,
            target=target,
            uid=uid,
            duration_ms=took,
            body=body,
            previous=self.entries[-1].digest if self.entries else GENESIS,
        )
        self.entries.append(dataclasses.replace(entry, digest=digest_of(entry)))

    def opened(
        self, *, target: TargetRef | None = PAY, refusal: str = "", elsewhere: str = "", **bindings: str
    ) -> None:
        alert = self._alert(AlertStatus.FIRING)
        incident = Incident(
            id=INCIDENT,
            opened_at=at(0.006),
            accepted_at=START,
            intake_class=IntakeClass.P1_CANDIDATE,
            correlation_key="lab/pay",
            service=self.labels["service"],
            target=target,
            alert=alert,
            refusal=refusal,
            elsewhere=elsewhere,
            bindings=bindings,
        )
        self.add(0.006, EntryKind.INCIDENT_OPENED, "opened", to_data(incident), actor="alertmanager")
        joined = {"alert": to_data(alert), "firing": 1}
        self.add(0.006, EntryKind.ALERT_JOINED, f"alert/{alert.key}/firing", joined, actor="alertmanager")

    def resolved(self, seconds: float) -> None:
        body = {"alert": to_data(self._alert(AlertStatus.RESOLVED)), "firing": 0}
        self.add(seconds, EntryKind.ALERT_RESOLVED, "alert/resolved", body, actor="alertmanager")

    def _alert(self, status: AlertStatus) -> Alert:
        return Alert(fingerprint="a1b2c3d4e5f60718", status=status, labels=self.labels, starts_at=at(-1.5))

    def verdict(
        self,
        seconds: float,
        look: int,
        *,
        truth: Truth,
        may_act: bool,
        conditions: tuple[ConditionResult, ...],
        holds_at: datetime | None = None,
    ) -> None:
        p1 = truth is Truth.TRUE
        verdict = Verdict(
            severity=Severity.P1 if p1 else Severity.NONE,
            truth=truth,
            may_act=may_act,
            act_reason="two independent dimensions: errors, business" if may_act else "one dimension is not enough",
            reason=f"the tree is {truth.value}{self.text}",
            pinned_at=at(seconds - 0.01),
            tree="p1",
            tree_digest="5" * 64,
            dimensions=tuple(dict.fromkeys(c.dimension for c in conditions if c.truth is Truth.TRUE)),
            conditions=conditions,
            nodes=(
                NodeResult(operator="any", truth=truth, depth=0),
                *(NodeResult(operator="condition", truth=c.truth, condition=c.name, depth=1) for c in conditions),
            ),
            holds_at=holds_at,
            labels=self.labels,
        )
        facts = Facts(
            pinned_at=verdict.pinned_at,
            step=timedelta(seconds=1),
            labels=self.labels,
            service=self.labels["service"],
            tree_digest=verdict.tree_digest,
            bindings={"service": "pay"},
            answers=(
                MetricAnswer(
                    key="errors_ratio",
                    status=AnswerStatus.OK,
                    points=(Point(at=verdict.pinned_at, value="0.2512412"),),
                ),
                MetricAnswer(key="latency_p99", status=AnswerStatus.UNAVAILABLE, detail="time-out"),
            ),
        )
        body = {"verdict": to_data(verdict), "round": look}
        self.add(seconds, EntryKind.VERDICT_REACHED, f"verdict/{look}", body, took=9.5)
        self.add(seconds, EntryKind.FACTS_GATHERED, f"facts/{look}", {"facts": to_data(facts), "round": look}, took=9.5)

    def condition(self, name: str, dimension: Dimension, truth: Truth, **more: Any) -> ConditionResult:
        given: dict[str, Any] = {
            "reason": f"0.2512 >= 0.05 since 4 s{self.text}",
            "query": QUERY,
            "value": "0.2512412",
            "threshold": "> 0.05",
            "unit": "ratio",
            "sample_age": 0.412,
            "volume": 120.0,
            "since": at(-3.5),
            **more,
        }
        return ConditionResult(name=name, dimension=dimension, truth=truth, **given)

    def plan(self, seconds: float) -> None:
        body = {
            "runbook": "restart-then-reroute",
            "source": "runbooks/catalog/pay.yaml",
            "source_digest": "a" * 64,
            "digest": "b" * 64,
            "reason": "severity P1 and service pay",
            "tiers": [
                {"name": "restart", "steps": [{"id": "restart-pods", "action": "restart_workload"}]},
                {"name": "reroute", "steps": [{"id": "to-v1", "action": "shift_traffic"}]},
                {"name": "page", "steps": [{"id": "call-a-person", "action": "page"}]},
            ],
        }
        self.add(seconds, EntryKind.PLAN_PINNED, "plan", body, target=PAY.text)

    def evidence(self, seconds: float) -> None:
        kept = KeptEvidence(
            target=PAY,
            at=at(seconds),
            took=timedelta(milliseconds=84),
            window=timedelta(hours=1),
            pods=(
                PodState(
                    name="pay-v1-5d9f-abcde",
                    uid="77",
                    node="node-1",
                    phase="Running",
                    ready=False,
                    created_at=at(-86_400),
                    deleting=False,
                    problems=("Ready is False: ContainersNotReady",),
                    containers=(
                        ContainerState(
                            name="app",
                            image="shop:1",
                            ready=False,
                            restarts=3,
                            state="running since 08:30:00",
                            last_termination=Termination(reason="OOMKilled", exit_code=137),
                        ),
                    ),
                ),
            ),
            events=(
                KeptEvent(
                    about="Pod/pay-v1-5d9f-abcde",
                    warning=True,
                    reason="Unhealthy",
                    message=f"Readiness probe failed{self.text}",
                    count=12,
                    at=at(-2),
                ),
            ),
            previous_logs=(
                PreviousLog(pod="pay-v1-5d9f-abcde", container="app", lines=(f"panic: no connection{self.text}",)),
            ),
            changes=(
                RecentChange(
                    kind=ChangeKind.CONFIG,
                    about="ConfigMap/shop-flags",
                    at=at(-600),
                    what=f"key recommend.enabled was written{self.text}",
                ),
                RecentChange(
                    kind=ChangeKind.ROLLOUT, about="Deployment/pay-v1", at=at(-1500), what="revision 4 rolled out"
                ),
            ),
            missing=(
                MissingEvidence(
                    what="previous log of pay-v1-5d9f-fghij/app",
                    reason="no answer within the time limit",
                    sections=("previous_logs",),
                ),
            ),
        )
        self.add(seconds, EntryKind.EVIDENCE_KEPT, "evidence", to_data(kept), target=PAY.text, took=84.2)

    def step(self, tier: int, **more: Any) -> dict[str, Any]:
        name, step_id, action = (
            ("restart", "restart-pods", "restart_workload"),
            ("reroute", "to-v1", "shift_traffic"),
            ("page", "call-a-person", "page"),
        )[tier]
        return {"tier": tier, "step": 0, "tier_name": name, "step_id": step_id, "action": action, **more}

    def changes(self) -> tuple[FieldChange, ...]:
        path = "spec.template.metadata.annotations[firebreak.dev/restarted-at]"
        return (FieldChange(path=path, before="null", after=f'"2026-11-21T08:36:46Z{self.text}"'),)

    def applied(self, seconds: float, tier: int, changes: tuple[FieldChange, ...] = ()) -> None:
        changes = changes or self.changes()
        check = CheckResult(outcome=CheckOutcome.READY, reason="2 of 2 ready", target=BOUND, changes=changes)
        intent = Intent(
            step_key=f"{INCIDENT}/{tier}.0",
            action="restart_workload",
            params={},
            target=BOUND,
            changes=changes,
            stamp=at(seconds),
        )
        effect = Effect(
            outcome=EffectOutcome.APPLIED,
            reason="the API server took it",
            step_key=intent.step_key,
            target=BOUND,
            changes=changes,
        )
        aim: dict[str, Any] = {"target": PAY.text, "uid": BOUND.uid}
        self.add(seconds, EntryKind.INTENT_RECORDED, f"intent/{tier}.0", self.step(tier, intent=to_data(intent)), **aim)
        self.add(seconds, EntryKind.STEP_CHECKED, f"check/{tier}.0", self.step(tier, check=to_data(check)), **aim)
        self.add(
            seconds + 0.004,
            EntryKind.EFFECT_RECORDED,
            f"effect/{tier}.0",
            self.step(tier, effect=to_data(effect)),
            **aim,
            took=3.4,
        )

    def verified(self, seconds: float, tier: int, outcome: str, reason: str) -> None:
        truth = Truth.TRUE if outcome == "verified" else Truth.FALSE
        body = self.step(
            tier,
            outcome=outcome,
            reason=reason + self.text,
            wrote=True,
            conditions=[
                to_data(self.condition("success_ratio", Dimension.HEALTH, truth, value="0.998", threshold=">= 0.99"))
            ],
            progress=to_data(Progress(state=ProgressState.DONE, reason="rolled out")),
        )
        self.add(seconds, EntryKind.VERIFICATION, f"verify/{tier}.0", body, target=PAY.text, took=6.0)

    def undone(self, seconds: float, tier: int) -> None:
        effect = Effect(
            outcome=EffectOutcome.APPLIED,
            reason="weights are as before",
            step_key=f"{INCIDENT}/{tier}.0/undo",
            target=BOUND,
            changes=(FieldChange(path="spec.rules[0].backendRefs[0].weight", before="100", after="50"),),
        )
        body = self.step(tier, effect=to_data(effect))
        self.add(seconds, EntryKind.UNDO_RECORDED, f"undo/{tier}.0", body, target=PAY.text, uid=BOUND.uid)

    def message(self, seconds: float, channel: str, notice: str, **more: Any) -> None:
        kind = EntryKind.MESSAGE_FAILED if "error" in more else EntryKind.MESSAGE_DELIVERED
        body = {"channel": channel, "notice": notice, "attempts": 1, **more}
        self.add(seconds, kind, f"message/{channel}/{notice}", body)

    def called(self, seconds: float, reason: str) -> None:
        body = {"reason": reason + self.text, "urgency": "high"}
        self.add(seconds, EntryKind.PERSON_CALLED, "person/high", body)

    def closed(self, seconds: float, outcome: str, reason: str) -> None:
        self.add(seconds, EntryKind.INCIDENT_CLOSED, "close", {"outcome": outcome, "reason": reason + self.text})


def _p1(story: Story) -> tuple[ConditionResult, ...]:
    return (
        story.condition("errors_ratio", Dimension.ERRORS, Truth.TRUE),
        story.condition(
            "pay_success_drop", Dimension.BUSINESS, Truth.TRUE, value="0.412", threshold="> 0.3", since=at(-3)
        ),
        story.condition(
            "latency_p99",
            Dimension.LATENCY,
            Truth.INCONCLUSIVE,
            value="",
            threshold="> 3000",
            unit="ms",
            reason="no answer in time",
            sample_age=None,
            volume=None,
            since=None,
        ),
    )


def healed(story: Story) -> None:
    """Pending first, then P1; a restart heals."""
    story.opened()
    pending = (story.condition("errors_ratio", Dimension.ERRORS, Truth.PENDING, since=at(-0.5), holds_at=at(1.5)),)
    story.verdict(0.03, 0, truth=Truth.PENDING, may_act=False, conditions=pending, holds_at=at(1.5))
    story.verdict(1.52, 1, truth=Truth.TRUE, may_act=True, conditions=_p1(story))
    story.plan(1.52)
    story.message(1.6, "pager", "classified", pager="trigger_low", receipt=f"{INCIDENT}-notice")
    story.evidence(1.63)
    story.applied(1.65, 0)
    story.verified(9.1, 0, "verified", "healthy and carrying traffic")
    restore = story.step(0, reason="taken back by evidence later")
    story.add(9.1, EntryKind.RESTORE_OPENED, "restore-opened/0.0", restore, target=PAY.text)
    story.message(9.2, "chat", "healed", error="channel_not_found", attempts=5)
    story.resolved(10.4)
    story.closed(11.2, "healed", "tier restart was verified and held")


def paged(story: Story) -> None:
    """Restart and reroute do not help; the reroute is undone; a person is called and it recovers."""
    story.opened()
    story.verdict(0.03, 0, truth=Truth.TRUE, may_act=True, conditions=_p1(story))
    story.plan(0.03)
    story.evidence(2.4)
    story.applied(2.42, 0)
    story.verified(12.4, 0, "not_verified", "not within 10 s: success_ratio 0.71 < 0.99")
    story.add(
        12.45,
        EntryKind.STEP_REFUSED,
        "refused/1.0",
        story.step(1, reason="pay-v2 has no ready capacity for 40 calls a second" + story.text),
        target=PAY.text,
    )
    story.called(12.5, "every tier was tried and none was verified")
    story.message(12.6, "pager", "person_needed", pager="trigger_high", receipt=f"{INCIDENT}-page")
    fault = {"where": "outbox", "error": "disk I/O error" + story.text, "next_step": "Check the disk."}
    story.add(30.0, EntryKind.ENGINE_FAULT, "fault/1", fault)
    recovery = {"conditions": [], "reason": "the evidence is healthy since 08:41:44 UTC"}
    story.add(420.0, EntryKind.RECOVERY_SEEN, "recovery", recovery)
    story.closed(421.0, "recovered", "the evidence is healthy since 08:41:44 UTC")


def nothing_done(story: Story) -> None:
    """Over before its `for` time."""
    story.opened()
    pending = (story.condition("errors_ratio", Dimension.ERRORS, Truth.PENDING, since=at(-0.5), holds_at=at(1.5)),)
    story.verdict(0.03, 0, truth=Truth.PENDING, may_act=False, conditions=pending, holds_at=at(1.5))
    story.resolved(0.9)
    calm = (story.condition("errors_ratio", Dimension.ERRORS, Truth.FALSE, value="0", since=None, reason="0 < 0.05"),)
    story.verdict(0.95, 1, truth=Truth.FALSE, may_act=False, conditions=calm)
    story.closed(0.96, "nothing_done", "the alert resolved before the condition had held")


def observe(story: Story) -> None:
    """Mode observe: everything is decided, nothing is written; the call for a person finds no routing key."""
    story.opened()
    story.verdict(0.03, 0, truth=Truth.TRUE, may_act=True, conditions=_p1(story))
    story.plan(0.03)
    for tier in (0, 1):
        check = CheckResult(outcome=CheckOutcome.READY, reason="2 of 2 ready", target=BOUND, changes=story.changes())
        story.add(
            0.08 + tier / 100,
            EntryKind.STEP_WOULD_APPLY,
            f"would/{tier}.0",
            story.step(tier, check=to_data(check)),
            target=PAY.text,
            uid=BOUND.uid,
        )
    story.called(0.12, "mode observe: nothing is written")
    story.message(0.3, "pager", "person_needed", pager="trigger_high", error="nobody can be paged")
    story.add(300, EntryKind.CLOSE_REQUESTED, "close-requested", {"reason": "handled" + story.text, "by": "ana"})
    story.add(
        300.1,
        EntryKind.INCIDENT_CLOSED,
        "close",
        {"outcome": "closed_by_hand", "reason": "handled" + story.text},
        actor="person:ana",
    )


def undone(story: Story) -> None:
    """A reroute that did not help is taken back; still open."""
    story.opened()
    story.verdict(0.03, 0, truth=Truth.TRUE, may_act=True, conditions=_p1(story))
    story.plan(0.03)
    story.applied(0.05, 1)
    story.verified(5, 1, "not_verified", "not within 5 s")
    story.undone(5.1, 1)


def weights(before: int, after: int) -> tuple[FieldChange, ...]:
    return (FieldChange(path="spec.rules[0].backendRefs[0].weight", before=str(before), after=str(after)),)


def by_hand(story: Story) -> None:
    """Closed by a person while a reroute is being verified: nothing takes it back."""
    story.opened()
    story.verdict(0.03, 0, truth=Truth.TRUE, may_act=True, conditions=_p1(story))
    story.plan(0.03)
    story.applied(0.05, 1, weights(100, 0))
    story.add(3, EntryKind.CLOSE_REQUESTED, "close-requested", {"reason": "mine now" + story.text, "by": "ana"})
    closed = {"outcome": "closed_by_hand", "reason": "mine now" + story.text}
    story.add(3.1, EntryKind.INCIDENT_CLOSED, "close", closed, actor="person:ana")


def restored(story: Story) -> None:
    """A reroute heals and is taken back by its restore, after the incident."""
    story.opened()
    story.verdict(0.03, 0, truth=Truth.TRUE, may_act=True, conditions=_p1(story))
    story.plan(0.03)
    story.applied(0.05, 1, weights(100, 0))
    story.verified(9, 1, "verified", "healthy and carrying traffic")
    story.add(9, EntryKind.RESTORE_OPENED, "restore-opened/1.0", story.step(1, reason="taken back by evidence later"))
    story.closed(11, "healed", "tier reroute was verified and held")
    effect = Effect(
        outcome=EffectOutcome.APPLIED,
        reason="the API server took it",
        step_key=f"{INCIDENT}/1.0/undo",
        target=BOUND,
        changes=weights(0, 100),
    )
    body = story.step(1, outcome="restored", reason="broken_version_answers: 1 == 1", effect=to_data(effect))
    story.add(700, EntryKind.RESTORE_ENDED, "restore-ended/1.0", body)


def elsewhere(story: Story) -> None:
    """An alert of another cluster: nothing is judged, a person is called, and it ends as its alert resolves."""
    why = "the alert is of cluster 'prod', this engine acts on lab"
    story.labels["cluster"] = "prod"
    story.opened(target=None, refusal=f"service pay: {why}", elsewhere=why, service="pay", cluster="prod")
    unknown = (
        story.condition(
            "errors_ratio", Dimension.ERRORS, Truth.INCONCLUSIVE, reason=why, query="", value="", since=None
        ),
    )
    story.verdict(0.03, 0, truth=Truth.INCONCLUSIVE, may_act=False, conditions=unknown)
    story.called(0.04, f"{why}; nothing was judged, since nothing of it is measured here")
    story.message(0.2, "pager", "person_needed", pager="trigger_high", receipt=f"{INCIDENT}-page")
    story.resolved(60.0)
    over = f"all its alerts have resolved ({why})"
    story.add(60.1, EntryKind.RECOVERY_SEEN, "recovery", {"conditions": [], "reason": over})
    story.closed(60.2, "recovered", over)


_STORIES: dict[str, Callable[[Story], None]] = {
    "healed": healed,
    "paged": paged,
    "nothing_done": nothing_done,
    "observe": observe,
    "undone": undone,
    "by_hand": by_hand,
    "restored": restored,
    "elsewhere": elsewhere,
}


class Tell(Protocol):
    def __call__(
        self, name: str, *, labels: Mapping[str, str] | None = None, text: str = ""
    ) -> tuple[TimelineEntry, ...]: ...


@pytest.fixture
def tell() -> Tell:
    """`tell("healed")` -> its entries; `labels` and `text` put untrusted data into them."""

    def told(name: str, *, labels: Mapping[str, str] | None = None, text: str = "") -> tuple[TimelineEntry, ...]:
        story = Story(labels, text)
        _STORIES[name](story)
        return tuple(story.entries)

    return told
