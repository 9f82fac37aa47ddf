"""What Kubernetes tells of Services in the environment, told from settings."""

from __future__ import annotations

import pytest

from firebreak.domain.service_links import is_service_link


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FIREBREAK_SERVICE_HOST", "10.0.0.1"),
        ("FIREBREAK_SERVICE_PORT", "9093"),
        ("FIREBREAK_SERVICE_PORT_HTTP", "9093"),
        ("FIREBREAK_PORT", "tcp://10.0.0.1:9093"),
        ("FIREBREAK_PORT_9093_TCP", "tcp://10.0.0.1:9093"),
        ("FIREBREAK_PORT_9093_TCP_ADDR", "10.0.0.1"),
        ("FIREBREAK_PORT_53_UDP_PROTO", "udp"),
        ("FIREBREAK_GATEWAY_PORT", "tcp://10.0.0.1:9093"),
    ],
)
def test_a_link_is_one_by_its_name_and_a_port_by_its_value(name: str, value: str) -> None:
    """All forms that the kubelet makes of a Service's name and ports."""
    assert is_service_link(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FIREBREAK_GATEWAY_PORT", "9093"),
        ("FIREBREAK_PORT", "9093"),
        ("FIREBREAK_SERVICES", "tcp://10.0.0.1:9093"),
        ("FIREBREAK_TEMPORAL_ADDRESS", "10.0.0.1:7233"),
    ],
)
def test_a_setting_or_its_misspelling_is_none(name: str, value: str) -> None:
    """A typo is still refused."""
    assert not is_service_link(name, value)
