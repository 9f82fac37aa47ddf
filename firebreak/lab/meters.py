"""The shop's metrics, under the usual names. Series of an answer code exist only after its first answer."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from firebreak.lab.model import GAVE_UP
from firebreak.lab.shape import FLOWS, SERVICES

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 5.0, 10.0)
"""Seconds. Bounds lie on both sides of every objective, so that a P99 is on the right side of it."""


class Meters:
    """All series of the shop, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("service", "version", "deployment")
        self._requests = Counter(
            "http_requests_total",
            "Calls answered.",
            (*labels, "code", "route"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "From call to answer, callees included.",
            labels,
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._in_flight = Gauge("http_requests_in_flight", "Calls not answered yet.", labels, registry=self._registry)
        self._attempts = Counter(
            "main_flow_attempts_total", "Main flow: calls ended.", ("flow",), registry=self._registry
        )
        self._success = Counter(
            "main_flow_success_total", "Main flow: calls ended well.", ("flow",), registry=self._registry
        )
        self._gateway = Counter("gateway_requests_total", "The edge's access log.", ("code",), registry=self._registry)
        self._probe = Gauge(
            "probe_success",
            "1 = the version answers when probed directly.",
            ("service", "version"),
            registry=self._registry,
        )
        for flow in FLOWS:  # as the client libraries advise: a known label value starts at 0
            self._attempts.labels(flow)
            self._success.labels(flow)
        for shape in SERVICES.values():
            for version in shape.versions:
                self._in_flight.labels(shape.name, version, shape.deployment(version))

    def began(self, service: str, version: str) -> None:
        """A call reached a pod."""
        self._in_flight.labels(service, version, SERVICES[service].deployment(version)).inc()

    def ended(self, service: str, version: str, flow: str, code: int, seconds: float) -> None:
        """It was answered, or (499) its caller went away: such a call has no duration."""
        deployment = SERVICES[service].deployment(version)
        self._in_flight.labels(service, version, deployment).dec()
        self._requests.labels(service, version, deployment, str(code), f"/{flow}").inc()
        if code != GAVE_UP:
            self._seconds.labels(service, version, deployment).observe(seconds)
        if service == "edge":
            self._gateway.labels(str(code)).inc()

    def flow_ended(self, flow: str, *, well: bool) -> None:
        """A customer's call ended. Both counters move at the end, so that their ratio does not dip when calls slow."""
        self._attempts.labels(flow).inc()
        if well:
            self._success.labels(flow).inc()

    def probed(self, service: str, version: str, *, well: bool) -> None:
        """A version was probed."""
        self._probe.labels(service, version).set(1 if well else 0)

    def text(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self._registry)
