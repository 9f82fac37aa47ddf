"""The documents that decide: severity, policy, services, runbooks. Read again when a file changes.

An edit never changes a running incident (its plan is pinned), and a broken edit never takes effect: the last good copy
stays, and says so (practice A5, B8).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from firebreak.documents.policy import Policy, load_policy
from firebreak.documents.services import Services, load_services
from firebreak.documents.yaml_file import refuse
from firebreak.domain.action import ActionSpec
from firebreak.domain.alert import Alert
from firebreak.domain.errors import ContractError
from firebreak.domain.incident import Incident
from firebreak.domain.message import Route
from firebreak.domain.plan import Plan
from firebreak.domain.target import TargetRef
from firebreak.domain.verdict import Severity
from firebreak.plans.choose import choose
from firebreak.plans.fit import plan_problems
from firebreak.plans.lint import lint_runbook
from firebreak.plans.pin import pinned
from firebreak.plans.runbook import Runbook, load_runbook
from firebreak.triage.disposition import LookTimes
from firebreak.triage.fit import tree_problems
from firebreak.triage.targets import Resolution, resolve
from firebreak.triage.tree import SeverityDocument, SeverityTree, load_severity, rendered_tree

_TREES = 4_000  # rendered trees kept: one per service and workload
_PLANS = 500  # pinned plans kept: what fires again, or is looked at again, is not pinned anew


@dataclass(frozen=True, slots=True, kw_only=True)
class RulebookPaths:
    """Where the documents are. `catalog` is a directory of *.yaml; those that begin with a dot are none."""

    catalog: Path
    severity: Path
    policy: Path
    services: Path


@dataclass(kw_only=True)
class Rules:
    """One consistent set of documents, as loaded at one time."""

    cluster: str
    severity: SeverityDocument
    policy: Policy
    services: Services
    runbooks: tuple[Runbook, ...]
    specs: Mapping[str, ActionSpec]
    look_times: LookTimes
    digest: str
    _trees: dict[tuple[str, str, tuple[tuple[str, str], ...]], tuple[SeverityTree, bytes]] = field(default_factory=dict)
    _plans: dict[tuple[str, str, TargetRef, tuple[tuple[str, str], ...]], tuple[Plan, bytes]] = field(
        default_factory=dict
    )

    def resolve(self, alert: Alert) -> Resolution:
        return resolve(alert.labels, self.services, self.cluster)

    def tree(self, incident: Incident) -> SeverityTree:
        """The severity tree with everything filled in for this incident's service and workload."""
        return self.tree_document(incident)[0]

    def tree_document(self, incident: Incident) -> tuple[SeverityTree, bytes]:
        """The tree and its bytes, which its digest is of. That of an alert which is not known to be of our cluster asks
        for nothing: what is measured here is not about it."""
        key = (incident.service, incident.elsewhere, tuple(sorted(incident.bindings.items())))
        known = self._trees.get(key)
        if known is None:
            if len(self._trees) >= _TREES:
                self._trees.clear()
            service = self.services.services.get(incident.service)
            known = rendered_tree(self.severity, self.policy, service, incident.bindings, fault=incident.elsewhere)
            self._trees[key] = known
        return known

    def plan(self, incident: Incident, target: TargetRef) -> tuple[Plan | None, bytes, str]:
        """The chosen runbook, pinned for this incident; its bytes; and why this one (or why none)."""
        choice = choose(
            self.runbooks,
            service=incident.service,
            severity=Severity.P1,
            labels=incident.alert.labels,
            bindings=incident.bindings,
        )
        if choice.runbook is None:
            return None, b"", choice.reason
        key = (choice.runbook.digest, incident.service, target, tuple(sorted(incident.bindings.items())))
        known = self._plans.get(key)
        if known is None:
            service = self.services.services.get(incident.service)
            known = pinned(
                choice.runbook,
                service=incident.service,
                target=target,
                bindings=incident.bindings,
                policy=self.policy,
                service_thresholds={} if service is None else service.thresholds,
                specs=self.specs,
            )
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[key] = known
        return *known, choice.reason

    def route(self, service: str) -> Route:
        return self.services.route(service)


