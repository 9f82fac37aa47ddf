"""Settings in files, as secret stores mount them: each named like its variable in lower case, `firebreak_slack_token`.

What is meant for us and cannot be used is refused: without that secret the engine would run and call nobody. A file may
be a link to any other place, as agenix and Vault's agent make them. Hidden files (Kubernetes' `..data`) and what is
named like no setting of ours are somebody else's.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from firebreak.domain.errors import SettingsInvalid

_PREFIX = "firebreak_"
_ADVICE = "Correct, rename or remove the file that is named, which the engine's account must be able to read."


def secret_files(folder: Path, fields: Collection[str], secrets: Collection[str]) -> dict[str, Path]:
    """The file of each of `fields` that has one. `secrets` are those fields of which even a name without our prefix is
    taken for a slip of the pen. SettingsInvalid names each file that looks like a setting and is none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        told = f"settings cannot be used: FIREBREAK_SECRETS_DIR: {folder}: {error.strerror}"
        raise SettingsInvalid(told) from None
    found: dict[str, Path] = {}
    problems = []
    for name in names:
        path, field = folder / name, name.lower().removeprefix(_PREFIX)
        if name.lower() == _PREFIX + field and field in fields:
            if field in found:
                problems.append(f"{path} and {found[field].name} are one setting")
            found[field] = path
        elif not name.startswith("."):
            near = _near(name, fields, secrets)
            if near or name.lower().startswith(_PREFIX):
                problems.append(f"{path} is no setting{f' (meant {_PREFIX}{near}?)' if near else ''}")
    if problems:
        raise _refused(problems)
    return found


def _near(name: str, fields: Collection[str], secrets: Collection[str]) -> str:
    """The field that may be meant; empty where nobody can tell, or the file is somebody else's."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower())
    if plain.startswith(_PREFIX):
        close = difflib.get_close_matches(plain.removeprefix(_PREFIX), fields, n=1)
    else:  # many a secret of others is called token or key: only what is hardly another word
        close = difflib.get_close_matches(plain, secrets, n=1, cutoff=0.85)
        close = close or difflib.get_close_matches(plain, [_PREFIX + s for s in secrets], n=1, cutoff=0.9)
    return close[0].removeprefix(_PREFIX) if close else ""


def read_secrets(files: Iterable[Path]) -> list[str]:
    """What each file says, without the blanks around it. SettingsInvalid names those that cannot be read, and never
    what is in them."""
    texts, problems = [], []
    for path in files:
        try:
            texts.append(_text(path))
        except FileNotFoundError:
            problems.append(f"{path} is a link to nothing")
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            problems.append(f"{path} is no text in UTF-8")
    if problems:
        raise _refused(problems)
    return texts


def _text(path: Path) -> str:
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):  # a container gets a directory where the file to mount was missing; a pipe would block
        raise OSError(0, "it is a directory" if stat.S_ISDIR(mode) else "it is no file")
    text = path.read_bytes().decode("utf-8-sig")
    return text.strip() or text  # only blanks are refused as in the environment


def _refused(problems: Iterable[str]) -> SettingsInvalid:
    return SettingsInvalid("settings cannot be used: " + "; ".join(problems), advice=_ADVICE)
