"""What the demo shows while an incident runs: phase, tree, tier, verification, one line a fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from firebreak.domain.codec import from_data
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.domain.verdict import Verdict
from firebreak.postmortem.telling import tell
from firebreak.triage.explain import explain

if TYPE_CHECKING:
    from firebreak.cli.game_day import Ending

_COLOURS = {
    EntryKind.INCIDENT_OPENED: "yellow",
    EntryKind.VERDICT_REACHED: "bold",
    EntryKind.PLAN_PINNED: "cyan",
    EntryKind.EFFECT_RECORDED: "cyan",
    EntryKind.UNDO_RECORDED: "magenta",
    EntryKind.STEP_REFUSED: "magenta",
    EntryKind.VERIFICATION: "green",
    EntryKind.PERSON_CALLED: "red",
    EntryKind.MESSAGE_FAILED: "red",
    EntryKind.ENGINE_FAULT: "red",
    EntryKind.RESTORE_ENDED: "green",
    EntryKind.INCIDENT_CLOSED: "bold green",
}
_QUIET = {EntryKind.FACTS_GATHERED, EntryKind.STEP_CHECKED}


class LiveStory:
    """Prints entries as they come. The whole tree is printed when its truth has changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._truth = ""

    def say(self, seconds: float, entry: TimelineEntry) -> None:
        """`seconds` since the fault began."""
        if entry.kind in _QUIET:
            return
        colour = _COLOURS.get(entry.kind, "dim")
        self._console.print(f"[dim]{seconds:6.1f} s[/] [{colour}]{escape(tell(entry))}[/]")
        if entry.kind is EntryKind.VERDICT_REACHED:
            verdict = from_data(Verdict, entry.body["verdict"])
            if verdict.truth.value != self._truth:
                self._truth = verdict.truth.value
                for line in explain(verdict).splitlines():
                    self._console.print(f"          [dim]{escape(line)}[/]")

    def end(self, ending: Ending) -> None:
        for problem in ending.problems:
            self._console.print(f"[red]         not as it should be: {escape(problem)}[/]")
        self._console.print(f"         post-mortem: {ending.postmortem.name}")
