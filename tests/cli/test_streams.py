"""Programs that are started with standard streams closed, as some supervisors do."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import subprocess, sys
from firebreak.streams import open_streams
open_streams()
print("ours", flush=True)
sys.exit(subprocess.run(["/bin/sh", "-c", "echo theirs"]).returncode)
"""


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&-"])
def test_a_closed_stream_is_open_for_us_and_for_our_children(closed: str) -> None:
    """Else the first file or socket of ours would get its number, and a child none at all."""
    shell = ["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, PROGRAM]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if ">" in closed else "ours\ntheirs\n")
