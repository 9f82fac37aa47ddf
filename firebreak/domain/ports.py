"""What the hands need from the world, as protocols. Connectors and storage implement them; the engine marries them.

All methods raise the errors of `domain.errors` and nothing of a vendor's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from firebreak.domain.age import LastSeenRight
from firebreak.domain.alert import AcceptedAlert, Alert, Disposition, IntakeClass, UnreadableDelivery
from firebreak.domain.condition import MetricAnswer, MetricQuery
from firebreak.domain.incident import (
    Incident,
    IncidentOutcome,
    IncidentPhase,
    UnreadableRestore,
    UnreadableRow,
)
from firebreak.domain.message import Channel, Message, MessageDraft, NoticeText, PagerAction, Route, UnreadableMessage
from firebreak.domain.plan import Restore
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.domain.timeline import Appended, EntryDraft, EntryKind, TimelineEntry

KubeObject = Mapping[str, Any]
"""One Kubernetes object as its JSON says it."""


class Clock(Protocol):
    """The wall clock in UTC. Passed in wherever a decision depends on the time."""

    def now(self) -> datetime: ...


class ClusterPort(Protocol):
    """One Kubernetes API server. Each call has a time limit; a time-out or a 5xx raises TransientError, 404
    TargetNotFound, 401 and 403 PermissionDenied (but TransientError for the 403 of a server that is not ready: it
    denies everybody until it has read its roles), 409 TargetChanged, other 4xx PreconditionFailed."""

    @property
    def name(self) -> str: ...

    async def get(self, ref: TargetRef, *, timeout: timedelta) -> KubeObject: ...

    async def list(
        self,
        kind: ResourceKind,
        namespace: str,
        *,
        labels: Mapping[str, str] | None = None,
        cached: bool = False,
        timeout: timedelta,
    ) -> tuple[KubeObject, ...]:
        """Empty `namespace` for cluster-wide kinds. `cached`: as the API server last saw it, at once and in one piece;
        no guard of a write may rest on it."""

    async def patch(
        self,
        ref: TargetRef,
        body: Mapping[str, Any],
        *,
        dry_run: bool = False,
        timeout: timedelta,
    ) -> KubeObject:
        """A merge patch. Never retried here: whether to write again is the caller's decision, after reading."""

    async def logs(
        self, namespace: str, pod: str, container: str, *, previous: bool, tail_lines: int, timeout: timedelta
    ) -> str: ...


class MetricsPort(Protocol):
    """A Prometheus-compatible back end."""

    async def range_batch(
        self,
        queries: Sequence[MetricQuery],
        *,
        start: datetime,
        end: datetime,
        step: timedelta,
        timeout: timedelta,
    ) -> tuple[MetricAnswer, ...]:
        """All queries at the same pinned times, one answer each, in order. Never raises for the back end's faults:
        they are answers with a status."""


class ChatPort(Protocol):
    async def post(self, channel: str, text: NoticeText, *, thread: str, dedup: str) -> str:
        """Receipt of the message (Slack `ts`). `thread` = receipt of the head, or empty for a new thread."""


