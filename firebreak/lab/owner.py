"""`python -m firebreak.lab.owner LAB_DIR GATEWAY_PORT`: the background process that owns a lab till SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from firebreak.domain.errors import FirebreakError
from firebreak.lab.lab import Lab, start_lab

_LOOK = 2.0  # seconds


async def own(lab_dir: Path, gateway_port: int | None, *, announce: Callable[[Lab], None] = lambda lab: None) -> None:
    """Run a lab until SIGTERM or Ctrl-C, also while it starts; everything is stopped before this returns.

    It stops also when its directory was removed or made anew: nobody could find it there any more.

    `announce` is called once it is ready. Raises what `start_lab` raises.
    """
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    stopping = asyncio.create_task(ended.wait())
    starting = asyncio.create_task(start_lab(lab_dir, gateway_port=gateway_port))
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
        return
    lab = starting.result()
    announce(lab)
    vanishing = asyncio.create_task(_vanished(lab))
    await asyncio.wait((stopping, vanishing), return_when=asyncio.FIRST_COMPLETED)
    vanishing.cancel()
    await lab.stop()


async def _vanished(lab: Lab) -> None:
    """Returns once the lab's directory is not its own any more."""
    while lab.ours():  # noqa: ASYNC110 # no event tells of it
        await asyncio.sleep(_LOOK)


def main() -> None:
    """Entry point. The reason of a failed start goes to the log that `firebreak lab up` shows."""
    try:
        asyncio.run(own(Path(sys.argv[1]), int(sys.argv[2]) or None))
    except FirebreakError as error:
        sys.stderr.write(f"{error}\n{error.next_step()}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
