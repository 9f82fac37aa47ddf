"""The engine's directory: one engine at a time, everything of it inside."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firebreak.domain.errors import SettingsInvalid
from firebreak.processes import OWNER_ONLY, make_data_dir, unusable


@contextmanager
def locked(data_dir: Path) -> Iterator[Path]:
    """Hold the directory (made when missing, for its owner alone), for as long as the process lives. Raises
    SettingsInvalid when another engine holds it, or when it cannot be written."""
    make_data_dir(data_dir)
    try:
        (data_dir / "run").mkdir(mode=OWNER_ONLY, exist_ok=True)
        handle = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(data_dir, error) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsInvalid(
                f"another engine uses the data directory {data_dir}",
                advice="Stop it first, or give this one a directory of its own with --data-dir.",
            ) from None
        yield data_dir
    finally:
        os.close(handle)
