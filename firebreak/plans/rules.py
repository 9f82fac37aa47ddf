"""What a runbook must keep that its model alone cannot see: names, places, and the page at its end."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import timedelta
from difflib import get_close_matches

from firebreak.documents.conditions import (
    STANDARD_BINDINGS,
    KnownNames,
    Rendering,
    check_condition,
)
from firebreak.documents.names import is_object_name, refuse_namespace
from firebreak.documents.promql import BASELINE, LabelMatcher, Selector, selectors
from firebreak.documents.yaml_file import Finding
from firebreak.documents.yaml_nodes import NodePath
from firebreak.domain.condition import ConditionKind
from firebreak.plans.model import FixedTarget, RunbookModel
from firebreak.plans.next_move import PAGE_ACTION
from firebreak.plans.params import embedded, placeholders
from firebreak.plans.parts import queries_of, steps_of, watches
from firebreak.plans.times import lengths, timings

_NOTHING = timedelta(0)


def findings(model: RunbookModel) -> tuple[Finding, ...]:
    """Everything wrong with a runbook that can be seen without the actions' specs."""
    named = (*_names(model), *lengths(model))
    found = (*named, *_tiers(model), *_conditions(model), *_references(model), *_parameters(model))
    # The last two need every name to be known.
    return found or (*timings(model, {}), *symptoms(model, sample_rendering(model)))


def bindings_of(model: RunbookModel) -> frozenset[str]:
    """Bindings that the runbook may use: the standard ones and the parameters that it asks of a service."""
    return STANDARD_BINDINGS | frozenset(model.match.params)