class PagerPort(Protocol):
    async def send(
        self,
        routing_key: str,
        action: PagerAction,
        *,
        incident_id: str,
        text: NoticeText,
        details: Mapping[str, Any],
    ) -> str:
        """Receipt (the dedup key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRecord:
    """A durable promise to take a step back: outlives its incident."""

    incident_id: str
    tier: int
    step: int
    plan_digest: str
    opened_at: datetime
    restore: Restore


class LedgerPort(Protocol):
    """The timeline store: what is appended is on disk (fsync) when the call returns."""

    async def append(
        self,
        drafts: Sequence[EntryDraft],
        *,
        messages: Sequence[MessageDraft] = (),
        cancel: Sequence[tuple[str, str]] = (),
        documents: Sequence[bytes] = (),
        restores: Sequence[RestoreRecord] = (),
        phase: tuple[str, IncidentPhase] | None = None,
        holding: Sequence[TargetRef] = (),
        unless: Sequence[str] = (),
    ) -> tuple[Appended, ...]:
        """One transaction. A draft whose (incident, key) exists is returned as found and changes nothing. When the
        *first* draft is found, messages, cancels, restores, phase and `holding` are not applied again. `cancel`:
        (incident, message key) of messages not sent yet. `holding`: targets that the first draft's incident takes, as
        `lock_target` does; when another incident holds one of them, TargetHeld is raised and nothing at all is
        written. `unless`: keys of the first draft's incident; where one of them has an entry, and the first draft has
        none, nothing at all is written, and the first such entry is returned alone, as found. So of two that exclude
        each other only one is ever written. Raises LedgerError when it cannot be kept."""

    async def find(self, incident_id: str, key: str) -> TimelineEntry | None: ...

    async def find_first(self, incident_id: str, keys: Sequence[str]) -> TimelineEntry | None:
        """The first of `keys`, in the order given, that has an entry; one look at the store for all of them."""

    async def entries(self, incident_id: str) -> tuple[TimelineEntry, ...]:
        """In order of `seq`."""

    async def entries_after(self, incident_id: str, seq: int) -> tuple[TimelineEntry, ...]:
        """As `entries`, those with a greater `seq`: for who knows the ones up to it, since entries are only added."""

    async def newest_of(self, incident_id: str, kind: EntryKind) -> TimelineEntry | None:
        """The incident's last entry of a kind; the others are not read, be they as they may."""

    async def records(self, prefix: str) -> tuple[str, ...]:
        """Ids of records that begin with `prefix`, the last ones by their text first, a hundred at most."""

    async def newest(self) -> int:
        """`seq` of the store's last entry; 0 while there is none. What a look writes names the one of when it began
        (`read_up_to`): what came after it was not looked at."""

    async def document(self, digest: str) -> bytes:
        """A kept document by its SHA-256 (hex). ChainBroken when it is missing or was changed."""

    async def lock_target(self, target: TargetRef, incident_id: str) -> str:
        """One actor per target: the incident that holds it (`incident_id` itself when it was free or already ours)."""

    async def release_targets(self, incident_id: str) -> None: ...

    async def close_incident(
        self,
        draft: EntryDraft,
        outcome: IncidentOutcome,
        *,
        messages: Sequence[MessageDraft],
        unless_joined: bool = False,
        if_joined: tuple[EntryDraft, Sequence[MessageDraft]] | None = None,
    ) -> Appended | None:
        """Keyed: closes once, releases targets, cancels unsent deadlines, in one transaction. Where an alert has joined
        since the last look at the evidence began (CLOSED_BY_HAND: since a person asked for it): with `unless_joined`
        None, and nothing is changed; and `if_joined` is written, too. What is closed already is found, whatever
        joined."""

    async def end_restore(
        self,
        place: tuple[int, int],
        *,
        outcome: str,
        entry: EntryDraft,
        messages: Sequence[MessageDraft],
        unless: Sequence[str] = (),
    ) -> Appended:
        """Keyed: ends the promise about tier and step of the entry's incident once, with its entry and messages;
        `unless` as for `append`."""


class IncidentsPort(Protocol):
    """Open incidents and which alerts they own."""

    async def open_or_join(
        self,
        incident: Incident,
        *,
        opened: EntryDraft,
        joined: EntryDraft,
        messages: Sequence[MessageDraft],
        receipt: int = 0,
        inbox: str = "",
        rearm: timedelta = timedelta(minutes=5),
    ) -> tuple[str, Disposition]:
        """(incident id, OPENED | JOINED | DUPLICATE). One transaction; the same delivery again (`receipt` of `inbox`;
        0: of no inbox) is a DUPLICATE whatever came after it, and so is the same alert again, also when its incident
        has closed, unless that was more than `rearm` ago (or is still to come by more): Alertmanager repeats an alert
        that still fires, and then a new incident looks at it afresh. JOINED when one with the same key is open."""

    async def resolve_alert(
        self,
        alert: Alert,
        *,
        at: datetime,
        accepted_at: datetime | None = None,
        receipt: int = 0,
        inbox: str = "",
        truncated: int = 0,
        entry: EntryDraft | None = None,
    ) -> tuple[str, int] | None:
        """(incident id, alerts that may still fire there: at least one where any body left some out), or None when no
        incident knows the alert. `truncated`: how many alerts the body left out that says so. `entry` is written under
        that incident's id, in the same transaction, when something ended that fired. A delivery that was handled
        before (`receipt` of `inbox`, 0: of no inbox) ends nothing that began after it."""

    async def incident(self, incident_id: str) -> Incident | None: ...

    async def open_incidents(self) -> tuple[Incident | UnreadableRow, ...]:
        """Oldest first; one of which neither row nor record can be read is there all the same, and hides no other."""

    async def engine_faults(self, *, limit: int) -> tuple[TimelineEntry, ...]:
        """The newest faults of the engine itself that have a record of their own, and are of no incident."""

    async def firing(self, incident_id: str) -> int:
        """How many of its alerts still fire, as far as their source has told."""

    async def firing_alerts(self, incident_id: str) -> frozenset[str]:
        """Keys of those that `firing` counts."""

    async def truncated(self, incident_id: str) -> int:
        """The most alerts that one body left out that opened it, joined it, repeated or resolved an alert of it. Never
        falls, and rises in the transaction in which the body's alert is written down."""

    async def close_requests(self, *, unreadable: list[UnreadableRow] | None = None) -> tuple[TimelineEntry, ...]:
        """CLOSE_REQUESTED entries of incidents that are still open. What cannot be read hides no other: it comes in
        `unreadable`, by its incident's id."""

    async def open_restores(self, *, unreadable: list[UnreadableRestore] | None = None) -> tuple[RestoreRecord, ...]:
        """Opened and not ended, oldest first. What cannot be read hides no other: it comes in `unreadable`."""


