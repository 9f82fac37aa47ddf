"""What an engine kept about the lab that was up in the same directory before."""

from __future__ import annotations

import fcntl
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from firebreak.domain.errors import ContractError


def check_stopped(lab_dir: Path) -> None:
    """ContractError while an engine of a former lab runs."""
    with _stopped(lab_dir / "engine"):
        return


def set_aside(lab_dir: Path) -> Path | None:
    """Move the engine's data to `<lab-dir>/engine-until-<time>`; None where there are none.

    A new lab is a new cluster: incidents of the former one are about objects that are gone, and an engine that went on
    with them could only call a person. ContractError while an engine uses the data.
    """
    with _stopped(lab_dir / "engine") as data_dir:
        if data_dir is None:
            return None
        stamp = f"engine-until-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        names = itertools.chain([stamp], (f"{stamp}-{number}" for number in itertools.count(2)))
        return data_dir.rename(next(lab_dir / name for name in names if not (lab_dir / name).exists()))


@contextmanager
def _stopped(data_dir: Path) -> Iterator[Path | None]:
    """Hold the directory so that no engine starts on it; None where there is none."""
    if not data_dir.is_dir():
        yield None
        return
    with open(data_dir / "lock", "a+b") as lock:  # the engine's own, held while it runs
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ContractError(
                f"an engine of the former lab still runs on {data_dir}",
                advice="Stop it (Ctrl-C where `firebreak up` runs), then start the lab again.",
            ) from None
        yield data_dir
