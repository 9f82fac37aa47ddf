"""A lab in a background process that owns everything, known by pid and start time in `<lab-dir>/owner`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from datetime import timedelta
from pathlib import Path

from firebreak.domain.errors import ContractError, FirebreakError
from firebreak.lab.lab import START
from firebreak.lab.lock import already_up, sole_owner, sole_starter
from firebreak.lab.state import LabState, claim_directory, is_lab, load_state
from firebreak.servers.process import Launch, ManagedProcess
from firebreak.servers.registry import Entry, Registry, boot_id, reap_leftovers, start_time

_LETTING_GO = 2.0  # seconds
_OWNER_GRACE = timedelta(seconds=60)


def register_owner(lab_dir: Path) -> None:
    """Write this very process down as the lab's owner, so that `down` finds it: for a lab in the foreground."""
    lab_dir = claim_directory(lab_dir)
    with sole_starter(lab_dir):
        if owner_alive(lab_dir):
            raise already_up(lab_dir)
        Registry(lab_dir / "owner").add(Entry("lab", os.getpid(), start_time(os.getpid()) or 0, boot_id()))


def owner_alive(lab_dir: Path) -> bool:
    """True while the background process of the lab in `lab_dir` runs."""
    folder = lab_dir.absolute() / "owner"
    return folder.exists() and any(entry.lives() for entry in Registry(folder).entries())


async def up(lab_dir: Path, *, gateway_port: int | None = None) -> LabState:
    """Start a lab in a background process; returns when it is ready.

    ContractError when one runs or starts in `lab_dir` already: nothing of it is touched. ServerUnavailable with the end
    of the log when it fails.
    """
    lab_dir = claim_directory(lab_dir)
    owner_dir = lab_dir / "owner"
    command = (sys.executable, "-P", "-m", "firebreak.lab.owner", str(lab_dir), str(gateway_port or 0))
    # The whole environment: it may say where the servers are.
    launch = Launch("lab", command, environment=dict(os.environ))
    with sole_starter(lab_dir):
        if owner_alive(lab_dir):
            raise already_up(lab_dir)
        await _let_go(lab_dir)
        with sole_owner(lab_dir):  # a lab that nobody wrote down (a demo's) is up, too
            await reap_leftovers(owner_dir)
            (lab_dir / "lab.json").unlink(missing_ok=True)
        process = await ManagedProcess.start(launch, owner_dir)

    async def ready() -> bool:
        return (lab_dir / "lab.json").exists() and load_state(lab_dir).pid == process.pid

    try:
        await process.ready(ready, limit=START * 2)
    except BaseException as failure:
        await process.stop(_OWNER_GRACE)
        if not is_lab(lab_dir):  # removed or made anew meanwhile
            raise
        try:
            with sole_owner(lab_dir):
                await reap_leftovers(lab_dir / "run")
        except ContractError as refusal:  # another was faster: what runs there is its own
            if isinstance(failure, FirebreakError):
                raise refusal from None
        raise
    return load_state(lab_dir)


async def _let_go(lab_dir: Path) -> None:
    """Wait for the lock of an owner that was just killed: its other threads may outlive the first by a moment."""
    give_up_at = asyncio.get_running_loop().time() + _LETTING_GO
    while asyncio.get_running_loop().time() < give_up_at:
        with contextlib.suppress(ContractError), sole_owner(lab_dir):
            return
        await asyncio.sleep(0.05)


async def down(lab_dir: Path) -> int:
    """Stop the lab in `lab_dir`, also what a killed one left, so that nothing of it runs.

    Returns how many processes were ended. ContractError when `lab_dir` is not a lab's.
    """
    if not is_lab(lab_dir):
        raise ContractError(f"no lab has been up in {lab_dir}", advice="Name its directory with --lab-dir.")
    run_dir = lab_dir / "run"
    children = sum(entry.lives() for entry in Registry(run_dir).entries())
    owners = await reap_leftovers(lab_dir / "owner", grace=_OWNER_GRACE)
    await reap_leftovers(run_dir)
    (lab_dir / "lab.json").unlink(missing_ok=True)
    return len(owners) + children