class OutboxPort(Protocol):
    async def due(
        self,
        now: datetime,
        *,
        limit: int,
        channel: Channel | None = None,
        unreadable: list[UnreadableMessage] | None = None,
    ) -> tuple[Message, ...]:
        """Messages whose time has come, TRIGGER_HIGH first and then oldest first, at most one per incident and channel
        (order is kept). `channel` None = of all channels. What cannot be read comes in `unreadable`, in no order."""

    async def delivered(
        self, message: Message, receipt: str, *, entry: EntryDraft, before: Sequence[EntryDraft] = ()
    ) -> None:
        """`before`: entries that are written first, in the same transaction (what failed on the way)."""

    async def failed(self, message: Message, *, next_try_at: datetime | None, entry: EntryDraft | None) -> None:
        """`next_try_at` None = given up."""

    async def give_up(
        self, message: UnreadableMessage, *, entries: Sequence[EntryDraft], messages: Sequence[MessageDraft]
    ) -> None:
        """It is never sent, which the entries say; all in one transaction."""

    async def set_back(self, by: timedelta, *, entry: EntryDraft, seen: LastSeenRight | None = None) -> int:
        """The wall clock was set back: the times of what waits since before (None: of all that waits) move with it, in
        one transaction with `entry`, which says so. How many."""

    async def newest_message(self) -> int:
        """Number of the last one that was written; 0 before the first."""

    async def wall_clock_was(self) -> datetime | None:
        """What it said when the newest entry was written; None in an empty record."""


class InboxPort(Protocol):
    """Alerts accepted from a source; on disk before the sender hears 200."""

    async def accept(
        self,
        alerts: Sequence[tuple[Alert, IntakeClass]],
        *,
        source: str,
        truncated: int,
        accepted_at: datetime,
    ) -> tuple[int, ...]:
        """Receipts, in order, after the group commit's fsync. LedgerError when they cannot be kept."""

    async def claim(
        self, intake_class: IntakeClass, *, limit: int, unreadable: list[UnreadableDelivery] | None = None
    ) -> tuple[AcceptedAlert, ...]:
        """Deliveries without a disposition, oldest first. Those that cannot be read hide no other: they come in
        `unreadable`."""

    async def settle(self, dispositions: Sequence[tuple[int, Disposition, str]]) -> None:
        """(receipt, disposition, incident id or reason)."""

    async def probe(self) -> None:
        """Write and sync something: LedgerError when an alert could not be kept now."""

    async def backlog(self) -> int: ...

    async def oldest(self, *, after: int = 0) -> AcceptedAlert | UnreadableDelivery | None:
        """The delivery that has waited longest for a disposition, of any class and of those that came after that
        receipt."""

    async def newest(self) -> int:
        """Receipt of the last delivery; 0 before the first."""

    async def taken_up(self, *, after: int) -> frozenset[IntakeClass]:
        """Classes of which a delivery that came after that receipt has its disposition."""


class RoutesPort(Protocol):
    def route(self, service: str) -> Route: ...
