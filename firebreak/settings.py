"""Settings, from the environment (`FIREBREAK_<NAME>`) and, for secrets, from files in `FIREBREAK_SECRETS_DIR`.

Read by engine, gateway, lab and cli only; everything below gets values. Each field says unit, default and why.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from firebreak.domain.errors import SettingsInvalid
from firebreak.domain.incident import Mode
from firebreak.domain.service_links import is_service_link
from firebreak.secret_files import read_secrets, secret_files, stripped

LONGEST_PAGE_DEADLINE = timedelta(seconds=60)
_SECRETS = ("webhook_token", "temporal_api_key", "slack_token", "fallback_pager_key", "proxy_url")


class Settings(BaseSettings):
    """One process' settings. Read with `load_settings`, which turns a mistake into SettingsInvalid."""

    model_config = SettingsConfigDict(env_prefix="FIREBREAK_", extra="forbid", frozen=True)

    mode: Mode = Field(default=Mode.OBSERVE, description="observe: nothing is written to the cluster. act: steps run.")
    data_dir: Path = Field(default=Path(".firebreak"), description="All state; one engine per directory.")

    # Gateway
    gateway_host: str = Field(default="127.0.0.1", description="Address the gateway listens on.")
    gateway_port: int = Field(default=8690, ge=0, le=65535, description="TCP port of the gateway; 0 = any free one.")
    webhook_token: SecretStr = Field(
        default=SecretStr(""),
        description="Bearer token of the webhook. Empty: made once, kept in data_dir/webhook-token.",
    )
    max_body_bytes: int = Field(default=16 * 1024 * 1024, gt=0, description="Bytes; more gets 413 and a page.")
    backlog_limit: int = Field(
        default=100_000, gt=0, description="Undecided alerts of one class, beyond which the gateway answers 503 to it."
    )

    # Temporal: empty address = the embedded dev server of `firebreak up`
    temporal_address: str = Field(default="", description="host:port of your own cluster; empty = embedded server.")
    temporal_namespace: str = Field(default="default", min_length=1, description="Temporal namespace.")
    temporal_tls: bool = Field(default=False, description="Use TLS towards Temporal.")
    temporal_tls_ca: Path | None = Field(default=None, description="PEM file with the server's CA.")
    temporal_tls_cert: Path | None = Field(default=None, description="PEM file, client certificate.")
    temporal_tls_key: Path | None = Field(default=None, description="PEM file, client key.")
    temporal_api_key: SecretStr = Field(default=SecretStr(""), description="API key (implies TLS).")
    task_queue_prefix: str = Field("firebreak", min_length=1, description="Queues are <prefix>-p1 and <prefix>-other.")

    # World
    cluster: str = Field(
        default="default",
        min_length=1,  # an alert without a cluster label would be of the cluster without a name, and acted upon
        description="Name of the cluster, as the alerts' cluster label says it. Of others' alerts nothing is judged.",
    )
    kubeconfig: Path | None = Field(default=None, description="Kubeconfig; unset = in-cluster, then the usual one.")
    prometheus_url: str = Field(default="http://127.0.0.1:9090", description="Base URL, prefix included.")
    prometheus_headers: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict, description="Extra headers (tenant, token)."
    )
    prometheus_params: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict, description="Extra query parameters, e.g. partial_response=false for Thanos."
    )

    # People
    slack_url: str = Field(default="https://slack.com/api/", description="Base URL of the Slack Web API.")
    slack_token: SecretStr = Field(default=SecretStr(""), description="Bot token; empty = no chat (written down).")
    pagerduty_url: str = Field(default="https://events.pagerduty.com", description="Base URL of PagerDuty Events v2.")
    fallback_pager_key: SecretStr = Field(
        default=SecretStr(""), description="Routing key where a service has none: nobody's alert pages somebody."
    )
    proxy_url: SecretStr = Field(
        default=SecretStr(""),
        description="HTTP proxy for the calls to Slack and PagerDuty; empty = none. The environment's are not used.",
    )
    page_deadline: timedelta = Field(
        default=LONGEST_PAGE_DEADLINE,
        description="High urgency goes out then if the incident is not verified healed; at most 60 s.",
    )

    # Documents; unset = the ones shipped in the package
    catalog: Path | None = Field(default=None, description="Directory of runbooks (*.yaml).")
    severity: Path | None = Field(default=None, description="Severity tree (YAML).")
    policy: Path | None = Field(default=None, description="Policy: named durations, baseline, thresholds (YAML).")
    services: Path | None = Field(default=None, description="Services (YAML).")

    # Worker; one slot alone is taken in turns by new and by known workflows, and each second task waits for seconds
    p1_slots: int = Field(default=10, ge=2, description="Workflow tasks at once in the P1 process: few keep it quick.")
    other_slots: int = Field(default=20, ge=2, description="Workflow tasks at once in the process for the rest.")
    evidence_capture: bool = Field(default=True, description="Keep what a restart would destroy first.")
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    def webhook_url(self, port: int | None) -> str:
        """Where Alertmanager sends, with the real `port`. An IPv6 address stands in brackets."""
        host = f"[{self.gateway_host}]" if ":" in self.gateway_host else self.gateway_host
        return f"http://{host}:{port}/v1/alerts/alertmanager"

    @field_validator(*_SECRETS)
    @classmethod
    def _without_blanks(cls, value: SecretStr) -> SecretStr:
        return stripped(value)

    @field_validator("data_dir", "kubeconfig", "catalog", "severity", "policy", "services", mode="before")
    @classmethod
    def _no_empty_path(cls, value: object) -> object:
        """It would be the current folder: all state in it, or a folder in the place of a file."""
        if value == "":
            raise ValueError("must not be empty: unset it, and the default counts")
        return value

    @field_validator("*")
    @classmethod
    def _path_from_home(cls, value: object) -> object:
        """What a shell does for a person nobody does for an env file or a unit of systemd."""
        if not isinstance(value, Path):
            return value
        if "\n" in str(value):
            raise ValueError("must be the path of a file, not what is in it")
        try:
            return value.expanduser()
        except RuntimeError:
            raise ValueError(f"there is no home directory {value.parts[0]}: write the path out") from None

    @field_validator("prometheus_headers")
    @classmethod
    def _headers_without_blanks(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        return {name: stripped(said) for name, said in value.items()}

    @field_validator("page_deadline", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        if not isinstance(value, str) or not value.strip().isdigit():
            return value
        return timedelta(seconds=min(float(value), 1e9))  # more than fits is refused below, too

    @field_validator("page_deadline")
    @classmethod
    def _within_a_minute(cls, value: timedelta) -> timedelta:
        """A person is called after 60 s in any case (issue item 10): sooner may be asked for, later not."""
        if not timedelta(0) < value <= LONGEST_PAGE_DEADLINE:
            raise ValueError(f"must be more than 0 and at most {LONGEST_PAGE_DEADLINE.total_seconds():g} s (PT60S)")
        return value

    @field_validator("prometheus_headers", "prometheus_params", mode="before")
    @classmethod
    def _object(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:  # its text may be a token
            raise ValueError('must be a JSON object, as {"X-Scope-OrgID": "shop"}') from None

    @field_validator("prometheus_params")
    @classmethod
    def _beside_the_query(cls, value: dict[str, str]) -> dict[str, str]:
        if own := sorted({"query", "start", "end", "step", "time"} & value.keys()):  # one answer would judge everything
            raise ValueError(f"must leave {', '.join(own)} to the engine")
        return value

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @field_validator("cluster", "temporal_namespace", "task_queue_prefix")
    @classmethod
    def _no_blanks_around(cls, value: str) -> str:
        if value != value.strip():  # no alert's label, and no server's name, would be the same
            raise ValueError("must not begin or end with blanks")
        return value

    @field_validator("prometheus_url", "slack_url", "pagerduty_url")
    @classmethod
    def _http(cls, value: str) -> str:
        if not _is_address(value.strip()) or set("?# ") & set(value.strip()):
            raise ValueError("must be a URL that starts with http:// or https://, without ? and #")
        return value.strip()

    @field_validator("proxy_url")
    @classmethod
    def _http_proxy(cls, value: SecretStr) -> SecretStr:
        given = value.get_secret_value()
        if given and not _is_address(given):  # else each page would say that PagerDuty cannot be reached
            raise ValueError("must be the address of a proxy, as http://proxy.example:3128")
        return value

    @field_validator("temporal_address")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        if value and not re.fullmatch(r"[^/\s]+:\d+", value):  # the SDK takes a scheme, and drops TLS for it
            raise ValueError("must be host:port, without https://: whether TLS is used, FIREBREAK_TEMPORAL_TLS says")
        return value

    @model_validator(mode="after")
    def _one_temporal(self) -> Self:
        """What contradicts itself would end as a worker's traceback, in the clear, or on a server that lacks it."""
        cert, key = "FIREBREAK_TEMPORAL_TLS_CERT", "FIREBREAK_TEMPORAL_TLS_KEY"
        if (self.temporal_tls_cert is None) != (self.temporal_tls_key is None):
            given, missing = (key, cert) if self.temporal_tls_cert is None else (cert, key)
            raise ValueError(f"{given} is set and {missing} is not: set both or none")
        own = {
            "NAMESPACE": self.temporal_namespace != "default",
            "TLS": self.temporal_tls,
            "TLS_CA": self.temporal_tls_ca is not None,
            "TLS_CERT": self.temporal_tls_cert is not None,
            "TLS_KEY": self.temporal_tls_key is not None,
            "API_KEY": bool(self.temporal_api_key.get_secret_value()),
        }
        beyond = [f"FIREBREAK_TEMPORAL_{name}" for name, given in own.items() if given]
        if beyond and not self.temporal_address:
            told = f"the embedded Temporal takes no {', '.join(beyond)}"
            raise ValueError(f"{told}: set FIREBREAK_TEMPORAL_ADDRESS for one of your own, or unset them")
        return self


def _is_address(url: str) -> bool:
    """Of an HTTP server, with a port that can be."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


_BESIDE = {"FIREBREAK_SECRETS_DIR", "FIREBREAK_CACHE_DIR", "FIREBREAK_WRITE_GOLDEN"}
_SERVERS = "FIREBREAK_SERVER_"
"""Names in the environment that are no fields of Settings: secrets, the servers' cache and paths, a test's switch.
Which servers there are is known, and an unknown one refused, where they are looked for."""


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment, `overrides` (None = not given) on top. SettingsInvalid names each wrong one."""
    fields = {f"FIREBREAK_{name.upper()}" for name in Settings.model_fields}
    ours = {n: value for n, value in os.environ.items() if n.upper().startswith("FIREBREAK_")}
    links = {n for n, value in ours.items() if is_service_link(n, value)}
    if taken := sorted(links & (fields | _BESIDE)):
        raise SettingsInvalid(
            f"{', '.join(taken)}: Kubernetes has set it, for a Service whose name gives that of a setting",
            advice="Set enableServiceLinks: false in the pod's spec, or give the Service another name.",
        )
    # Settings are read in either case, the rest in capitals.
    other = _BESIDE | links
    if strange := [n for n in ours if n.upper() not in fields and n not in other and not n.startswith(_SERVERS)]:
        hint = {name: difflib.get_close_matches(name.upper(), fields | _BESIDE, n=1) for name in sorted(strange)}
        told = ", ".join(f"{name}{f' (meant {close[0]}?)' if close else ''}" for name, close in hint.items())
        raise SettingsInvalid(f"unknown settings: {told}")
    spelt = Counter(n.upper() for n in ours)
    if twice := sorted(n for n in ours if spelt[n.upper()] > 1):
        raise SettingsInvalid(f"the same setting twice: {', '.join(twice)}: unset all but one")
    files = _files_of_secrets()
    given: dict[str, Any] = dict(zip(files, read_secrets(files.values()), strict=True))
    given |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = (_told(e, files) for e in error.errors(include_input=False))
        raise SettingsInvalid("settings cannot be used: " + "; ".join(problems)) from None


def secrets_dir() -> Path | None:
    """The directory that FIREBREAK_SECRETS_DIR names; None where it names none. SettingsInvalid when it begins with a
    home that is not there."""
    if not (named := os.environ.get("FIREBREAK_SECRETS_DIR")):
        return None
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        raise SettingsInvalid(f"settings cannot be used: FIREBREAK_SECRETS_DIR: {named}: {error}") from None


def _files_of_secrets() -> dict[str, Path]:
    """The file of each setting that is in FIREBREAK_SECRETS_DIR and not in the environment, which comes first."""
    folder = secrets_dir()
    said = {name.lower().removeprefix("firebreak_") for name in os.environ if name.lower().startswith("firebreak_")}
    files = secret_files(folder, Settings.model_fields) if folder else {}
    return {name: path for name, path in files.items() if name not in said}


def _told(error: ErrorDetails, files: Mapping[str, Path]) -> str:
    name = "_".join(str(part) for part in error["loc"])
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "time_delta_parsing":
        said = "must be seconds, as 45, or a duration, as PT45S"
    beside = f" ({files[name]})" if name in files else ""
    return f"FIREBREAK_{name.upper()}{beside}: {said}" if name else said  # what is about several names them itself
