"""`firebreak lint`: what is wrong with the data documents, with file, line and column."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firebreak.cli.document_files import documents_below, never_loaded

if TYPE_CHECKING:
    from firebreak.connectors.prometheus_discovery import PrometheusDiscovery
    from firebreak.documents.policy import Policy
    from firebreak.documents.services import Services
    from firebreak.domain.action import ActionSpec
    from firebreak.domain.errors import Problem
    from firebreak.plans.existence import KnownSeries
    from firebreak.plans.runbook import Runbook
    from firebreak.triage.tree import SeverityDocument


def register(app: typer.Typer) -> None:
    app.command()(lint)


def lint(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Documents, or directories of *.yaml; default: the shipped ones."),
    ] = None,
    prometheus: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Also report metrics and labels that do not exist there, and queries that it does not take.",
        ),
    ] = None,
    write_schema: Annotated[
        bool,
        typer.Option(
            "--write-schema", help="Write the JSON Schema that editors complete runbooks from: the shipped one."
        ),
    ] = False,
    write_schema_to: Annotated[
        Path | None,
        # no value of --write-schema: that would take the first PATH for the file to write over
        typer.Option("--write-schema-to", metavar="FILE", help="Write that schema to a file of yours."),
    ] = None,
) -> None:
    """Check runbooks, severity trees, policies and services: names, parameters, PromQL, and that every step which
    writes says check, verify and undo. One `file:line:column: message` a problem; exit code 1 when there is any."""
    from activities.actions import specs
    from firebreak.locator import runbooks_dir

    if write_schema:
        _write_schema(runbooks_dir() / "schema" / "runbook.schema.json", specs())
    if write_schema_to is not None:
        _write_schema(write_schema_to, specs())
    library = Library(specs())
    for path in paths or [runbooks_dir()]:
        library.read(path)
    library.compare()
    try:
        if prometheus is not None:
            with _discovery(prometheus) as known:
                library.look_up(_Remembered(known))
    finally:  # a Prometheus that does not answer hides nothing that is wrong without it
        found = sorted(set(library.problems))
        for problem in found:
            print(problem)
        print(f"{_count(library.documents, 'document')}, {_count(len(found), 'problem')}")
    if found:
        raise typer.Exit(1)


def _write_schema(path: Path, specs: Mapping[str, ActionSpec]) -> None:
    from firebreak.domain.errors import ContractError
    from firebreak.plans.schema import schema_text

    try:
        path.write_text(schema_text(specs), encoding="utf-8")
    except OSError as error:
        raise ContractError(
            f"the schema cannot be written to {path}: {error.strerror or type(error).__name__}",
            advice="Name a file that you may write: firebreak lint --write-schema-to FILE.",
        ) from None
    print(f"{path} written")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass
class Library:
    """All documents of one run; `problems` collects what is wrong with them, one by one and together."""

    specs: Mapping[str, ActionSpec]
    documents: int = 0
    problems: list[Problem] = field(default_factory=list)
    runbooks: list[Runbook] = field(default_factory=list)
    severities: list[SeverityDocument] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    services: list[Services] = field(default_factory=list)

    def read(self, path: Path) -> None:
        """One file, or every document below a directory."""
        files = [path]
        if os.path.isdir(path):
            files = documents_below(path, self._unreadable)
            if not files:
                self._problem(path, "no *.yaml in this directory")
        runbooks = [file for file in files if self._read_file(file) == "runbook"]
        for file, why in never_loaded(runbooks):
            self._problem(file, f"the engine does not load this runbook: {why}")

    def _unreadable(self, error: OSError) -> None:
        self._problem(Path(error.filename), f"cannot be read: {error.strerror or type(error).__name__}")

    def _read_file(self, path: Path) -> str:
        """What kind of document it is, or says it is; empty when that cannot be seen."""
        from firebreak.documents.yaml_file import load_yaml
        from firebreak.domain.errors import PolicyInvalid, Problem, RunbookInvalid

        self.documents += 1
        try:
            data = path.read_bytes()
        except OSError as error:
            error.filename = path
            self._unreadable(error)
            return ""
        kind: object = ""
        try:
            document = load_yaml(data, str(path))
            kind = document.data.get("kind")
            load = self._loaders().get(kind) if isinstance(kind, str) else None
            if load is None:
                line, column = document.located.position(("kind",))
                known = ", ".join(self._loaders())
                told = f"`kind` must be one of {known}" + (f", not {kind!r}" if kind else "")
                self.problems.append(Problem(document.source, line, column, told))
                return ""
            load(data, str(path))
        except (RunbookInvalid, PolicyInvalid) as error:
            self.problems += error.problems
            if not error.problems:
                self._problem(path, str(error))
        return str(kind or "")

    def _loaders(self) -> Mapping[str, Callable[[bytes, str], None]]:
        from firebreak.documents.policy import load_policy
        from firebreak.documents.services import load_services
        from firebreak.plans.runbook import load_runbook
        from firebreak.triage.tree import load_severity

        return {
            "runbook": lambda data, source: self.runbooks.append(load_runbook(data, source)),
            "severity": lambda data, source: self.severities.append(load_severity(data, source)),
            "policy": lambda data, source: self.policies.append(load_policy(data, source)),
            "services": lambda data, source: self.services.append(load_services(data, source)),
        }

    def compare(self) -> None:
        """What only shows when the documents are seen together."""
        from firebreak.documents.policy import unused_overrides
        from firebreak.domain.errors import Problem
        from firebreak.plans.lint import lint_runbook

        first: dict[str, str] = {}
        for runbook in self.runbooks:
            self.problems += lint_runbook(runbook, self.specs)
            for policy in self.policies:
                self.problems += lint_runbook(runbook, self.specs, policy=policy)
            if runbook.name in first:
                line, column = runbook.document.located.position(("name",))
                told = f"a runbook called {runbook.name!r} is in {first[runbook.name]} already"
                self.problems.append(Problem(runbook.source, line, column, told))
            first.setdefault(runbook.name, runbook.source)
        if self.runbooks and self.severities:  # only then is every name known that may be overridden
            durations = {n for r in self.runbooks for n in r.model.durations} | {
                n for s in self.severities for n in s.durations
            }
            thresholds = {n for r in self.runbooks for n in r.model.thresholds} | {
                n for s in self.severities for n in s.thresholds
            }
            for policy in self.policies:
                self.problems += unused_overrides(policy, durations=durations, thresholds=thresholds)
            for services in self.services:
                self.problems += _unused_numbers(services, thresholds)
        self._fit_together()

    def _fit_together(self) -> None:
        """What the engine's load refuses, too; and what it would take, but never use or never judge."""
        from firebreak.documents.policy import load_policy
        from firebreak.plans.fit import never_chosen, plan_problems
        from firebreak.triage.fit import lacking_params, tree_problems, without_workload

        of_none = load_policy(b"kind: policy\nname: none\n", "none")  # sets nothing
        together: list[Services | None] = [*self.services] or [None]
        for policy in self.policies or [of_none]:
            for services in together:
                for severity in self.severities:
                    self.problems += tree_problems(severity, policy, services)
                self.problems += plan_problems(self.runbooks, policy, services, self.specs)
        known = [service for services in self.services for service in services.services.values()]
        if known:  # only then can be said what nobody has
            self.problems += never_chosen(self.runbooks, known)
            for severity in self.severities:
                self.problems += lacking_params(severity, known)
                self.problems += without_workload(severity, known)

    def look_up(self, known: KnownSeries) -> None:
        """Metrics and labels that do not exist in a real Prometheus, and queries that it does not take."""
        from firebreak.documents.conditions import STANDARD_BINDINGS, Rendering
        from firebreak.plans.existence import missing
        from firebreak.plans.rules import sample_rendering

        for runbook in self.runbooks:
            rendering = sample_rendering(runbook.model)
            self.problems += missing(runbook.document, runbook.model.conditions, rendering, known)
        for severity in self.severities:
            names = STANDARD_BINDINGS | set(severity.params)
            rendering = Rendering(
                durations=severity.durations, thresholds=severity.thresholds, bindings={n: f"${n}" for n in names}
            )
            self.problems += missing(severity.document, severity.conditions, rendering, known)

    def _problem(self, path: Path, message: str) -> None:
        from firebreak.documents.yaml_file import as_text
        from firebreak.domain.errors import Problem

        self.problems.append(Problem(as_text(str(path)), 1, 1, message))


