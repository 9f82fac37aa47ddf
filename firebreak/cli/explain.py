"""`firebreak explain`: recompute a verdict from the record, and print the tree."""

from __future__ import annotations

from typing import Annotated, TypeVar

import typer

from firebreak.cli.reading import DataDir, IncidentText, find_incident, opened_store, record_of
from firebreak.domain.errors import ChainBroken, ContractError
from firebreak.domain.timeline import EntryKind, TimelineEntry

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    app.command()(explain)


def explain(
    incident: IncidentText,
    look: Annotated[
        int | None, typer.Option("--round", min=0, help="Which look at the evidence; default: the one that decided.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Recompute the verdict from the stored facts and the stored tree. Fails when it is not the stored verdict, unless
    other rules of judging than today's reached that one: then it is shown as it is stored."""
    import asyncio

    from firebreak.domain.verdict import Facts, Verdict
    from firebreak.triage.classify import JUDGED_BY, classify
    from firebreak.triage.explain import explain as tree_text
    from firebreak.triage.explain import same_verdict
    from firebreak.triage.tree import tree_from_bytes

    async def read() -> tuple[Verdict, Facts, bytes]:
        async with opened_store(data_dir) as store:
            entries = await record_of(store, await find_incident(store, incident))
            reached, gathered = _look(entries, look)
            facts = _read(Facts, gathered, "facts")
            return _read(Verdict, reached, "verdict"), facts, await store.document(facts.tree_digest)

    stored, facts, document = asyncio.run(read())
    recomputed = classify(facts, tree_from_bytes(document))
    difference = same_verdict(stored, recomputed)
    if difference and facts.judged_by != JUDGED_BY:  # nothing contradicts the record: it was right by its own rules
        typer.echo(tree_text(stored), nl=False)
        age = "an earlier" if facts.judged_by < JUDGED_BY else "a later"
        typer.echo(
            f"\nas stored: {age} version of the rules of judging ({facts.judged_by}) reached this verdict; "
            f"those of this Firebreak ({JUDGED_BY}) give another one: {difference}"
        )
        return
    typer.echo(tree_text(recomputed), nl=False)
    if difference:
        typer.echo(f"\nrecomputed: another verdict than the stored one: {difference}", err=True)
        raise typer.Exit(1)
    typer.echo("\nrecomputed: same verdict")


def _read(kind: type[T], entry: TimelineEntry, name: str) -> T:
    """What `name` in the body tells: of a record that nobody changed, only another version's can be unreadable."""
    from firebreak.domain.codec import from_data

    try:
        return from_data(kind, entry.body[name])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ContractError(
            f"entry {entry.seq} ({entry.key}) cannot be explained by this version of Firebreak: {error!r}",
            advice="Use the version that wrote it; `firebreak postmortem` tells what can be read.",
        ) from None


def _look(entries: tuple[TimelineEntry, ...], look: int | None) -> tuple[TimelineEntry, TimelineEntry]:
    """(verdict, facts) of one look; both must be as they were written."""
    from firebreak.domain.record import looks
    from firebreak.postmortem import reading
    from firebreak.timeline.chain import digest_of

    verdicts = {reading.whole(e.body, "round"): e for e in entries if e.kind is EntryKind.VERDICT_REACHED}
    facts = {reading.whole(e.body, "round"): e for e in entries if e.kind is EntryKind.FACTS_GATHERED}
    deciding = looks(entries)
    wanted = look if look is not None else (reading.whole(deciding[-1].body, "round") if deciding else None)
    if wanted not in verdicts or wanted not in facts:
        rounds = ", ".join(str(number) for number in verdicts if number in facts)
        raise ContractError(
            "no verdict was reached yet" if look is None else f"there was no look {look} at the evidence",
            advice=f"Looks that can be explained: {rounds or 'none'}.",
        )
    for entry in (verdicts[wanted], facts[wanted]):
        if digest_of(entry) != entry.digest:
            raise ChainBroken(f"entry {entry.seq} ({entry.key}) was changed after it was written")
    return verdicts[wanted], facts[wanted]
