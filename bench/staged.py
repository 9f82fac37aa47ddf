"""A worker process with a stopwatch around each stage between alert and PATCH: `python -m bench.staged p1`.

Production's code and settings; the stopwatches cost some microseconds each. On SIGTERM the times go to STAGES_FILE.
"""

from __future__ import annotations

import atexit
import cProfile
import functools
import inspect
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from temporalio.client import Client

import activities.evidence
import activities.keeping
import activities.steps
import activities.verification
import firebreak.storage.ledger
from activities.actions.base import Action
from activities.foresight import Foresight
from activities.rulebook import Rules
from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.connectors.prometheus import Prometheus
from firebreak.engine import role
from firebreak.engine.deliveries import Deliveries
from firebreak.engine.dispatcher import Dispatcher
from firebreak.engine.sweeper import Sweeper
from firebreak.storage.sqlite_store import InboxStore, TimelineStore

TIMES: dict[str, list[float]] = defaultdict(list)


def _timed(owner: Any, name: str, stage: str | Callable[..., str]) -> None:
    if not hasattr(owner, name):
        TIMES[f"{name}: has another name now"].append(0.0)
        return
    plain: Callable[..., Any] = getattr(owner, name)

    def label(*args: Any, **kwargs: Any) -> str:
        return stage if isinstance(stage, str) else stage(*args, **kwargs)

    if inspect.iscoroutinefunction(plain):

        @functools.wraps(plain)
        async def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return await plain(*args, **kwargs)
            finally:
                TIMES[label(*args, **kwargs)].append(1000 * (time.perf_counter() - began))

        setattr(owner, name, timed)
        return

    @functools.wraps(plain)
    def timed_plain(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return plain(*args, **kwargs)
        finally:
            TIMES[label(*args, **kwargs)].append(1000 * (time.perf_counter() - began))

    setattr(owner, name, timed_plain)


def _patch_label(_self: Any, _ref: Any, _body: Any, *, dry_run: bool = False, **_rest: Any) -> str:
    return "kube PATCH dry run" if dry_run else "kube PATCH"


def _append_label(_self: Any, drafts: Any, **_rest: Any) -> str:
    return f"append {drafts[0].kind.value}"


def _arrival(plain: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """How long an alert has been on disk before the dispatcher has it in its hands."""

    @functools.wraps(plain)
    async def timed(self: Any, accepted: Any) -> Any:
        TIMES["accepted -> in the dispatcher's hands"].append(1000 * (time.time() - accepted.accepted_at.timestamp()))
        return await plain(self, accepted)

    return timed


def install() -> None:
    setattr(Deliveries, "_firing", _arrival(Deliveries._firing))  # noqa: B010 # a stopwatch, not a method of ours
    _timed(Deliveries, "_incident", "resolve the alert")
    _timed(Sweeper, "sweep", "sweep")
    _timed(Dispatcher, "_round", "dispatcher round")
    _timed(Client, "start_workflow", "start_workflow (eager)")
    for name in ("open_or_join", "find", "lock_target", "firing_alerts"):
        _timed(TimelineStore, name, name)
    _timed(TimelineStore, "append", _append_label)
    _timed(TimelineStore, "_read", "reads of the timeline on the thread")
    _timed(TimelineStore, "_peek", "reads of the timeline on the loop")
    _timed(InboxStore, "claim", "inbox claim")
    _timed(InboxStore, "settle", "inbox settle")
    _timed(Prometheus, "range_batch", "Prometheus batch")
    _timed(KubernetesCluster, "get", "kube GET")
    _timed(KubernetesCluster, "patch", _patch_label)
    _timed(Rules, "plan", "choose and pin the plan")
    _timed(Rules, "tree", "render the tree")
    _timed(activities.evidence, "classify", "classify")
    _timed(activities.evidence, "outline", "outline")
    _timed(activities.evidence, "to_data", "to_data (evidence)")
    _timed(Action, "check", "action.check")
    _timed(Action, "apply", "action.apply")
    _timed(Foresight, "take", "foresight take")
    for hands, names in (
        (activities.evidence.EvidenceHands, ("foresee", "gather")),
        (activities.keeping.KeepHands, ("keep",)),
        (activities.steps.StepHands, ("act",)),
        (activities.verification.VerifyHands, ("verify", "hold")),
    ):
        for name in names:
            _timed(hands, name, f"= {name}")
    _timed(firebreak.storage.ledger, "prepared", "canonical JSON of an append")


def _save() -> None:
    Path(os.environ["STAGES_FILE"]).write_text(json.dumps(TIMES))


if __name__ == "__main__":
    install()
    atexit.register(_save)
    sys.argv = ["role", *sys.argv[1:]]
    if os.environ.get("STAGES_PROFILE"):
        profiler = cProfile.Profile()
        profiler.enable()
        try:
            role.main()
        finally:
            profiler.disable()
            profiler.dump_stats(os.environ["STAGES_PROFILE"])
    else:
        role.main()
