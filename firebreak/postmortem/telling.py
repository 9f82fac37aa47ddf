"""One entry in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firebreak.domain.action import EffectOutcome
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem import reading, wording
from firebreak.postmortem.model import StepState
from firebreak.postmortem.restores import restore_words
from firebreak.postmortem.verdicts import condition_words, conditions_of

_Body = Mapping[str, Any]


def tell(entry: TimelineEntry) -> str:
    """What the entry says, for the timeline of a person; never fails, whatever its body lacks."""
    words = TELLERS.get(entry.kind)
    told = words(entry.body) if words else reading.text(entry.body, "reason")
    return wording.sentence(told or entry.kind.value.replace(".", " "))


def _joined(*parts: str) -> str:
    return ": ".join(part for part in parts if part)


def _step(body: _Body) -> str:
    action = reading.text(body, "action")
    name = reading.text(body, "step_id") or action
    return f"step {name} ({action})" if action and action != name else f"step {name}".rstrip()


def _opened(body: _Body) -> str:
    alert = reading.text(body, "alert", "labels", "alertname") or "an alert"
    refusal = reading.text(body, "refusal")
    words = f"incident opened by {alert} on {reading.text(body, 'service') or 'an unknown service'}"
    return f"{words}; no target: {refusal}" if refusal else words


def _alert(body: _Body, verb: str) -> str:
    name = reading.text(body, "alert", "labels", "alertname") or "an alert"
    firing = reading.whole(body, "firing")
    return f"{name} {verb}" + (f"; {wording.several(firing, 'alert')} firing" if firing >= 0 else "")


def _facts(body: _Body) -> str:
    answers = reading.items(body, "facts", "answers")
    bad = sum(1 for answer in answers if reading.text(answer, "status") not in ("ok", ""))
    words = f"evidence gathered: {wording.several(len(answers), 'answer')}"
    return f"{words}, {bad} of them not usable" if bad else words


def _verdict(body: _Body) -> str:
    verdict = reading.mapping(body, "verdict")
    words = _joined(f"verdict {reading.text(verdict, 'severity')}, {reading.text(verdict, 'truth')}", "")
    return _joined(words, reading.text(verdict, "reason"))


def _plan(body: _Body) -> str:
    tiers = ", ".join(reading.text(tier, "name") for tier in reading.items(body, "tiers"))
    words = f"runbook {reading.text(body, 'runbook')} pinned" + (f" ({tiers})" if tiers else "")
    return _joined(words, reading.text(body, "reason"))


def _checked(body: _Body) -> str:
    check = reading.mapping(body, "check")
    outcome = reading.text(check, "outcome").replace("_", " ")
    return _joined(f"{_step(body)} checked, {outcome}", reading.text(check, "reason"))


def _effect(body: _Body) -> str:
    effect = reading.mapping(body, "effect")
    outcome = reading.text(effect, "outcome").replace("_", " ")
    return _joined(f"{_step(body)}, {outcome}", reading.text(effect, "reason"))


def _intent(body: _Body) -> str:
    every = reading.items(body, "intent", "changes")
    changes = [c for c in every if reading.text(c, "before") != reading.text(c, "after")]  # the rest are guards
    undo = "undo of " if reading.mapping(body, "intent").get("undo") is True else ""
    return f"{undo}{_step(body)} is about to be written: {wording.several(len(changes), 'field')}"


def _verification(body: _Body) -> str:
    outcome = reading.text(body, "outcome").replace("_", " ")
    seen = ", ".join(condition_words(c) for c in conditions_of(body)[:4])
    return _joined(f"{_step(body)}, {outcome}", reading.text(body, "reason") or seen)


def _hold(body: _Body) -> str:
    ended = "held to its end" if reading.text(body, "outcome") == "verified" else "did not hold"
    return _joined(f"{_step(body)} {ended}", reading.text(body, "reason"))


def _message(body: _Body, verb: str) -> str:
    attempts = reading.whole(body, "attempts")
    words = f"{reading.text(body, 'notice').replace('_', ' ')} message to {reading.text(body, 'channel')} {verb}"
    if attempts > 1:
        words += f" after {attempts} attempts"
    return _joined(words.strip(), reading.text(body, "error"))


def _undone(body: _Body) -> str:
    if reading.text(body, "effect", "outcome") == EffectOutcome.WOULD_APPLY.value:
        return f"undo of {_step(body)}, {StepState.NOT_TAKEN_BACK.value}"
    return f"undo of {_effect(body)}"


def _restore_ended(body: _Body) -> str:
    return _joined(f"restore of {_step(body)}, {restore_words(body)}", reading.text(body, "reason"))


def _fault(body: _Body) -> str:
    return _joined(f"engine fault in {reading.text(body, 'where') or 'the engine'}", reading.text(body, "error"))


TELLERS: dict[EntryKind, Callable[[_Body], str]] = {
    EntryKind.INCIDENT_OPENED: _opened,
    EntryKind.ALERT_JOINED: lambda body: _alert(body, "joined"),
    EntryKind.ALERT_RESOLVED: lambda body: _alert(body, "resolved"),
    EntryKind.FACTS_GATHERED: _facts,
    EntryKind.VERDICT_REACHED: _verdict,
    EntryKind.PLAN_PINNED: _plan,
    EntryKind.EVIDENCE_KEPT: lambda body: "evidence kept",
    EntryKind.STEP_CHECKED: _checked,
    EntryKind.STEP_REFUSED: lambda body: _joined(f"{_step(body)} refused", reading.text(body, "reason")),
    EntryKind.INTENT_RECORDED: _intent,
    EntryKind.EFFECT_RECORDED: _effect,
    EntryKind.STEP_WOULD_APPLY: lambda body: _joined(
        f"{_step(body)} would be applied; mode observe, nothing is written", reading.text(body, "check", "reason")
    ),
    EntryKind.VERIFICATION: _verification,
    EntryKind.HOLD_ENDED: _hold,
    EntryKind.UNDO_RECORDED: _undone,
    EntryKind.RECOVERY_SEEN: lambda body: _joined("recovery seen", reading.text(body, "reason")),
    EntryKind.PERSON_CALLED: lambda body: _joined("a person is called", reading.text(body, "reason")),
    EntryKind.MESSAGE_DELIVERED: lambda body: _message(body, "delivered"),
    EntryKind.MESSAGE_FAILED: lambda body: _message(body, "failed"),
    EntryKind.MESSAGE_TAKEN_BACK: lambda body: _message(body, "taken back when it was due, perhaps on its way"),
    EntryKind.RESTORE_OPENED: lambda body: _joined(
        f"{_step(body)} stays in force until its restore", reading.text(body, "reason")
    ),
    EntryKind.RESTORE_HELD_BACK: lambda body: _joined(
        f"restore of {_step(body)} held back, though the part is well", reading.text(body, "reason")
    ),
    EntryKind.RESTORE_ENDED: _restore_ended,
    EntryKind.SCORE_SET: lambda body: _joined(
        f"health score {reading.text(body, 'score')} of 100 set by {reading.text(body, 'by') or 'a person'}",
        reading.text(body, "reason"),
    ),
    EntryKind.CLOSE_REQUESTED: lambda body: _joined(
        f"close requested by {reading.text(body, 'by') or 'a person'}", reading.text(body, "reason")
    ),
    EntryKind.INCIDENT_CLOSED: lambda body: _joined(
        f"incident closed, {reading.text(body, 'outcome').replace('_', ' ')}", reading.text(body, "reason")
    ),
    EntryKind.ENGINE_FAULT: _fault,
    EntryKind.CLOCK_SET_BACK: lambda body: (
        f"the wall clock was set back from {reading.text(body, 'before')} to {reading.text(body, 'after')}"
    ),
}
