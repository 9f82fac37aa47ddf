"""Bad documents: the engine does not start on them, and says file, line and column; a bad edit while it runs pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firebreak.cli.main import app
from firebreak.domain.errors import ContractError
from firebreak.engine.compose import build_rulebook
from firebreak.settings import Settings

FALLBACK = "nobodysnobodysnobodysnobodysnobo"

BAD = {
    "unknown runbook action": (
        "catalog/heal.yaml",
        "action: set_flag",
        "action: set_flags",
        "unknown action",
    ),
    "parameter the action lacks": ("catalog/heal.yaml", "config_map: $flags", "configmap: $flags", "configmap"),
    "duplicated YAML key": ("services.yaml", "    team: payments\n", "    team: payments\n    team: x\n", "team"),
    "PromQL that does not parse": (
        "severity.yaml",
        "query: app_errors{service=$service}",
        "query: app_errors{service=$service",
        "",
    ),
    "unknown placeholder": (
        "severity.yaml",
        "query: app_latency{service=$service}",
        "query: app_latency{service=$servce}",
        "$servce",
    ),
    "invalid UTF-8": ("policy.yaml", "summary: for tests", "summary: \udcff", "UTF-8"),
    "no YAML": ("policy.yaml", "kind: policy", "kind: [policy", ""),
    "a system's namespace": (
        "services.yaml",
        "namespace: {label: namespace}",
        "namespace: kube-system",
        "kube-system",
    ),
}


def _edit(documents: Path, name: str, old: str, new: str) -> Path:
    path = documents / name
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    path.write_bytes(text.replace(old, new).encode("utf-8", "surrogateescape"))
    return path


@pytest.mark.parametrize("case", BAD)
def test_the_engine_does_not_start_on_a_bad_document(case: str, document_settings: Settings, documents: Path) -> None:
    """Refused where it stands, before any alert could depend on it."""
    name, old, new, says = BAD[case]
    _edit(documents, name, old, new)
    with pytest.raises(ContractError) as caught:
        build_rulebook(document_settings)
    text = str(caught.value)
    assert re.search(rf"{re.escape(Path(name).name)}:\d+:\d+: ", text), text
    assert says in text
    assert caught.value.next_step()


@pytest.mark.parametrize("case", BAD)
def test_the_linter_says_the_same(case: str, document_settings: Settings, documents: Path) -> None:
    """`firebreak lint PATH` finds it before the engine does, and fails."""
    name, old, new, says = BAD[case]
    path = _edit(documents, name, old, new)
    result = CliRunner().invoke(app, ["lint", str(path)])
    assert result.exit_code not in (0, None)
    assert re.search(rf"{re.escape(path.name)}:\d+:\d+: ", result.output.replace("\n", "")), result.output
    assert says in result.output.replace("\n", " ")


@pytest.mark.servers
async def test_a_bad_edit_while_it_runs_pages_and_changes_nothing(chain: Any, documents: Path) -> None:
    """Somebody is told which file; the next alert is judged by the last good copy and acted on."""
    await chain.start()
    _edit(documents, "catalog/heal.yaml", "action: set_flag", "action: set_flags")
    page = await chain.paged(FALLBACK)
    assert "heal.yaml" in page.summary + str(page.details)
    assert (await chain.post(chain.labels)).status_code == 200
    await chain.until(chain.wrote)
