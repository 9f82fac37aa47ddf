"""Help is there for every verb, and comes at once."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from typing import Any

import pytest
import typer

from firebreak.cli.main import app

# pydantic is not among them: typer loads it by itself.
HEAVY = [
    "aiohttp",
    "alembic",
    "fastapi",
    "httpx",
    "httpx2",
    "jinja2",
    "lightkube",
    "prometheus_api_client",
    "prometheus_client",
    "promql_parser",
    "requests",
    "ruamel",
    "schemathesis",
    "slack_sdk",
    "sqlalchemy",
    "structlog",
    "temporalio",
    "uvicorn",
]
_HELP = """
import json, sys
sys.argv = ["firebreak", *sys.argv[1:], "--help"]
from firebreak.cli.main import main
try:
    main()
except SystemExit as ended:
    print(json.dumps({"code": ended.code, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def verbs() -> list[tuple[str, ...]]:
    groups: Any = typer.main.get_command(app)
    inner = [(name, sub) for name, verb in groups.commands.items() for sub in getattr(verb, "commands", ())]
    return [(), *((name,) for name in groups.commands), *inner]


def test_the_version_is_told() -> None:
    """The first question of every report."""
    done = subprocess.run([sys.executable, "-m", "firebreak", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"firebreak {importlib.metadata.version('firebreak')}\n"


@pytest.mark.parametrize("verb", [(), ("up",), ("servers",), ("lab",)], ids=lambda v: " ".join(v) or "firebreak")
def test_help_loads_no_vendor(verb: tuple[str, ...]) -> None:
    """Half a second, not three: a verb imports what it needs when it runs."""
    done = subprocess.run([sys.executable, "-c", _HELP, *verb], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["code"] in (0, None)
    assert not set(HEAVY) & set(told["modules"])


@pytest.mark.parametrize("verb", verbs(), ids=lambda v: " ".join(v) or "firebreak")
def test_every_verb_says_what_it_does(
    verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its own usage line and a sentence."""
    monkeypatch.setattr("sys.argv", ["firebreak", *verb, "--help"])
    with pytest.raises(SystemExit) as ended:
        app()
    assert not ended.value.code
    out = capfd.readouterr().out
    assert f"Usage: firebreak {' '.join(verb)}".strip() in out
    assert "." in out.split("Options")[0].partition("[OPTIONS]")[2]
