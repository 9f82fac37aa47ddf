"""What cannot be done is told in a sentence with a next step, exit code 2, and never a traceback (`typed` looks)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from firebreak.domain.errors import SettingsInvalid
from firebreak.locator import runbooks_dir
from firebreak.servers.cache import cache_dir
from firebreak.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("verb", "name", "value"),
    [
        ("up", "GATEWAY_PORT", "abc"),
        ("gateway", "GATEWAY_PORT", "70000"),
        ("up", "MODE", "both"),
        ("incidents", "MODE", "both"),
        ("up", "LOG_LEVEL", "LOUD"),
        ("up", "LOG_LEVEL", "CRITICAL"),  # would not tell of errors
        ("up", "CLUSTER", " lab"),
        ("gateway", "PROMETHEUS_URL", "ftp://metrics"),
        ("up", "PROMETHEUS_HEADERS", "Bearer not-json"),
        ("up", "PROMETHEUS_PARAMS", "[1]"),
        ("up", "PROMETHEUS_PARAMS", '{"query": "vector(1)"}'),
        ("up", "P1_SLOTS", "1"),
        ("up", "OTHER_SLOTS", "1"),
        ("up", "TASK_QUEUE_PREFIX", ""),
        ("incidents", "PAGE_DEADLINE", "soon"),
        ("incidents", "PAGE_DEADLINE", "PT10M"),
        ("incidents", "PAGE_DEADLINE", "-PT5S"),
        ("incidents", "PAGE_DEADLINE", "0"),
        ("up", "TEMPORAL_ADDRESS", "https://temporal:7233"),
        ("up", "TEMPORAL_TLS_KEY", "key.pem"),
        ("up", "PROXY_URL", "proxy:3128"),
        ("up", "PROXY_URL", "http://"),
        ("up", "PROXY_URL", "http://ada:s3cr3t@proxy:no-port"),
        ("up", "PROXY_URL", "http://ada:s3cr3t@[proxy"),
    ],
)
def test_a_wrong_setting_is_named(typed: Any, place: Path, verb: str, name: str, value: str) -> None:
    """The verb names the setting, says what to do, and has made nothing."""
    ran = typed(verb, **{f"FIREBREAK_{name}": value})
    assert ran.returncode == 2
    assert f"FIREBREAK_{name}" in ran.stderr
    assert "s3cr3t" not in ran.stderr
    assert ran.stderr.endswith("Correct the FIREBREAK_ setting that is named and start again.\n")
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("value", "taken"),
    [("PT60S", True), ("PT0.5S", True), ("60", True), ("PT60.1S", False), ("61", False), ("9" * 30, False)],
)
def test_a_person_is_called_within_a_minute_whatever_is_set(
    monkeypatch: pytest.MonkeyPatch, value: str, taken: bool
) -> None:
    """Up to 60 s are taken; more is refused with the bounds, so that nobody waits for a call that was put off."""
    monkeypatch.setenv("FIREBREAK_PAGE_DEADLINE", value)
    if taken:
        assert timedelta(0) < load_settings().page_deadline <= timedelta(seconds=60)
        return
    with pytest.raises(SettingsInvalid, match=r"FIREBREAK_PAGE_DEADLINE: .*more than 0 and at most 60 s"):
        load_settings()


def test_what_is_no_duration_is_told_with_one_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runbooks say 1m, a setting does not."""
    monkeypatch.setenv("FIREBREAK_PAGE_DEADLINE", "1m")
    with pytest.raises(
        SettingsInvalid, match=r"FIREBREAK_PAGE_DEADLINE: must be seconds, as 45, or a duration, as PT45S"
    ):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROMETHEUS_URL", "http://"),
        ("PROMETHEUS_URL", "http://metrics:99999"),
        ("PROMETHEUS_URL", "http://ada:s3cr3t@metrics/?tenant=shop"),
        ("PROMETHEUS_URL", "http://metrics prefix"),
        ("SLACK_URL", "https://::1:80"),
        ("WEBHOOK_TOKEN", "s3cr3t\nof two lines"),
        ("FALLBACK_PAGER_KEY", "s3cr3t\nof two lines"),
        ("SLACK_TOKEN", "s3cr3t\rof two lines"),
        ("DATA_DIR", ""),
        ("KUBECONFIG", ""),
        ("SERVICES", ""),
        ("CLUSTER", ""),
    ],
)
def test_what_can_never_work_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """An empty path would be the current folder, an empty cluster that of each alert without the label, a token of two
    lines one that no webhook can send; what is wrong with an address is told by the setting's name."""
    monkeypatch.setenv(f"FIREBREAK_{name}", value)
    with pytest.raises(SettingsInvalid, match=f"FIREBREAK_{name}: ") as caught:
        load_settings()
    assert "s3cr3t" not in str(caught.value)


