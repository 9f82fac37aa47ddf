"""Alertmanager's webhook, version 4: what is on the wire, and what it means.

Source: prometheus/alertmanager `notify/webhook/webhook.go`, `template/template.go`, read and observed on 0.25 to 0.34.
Fields that only later versions send (`notification_reason`, `routeLabels`), the receiver's name (which arrives
escaped for regular expressions) and the group's fields are not needed and not looked at: an alert is known by
fingerprint and start, whatever group and peer it came by. `truncatedAlerts` is kept: a body that left alerts out says
nothing about those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from firebreak.domain.alert import Alert, AlertStatus
from firebreak.domain.errors import AlertRejected
from firebreak.domain.ids import label_fingerprint

MAX_LABELS = 256
"""Labels of one alert. Mimir allows 30 of a series by default; thousands are a fault or an attack."""
MAX_LABEL_CHARACTERS = 64 * 1024
"""All names and values of one alert's labels together. They travel into the incident's durable input."""
MAX_ANNOTATION_CHARACTERS = 8 * 1024
"""An annotation is for people: what is longer is cut, and says so."""
MAX_ANNOTATIONS = 64
_CUT = " [cut]"

MOST_NAMES = 1_000
"""Alerts that can never be right, kept by name: more would be of no use to anybody, and a body may hold millions."""


def _first_fault(texts: object) -> object:
    """Of a map with other values than texts, the first of those alone: one fault is enough to refuse an alert, each
    that is told costs a kilobyte, and a body may hold millions."""
    if isinstance(texts, dict):
        for name, value in texts.items():
            if not isinstance(value, str):
                return {name: value}
    return texts


Labels = Annotated[dict[str, str], Field(max_length=MAX_LABELS), BeforeValidator(_first_fault)]
Annotations = Annotated[dict[str, str], BeforeValidator(_first_fault)]


class WebhookAlert(BaseModel):
    """One alert of the group. Fields that are not named here are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    status: Literal["firing", "resolved"]
    labels: Labels | None = Field(description="At most 256; names not empty and printable. null = none.")
    annotations: Annotations | None = Field(default=None, description="Text for people; long text is cut.")
    startsAt: AwareDatetime = Field(description="RFC 3339. With the fingerprint: the identity of the alert.")  # noqa: N815 - the wire's name
    endsAt: AwareDatetime | None = Field(default=None, description="0001-01-01T00:00:00Z = still firing.")  # noqa: N815 - the wire's name
    generatorURL: str | None = Field(default=None, description="Link to the rule, for people.")  # noqa: N815 - the wire's name
    fingerprint: str | None = Field(default=None, description="Hash of the labels in hex; ours where it is missing.")


class Webhook(BaseModel):
    """The body. Fields that are not named here are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    version: Literal["4"]
    truncatedAlerts: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = Field(  # noqa: N815 - the wire's name
        default=0, description="Alerts of the group that `max_alerts` left out."
    )
    alerts: Annotated[list[WebhookAlert], Field(fail_fast=True)] | None = Field(description="null = none.")


class Refused(AlertRejected):
    """A body, or an alert of it, that can never be right. `reason` is a word for the metric."""

    def __init__(self, message: str, *, reason: str, advice: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a body holds. `refused` alerts of it can never be right: `spoilt` are their names (each once, the first
    MOST_NAMES), as they may stand in a sentence; `why` is said of the first of them."""

    alerts: tuple[Alert, ...]
    truncated: int
    refused: int = 0
    spoilt: tuple[str, ...] = ()
    why: Refused | None = None


def parse_webhook(body: bytes) -> Parsed:
    """One alert that can never be right takes no other one with it. Raises Refused, with a sentence and a next step,
    for a body that is no webhook."""
    spoilt = _Spoilt()
    try:
        webhook = Webhook.model_validate_json(body)
        truncated, wires = webhook.truncatedAlerts, list(enumerate(webhook.alerts or ()))
    except ValidationError as error:
        truncated, wires = _sound_part(error, body, spoilt)
    alerts = []
    for number, wire in wires:
        try:
            alerts.append(_alert(wire, number))
        except Refused as refused:
            spoilt.add(wire.labels, refused)
    return Parsed(
        alerts=tuple(alerts),
        truncated=truncated or 0,
        refused=spoilt.count,
        spoilt=tuple(spoilt.names),
        why=spoilt.why,
    )


class _Spoilt:
    """The alerts of one body that can never be right."""

    def __init__(self) -> None:
        self.count = 0
        self.names: dict[str, None] = {}  # in order, each once
        self.why: Refused | None = None

    def add(self, labels: object, why: Refused) -> None:
        self.count += 1
        self.why = self.why or why
        if len(self.names) < MOST_NAMES:
            self.names[_name(labels)] = None


