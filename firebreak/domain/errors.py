"""Every error that Firebreak raises on purpose.

FirebreakError
- ContractError                 bad input at an edge; refused with a sentence, never retried
  - AlertRejected  RunbookInvalid  PolicyInvalid  SettingsInvalid
- TransientError(retry_after)   the world is busy; whether a write took effect is not known
- PermanentError                a retry cannot help
  - TargetNotFound  TargetChanged  PermissionDenied  PreconditionFailed
    - NotYet                    what the write needs beside its target is not there now
    - NotAnyMore                what the write rested on is over since its intent
- TargetHeld                    another incident acts on the target: one actor per target
- LedgerError
  - AppendConflict (retry)  ChainBroken (stop all automation, page)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from firebreak.domain.target import TargetRef


_LONGEST = 1000  # characters of one mistake's message


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a document. `line` and `column` count from 1, as editors do; the column counts characters."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        said = self.message
        if len(said) > _LONGEST:  # it may quote a whole file that somebody mistook for a document
            said = f"{said[:_LONGEST]} ... {said[-_LONGEST // 10 :]}"
        return f"{self.file}:{self.line}:{self.column}: {said}"


class FirebreakError(Exception):
    """Root of all errors raised on purpose. `str(error)` says what happened; `next_step()` what to do now."""

    advice = "Read the incident's timeline with `firebreak show`, and handle the incident by hand."

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        self._advice = advice

    def next_step(self) -> str:
        """One sentence for the person who is paged."""
        return self._advice or self.advice


class ContractError(FirebreakError):
    """Bad input at an edge: refused with a sentence, never retried."""

    advice = "Correct the input; sending it again unchanged is refused again."


class AlertRejected(ContractError):
    """A webhook body that can never be right."""

    advice = "Check the Alertmanager receiver: webhook version 4, JSON body, bearer token."


class RunbookInvalid(ContractError):
    """A runbook, service or severity document that cannot be used. `problems` name every place that is wrong."""

    advice = "Run `firebreak lint`: it names file, line and column."

    def __init__(self, message: str, *, problems: tuple[Problem, ...] = (), advice: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.problems = problems


class PolicyInvalid(ContractError):
    """A policy document that cannot be used. `problems` name every place that is wrong."""

    advice = "Run `firebreak lint` on the policy file: it names file, line and column."

    def __init__(self, message: str, *, problems: tuple[Problem, ...] = (), advice: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.problems = problems


class SettingsInvalid(ContractError):
    """A setting that cannot be used."""

    advice = "Correct the FIREBREAK_ setting that is named and start again."


class TransientError(FirebreakError):
    """The world is busy or unreachable. After a write this means: the outcome is unknown."""

    advice = "Nothing to do at first: it is tried again; a page follows when it does not pass."

    def __init__(self, message: str, *, retry_after: timedelta | None = None, advice: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.retry_after = retry_after


class PermanentError(FirebreakError):
    """A retry cannot help."""


class TargetNotFound(PermanentError):
    """The object that the plan names does not exist."""

    advice = "Check services.yaml: the target named there does not exist in the cluster."


class TargetChanged(PermanentError):
    """The object is not the one that was planned for, or a touched field was changed by somebody else."""

    advice = "Somebody or something else changed the target: agree with them before acting on it."


class PermissionDenied(PermanentError):
    """The API server refused by RBAC (401 or 403)."""

    advice = "Grant the engine's account the verb that is named, or act by hand."


class PreconditionFailed(PermanentError):
    """The API server refused the object (400, 405, 409 that lasts, 422)."""


class NotYet(PreconditionFailed):
    """What the write needs beside its target is not there now: ready pods, room in a budget. A step goes without it;
    a restore looks again."""

    advice = "Make room for it, with more ready pods or a budget that allows it, or act by hand."


class NotAnyMore(PreconditionFailed):
    """What the write rested on is over since its intent: its evidence or itself too old, its incident closed or a
    person's."""

    advice = "Nothing was written by this attempt: look at the incident with `firebreak show`."


class TargetHeld(FirebreakError):
    """Another incident, `holder` (its id), acts on `target`, so nothing was written. Made with `by`."""

    advice = "Look at the incident that holds the target with `firebreak show`; its close lets go of the target."

    target: TargetRef
    holder: str

    @classmethod
    def by(cls, holder: str, target: TargetRef) -> Self:
        held = cls(f"{target.text} is being handled by {holder}: one actor per target")
        held.target, held.holder = target, holder
        return held


class LedgerError(FirebreakError):
    """The store could not keep what must be kept before anything is done."""

    advice = "Check disk space and permissions of the data directory; no action runs until the store writes."


class AppendConflict(LedgerError):
    """Another writer was first; read again and retry."""


class ChainBroken(LedgerError):
    """A stored entry does not match its hash: the record was changed or damaged. All automation stops."""

    advice = "Stop the engine, keep the data directory as it is, and find out who changed it."