def _unused_numbers(services: Services, thresholds: set[str]) -> Iterator[Problem]:
    """Thresholds and weights of a service that no document has: most often a slip of the pen."""
    from firebreak.documents.yaml_file import Finding

    for name in services.services:
        block = services.document.data["services"][name]
        for table in ("thresholds", "weights"):
            for number in block.get(table) or {}:
                if number not in thresholds:
                    message = f"no severity document and no runbook has a threshold {number!r}"
                    yield services.document.problem(Finding(("services", name, table, number), message, on_key=True))


class _Remembered:
    """Asks once for each name and each query."""

    def __init__(self, known: KnownSeries) -> None:
        self._known = known
        self._metrics: frozenset[str] | None = None
        self._labels: dict[str, frozenset[str]] = {}
        self._refusals: dict[str, str] = {}

    def metric_names(self) -> frozenset[str]:
        if self._metrics is None:
            self._metrics = self._known.metric_names()
        return self._metrics

    def label_names(self, metric: str) -> frozenset[str]:
        if metric not in self._labels:
            self._labels[metric] = self._known.label_names(metric)
        return self._labels[metric]

    def refusal(self, query: str) -> str:
        if query not in self._refusals:
            self._refusals[query] = self._known.refusal(query)
        return self._refusals[query]


def _discovery(url: str) -> PrometheusDiscovery:
    from firebreak.connectors.prometheus_discovery import PrometheusDiscovery
    from firebreak.settings import load_settings

    settings = load_settings()
    if url.rstrip("/") != settings.prometheus_url.rstrip("/"):
        return PrometheusDiscovery(url)  # another server never gets the configured one's token
    headers = {name: value.get_secret_value() for name, value in settings.prometheus_headers.items()}
    return PrometheusDiscovery(url, headers=headers, params=settings.prometheus_params)
