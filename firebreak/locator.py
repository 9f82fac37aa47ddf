"""Where Firebreak's data folders are: in a checkout beside the package, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

from firebreak.domain.errors import SettingsInvalid

_PACKAGE = Path(__file__).resolve().parent


def _data_dir(name: str) -> Path:
    checkout = _PACKAGE.parent
    # A stray folder of that name beside an installed wheel must not win: only a checkout has the project file.
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    carried = _PACKAGE / "_data" / name
    if carried.is_dir():
        return carried
    raise SettingsInvalid(
        f"Firebreak's own folder '{name}' is neither in a checkout nor in the installed package",
        advice="Install Firebreak again: the wheel carries this folder as data.",
    )


def tools_dir() -> Path:
    """The folder with one Go module per real server (pins and checksums).

    Raises SettingsInvalid when the installation lacks it.
    """
    return _data_dir("tools")


def runbooks_dir() -> Path:
    """The folder with the runbook, severity, policy and service documents that Firebreak ships.

    Raises SettingsInvalid when the installation lacks it.
    """
    return _data_dir("runbooks")
