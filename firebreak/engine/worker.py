"""The engine without its gateway: what `firebreak worker` and `python worker.py` run."""

from __future__ import annotations

import sys

from firebreak.domain.errors import FirebreakError
from firebreak.engine.loop import run
from firebreak.engine.up import Running, run_engine
from firebreak.logs import configure_logs, say
from firebreak.settings import Settings, load_settings
from firebreak.streams import open_streams


def serve(settings: Settings) -> None:
    """Until Ctrl-C or SIGTERM. FirebreakError when it cannot start."""
    configure_logs(settings.log_level)

    def announce(running: Running) -> None:
        say(f"worker runs, mode {settings.mode.value}, Temporal at {running.temporal_address}")

    run(run_engine(settings, gateway=False, announce=announce))


def main() -> None:
    """As `serve`; exits 2 with a sentence when it cannot start."""
    open_streams()
    try:
        serve(load_settings())
    except FirebreakError as error:
        sys.stderr.write(f"{error}\n{error.next_step()}\n")
        raise SystemExit(2) from None
