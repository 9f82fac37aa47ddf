"""Bad evidence: a query that Prometheus refuses, a metric that is not there, an exporter that stops. Doubt pages, and
nothing is written to the cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from firebreak.connectors.prometheus import Prometheus
from firebreak.domain.condition import MetricQuery
from firebreak.servers.process import free_port

pytestmark = pytest.mark.servers


async def judged(chain: Any) -> str:
    """All reasons of the last verdict."""
    verdicts = [body["verdict"] for kind, body in await chain.timeline() if kind == "verdict.reached"]
    assert verdicts[-1]["truth"] == "inconclusive", verdicts[-1]["reason"]
    return "; ".join(c["reason"] for c in verdicts[-1]["conditions"])


async def doubted(chain: Any) -> str:
    """The alert ends as a page, nothing is written; returns why."""
    assert (await chain.post(chain.labels)).status_code == 200
    page = await chain.paged()
    assert page.status == "triggered"
    assert not await chain.wrote()
    assert "plan.pinned" not in [kind for kind, _ in await chain.timeline()]
    return await judged(chain)


async def test_a_query_that_prometheus_refuses_pages(chain: Any, documents: Path) -> None:
    """It parses, and cannot be evaluated (many-to-many): recorded with Prometheus' own words."""
    path = documents / "severity.yaml"
    text = path.read_text()
    for metric in ("app_errors", "app_latency"):
        old = f"query: {metric}{{service=$service}}"
        assert text.count(old) == 1
        many = f"{metric}{{service=$service}} * on () {{__name__=~'app_.*', service=$service}}"
        text = text.replace(old, f"query: {many}")
    path.write_text(text)
    await chain.start()
    assert "matching" in (await doubted(chain)).lower()


async def test_a_metric_that_was_never_exported_pages(chain: Any, documents: Path) -> None:
    """Misspelled in the tree, while the exporter is there and sick: no zero, no health, no action."""
    path = documents / "severity.yaml"
    text = path.read_text()
    for metric in ("app_errors", "app_latency"):
        assert text.count(f"{metric}{{") == 2  # query and input
        text = text.replace(f"{metric}{{", f"{metric}_never{{")
    path.write_text(text)
    await chain.start()
    assert not await _has(chain, 'present_over_time({__name__=~"app_.*_never"}[1h])')
    assert await _has(chain, 'app_errors{service="pay"} > 0.1')
    assert "does not report" in await doubted(chain)


async def test_an_exporter_that_stops_pages(chain: Any) -> None:
    """Its last values were bad and stay in nobody's memory: sick an instant ago is not known to be sick now."""
    await chain.start()
    chain.exporter.down = True
    await chain.until(lambda: gone(chain))
    assert "does not report" in await doubted(chain)


async def test_a_value_that_is_no_number_pages(chain: Any) -> None:
    """NaN is neither above nor below anything."""
    await chain.start()
    for name in list(chain.exporter.lines):
        chain.exporter.lines[name] = "NaN"
    await chain.until(lambda: gone(chain))
    assert "NaN" in await doubted(chain)


async def test_two_series_where_one_is_meant_page(chain: Any) -> None:
    """The query does not aggregate: nobody can say which of both decides."""
    await chain.start()
    chain.exporter.lines |= {
        'app_errors{service="pay",pod="a"}': "0.5",
        'app_latency{service="pay",pod="a"}': "3",
    }
    await chain.until(lambda: doubled(chain))
    await doubted(chain)


async def test_a_prometheus_that_is_not_there_pages(chain: Any) -> None:
    """Nobody listens: an answer like any other, and a person."""
    await chain.start(prometheus_url=f"http://127.0.0.1:{free_port()}")
    assert (await doubted(chain)).strip()


async def gone(chain: Any) -> bool:
    """Prometheus has no good sample of the last second any more."""
    return not await _has(chain, 'app_errors{service="pay"} >= 0')


async def doubled(chain: Any) -> bool:
    return await _has(chain, 'count(app_errors{service="pay"}) == 2 and count(app_latency{service="pay"}) == 2')


async def _has(chain: Any, expr: str) -> bool:
    at, second = datetime.now(UTC), timedelta(seconds=1)
    async with Prometheus(chain.prometheus.url) as metrics:
        query = MetricQuery(key="k", expr=expr)
        (answer,) = await metrics.range_batch([query], start=at, end=at, step=second, timeout=5 * second)
    return bool(answer.points)
