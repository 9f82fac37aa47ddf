"""Paths in an environment that a child in another folder inherits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from firebreak.domain.errors import SettingsInvalid

_PATHS = ("FIREBREAK_SECRETS_DIR", "FIREBREAK_CACHE_DIR", "XDG_CACHE_HOME", "SSL_CERT_FILE")
_SERVERS = "FIREBREAK_SERVER_"
_LISTS = ("KUBECONFIG", "PATH", "PYTHONPATH", "SSL_CERT_DIR")


def named_path(name: str, value: str) -> Path:
    """The absolute path that the variable `name` says. SettingsInvalid when it begins with a home that is not there."""
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:
        raise SettingsInvalid(f"{name}: {value}: {error}") from None


def with_absolute_paths(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment`, where each path that counts from the current folder is one from the root.

    What is empty or begins with `~` stays: neither depends on the folder. Paths that are settings of the engine are
    not looked for here: who reads them passes them on as absolute ones.
    """
    made = dict(environment)
    for name, value in environment.items():
        if name in _LISTS:
            made[name] = os.pathsep.join(_absolute(part) for part in value.split(os.pathsep))
        elif name in _PATHS or name.startswith(_SERVERS):
            made[name] = _absolute(value)
    return made


def _absolute(path: str) -> str:
    return path if not path or path.startswith("~") else str(Path(path).absolute())
