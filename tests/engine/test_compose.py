"""Settings become hands: every activity that a workflow calls is there, and routes fall back."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from firebreak.domain.errors import FirebreakError
from firebreak.domain.incident import Mode
from firebreak.engine.compose import Routes, build_rulebook, rulebook_paths
from firebreak.engine.hands import hands
from firebreak.locator import runbooks_dir
from firebreak.settings import Settings
from workflows import incident, restore

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    return Settings(
        data_dir=tmp_path,
        kubeconfig=tmp_path / "kubeconfig",
        cluster="lab",
        mode=Mode.ACT,
        page_deadline=timedelta(seconds=7),
        fallback_pager_key=SecretStr("fallback"),
        prometheus_url="http://127.0.0.1:1",
    )


async def test_every_hand_that_a_workflow_calls_is_there(settings: Settings) -> None:
    """By the names that the workflows' code uses; and each of them once."""
    called = set(re.findall(r"\w+Hands\.(\w+)", inspect.getsource(incident) + inspect.getsource(restore)))
    async with hands(settings) as made:
        there = [hand.__name__ for hand in made.activities]
    assert called <= set(there)
    assert len(there) == len(set(there))


async def test_the_stores_are_made_and_let_go(settings: Settings) -> None:
    """A second opening of the same directory finds them free."""
    for _ in range(2):
        async with hands(settings) as made:
            assert await made.store.open_incidents() == ()
            assert await made.inbox.backlog() == 0


async def test_what_cannot_be_opened_is_an_error_with_a_next_step(settings: Settings) -> None:
    """No kubeconfig: said at the start, not at the first incident."""
    assert settings.kubeconfig is not None
    settings.kubeconfig.unlink()
    with pytest.raises(FirebreakError) as caught:
        async with hands(settings):
            pass
    assert caught.value.next_step()


def test_unset_documents_are_the_shipped_ones(tmp_path: Path) -> None:
    """And a set one goes before."""
    shipped = rulebook_paths(Settings())
    assert shipped.catalog == runbooks_dir() / "catalog"
    assert all(path.exists() for path in (shipped.catalog, shipped.severity, shipped.policy, shipped.services))
    mine = rulebook_paths(Settings(services=tmp_path / "mine.yaml"))
    assert (mine.services, mine.severity) == (tmp_path / "mine.yaml", shipped.severity)


def test_nobodys_alert_pages_somebody(settings: Settings) -> None:
    """The shipped services name no pager key, an unknown one cannot: both go to the fallback; the chat stays."""
    routes = Routes(build_rulebook(settings), settings)
    assert routes.route("unknown").pager_key == "fallback"
    pay = routes.route("pay")
    assert (pay.pager_key, pay.chat_channel) == ("fallback", "C0PAYMENTS1")


def test_a_services_own_key_goes_first(settings: Settings, tmp_path: Path) -> None:
    """Its own people before anybody."""
    text = (runbooks_dir() / "services.yaml").read_text()
    first, mark, rest = text.partition('    pager_key: ""\n')
    assert mark
    (tmp_path / "services.yaml").write_text(f"{first}    pager_key: own\n{rest}")
    own = settings.model_copy(update={"services": tmp_path / "services.yaml"})
    assert Routes(build_rulebook(own), own).route("edge").pager_key == "own"