class Rulebook:
    """`current()` is cheap: it looks at what the file system says of the files, at most every `every` seconds, and
    loads them when that changed."""

    def __init__(
        self, paths: RulebookPaths, *, cluster: str, specs: Mapping[str, ActionSpec], every: float = 0.0
    ) -> None:
        self._paths = paths
        self._cluster = cluster
        self._specs = specs
        self._every, self._look_at = every, 0.0
        self._stamp = self._look()
        self._rules = self._load()
        self.fault = ""
        """Why the newest edit is not in force; empty when it is."""

    def current(self) -> Rules:
        now = time.monotonic()
        if now < self._look_at:
            return self._rules
        self._look_at = now + self._every
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._rules, self.fault = self._load(), ""
            except ContractError as error:
                self.fault = f"the last good copy stays in force: {error}"
            except Exception as error:  # noqa: BLE001 # whatever it is: an edit that is not in force must page
                self.fault = f"the last good copy stays in force: the documents cannot be loaded: {error!r}"
        return self._rules

    def _files(self) -> tuple[Path, ...]:
        found = self._paths.catalog.glob("*.yaml")
        catalog = tuple(sorted(path for path in found if not path.name.startswith(".")))  # .#x.yaml: an editor's lock
        return (self._paths.severity, self._paths.policy, self._paths.services, *catalog)

    def _look(self) -> tuple[tuple[str | int, ...], ...]:
        """What changes with every edit. A time and a size alone may stay: images and package stores give all of their
        files one and the same time."""
        seen: list[tuple[str | int, ...]] = []
        for path in self._files():
            try:
                stat = path.stat()
            except OSError:
                seen.append((str(path), -1))
            else:
                here = stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
                seen.append((str(path), *here))
        return tuple(seen)

    def _load(self) -> Rules:
        try:
            texts = {path: path.read_bytes() for path in self._files()}
        except OSError as error:
            names = "FIREBREAK_SERVICES, _SEVERITY, _POLICY or _CATALOG"
            advice = f"Look at the file, and at the setting that names it: {names}."
            raise ContractError(f"a document cannot be read: {error}", advice=advice) from None
        policy = load_policy(texts[self._paths.policy], str(self._paths.policy))
        severity = load_severity(texts[self._paths.severity], str(self._paths.severity))
        others = (self._paths.policy, self._paths.severity, self._paths.services)  # one folder may hold them all
        catalog = [path for path in texts if path.parent == self._paths.catalog and path not in others]
        if not catalog:
            raise ContractError(
                f"there is no runbook in {self._paths.catalog}",
                advice="Set FIREBREAK_CATALOG to the folder with your runbooks (*.yaml).",
            )
        runbooks = tuple(load_runbook(texts[path], str(path)) for path in catalog)
        if problems := [p for runbook in runbooks for p in lint_runbook(runbook, self._specs, policy=policy)]:
            raise refuse(problems)  # what the linter refuses never takes effect
        services = load_services(texts[self._paths.services], str(self._paths.services))
        unfit = (*tree_problems(severity, policy, services), *plan_problems(runbooks, policy, services, self._specs))
        if unfit:
            raise refuse(unfit)  # what cannot be used for one of the services must not be found at night
        durations = {**severity.durations, **policy.durations}
        return Rules(
            cluster=self._cluster,
            severity=severity,
            policy=policy,
            services=services,
            runbooks=runbooks,
            specs=self._specs,
            look_times=LookTimes(
                recheck=durations["recheck"],
                quiet=durations["quiet"],
                watch=durations["watch"],
                doubt=durations["doubt"],
            ),
            digest=hashlib.sha256(b"\n".join(texts[p] for p in sorted(texts))).hexdigest(),
        )
