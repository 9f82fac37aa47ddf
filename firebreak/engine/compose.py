"""Settings -> the documents, the channels and the way of a message to its people: what `up` and a worker both need.

What only a worker needs is in `hands.py`: `up` starts sooner without Temporal and Kubernetes in it.
"""

from __future__ import annotations

from dataclasses import replace

from activities.actions import specs
from activities.rulebook import Rulebook, RulebookPaths
from firebreak.connectors.pagerduty import PagerDuty
from firebreak.connectors.slack import Slack
from firebreak.domain.message import Route
from firebreak.locator import runbooks_dir
from firebreak.settings import Settings

LOOK_AT_FILES = 0.5
"""Seconds between two looks at the documents' times and sizes: each reads a folder and asks for every file in it."""


class Routes:
    """Where messages of a service go; the fallback pager key where a service names none (nobody's alert must page
    somebody)."""

    def __init__(self, rulebook: Rulebook, settings: Settings) -> None:
        self._rulebook = rulebook
        self._fallback = settings.fallback_pager_key.get_secret_value()

    def route(self, service: str) -> Route:
        known = self._rulebook.current().route(service)
        return known if known.pager_key else replace(known, pager_key=self._fallback)


def rulebook_paths(settings: Settings) -> RulebookPaths:
    """The documents that settings name; the shipped ones where they name none."""
    shipped = runbooks_dir()
    return RulebookPaths(
        catalog=settings.catalog or shipped / "catalog",
        severity=settings.severity or shipped / "severity" / "p1.yaml",
        policy=settings.policy or shipped / "policies" / "default.yaml",
        services=settings.services or shipped / "services.yaml",
    )


def build_rulebook(settings: Settings) -> Rulebook:
    return Rulebook(rulebook_paths(settings), cluster=settings.cluster, specs=specs(), every=LOOK_AT_FILES)


def build_pager(settings: Settings) -> PagerDuty:
    return PagerDuty(settings.pagerduty_url, proxy=settings.proxy_url.get_secret_value())


def build_chat(settings: Settings) -> Slack | None:
    """None = no chat is configured."""
    token = settings.slack_token.get_secret_value()
    return Slack(settings.slack_url, token, proxy=settings.proxy_url.get_secret_value()) if token else None
