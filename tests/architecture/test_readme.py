"""What the README says exists and is so: settings with their defaults, verbs, configuration that can be copied."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import SecretStr
from ruamel.yaml import YAML

from activities.actions import specs
from activities.needed_rights import EVIDENCE, EVIDENCE_ELSEWHERE, WALK
from firebreak.cli.main import app
from firebreak.domain.codec import format_duration
from firebreak.lab import manifests
from firebreak.plans.lint import lint_runbook
from firebreak.plans.runbook import load_runbook
from firebreak.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_SETTINGS = {
    "CACHE_DIR",
    "SECRETS_DIR",
    "SERVER_KUBE_APISERVER",
}  # read where servers are found, or to read settings


def shown(value: object) -> str:
    """A default as the table writes it."""
    match value:
        case None:
            return "unset"
        case SecretStr():
            return shown(value.get_secret_value())
        case bool():
            return f"`{str(value).lower()}`"
        case Enum():
            return f"`{value.value}`"
        case timedelta():
            return f"`{format_duration(value)}`"
        case "":
            return "empty"
        case _:
            return f"`{value}`"


def commands(group: Any) -> dict[str, Any]:
    return dict(group.commands)


def yaml_blocks(text: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    """The table names each field of Settings and the default that it really has, and no other."""
    table = dict(re.findall(r"^\| `FIREBREAK_([A-Z0-9_]+)` \| [^|]+ \| ([^|]+) \|", README, re.M))
    fields = {
        name.upper(): shown(f.get_default(call_default_factory=True)) for name, f in Settings.model_fields.items()
    }
    assert table == fields


def test_documents_name_only_settings_that_exist() -> None:
    """A setting that was renamed must not live on in a document."""
    known = {name.upper() for name in Settings.model_fields} | NOT_SETTINGS
    for document in DOCUMENTS:
        named = set(re.findall(r"FIREBREAK_([A-Z0-9_]*[A-Z0-9])\b", document.read_text(encoding="utf-8")))
        assert named <= known, document.name


def test_readme_and_command_line_have_the_same_verbs() -> None:
    """Each verb of the program is in the table, and each verb that a document names is one of the program."""
    verbs = commands(typer.main.get_command(app))
    rows = dict(re.findall(r"^\| `firebreak ([a-z]+)` \| (.*) \|$", README, re.M))
    assert set(rows) == set(verbs)
    for name in ("lab", "servers"):
        for inner in commands(verbs[name]):
            assert re.search(rf"`{inner}\b", rows[name]), f"firebreak {name} {inner}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_documents_name_only_verbs_that_exist(document: Path) -> None:
    """`firebreak VERB`, and what follows `lab` and `servers`, can be typed as it stands."""
    verbs = commands(typer.main.get_command(app))
    for first, second in re.findall(
        r"(?<![\w/.-])firebreak ([a-z]+)(?: ([a-z]+))?", document.read_text(encoding="utf-8")
    ):
        assert first in verbs, f"firebreak {first}"
        if second and first in ("lab", "servers"):
            assert second in commands(verbs[first]), f"firebreak {first} {second}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_documents_name_only_make_verbs_that_exist(document: Path) -> None:
    """Inside code, `make VERB` is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z]+)", text)) | set(re.findall(r"^make ([a-z]+)", text, re.M))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """Every relative link names a file or folder of this checkout."""
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_paths_that_documents_name_exist(document: Path) -> None:
    """A file or folder in backticks, below one of our rooms, is there."""
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:firebreak|activities|workflows|runbooks|tests|docs|tools)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_yaml_that_can_be_copied_is_yaml(document: Path) -> None:
    """Each block parses, keys twice included."""
    for block in yaml_blocks(document.read_text(encoding="utf-8")):
        assert all(part is not None for part in YAML(typ="safe").load_all(io.StringIO(block)))


def test_the_alertmanager_example_says_what_the_engine_needs() -> None:
    """At once, resolved ones too, nothing left out, and the token from a file."""
    (config,) = (block for block in yaml_blocks(README) if block.startswith("route:"))
    loaded = YAML(typ="safe").load(config)
    (route,) = loaded["route"]["routes"]
    assert route["group_wait"] == "0s"
    (receiver,) = (r for r in loaded["receivers"] if r["name"] == route["receiver"])
    (webhook,) = receiver["webhook_configs"]
    assert webhook["url"].endswith("/v1/alerts/alertmanager")
    assert webhook["send_resolved"] is True
    assert webhook["max_alerts"] == 0
    assert webhook["http_config"]["authorization"]["type"] == "Bearer"
    assert webhook["http_config"]["authorization"]["credentials_file"]


def granted(documents: list[Any]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for document in documents
        for rule in document.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_role_in_the_readme_is_that_of_the_lab() -> None:
    """The lab's engine heals with it, from the alert to the post-mortem: what it lacks would be missed there."""
    (block,) = (block for block in yaml_blocks(README) if "kind: Role" in block)
    readme = granted(list(YAML(typ="safe").load_all(io.StringIO(block))))
    roles = [m for _, m in manifests.rbac() if m["metadata"]["name"] == manifests.ENGINE_USER]
    assert readme == granted(roles)
    assert {verb for _, _, verb in readme} == {"get", "list", "patch"}


def test_the_role_in_the_readme_is_what_check_asks_for() -> None:
    """Right by right: what actions, evidence and the way to a target need, and nothing else."""
    (block,) = (block for block in yaml_blocks(README) if "kind: Role" in block)
    wide = [right for _, of in EVIDENCE_ELSEWHERE for right in of]
    needed = [*EVIDENCE, *wide, *WALK, *(right for spec in specs().values() for right in spec.rights)]
    asked = {(right.kind.group, f"{right.kind.plural}/{right.subresource}".rstrip("/"), right.verb) for right in needed}
    assert granted(list(YAML(typ="safe").load_all(io.StringIO(block)))) == asked


def test_the_runbook_in_contributing_passes_the_linter() -> None:
    """What a new author copies must be right, and begins as shipped runbooks must (tests/plans/test_catalog.py)."""
    (block,) = yaml_blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert block.startswith("# yaml-language-server: $schema=../schema/runbook.schema.json\n")
    runbook = load_runbook(block.encode(), "CONTRIBUTING.md")
    assert lint_runbook(runbook, specs()) == ()