def hint(word: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?`, or all that is known when nothing is near."""
    near = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known)) or 'none'}"


def sample_rendering(model: RunbookModel) -> Rendering:
    """Stand-ins for all values, to parse the queries with before an incident gives real ones."""
    return Rendering(
        durations=model.durations,
        thresholds=model.thresholds,
        bindings={name: f"${name}" for name in bindings_of(model)},
    )


def _names(model: RunbookModel) -> Iterator[Finding]:
    for name in model.durations.keys() & model.thresholds.keys():
        yield Finding(("thresholds", name), f"{name!r} is among the durations already", on_key=True)
    for index, param in enumerate(model.match.params):
        if param in STANDARD_BINDINGS | {BASELINE, "step"}:
            yield Finding(
                ("match", "params", index), f"{param!r} means something else already: it is no parameter of a service"
            )
        elif param in model.durations:
            yield Finding(("durations", param), f"{param!r} is a parameter of the service already", on_key=True)
    for table in ("durations", "thresholds"):
        if BASELINE in getattr(model, table):
            yield Finding((table, BASELINE), "$baseline is the policy's and has no other meaning", on_key=True)
    seen: dict[str, NodePath] = {}
    for t, tier in enumerate(model.tiers):
        if tier.name in [other.name for other in model.tiers[:t]]:
            yield Finding(("tiers", t, "name"), f"a tier called {tier.name!r} stands above already")
    for path, step in steps_of(model):
        if step.id in seen:
            yield Finding((*path, "id"), f"a step called {step.id!r} stands above already")
        seen.setdefault(step.id, path)


def _tiers(model: RunbookModel) -> Iterator[Finding]:
    last = len(model.tiers) - 1
    if [step.action for step in model.tiers[last].steps] != [PAGE_ACTION]:
        yield Finding(
            ("tiers", last, "steps"),
            f"the last tier must call a person: one step with action {PAGE_ACTION!r} and nothing else",
            on_key=True,
        )
    for path, step in steps_of(model):
        if step.action == PAGE_ACTION and path[1] != last:
            yield Finding((*path, "action"), f"action {PAGE_ACTION!r} belongs into the last tier: it ends the walk")
        if isinstance(step.target, FixedTarget):
            refusal = refuse_namespace(step.target.namespace)
            if refusal:
                yield Finding((*path, "target", "namespace"), refusal)
            if not is_object_name(step.target.name):
                yield Finding((*path, "target", "name"), f"{step.target.name!r} is not the name of an object")


def _conditions(model: RunbookModel) -> Iterator[Finding]:
    known = KnownNames(
        durations=frozenset(model.durations), thresholds=frozenset(model.thresholds), bindings=bindings_of(model)
    )
    used = {name for _, name in _uses(model)}
    for name, block in model.conditions.items():
        for finding in check_condition(name, block, known):
            yield finding.under(("conditions", name))
        if name not in used:
            yield Finding(("conditions", name), f"condition {name!r} is used nowhere", on_key=True)


def _uses(model: RunbookModel) -> Iterator[tuple[NodePath, str]]:
    """Every place that names a condition."""
    for index, name in enumerate(model.recovery):
        yield ("recovery", index), name
    for path, step in steps_of(model):
        if isinstance(step.check, tuple):
            for index, name in enumerate(step.check):
                yield (*path, "check", index), name
        for key, block in (("verify", step.verify), ("restore", step.restore)):
            for index, name in enumerate(block.conditions if block else ()):
                yield (*path, key, "conditions", index), name


def _references(model: RunbookModel) -> Iterator[Finding]:
    for path, name in _uses(model):
        block = model.conditions.get(name)
        if block is None:
            yield Finding(path, f"unknown condition {name!r}{hint(name, model.conditions)}")
        elif block.kind is ConditionKind.LABEL and "check" not in path:
            yield Finding(path, f"{name!r} looks at a label of the alert, which never changes: it shows no healing")
    spans: list[tuple[NodePath, timedelta | str]] = [(("hold",), model.hold)]
    for path, watch, settle in watches(model):
        spans += [((*path, "hold"), watch.hold), ((*path, "within"), watch.within), ((*path, "poll"), watch.poll)]
        spans.append(((*path, "settle"), settle))
    for path, span in spans:
        if isinstance(span, str) and span[1:] not in model.durations:
            yield Finding(path, f"unknown duration {span}{hint(span[1:], model.durations)}", token=span)


def _parameters(model: RunbookModel) -> Iterator[Finding]:
    known = bindings_of(model)
    for path, step in steps_of(model):
        for here, name in placeholders(step.params, (*path, "params")):
            if name not in known:
                yield Finding(here, f"unknown placeholder ${name}{hint(name, known)}; a service's go into match.params")
        for here, text in embedded(step.params, (*path, "params")):
            yield Finding(
                here, f"{text} is only a part of this text, so it is never filled: it must be the whole value"
            )


_OF_THE_ALERT = frozenset(f"${name}" for name in STANDARD_BINDINGS - {"service"})
_WITHIN_ONE_PART = frozenset(
    {"version", "revision", "release", "code", "status", "method", "le", "quantile", "__name__"}
)
"""Labels, also as the last word of longer ones (`status_code`, `app_kubernetes_io_version`), that tell versions or
results of one part apart: a version that was left has neither good nor bad answers, so that two values of these are one
symptom. By `__name__` the parts of one histogram would differ."""
_PARTS = ("_bucket", "_sum", "_count")  # of one histogram


def symptoms(model: RunbookModel, rendering: Rendering) -> Iterator[Finding]:
    """A `restore` that reads a metric which the step's `verify` reads.

    A step that hides a symptom makes it go away: `restore` on that evidence would flip at once, and for ever. So would
    it on a part of that evidence, since a version without traffic has no errors either: the metric's name decides,
    whatever else the selectors say. One case is left out: both say by `=` whose series they read, and it is not the
    same (a dependency's own series). Any label may say it by two written values (`instance`, `target`, `deployment`),
    but for those of `_WITHIN_ONE_PART`. The label `service`, and the one to which verify gives $service, may say it by
    a name of the document, too: two are taken for two services; with a service's values in `rendering` their values
    decide."""

    own = rendering.bindings["service"]
    shared: dict[NodePath, tuple[str, str]] = {}
    for path, name, restored, verified in _shared_metrics(model, rendering):
        if not _of_another_service(restored, verified, own):
            shared[path] = min(shared.get(path, (name, verified.text)), (name, verified.text))
    for path, (name, text) in shared.items():
        yield Finding(
            path,
            f"restore looks at the symptom, not at the broken part: {name!r} reads the metric of {text}, "
            "which verify reads",
        )


def leans_on_services(model: RunbookModel) -> bool:
    """Whether a `restore` reads a metric of its `verify`, allowed for its naming another service: then each service's
    own values have to be looked at."""
    return any(True for _ in _shared_metrics(model, sample_rendering(model)))


def _shared_metrics(model: RunbookModel, rendering: Rendering) -> Iterator[tuple[NodePath, str, Selector, Selector]]:
    """Place and name of a condition of `restore`, a selector of it, and one of `verify` that reads the same metric."""

    def seen(names: Collection[str]) -> list[Selector]:
        templates = [t for name in names for _, t in queries_of(model.conditions[name])]
        return [selector for template in templates for selector in selectors(rendering.query(template))]

    for path, step in steps_of(model):
        if step.verify is None or step.restore is None:
            continue
        verified = seen(step.verify.conditions)
        for index, name in enumerate(step.restore.conditions):
            for one in seen([name]):
                for other in verified:
                    if _one_metric(one, other):
                        yield (*path, "restore", "conditions", index), name, one, other


def _one_metric(one: Selector, other: Selector) -> bool:
    """Whether both may read series of one metric. A histogram's parts are one."""
    if not one.named or not other.named:
        known, pattern = (one, other) if one.named else (other, one)
        return not known.named or all(_may_be(m, known.named) for m in pattern.matchers if m.name == "__name__")
    first, second = (next((n.removesuffix(p) for p in _PARTS if n.endswith(p)), n) for n in (one.named, other.named))
    return first == second


def _may_be(matcher: LabelMatcher, metric: str) -> bool:
    """Whether a pattern for names lets `metric` through; what cannot be told may be."""
    try:
        found = metric == matcher.value if matcher.op == "!=" else re.fullmatch(matcher.value, metric) is not None
    except re.error:
        return True
    return found == (matcher.op == "=~")


def _of_another_service(restored: Selector, verified: Selector, own: str) -> bool:
    theirs, ours = ({m.name: m.value for m in s.matchers if m.op == "=" and m.value} for s in (restored, verified))
    return any(
        theirs[label] != ours[label] and theirs[label] not in _OF_THE_ALERT
        for label in theirs.keys() & ours.keys()
        if label == "service" or ours[label] == own or _tells_parts_apart(label, theirs[label], ours[label])
    )


def _tells_parts_apart(label: str, *values: str) -> bool:
    """Whether two values of it are two parts. A placeholder's value is not known, and may be the other one."""
    names = {label, label.rpartition("_")[2]}
    return not names & _WITHIN_ONE_PART and not any(value.startswith("$") for value in values)
