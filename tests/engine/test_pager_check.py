"""Acting without a way to call a person is refused at the start."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from firebreak.domain.errors import SettingsInvalid
from firebreak.domain.incident import Mode
from firebreak.engine.up import check_pager
from firebreak.settings import Settings, load_settings


def test_acting_without_anybody_to_page_is_refused() -> None:
    """The last tier always pages, so there must be a key for every service, known or not."""
    with pytest.raises(SettingsInvalid, match="nobody can be paged"):
        check_pager(Settings(mode=Mode.ACT))


def test_with_a_fallback_key_it_may_act_and_without_one_it_may_observe() -> None:
    """Observing writes nothing: there a warning is enough."""
    check_pager(Settings(mode=Mode.ACT, fallback_pager_key=SecretStr("k" * 32)))
    check_pager(Settings(mode=Mode.OBSERVE))


def test_a_mistyped_setting_is_refused_and_the_right_name_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typo in the pager's key must not be silent."""
    monkeypatch.setenv("FIREBREAK_FALBACK_PAGER_KEY", "k")
    with pytest.raises(SettingsInvalid, match=r"meant FIREBREAK_FALLBACK_PAGER_KEY\?"):
        load_settings()
