"""Documents are read again when they change: for new incidents, and only when all of them are good."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from activities.actions import specs
from activities.rulebook import Rulebook, RulebookPaths
from firebreak.domain.errors import ContractError
from firebreak.domain.timeline import EntryKind
from firebreak.locator import runbooks_dir


async def test_an_edit_takes_effect_for_the_next_incident(world: Any) -> None:
    """Another threshold: what was a P1 is none any more."""
    world.edit("severity.yaml", "thresholds: {errors: 0.1, seconds: 1}", "thresholds: {errors: 0.9, seconds: 9}")
    world.sick()
    seen = await world.gather(await world.opened())
    assert seen.plan is None
    assert world.rulebook.fault == ""


async def test_an_edit_never_changes_a_running_incident(world: Any) -> None:
    """The plan is pinned: its step and its bytes stay, whatever the file says by then."""
    incident = await world.planned()
    world.edit("catalog/heal.yaml", 'value: "false"', 'value: "gone"')
    world.edit("catalog/heal.yaml", "hold: 5s,", "hold: 50s,")
    world.rulebook.current()
    world.again()
    record = await world.run(world.steps.act, world.step(incident))
    assert record.wrote
    assert world.flag == "false"
    (body,) = await world.bodies(incident, EntryKind.INTENT_RECORDED)
    assert body["intent"]["params"]["value"] == "false"


BROKEN = [
    ("severity.yaml", "tree: {any: [failing, slow]}", "tree: {any: [failing, quick]}", "severity.yaml:"),
    ("policy.yaml", "baseline: {offset: 7d}", "baseline: {offset: soon}", "policy.yaml:"),
    ("services.yaml", "team: payments", "team: payments\n    team: ordering", "services.yaml:"),
    ("catalog/heal.yaml", "action: restart_workload", "action: restart_workloads\n        nonsense: 1", "heal.yaml:"),
    ("catalog/heal.yaml", "kind: runbook", "kind: [runbook", "heal.yaml:"),
    ("catalog/heal.yaml", "action: restart_workload", "action: restart_everything", "unknown action"),
    ("catalog/heal.yaml", "config_map: $flags", "configmap: $flags", "configmap"),
    ("services.yaml", "team: payments", 'team: "\\U00110000"', "services.yaml:"),
    ("services.yaml", "flags: shop-flags", "flags: " + 254 * "x", "services.yaml:9:"),
    ("policy.yaml", "summary: for tests", "durations: {hold_for: 4h}", "severity.yaml:12:10: with the durations of"),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), BROKEN, ids=[f"{b[0]}-{i}" for i, b in enumerate(BROKEN)])
async def test_a_broken_edit_keeps_the_last_good_copy_and_says_so(
    world: Any, name: str, old: str, new: str, says: str
) -> None:
    """Not in force, with file and line; the next good edit is."""
    before = world.rulebook.current()
    world.edit(name, old, new)
    assert world.rulebook.current() is before
    assert "last good copy" in world.rulebook.fault
    assert says in world.rulebook.fault
    assert world.rulebook.current() is before, "looking again must not forget the fault"
    assert world.rulebook.fault
    world.edit(name, new, old)
    assert world.rulebook.current().digest == before.digest
    assert world.rulebook.fault == ""


async def test_a_fault_of_our_own_in_loading_keeps_the_last_good_copy_and_says_so(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks: the edit is not in force, and nobody would look for it without being told."""
    before = world.rulebook.current()

    def broken(data: bytes, source: str) -> None:
        raise OverflowError("too odd")

    monkeypatch.setattr("activities.rulebook.load_services", broken)
    world.edit("services.yaml", "team: payments", "team: ordering")
    assert world.rulebook.current() is before
    assert "last good copy" in world.rulebook.fault
    assert "OverflowError('too odd')" in world.rulebook.fault
    assert world.rulebook.current() is before, "looking again must not forget the fault"
    assert world.rulebook.fault


async def test_a_file_that_vanishes_keeps_the_last_good_copy(world: Any) -> None:
    """Half of a deployment: the document is gone for a moment."""
    before = world.rulebook.current()
    (world.documents / "services.yaml").unlink()
    assert world.rulebook.current() is before
    assert "cannot be read" in world.rulebook.fault


