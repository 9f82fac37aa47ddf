"""How a process of the engine loads its code."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from firebreak.engine.child import uncollected


def test_the_collector_rests_while_modules_load_and_runs_again_afterwards() -> None:
    """Also when one of them cannot be loaded: a worker that never collects grows until it is killed."""
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()


def test_a_module_sees_its_own_arguments_and_a_running_collector(tmp_path: Path) -> None:
    """As if it had been run itself."""
    (tmp_path / "told.py").write_text(
        "import gc, sys\nat_load = gc.isenabled()\ndef main():\n    print(sys.argv, at_load, gc.isenabled())\n"
    )
    command = [sys.executable, "-m", "firebreak.engine.child", "told", "p1"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "['told', 'p1'] False True\n"
