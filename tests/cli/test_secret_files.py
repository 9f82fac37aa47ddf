"""Settings in files: what a secret store mounts is read, and what cannot be used stops the start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firebreak.domain.errors import SettingsInvalid
from firebreak.settings import load_settings

KEY = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-key1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of secrets, with one that is right."""
    made = tmp_path / "secrets"
    made.mkdir()
    (made / "firebreak_fallback_pager_key").write_text(f"{KEY}\n")
    monkeypatch.setenv("FIREBREAK_SECRETS_DIR", str(made))
    return made


def _by_kubernetes(path: Path) -> None:
    """Its own directory, a link to the newest, and a link for each file."""
    versions = path.parent / "..2026_11_29"
    versions.mkdir()
    (path.parent / "..data").symlink_to(versions.name)
    path.rename(versions / path.name)
    path.symlink_to(Path("..data") / path.name)


def _by_agenix(path: Path) -> None:
    """The file lies elsewhere."""
    path.symlink_to(path.rename(path.parents[1] / "elsewhere"))


@pytest.mark.parametrize(
    "mounted",
    [lambda path: None, _by_kubernetes, _by_agenix, lambda path: path.rename(path.with_name(path.name.upper()))],
    ids=["a file", "Kubernetes", "a link to another place", "in upper case"],
)
def test_a_secret_is_read_as_it_is_mounted(folder: Path, mounted: Callable[[Path], object]) -> None:
    """As Docker, Kubernetes, agenix and Vault's agent do it; the end of its line is no part of it."""
    mounted(folder / "firebreak_fallback_pager_key")
    (folder / "database_password").write_text("somebody else's")
    (folder / "tls.key").mkdir()
    assert load_settings().fallback_pager_key.get_secret_value() == KEY


def test_the_environment_comes_before_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an option of the command line before both."""
    (folder / "firebreak_mode").write_text("act")
    assert load_settings().mode.value == "act"
    monkeypatch.setenv("FIREBREAK_FALLBACK_PAGER_KEY", "of the environment")
    settings = load_settings(mode="observe")
    assert (settings.fallback_pager_key.get_secret_value(), settings.mode.value) == ("of the environment", "observe")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("firebreak_slak_token", "firebreak_slack_token"),
        ("FIREBREAK_SLAK_TOKEN", "firebreak_slack_token"),
        ("firebreak-slack-token", "firebreak_slack_token"),
        ("firebreak_slack_token.txt", "firebreak_slack_token"),
        ("firebreak_slak-token.old.txt", "firebreak_slack_token"),
        ("firebreak_webhook", "firebreak_webhook_token"),
        ("firebreak_temporal_tls_kye", "firebreak_temporal_tls_key"),
        ("firebreak_temporal_tls.crt", "firebreak_temporal_tls_cert"),
        ("firebreak_fallback_pager_key.bak", "firebreak_fallback_pager_key"),
        ("firebreak_qqq", ""),
    ],
)
def test_a_file_called_like_a_setting_that_is_none_is_refused(folder: Path, name: str, meant: str) -> None:
    """As a mistyped variable, and with the right name where one is like it: a typo in the pager's key must not be
    silent."""
    (folder / name).write_text(KEY)
    with pytest.raises(SettingsInvalid) as refused:
        load_settings()
    assert str(refused.value).endswith(f"{folder / name} is no setting{f' (meant {meant}?)' if meant else ''}")
    assert "rename" in refused.value.next_step()


@pytest.mark.parametrize("given", ["{folder}/{name}", "~/{name}", "./{name}"])
def test_a_file_that_a_setting_names_by_its_path_is_no_other_setting(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """Certificates and a kubeconfig lie where the secrets are, however the path is written."""
    name = "firebreak_kubeconfig.yaml"
    (folder / name).write_text("{}")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FIREBREAK_KUBECONFIG", given.format(folder=folder, name=name))
    kubeconfig = load_settings().kubeconfig
    assert kubeconfig is not None
    assert kubeconfig.absolute() == folder / name


@pytest.mark.parametrize("by", ["a file", "a variable"])
@pytest.mark.parametrize("name", ["slack-token", "slack_token"])
def test_a_name_like_that_of_a_setting_which_is_given_stops_no_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, by: str
) -> None:
    """A directory that is shared with other programs: a start that is refused pages nobody."""
    (folder / name).write_text("another one")
    if by == "a file":
        (folder / "firebreak_slack_token").write_text(KEY)
    else:
        monkeypatch.setenv("FIREBREAK_SLACK_TOKEN", KEY)
    assert load_settings().slack_token.get_secret_value() == KEY


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("firebrek_slack_token", "firebrek_slack_token is no setting, and is not read (meant firebreak_slack_token?)"),
        ("slack_token", "slack_token is no setting, and is not read (meant firebreak_slack_token?)"),
        ("webhook-token", "webhook-token is no setting, and is not read (meant firebreak_webhook_token?)"),
        ("fallback_pager_key", ""),
        ("database_password", ""),
        ("token", ""),
        ("tls.key", ""),
        ("shop_slack_token", ""),
        ("firebreak-tls.crt", ""),
        ("firebreak.example.com.pem", ""),
    ],
)
def test_a_file_of_another_name_is_told_where_it_may_be_a_slip_and_stops_no_start(
    folder: Path, caplog: pytest.LogCaptureFixture, name: str, says: str
) -> None:
    """Another program's, for all that we know."""
    (folder / name).write_text(KEY)
    assert load_settings().fallback_pager_key.get_secret_value() == KEY
    assert caplog.messages == ([f"{folder}/{says}"] if says else [])