def test_what_kubernetes_says_of_a_service_called_firebreak_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the environment of each container beside it; one that takes a setting's name is told as what it is,
    and a misspelt setting is refused as ever."""
    monkeypatch.setenv("FIREBREAK_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("FIREBREAK_PORT", "tcp://10.0.0.1:9093")
    assert load_settings().gateway_port == Settings().gateway_port
    monkeypatch.setenv("FIREBREAK_GATEWAY_PORT", "tcp://10.0.0.1:9093")
    with pytest.raises(SettingsInvalid, match="FIREBREAK_GATEWAY_PORT: Kubernetes has set it") as caught:
        load_settings()
    assert "enableServiceLinks: false" in caught.value.next_step()
    monkeypatch.delenv("FIREBREAK_GATEWAY_PORT")
    monkeypatch.setenv("FIREBREAK_PORT", "9093")
    with pytest.raises(SettingsInvalid, match="unknown settings: FIREBREAK_PORT"):
        load_settings()


MTLS = {"TLS_CERT": "cert.pem", "TLS_KEY": "key.pem"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ADDRESS": "t:7233", "TLS_CERT": "c.pem"}, r"_TLS_CERT is set and FIREBREAK_TEMPORAL_TLS_KEY is not"),
        ({"ADDRESS": "t:7233", "TLS_KEY": "k.pem"}, r"_TLS_KEY is set and FIREBREAK_TEMPORAL_TLS_CERT is not"),
        ({"NAMESPACE": "shop"}, r"FIREBREAK_TEMPORAL_NAMESPACE: set FIREBREAK_TEMPORAL_ADDRESS"),
        ({"TLS": "true"}, r"FIREBREAK_TEMPORAL_TLS: set FIREBREAK_TEMPORAL_ADDRESS"),
        ({"TLS_CA": "ca.pem"}, r"FIREBREAK_TEMPORAL_TLS_CA: set FIREBREAK_TEMPORAL_ADDRESS"),
        (MTLS, r"FIREBREAK_TEMPORAL_TLS_CERT, FIREBREAK_TEMPORAL_TLS_KEY: set FIREBREAK_TEMPORAL_ADDRESS"),
        ({"API_KEY": "s3cr3t"}, r"FIREBREAK_TEMPORAL_API_KEY: set FIREBREAK_TEMPORAL_ADDRESS"),
        ({"ADDRESS": "http://t:7233"}, r"FIREBREAK_TEMPORAL_ADDRESS: must be host:port"),
        ({"ADDRESS": "temporal"}, r"FIREBREAK_TEMPORAL_ADDRESS: must be host:port"),
        ({"ADDRESS": "t:7233", "NAMESPACE": ""}, r"FIREBREAK_TEMPORAL_NAMESPACE: String should have"),
    ],
)
def test_temporal_settings_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str
) -> None:
    """They would end as a worker's traceback, in the clear, or on the embedded server, which has none of it."""
    for name, value in given.items():
        monkeypatch.setenv(f"FIREBREAK_TEMPORAL_{name}", value)
    with pytest.raises(SettingsInvalid, match=said) as caught:
        load_settings()
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"NAMESPACE": "default", "TLS": "false"},
        {"ADDRESS": "shop.a2dd6.tmprl.cloud:7233", "NAMESPACE": "shop.a2dd6", "API_KEY": "k"},
        {"ADDRESS": "[::1]:7233", "TLS_CA": "ca.pem", **MTLS},
        {"ADDRESS": "127.0.0.1:7233"},
    ],
    ids=["the embedded server", "Temporal Cloud", "client certificate", "a worker under `firebreak up`"],
)
def test_temporal_settings_that_agree_are_taken(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    """Each way in which a Temporal is reached."""
    for name, value in given.items():
        monkeypatch.setenv(f"FIREBREAK_TEMPORAL_{name}", value)
    assert load_settings().temporal_address == given.get("ADDRESS", "")


PATHS = sorted(name for name, about in Settings.model_fields.items() if "Path" in str(about.annotation))


@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_begins_with_the_home_directory_is_meant_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Nobody but a shell resolves `~`, and an env file knows no shell. A home that is not there is refused."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for pair in ("CERT", "KEY"):
        monkeypatch.setenv(f"FIREBREAK_TEMPORAL_TLS_{pair}", "x.pem")
    monkeypatch.setenv("FIREBREAK_TEMPORAL_ADDRESS", "temporal:7233")
    monkeypatch.setenv(f"FIREBREAK_{name.upper()}", "~/mine")
    assert getattr(load_settings(), name) == tmp_path / "mine"
    monkeypatch.setenv(f"FIREBREAK_{name.upper()}", "~no.such.account/mine")
    with pytest.raises(SettingsInvalid, match=rf"FIREBREAK_{name.upper()}: there is no home directory ~no\.such"):
        load_settings()


def test_a_key_in_the_place_of_its_path_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a path that is not there it would stand in the message."""
    monkeypatch.setenv("FIREBREAK_KUBECONFIG", "apiVersion: v1\ntoken: s3cr3t\n")
    with pytest.raises(SettingsInvalid, match=r"FIREBREAK_KUBECONFIG: must be the path of a file") as refused:
        load_settings()
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize("name", ["FIREBREAK_CACHE_DIR", "FIREBREAK_SERVER_ETCD"])
def test_a_home_that_is_not_there_is_told_where_servers_are_looked_for(typed: Any, name: str) -> None:
    """By the name of the setting."""
    ran = typed("servers", "path", "etcd", **{name: "~no.such.account/x"})
    assert ran.returncode == 2
    assert f"{name}: ~no.such.account/x" in ran.stderr


def test_a_secrets_directory_may_lie_in_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As any other path."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "firebreak_slack_token").write_text("of a file")
    monkeypatch.setenv("FIREBREAK_SECRETS_DIR", "~/")
    assert load_settings().slack_token.get_secret_value() == "of a file"
    monkeypatch.setenv("FIREBREAK_SECRETS_DIR", "~no.such.account")
    with pytest.raises(SettingsInvalid, match="FIREBREAK_SECRETS_DIR: ~no"):
        load_settings()


def test_an_account_without_a_home_is_told_to_name_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as any number."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(SettingsInvalid, match="FIREBREAK_CACHE_DIR"):
        cache_dir({})


def test_a_wrong_setting_is_not_repeated(typed: Any) -> None:
    """Where a value may be a token, the message does without it."""
    ran = typed("incidents", FIREBREAK_PROMETHEUS_HEADERS="Bearer s3cr3t")
    assert ran.returncode == 2
    assert "s3cr3t" not in ran.stderr + ran.stdout


def test_a_secrets_directory_that_is_not_there_stops_the_start(typed: Any, place: Path) -> None:
    """Without its secrets the engine would run and reach nobody."""
    ran = typed("up", FIREBREAK_SECRETS_DIR=str(place / "secrets"))
    assert ran.returncode == 2
    assert "FIREBREAK_SECRETS_DIR" in ran.stderr


def test_a_prometheus_that_does_not_answer_hides_no_problem_of_a_document(typed: Any, place: Path) -> None:
    """What is wrong without it is told all the same; then why it could not be asked."""
    (place / "x.yaml").write_text("kind: rumbook\n")
    shipped = str(runbooks_dir() / "catalog")
    ran = typed("lint", "x.yaml", shipped, "--prometheus", "http://127.0.0.1:9")
    assert ran.returncode == 2
    first, *_, last = ran.stdout.splitlines()
    assert first.startswith("x.yaml:1:7: `kind` must be one of runbook")
    assert last.endswith("documents, 1 problem")
    assert "http://127.0.0.1:9 cannot be asked" in ran.stderr


def test_a_gateway_whose_port_is_taken_says_so(typed: Any, taken_port: int) -> None:
    """The port, and how to take another one."""
    ran = typed("gateway", "--port", str(taken_port))
    assert ran.returncode == 2
    assert f":{taken_port}" in ran.stderr
    assert "FIREBREAK_GATEWAY_PORT" in ran.stderr


def test_a_data_directory_that_cannot_be_made_says_so(typed: Any, place: Path) -> None:
    """A file stands where the directory should be."""
    (place / "data").write_text("")
    ran = typed("up", "--data-dir", "data")
    assert ran.returncode == 2
    assert "data" in ran.stderr
    assert "--data-dir" in ran.stderr


def test_a_demo_of_an_unknown_fault_names_the_known_ones(typed: Any, place: Path) -> None:
    """Before anything is started."""
    ran = typed("demo", "--fault", "nope")
    assert ran.returncode == 2
    assert "'nope'" in ran.stderr
    for fault in ("wedged-pods", "bad-release", "dead-dependency", "unfixable", "blip"):
        assert fault in ran.stderr
    assert not list(place.iterdir())


@pytest.mark.parametrize("words", [("break", "blip"), ("heal",), ("status",), ("down",)], ids=lambda w: w[0])
def test_a_lab_verb_without_a_lab_says_where_it_looked(typed: Any, place: Path, words: tuple[str, ...]) -> None:
    """And leaves no directory behind."""
    ran = typed("lab", *words)
    assert ran.returncode == 2
    assert ".firebreak-lab" in ran.stderr
    assert len(ran.stderr.splitlines()) == 2
    assert not list(place.iterdir())


@pytest.mark.parametrize("verb", ["path", "install"])
def test_an_unknown_server_is_answered_with_the_known_ones(typed: Any, verb: str) -> None:
    """Exit code 2, as of every refusal, and nothing on standard output that a script could take for a path."""
    ran = typed("servers", verb, "nope")
    assert ran.returncode == 2
    assert not ran.stdout
    assert "'nope'" in ran.stderr
    assert "kube-apiserver" in ran.stderr


def test_a_server_that_is_not_there_is_told_with_the_command_that_gets_it(typed: Any, place: Path) -> None:
    """`path` never begins a build."""
    ran = typed("servers", "path", "etcd", FIREBREAK_CACHE_DIR=str(place / "cache"))
    assert ran.returncode == 2
    assert not ran.stdout
    assert "firebreak servers install etcd" in ran.stderr


@pytest.mark.parametrize("words", [("nope",), ("up", "--nope"), ("lab", "nope")], ids=" ".join)
def test_a_mistyped_verb_or_option_is_told(typed: Any, words: tuple[str, ...]) -> None:
    """Exit code 2, as of every command line."""
    ran = typed(*words)
    assert ran.returncode == 2
    assert "nope" in ran.stderr