def _sound_part(
    error: ValidationError, body: bytes, spoilt: _Spoilt
) -> tuple[int | None, list[tuple[int, WebhookAlert]]]:
    """`truncatedAlerts` and the alerts that are some, with their places; the others go to `spoilt`. Raises Refused
    where the fault is not an alert's own."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    refused = _refused(problems, body)
    if any(len(problem["loc"]) < 2 or problem["loc"][0] != "alerts" for problem in problems):
        raise refused
    whole = from_json(body)  # by the parser that has just read it
    sound = []
    for number, one in enumerate(whole["alerts"]):
        if not (isinstance(one, dict) and one.keys() >= _REQUIRED):
            spoilt.add(one.get("labels") if isinstance(one, dict) else None, refused)
            continue
        try:
            sound.append((number, WebhookAlert.model_validate_json(to_json(one))))
        except ValidationError:
            spoilt.add(one["labels"], refused)
    return whole.get("truncatedAlerts"), sound


_REQUIRED = {name for name, field in WebhookAlert.model_fields.items() if field.is_required()}
"""What is missing one of these is no alert: told before it is looked at any closer, since a body may hold millions."""


def _name(labels: object) -> str:
    name = labels.get("alertname") if isinstance(labels, Mapping) else None
    return _shown(name) if isinstance(name, str) and name else "without a name"


def _alert(wire: WebhookAlert, number: int) -> Alert:
    labels = wire.labels or {}
    _check_labels(labels, number)
    return Alert(
        fingerprint=_fingerprint(wire.fingerprint, labels),
        status=AlertStatus(wire.status),
        labels=labels,
        annotations=_cut_annotations(wire.annotations or {}),
        starts_at=_utc(wire.startsAt, number, "startsAt"),
        ends_at=None if wire.endsAt is None or wire.endsAt.year <= 1 else _utc(wire.endsAt, number, "endsAt"),
        generator_url=_cut(wire.generatorURL or ""),
    )


def _check_labels(labels: Mapping[str, str], number: int) -> None:
    total = 0
    for name, value in labels.items():
        total += len(name) + len(value)
        # Since Prometheus 3 and Alertmanager 0.28 a name may be any UTF-8 (`service.name`).
        if not name or not name.isprintable():
            raise Refused(
                f"alerts[{number}].labels: {_shown(name)} is no label name: it must not be empty and must be printable",
                reason="label_name",
                advice="Correct the label in the alerting rule or in the receiver's payload template.",
            )
    if total > MAX_LABEL_CHARACTERS:
        raise Refused(
            f"alerts[{number}].labels hold {total} characters; at most {MAX_LABEL_CHARACTERS} are accepted",
            reason="labels_too_long",
            advice="Put long text into an annotation of the alerting rule: labels only identify.",
        )


def _fingerprint(sent: str | None, labels: dict[str, str]) -> str:
    """The sender's, where it has the form of one; ours otherwise. The wrong form is not worth losing an alert."""
    return sent if sent and len(sent) <= 64 and set(sent) <= _HEX else label_fingerprint(labels)


_HEX = frozenset("0123456789abcdef")


def _utc(at: datetime, number: int, field: str) -> datetime:
    if not 1970 <= at.year < 9999:
        raise Refused(
            f"alerts[{number}].{field}: {at.isoformat()} cannot be when an alert happened",
            reason="time",
            advice="Check the clock of the sender and the receiver's payload template.",
        )
    return at.astimezone(UTC)


def _cut_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    kept = list(annotations.items())[:MAX_ANNOTATIONS]
    return {name[:MAX_LABELS]: _cut(text) for name, text in kept}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_ANNOTATION_CHARACTERS else text[:MAX_ANNOTATION_CHARACTERS] + _CUT


# --- refusals in words ---

_BODY_ADVICE = "Send Alertmanager's own webhook body; check `payload` templates of the receiver and proxies between."


def _refused(problems: Sequence[ErrorDetails], body: bytes) -> Refused:
    first = problems[0]
    if first["type"] == "json_invalid":
        return _not_json(first["msg"], body)
    top = str(first["loc"][0]) if first["loc"] else ""
    reason = _REASONS.get((top, first["type"])) or _REASONS.get(("", first["type"]), "schema")
    if reason == "version":
        return Refused(
            'version: only webhook version "4" is understood',
            reason=reason,
            advice='Use an Alertmanager of 0.15 or later; a `payload` template must keep `version: "4"`.',
        )
    if reason == "too_many_labels":
        return Refused(
            f"{_path(first['loc'])}: at most {MAX_LABELS} labels are accepted of one alert",
            reason=reason,
            advice="Drop labels in the alerting rule (`alert_relabel_configs`): labels only identify.",
        )
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    sentence = "; ".join(f"{_path(problem['loc'])}: {problem['msg']}" for problem in problems[:3])
    return Refused(sentence + more, reason=reason, advice=_BODY_ADVICE)


_REASONS = {
    ("version", "literal_error"): "version",
    ("version", "missing"): "version",
    ("", "too_long"): "too_many_labels",
}


def _not_json(message: str, body: bytes) -> Refused:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return Refused(
            f"the body is not UTF-8: {error.reason} at byte {error.start}", reason="encoding", advice=_BODY_ADVICE
        )
    if "recursion" in message:
        return Refused("the JSON is nested too deeply", reason="nesting", advice=_BODY_ADVICE)
    return Refused(
        f"the body is not JSON: {message.removeprefix('Invalid JSON: ')}", reason="json", advice=_BODY_ADVICE
    )


def _path(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in loc).lstrip(".") or "body"


def _shown(text: Any) -> str:
    """Text of the sender as it may stand in a sentence: plain names as they are, the rest quoted and cut."""
    name = str(text)
    return name if name.isascii() and name.isidentifier() and len(name) <= 64 else ascii(name[:64])
