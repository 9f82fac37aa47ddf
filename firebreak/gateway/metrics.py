"""What the gateway counts, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class GatewayMetrics:
    """`firebreak_gateway_*`. One instance a process; tests make their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.accepted = Counter(
            "firebreak_gateway_alerts_accepted",
            "Alerts on disk before their sender heard 200.",
            registry=self.registry,
        )
        self.rejected = Counter(
            "firebreak_gateway_requests_rejected",
            "Requests answered with 4xx or 503, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.oversize = Counter(
            "firebreak_gateway_requests_oversize",
            "Bodies over the limit: a person is paged, the sender will not send them smaller.",
            registry=self.registry,
        )
        self.spoilt = Counter(
            "firebreak_gateway_alerts_refused",
            "Alerts that can never be right: a person is paged, once an hour.",
            registry=self.registry,
        )
        self.accept_seconds = Histogram(
            "firebreak_gateway_accept_seconds",
            "From the whole body read to the alerts on disk.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.backlog = Gauge(
            "firebreak_gateway_backlog",
            "Alerts in the inbox that no dispatcher has settled yet (counted when requests come).",
            registry=self.registry,
        )
