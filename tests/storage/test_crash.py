"""kill -9 and full disks: what was acknowledged is there, and nothing else is broken."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firebreak.storage.sqlite_store import InboxStore, TimelineStore
from firebreak.storage.verify import verify_store

pytestmark = pytest.mark.faults

_WRITE_FOR_EVER = """
import asyncio, os, sys
from datetime import datetime, UTC
from pathlib import Path
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.storage.sqlite_store import TimelineStore

async def write(store, name):
    for n in range(10**9):
        draft = EntryDraft(incident_id=name, key=f"k{n}", kind=EntryKind.FACTS_GATHERED, at=datetime.now(UTC),
                           body={"n": n, "filling": "x" * 200})
        (done,) = await store.append([draft])
        os.write(1, f"{name} {n} {done.entry.digest}\\n".encode())

async def main():
    async with await TimelineStore.open(Path(sys.argv[1])) as store:
        await asyncio.gather(*(write(store, f"inc-{n}") for n in range(4)))

asyncio.run(main())
"""


def _acknowledged_until_killed(path: Path, seconds: float) -> list[list[str]]:
    with subprocess.Popen([sys.executable, "-c", _WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
    return [line.split() for line in (first + rest).decode().splitlines(keepends=True) if line.endswith("\n")]


async def test_kill_9_loses_no_acknowledged_entry(timeline_path: Path) -> None:
    """Killed at random moments in the midst of writing: every acknowledged entry is in the chain, which verifies."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for round_number in range(3):
        path = timeline_path.with_name(f"{round_number}.sqlite")
        acknowledged = await asyncio.to_thread(_acknowledged_until_killed, path, chance.uniform(0.02, 0.3))
        assert len(acknowledged) >= 1, seed
        # First read-only, as the CLI does over the log that the killed process left.
        assert path.name + "-wal" in os.listdir(path.parent)
        async with await TimelineStore.open(path, read_only=True) as view:
            for incident, n, digest in acknowledged:
                entry = await view.find(incident, f"k{n}")
                assert entry is not None, (seed, incident, n)
                assert entry.digest == digest
        assert (await asyncio.to_thread(verify_store, path)).ok
        # Then as the next engine does.
        async with await TimelineStore.open(path) as store:
            report = await store.verify()
            assert report.entries >= len(acknowledged)


_FILL = """
import asyncio, resource, sys
from datetime import datetime, UTC
from pathlib import Path
from firebreak.domain.alert import Alert, AlertStatus, IntakeClass
from firebreak.domain.errors import LedgerError
from firebreak.domain.timeline import EntryDraft, EntryKind
from firebreak.storage.sqlite_store import InboxStore, TimelineStore

NOW = datetime.now(UTC)

def draft(n):
    return EntryDraft(incident_id="inc", key=f"k{n}", kind=EntryKind.FACTS_GATHERED, at=NOW, body={"f": "x" * 5000})

def alert(n):
    return Alert(fingerprint=str(n), status=AlertStatus.FIRING, labels={"alertname": "x" * 5000}, starts_at=NOW)

async def main(kind, path):
    store = await (TimelineStore if kind == "timeline" else InboxStore).open(Path(path))
    async def write(n):
        if kind == "timeline":
            return await store.append([draft(n)])
        return await store.accept([(alert(n), IntakeClass.OTHER)], source="t", truncated=0, accepted_at=NOW)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    kept, refused = 0, 0
    for n in range(200):
        try:
            await write(n)
            kept += 1
        except LedgerError as error:
            assert error.next_step(), error
            assert "disk" in str(error), error
            refused += 1
            if refused == 3:
                break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await write(1000)
    await store.close()
    print(kept + 1, refused)

asyncio.run(main(*sys.argv[1:]))
"""


async def _fill(kind: str, path: Path) -> tuple[int, int]:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _FILL, kind, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kept, refused = done.stdout.split()
    return int(kept), int(refused)


async def test_a_full_disk_is_a_ledger_error_and_leaves_the_store_intact(timeline_path: Path) -> None:
    """Appends fail with a sentence while there is no room, and go on in the same process when there is again."""
    kept, refused = await _fill("timeline", timeline_path)
    assert (kept > 10, refused) == (True, 3)
    report = await asyncio.to_thread(verify_store, timeline_path)
    assert (report.ok, report.entries) == (True, kept)


async def test_an_inbox_on_a_full_disk_accepts_nothing_it_cannot_keep(inbox_path: Path) -> None:
    """What was refused is not in the inbox, what was accepted is."""
    kept, refused = await _fill("inbox", inbox_path)
    assert (kept > 10, refused) == (True, 3)
    async with await InboxStore.open(inbox_path) as inbox:
        assert await inbox.backlog() == kept


async def test_a_kill_during_the_first_opening_leaves_no_half_schema(tmp_path: Path) -> None:
    """Killed at random moments of migrating, the next opening finds nothing or all of it, and works."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for round_number in range(3):
        path = tmp_path / f"{round_number}.sqlite"
        await asyncio.to_thread(_open_until_killed, path, chance.uniform(0, 0.15))
        async with await TimelineStore.open(path) as store:
            assert (await store.verify()).ok, seed


_OPEN = """
import asyncio, os, sys
from pathlib import Path
from firebreak.storage import migrate
from firebreak.storage.sqlite_store import TimelineStore
os.write(1, b"x")
asyncio.run(TimelineStore.open(Path(sys.argv[1])))
"""


def _open_until_killed(path: Path, seconds: float) -> None:
    with subprocess.Popen([sys.executable, "-c", _OPEN, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(1) == b"x"
        time.sleep(seconds)
        child.kill()
