"""What the demo shows while an incident runs: phase, tree, tier, verification, one line a fact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from firebreak.domain.codec import from_data
from firebreak.domain.condition import Truth
from firebreak.domain.incident import IncidentPhase
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.domain.verdict import Verdict
from firebreak.postmortem import reading
from firebreak.postmortem.telling import tell

if TYPE_CHECKING:
    from firebreak.cli.game_day import Ending

_STYLES = {
    EntryKind.INCIDENT_OPENED: "yellow",
    EntryKind.VERDICT_REACHED: "bold",
    EntryKind.PLAN_PINNED: "cyan",
    EntryKind.EFFECT_RECORDED: "cyan",
    EntryKind.UNDO_RECORDED: "magenta",
    EntryKind.STEP_REFUSED: "magenta",
    EntryKind.VERIFICATION: "green",
    EntryKind.HOLD_ENDED: "green",
    EntryKind.PERSON_CALLED: "bold red",
    EntryKind.MESSAGE_FAILED: "red",
    EntryKind.ENGINE_FAULT: "red",
    EntryKind.RESTORE_ENDED: "green",
    EntryKind.INCIDENT_CLOSED: "bold green",
}
_TRUTHS = {
    Truth.TRUE: "red",
    Truth.PENDING: "yellow",
    Truth.FALSE: "green",
    Truth.NOT_APPLICABLE: "dim",
    Truth.INCONCLUSIVE: "magenta",
}
_QUIET = {EntryKind.FACTS_GATHERED, EntryKind.STEP_CHECKED}
_LONGEST = 150  # characters of one line; the whole text is in `firebreak timeline`


class LiveStory:
    """Prints phases and entries as they come, a step with its tier, and the tree whenever its truth has changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._truth = ""

    def say(self, seconds: float, entry: TimelineEntry) -> None:
        """`seconds` since the fault began."""
        if entry.kind in _QUIET:
            return
        if entry.kind is EntryKind.VERDICT_REACHED:
            self._verdict(seconds, from_data(Verdict, entry.body["verdict"]))
            return
        tier = reading.text(entry.body, "tier_name")
        self._line(seconds, tell(entry), _STYLES.get(entry.kind, "dim"), head=f"tier {tier}  " if tier else "")

    def say_phase(self, seconds: float, phase: IncidentPhase) -> None:
        """Where the incident stands from now on."""
        self._line(seconds, f"phase {phase.value.replace('_', ' ')}", "bold cyan")

    def _verdict(self, seconds: float, verdict: Verdict) -> None:
        act = "may act" if verdict.may_act else "may not act yet"
        after = f"; {act}: {verdict.act_reason}" if verdict.truth is Truth.TRUE else ""
        self._line(seconds, f"verdict {verdict.truth.value}, severity {verdict.severity.value}{after}", "bold")
        state = f"{verdict.truth}{verdict.may_act}"
        if state != self._truth:
            self._truth = state
            for text in tree_lines(verdict):
                self._console.print(text, soft_wrap=True)

    def _line(self, seconds: float, text: str, style: str, *, head: str = "") -> None:
        shown = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
        line = Text.assemble((f"{seconds:6.1f} s  ", "dim"), (head, "bold"), (shown, style))
        self._console.print(line, soft_wrap=True)

    def end(self, ending: Ending) -> None:
        for problem in ending.problems:
            self._console.print(Text(f"          not as it should be: {problem}", "red"), soft_wrap=True)


def tree_lines(verdict: Verdict) -> Iterator[Text]:
    """The tree without its queries: truth, condition, and the reason with its values."""
    results = {result.name: result for result in verdict.conditions}
    for node in verdict.nodes:
        indent = "            " + "  " * node.depth
        style = _TRUTHS[node.truth]
        name = node.condition or node.operator
        reason = results[node.condition].reason if node.condition in results else ""
        shown = reason if len(reason) <= _LONGEST else reason[: _LONGEST - 3] + "..."
        truth = f"{node.truth.value:14} "
        yield Text.assemble((indent, ""), (truth, style), (f"{name:18} ", "bold dim"), (shown, "dim"))