def _twice(path: Path) -> None:
    path.write_text(KEY)
    path.with_name(path.name.upper()).write_text(KEY)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda path: path.write_bytes(KEY.encode() + b"\xff"), "is no text in UTF-8"),
        (lambda path: path.mkdir(), "it is a directory"),
        (lambda path: os.mkfifo(path), "it is no file"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
        (lambda path: path.symlink_to(path.name), "cannot be read: "),
        (lambda path: path.write_text(" \n"), "only blanks"),
        (_twice, "are one setting"),
    ],
    ids=["no text", "a directory", "a pipe", "a dangling link", "a link to itself", "blanks", "twice"],
)
def test_a_file_that_cannot_be_used_stops_the_start(folder: Path, made: Callable[[Path], object], says: str) -> None:
    """A sentence that names it, and says nothing of what is in it."""
    made(folder / "firebreak_slack_token")
    with pytest.raises(SettingsInvalid) as refused:
        load_settings()
    assert str(folder / "firebreak_slack_token") in str(refused.value)
    assert says in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


def test_a_verb_ends_with_the_sentence_about_a_file(typed: Any, folder: Path) -> None:
    """Exit code 2, what to do, and no traceback."""
    (folder / "firebreak_slack_token").write_bytes(KEY.encode() + b"\xff")
    ran = typed("up", FIREBREAK_SECRETS_DIR=str(folder))
    assert ran.returncode == 2
    assert "firebreak_slack_token is no text in UTF-8" in ran.stderr
    assert "Correct, rename or remove the file that is named" in ran.stderr
    assert "s3cr3t" not in ran.stderr


_LOAD = """
import os, sys
from firebreak.domain.errors import SettingsInvalid
from firebreak.settings import load_settings
if os.getuid() == 0:
    os.setuid(65534)
try:
    load_settings()
except SettingsInvalid as error:
    print(error, error.next_step())
"""


@pytest.mark.parametrize("closed", ["the file", "the directory"])
def test_a_secret_that_the_account_may_not_read_stops_the_start(folder: Path, closed: str) -> None:
    """It names what is closed, and that the engine's account must be able to read it."""
    secret = folder / "firebreak_fallback_pager_key"
    for above in folder.parents:  # pytest's directories are for their owner alone
        if os.getuid() == 0 and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    (secret if closed == "the file" else folder).chmod(0)
    done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{secret if closed == 'the file' else folder}" in done.stdout
    assert "Permission denied" in done.stdout