async def test_documents_that_are_broken_at_the_start_stop_the_start(world: Any) -> None:
    """There is no last good copy yet: an error that names the file."""
    world.edit("policy.yaml", "kind: policy", "kind: polic")
    with pytest.raises(ContractError, match="policy"):
        world.again()


async def test_what_no_incident_of_a_service_could_use_stops_the_start(world: Any) -> None:
    """The documents are right one by one, and the plan would be refused at night."""
    world.edit("services.yaml", "flags: shop-flags", "flags: " + 254 * "x")
    with pytest.raises(ContractError, match=r"services\.yaml:9:\d+: runbook heal, step 'flag-off': config_map: "):
        world.again()


async def test_a_parameter_that_a_service_lacks_stops_nothing(world: Any) -> None:
    """The tree may be made for several services: what one of them lacks is told by the linter."""
    world.edit("severity.yaml", "summary: for tests", "params: [zone]")
    world.edit("severity.yaml", "query: app_errors{service=$service}", "query: app_errors{service=$service,zone=$zone}")
    world.again()
    tree = world.rulebook.current().tree(await world.opened())
    assert [c.name for c in tree.conditions if c.fault] == ["failing"]


async def test_unchanged_files_are_not_read_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cheap enough for every look at the evidence."""
    read: list[str] = []
    real = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    for _ in range(3):
        world.rulebook.current()
    assert read == []


async def test_an_edit_of_the_same_size_and_time_is_found(world: Any) -> None:
    """Images and package stores give all of their files one time, and 0.1 is as long as 0.9."""
    path = world.documents / "severity.yaml"
    os.utime(path, (1, 1))
    world.rulebook.current()
    before = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text().replace("errors: 0.1,", "errors: 0.9,"))
    os.utime(other, (1, 1))
    other.replace(path)
    after = path.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    assert world.rulebook.current().severity.thresholds["errors"] == 0.9


async def test_a_new_runbook_in_the_catalog_is_found(world: Any) -> None:
    """A file that was not there: chosen for the next incident by its priority."""
    text = (world.documents / "catalog" / "heal.yaml").read_text()
    world.write("catalog/first.yaml", text.replace("name: heal\n", "name: first\npriority: 5\n"))
    world.sick()
    seen = await world.gather(await world.opened())
    assert seen.plan.runbook == "first"


async def test_an_editors_lock_is_no_runbook(world: Any) -> None:
    """Emacs puts a link to nothing beside a file that is being edited."""
    before = world.rulebook.current()
    (world.documents / "catalog" / ".#heal.yaml").symlink_to("someone@somewhere.4711:1")
    assert world.rulebook.current() is before
    assert world.rulebook.fault == ""


async def test_one_tree_a_service_is_rendered_once(world: Any) -> None:
    """The same service and workload: the same tree object; another workload: another one."""
    rules = world.rulebook.current()
    one, two = await world.opened(), await world.opened(alertname="Other")
    other = await world.opened(deployment="pay-v2")
    assert rules.tree(one) is rules.tree(two)
    assert rules.tree(other) is not rules.tree(one)


async def test_an_empty_catalog_stops_the_start(world: Any) -> None:
    """A mistyped folder must not be found out at the first P1."""
    for path in (world.documents / "catalog").glob("*.yaml"):
        path.unlink()
    with pytest.raises(ContractError, match="there is no runbook"):
        world.again()


async def test_one_folder_may_hold_all_documents(tmp_path: Path) -> None:
    """What is configured as severity, policy or services is no runbook, though it lies among them."""
    for name in ("severity/p1.yaml", "policies/default.yaml", "services.yaml", "catalog/heal-service.yaml"):
        shutil.copy(runbooks_dir() / name, tmp_path)
    paths = RulebookPaths(
        catalog=tmp_path,
        severity=tmp_path / "p1.yaml",
        policy=tmp_path / "default.yaml",
        services=tmp_path / "services.yaml",
    )
    rules = Rulebook(paths, cluster="lab", specs=specs()).current()
    assert [runbook.name for runbook in rules.runbooks] == ["heal-service"]
