"""The engine without its gateway: what `python worker.py` runs."""

from __future__ import annotations

import sys

from firebreak.domain.errors import FirebreakError
from firebreak.engine.loop import run
from firebreak.engine.up import Running, run_engine
from firebreak.logs import configure_logs
from firebreak.settings import load_settings


def main() -> None:
    """Until Ctrl-C; exits 2 with a sentence when it cannot start."""
    try:
        settings = load_settings()
        configure_logs(settings.log_level)

        def announce(running: Running) -> None:
            sys.stdout.write(f"worker runs, mode {settings.mode.value}, Temporal at {running.temporal_address}\n")
            sys.stdout.flush()

        run(run_engine(settings, gateway=False, announce=announce))
    except FirebreakError as error:
        sys.stderr.write(f"{error}\n{error.next_step()}\n")
        raise SystemExit(2) from None
