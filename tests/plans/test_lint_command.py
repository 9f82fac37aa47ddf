"""`firebreak lint` as a person runs it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from firebreak.cli import lint
from firebreak.domain.errors import ContractError
from firebreak.locator import runbooks_dir

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """The command, in an application of its own."""
    app = typer.Typer()
    lint.register(app)
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the shipped documents."""
    return Path(shutil.copytree(runbooks_dir(), tmp_path / "runbooks"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_shipped_documents_have_no_problems(run: Run) -> None:
    """Without a path the shipped tree is read: runbooks, severity, policy and services."""
    result = run()
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].endswith("documents, 0 problems")


def test_a_problem_is_printed_with_its_place_and_fails_the_run(run: Run, tree: Path) -> None:
    """`file:line:column: message`, a summary, exit code 1."""
    path = tree / "catalog" / "heal-service.yaml"
    edit(path, "action: shift_traffic", "action: shift_trafic")
    result = run(tree)
    line = path.read_text().splitlines().index("        action: shift_trafic") + 1
    assert f"{path}:{line}:17: unknown action 'shift_trafic'; did you mean 'shift_traffic'?" in result.output
    assert result.output.splitlines()[-1].endswith("documents, 1 problem")
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        ("severity/p1.yaml", "threshold: $p99_ms", "threshold: $p99", "unknown threshold $p99"),
        ("policies/default.yaml", "baseline: {offset: 7d}", "baseline: {}", "exactly one of `offset` and `at`"),
        ("policies/default.yaml", "thresholds: {}", "thresholds: {p99: 1}", "has a threshold 'p99'"),
        ("policies/default.yaml", "durations: {}", "durations: {within: 1s}", "has a duration 'within'"),
        ("policies/default.yaml", "durations: {}", "durations: {verify_within: 1s}", "can never be met"),
        ("services.yaml", "thresholds: {p99_ms: 3000}", "thresholds: {p99: 3000}", "has a threshold 'p99'"),
        ("services.yaml", "namespace: shop", "namespace: kube-system", "belongs to the system"),
        ("policies/default.yaml", "thresholds: {}", "thresholds: {volume_weight: 2}", "which is out of range"),
        ("services.yaml", "pay_weight: 0.8", "pay_weight: -0.8", "which is out of range"),
        ("services.yaml", "pay_weight: 0.8, order_weight: 0.2", "pay_weight: 0, order_weight: 0", "weight of 0"),
        (
            "services.yaml",
            "flag_key: recommend.enabled",
            'flag_key: "recommend on!"',
            "step 'do-without-dependency': key",
        ),
        ("severity/p1.yaml", "durations:", "params: [gateway]\ndurations:", "no service has the parameter 'gateway'"),
        ("catalog/heal-service.yaml", "severity: P1", "severity: P1\n  services: [ordr]", "there is no service 'ordr'"),
        ("catalog/restart-only.yaml", "severity: P1", "severity: P1\n  params: [owner]", "has the parameter 'owner'"),
        ("catalog/restart-only.yaml", "name: restart-only", "name: heal-service", "'heal-service' is in"),
        ("catalog/restart-only.yaml", "kind: runbook", "kind: rumbook", "`kind` must be one of runbook, severity"),
        ("catalog/restart-only.yaml", "kind: runbook\n", "", "`kind` must be one of runbook, severity"),
    ],
)
def test_every_kind_of_document_is_checked(run: Run, tree: Path, file: str, old: str, new: str, sentence: str) -> None:
    """Each by its own rules, and all of them together."""
    edit(tree / file, old, new)
    result = run(tree)
    assert result.exit_code == 1
    assert [line for line in result.output.splitlines() if sentence in line and file in line], result.output


def test_times_of_a_policy_that_no_query_can_ask_for_are_a_problem_of_the_tree(run: Run, tree: Path) -> None:
    """The severity document alone is right, and so is the policy."""
    edit(tree / "policies" / "default.yaml", "durations: {}", "durations: {business_for: 4h, step: 1s}")
    result = run(tree)
    assert result.exit_code == 1
    assert result.output.count("4 h in steps of 1 s are 14400 points") == 2
    assert "severity/p1.yaml" in result.output


def test_a_condition_that_a_pod_leaves_without_its_workload_is_a_problem_of_the_tree(run: Run, tree: Path) -> None:
    """The severity document alone is right, and so are the services."""
    edit(tree / "services.yaml", "kind: Deployment, name: {label: deployment}", "pod: {label: pod}")
    assert run(tree).exit_code == 0
    edit(tree / "severity" / "p1.yaml", "['gateway_requests_total']", "['gateway_requests_total{pod=$workload}']")
    result = run(tree)
    assert result.exit_code == 1
    assert "p1.yaml:49:3: $workload has no value for edge, whose target is a pod" in result.output


def test_without_services_nobody_can_say_what_no_service_has(run: Run, tree: Path) -> None:
    """One document alone is checked by itself."""
    edit(tree / "severity" / "p1.yaml", "durations:", "params: [gateway]\ndurations:")
    edit(tree / "catalog" / "heal-service.yaml", "severity: P1", "severity: P1\n  services: [ordr]")
    result = run(tree / "severity", tree / "catalog", tree / "policies")
    assert result.exit_code == 0, result.output


