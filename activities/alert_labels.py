"""Labels that an incident's alerts say, for conditions that ask for one: said by alerts that fire, by no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from activities.casebook import Casebook
from firebreak.documents.policy import TrustedLabel
from firebreak.domain.alert import Alert
from firebreak.domain.codec import from_data
from firebreak.domain.condition import Condition
from firebreak.domain.incident import Incident
from firebreak.domain.timeline import EntryKind

Asked = Mapping[str, tuple[str, ...]]
"""Labels that are asked for, each with all values that count."""


def asked_for(conditions: Iterable[Condition], trusted: Iterable[TrustedLabel] = ()) -> Asked:
    """What label conditions and a policy ask for; one label may be asked for several times."""
    asked: dict[str, tuple[str, ...]] = {}
    for label, values in (
        *((c.label, c.label_values) for c in conditions if c.label),
        *((t.label, t.values) for t in trusted),
    ):
        asked[label] = (*asked.get(label, ()), *values)
    return asked


def speaking(incident: Incident, firing: frozenset[str], truncated: int) -> frozenset[str]:
    """Keys of the alerts whose word counts. `firing` was read before what was left out, which never falls: a last alert
    that resolves is not seen without what its body left out."""
    if truncated > 0:  # nobody knows that none of those that were left out says what the opener said
        return firing | {incident.alert.key}
    return firing


async def said(casebook: Casebook, incident: Incident, asked: Asked, speaking: frozenset[str]) -> Mapping[str, str]:
    """The opener's labels; but for a label that is asked for, what any alert says that still fires: the opener's where
    it does, and that of those that joined. What has resolved says nothing any more."""
    labels, opener = dict(incident.alert.labels), incident.alert.key
    if speaking == {opener}:
        return labels
    if opener not in speaking:
        labels = {name: value for name, value in labels.items() if name not in asked}
    for entry in await casebook.ledger.entries(incident.id) if speaking - {opener} else ():
        if entry.kind is EntryKind.ALERT_JOINED and (told := from_data(Alert, entry.body["alert"])).key in speaking:
            labels |= {name: told.labels[name] for name, values in asked.items() if told.labels.get(name) in values}
    return labels


async def said_now(casebook: Casebook, incident_id: str, asked: Asked) -> Mapping[str, str]:
    """`said`, as the store knows it by now."""
    incident = await casebook.incident(incident_id)
    firing = await casebook.incidents.firing_alerts(incident_id)
    truncated = await casebook.incidents.truncated(incident_id)
    return await said(casebook, incident, asked, speaking(incident, firing, truncated))
