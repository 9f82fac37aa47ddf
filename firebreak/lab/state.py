"""Where a lab's parts are: `<lab-dir>/lab.json`, written when all of them are up, and what the engine is told."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from firebreak.domain.errors import ContractError
from firebreak.lab.kube import KubeAccess

MARKER = "lab.marker"
"""A directory with this file in it, and in the file what is written there, is ours: its `run` folder may be emptied.

Not the name of the default directory: the folder that holds that one must not pass for a lab.
"""

_MARK = "A lab of Firebreak is kept here; `firebreak lab up` empties the folder `run`.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabState:
    """Addresses of a running lab. `admin` is the lab's own access to its API server; `engine` the settings of an engine
    as FIREBREAK_ variables; `pid` of the process that owns it all; `former_engine` the folder to which the data of the
    former lab's engine were moved (empty: there were none)."""

    lab_dir: Path
    pid: int
    admin: KubeAccess
    audit_log: str
    shop_url: str
    prometheus_url: str
    alertmanager_url: str
    slack_url: str
    pagerduty_url: str
    gateway_url: str
    engine: Mapping[str, str]
    former_engine: str = ""

    def save(self) -> None:
        """Write lab.json and engine.env, readable by their owner alone: they hold tokens."""
        _secret(self.lab_dir / "engine.env", "".join(f"{line}\n" for line in env_lines(self.engine)))
        raw = asdict(self) | {"lab_dir": str(self.lab_dir), "engine": dict(self.engine)}
        _secret(self.lab_dir / "lab.json", json.dumps(raw, indent=1) + "\n")


def env_lines(settings: Mapping[str, str]) -> list[str]:
    """Settings as lines that a shell can source, whatever characters their values have."""
    return [f"{name}={shlex.quote(value)}" for name, value in settings.items()]


def load_state(lab_dir: Path) -> LabState:
    """The lab in `lab_dir`. ContractError when there is none."""
    try:
        raw = json.loads((lab_dir / "lab.json").read_text())
        return LabState(**raw | {"lab_dir": Path(raw["lab_dir"]), "admin": KubeAccess(**raw["admin"])})
    except (FileNotFoundError, NotADirectoryError):
        raise ContractError(f"no lab is up in {lab_dir}", advice="Start one with `firebreak lab up`.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError(
            f"{lab_dir / 'lab.json'} cannot be read: {error!r}", advice="Run `firebreak lab down`, then `up` again."
        ) from None


def is_lab(lab_dir: Path) -> bool:
    """True when `lab_dir` was claimed for a lab; False also when it is missing or no directory."""
    marker = lab_dir / MARKER
    try:
        return marker.is_file() and marker.read_bytes() == _MARK.encode()
    except OSError:
        return False


def claim_directory(lab_dir: Path) -> Path:
    """Make `lab_dir` a lab's directory, or find that it is one; returns it absolute.

    ContractError when it holds something else (its content is going to be emptied), or cannot be a directory.
    """
    lab_dir = lab_dir.absolute()
    if is_lab(lab_dir):
        return lab_dir
    try:
        lab_dir.mkdir(parents=True, exist_ok=True)
        if any(lab_dir.iterdir()):
            raise ContractError(
                f"{lab_dir} is not empty and not a lab's directory", advice="Name an empty one with --lab-dir."
            )
        (lab_dir / MARKER).write_text(_MARK)
    except OSError as error:
        raise ContractError(
            f"{lab_dir} cannot be a lab's directory: {error.strerror}",
            advice="Name a new or an empty directory of yours with --lab-dir.",
        ) from None
    return lab_dir


def _secret(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    os.replace(fresh, path)