def test_a_runbook_that_the_engine_never_loads_is_a_problem(run: Run, tree: Path) -> None:
    """It reads *.yaml of one folder; what has another ending or lies deeper would be missed in an incident."""
    catalog = tree / "catalog"
    (catalog / "deep").mkdir()
    text = (catalog / "restart-only.yaml").read_text()
    (catalog / "one.yml").write_text(text.replace("name: restart-only", "name: one"))
    (catalog / "deep" / "two.yaml").write_text(text.replace("name: restart-only", "name: two"))
    output = run(tree).output
    assert f"{catalog}/one.yml:1:1: the engine does not load this runbook: of a catalog it reads *.yaml alone" in output
    assert "rename it to one.yaml" in output
    assert f"{catalog}/deep/two.yaml:1:1: the engine does not load this runbook: it reads no folder of a" in output
    assert f"move it to {catalog}\n" in output
    assert "2 problems" in output
    assert run(catalog / "one.yml").exit_code == 1
    assert run(catalog / "deep").exit_code == 0, "a folder that is named is a catalog of its own"


def test_the_schema_is_written_where_it_is_asked_for(run: Run, tmp_path: Path, tree: Path) -> None:
    """Who has the wheel cannot write into it; the documents that are named are read, and written over by nothing."""
    shipped = runbooks_dir() / "schema" / "runbook.schema.json"
    file, runbook = tmp_path / "mine.json", tree / "catalog" / "restart-only.yaml"
    before = runbook.read_bytes()
    result = run("--write-schema-to", file, runbook)
    assert result.output.splitlines() == [f"{file} written", "1 document, 0 problems"]
    assert file.read_bytes() == shipped.read_bytes()
    assert runbook.read_bytes() == before


def test_a_schema_that_cannot_be_written_is_a_sentence(run: Run, tmp_path: Path) -> None:
    """It names the file, and what to do."""
    with pytest.raises(ContractError, match=r"no/such\.json: No such file") as caught:
        run("--write-schema-to", tmp_path / "no" / "such.json")
    assert "--write-schema-to FILE" in caught.value.next_step()


def test_what_is_not_there_is_a_problem_too(run: Run, tmp_path: Path) -> None:
    """A mistyped path must not look like a clean run."""
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / "nothing.yaml", tmp_path / "empty")
    assert result.exit_code == 1
    assert "nothing.yaml:1:1: cannot be read" in result.output
    assert "empty:1:1: no *.yaml in this directory" in result.output


def test_what_begins_with_a_dot_is_no_document(run: Run, tree: Path) -> None:
    """An editor's lock, and the folders behind a mounted ConfigMap, whose links are the documents."""
    catalog = tree / "catalog"
    (catalog / ".#restart-only.yaml").symlink_to("someone@somewhere.4711:1")
    copies = catalog / "..2026_11_30"
    copies.mkdir()
    for file in catalog.glob("[!.]*.yaml"):
        file.rename(copies / file.name)
        file.symlink_to(f"..data/{file.name}")
    (catalog / "..data").symlink_to(copies.name)
    result = run(tree)
    assert result.exit_code == 0, result.output
    assert result.output == run().output, "all of them are read, once"


def test_a_folder_behind_a_link_is_read_once(run: Run, tree: Path) -> None:
    """The engine follows it, too; what leads in a circle ends."""
    (tree / "catalog").rename(tree.parent / "elsewhere")
    (tree / "catalog").symlink_to(tree.parent / "elsewhere")
    (tree / "again").symlink_to(".")
    edit(tree / "catalog" / "restart-only.yaml", "action: page", "action: pag")
    named = {line.split(":")[0] for line in run(tree).output.splitlines()[:-1]}
    assert named == {f"{tree}/catalog/restart-only.yaml"}


@pytest.mark.parametrize("what", ["a link to nothing", "a folder"])
def test_a_runbook_that_the_engine_could_not_read_is_a_problem(run: Run, tree: Path, what: str) -> None:
    """The engine refuses all documents for it."""
    odd = tree / "catalog" / "odd.yaml"
    odd.mkdir() if what == "a folder" else odd.symlink_to("nothing.yaml")
    result = run(tree)
    assert result.exit_code == 1
    assert f"{odd}:1:1: cannot be read: " in result.output


def test_a_folder_that_cannot_be_looked_into_is_a_problem(
    run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it was not checked."""
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("severity"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert f"{tree / 'severity'}:1:1: cannot be read: Permission denied" in run(tree).output.splitlines()


def test_what_every_ext4_volume_has_is_no_problem(run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may look into `lost+found`, and the engine never does."""
    (tree / "lost+found").mkdir()
    (tree / "lost+found" / "1234.yaml").write_text("no document")
    result = run(tree)
    assert (result.exit_code, "lost+found" in result.output) == (0, False)


def test_a_file_whose_name_is_no_utf_8_is_named_all_the_same(run: Run, tmp_path: Path) -> None:
    """In text that can be printed, and stored with a plan."""
    (tmp_path / os.fsdecode(b"caf\xe9.yaml")).write_text("kind: runbook\n")
    (tmp_path / os.fsdecode(b"caf\xe8.yaml")).write_text("kind: no\n")
    output = run(tmp_path).output
    output.encode()  # strictly
    assert "caf\\udce9.yaml:1:1: key 'name' is missing here" in output
    assert "caf\\udce8.yaml:1:7: `kind` must be" in output


def test_one_broken_document_does_not_hide_another(run: Run, tree: Path) -> None:
    """All files are read, whatever the first one is like."""
    (tree / "catalog" / "heal-service.yaml").write_bytes(b"\xff")
    edit(tree / "catalog" / "restart-only.yaml", "action: page", "action: pge")
    result = run(tree)
    assert "not UTF-8" in result.output
    assert "must call a person" in result.output
