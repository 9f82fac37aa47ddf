"""Settings in files, as secret stores mount them: each named like its variable in lower case, `firebreak_slack_token`.

What is called `firebreak_`, or a setting's name with other signs (`firebreak-slack-token`), is meant for us: where it
is no setting, or cannot be read, the start is refused, since without that secret the engine would run and call nobody.
A file may be a link to any other place, as agenix and Vault's agent make them. The directory may be shared: hidden
files (Kubernetes' `..data`), what a setting names by its path, and all other names stop no start.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import stat
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pydantic import SecretStr

from firebreak.domain.errors import SettingsInvalid

log = logging.getLogger(__name__)  # on standard error also before logs are configured, as they are by a setting

_PREFIX = "firebreak_"
_ADVICE = "Correct, rename or remove the file that is named, which the engine's account must be able to read."


def secret_files(folder: Path, fields: Collection[str]) -> dict[str, Path]:
    """The file of each of `fields` that has one. SettingsInvalid names each file that is called like a setting and is
    none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        told = f"settings cannot be used: FIREBREAK_SECRETS_DIR: {folder}: {error.strerror}"
        raise SettingsInvalid(told) from None
    found: dict[str, Path] = {}
    others, problems, in_use = [], [], {_whole(value) for value in os.environ.values()}
    for name in names:
        path, plain = folder / name, re.sub(r"[^a-z0-9]+", "_", name.lower())
        field = name.lower().removeprefix(_PREFIX)
        if name.lower() == _PREFIX + field and field in fields:
            if field in found:
                problems.append(f"{path} and {found[field].name} are one setting")
            found[field] = path
        elif _whole(str(path)) in in_use:
            continue  # a kubeconfig, a certificate: given by its path
        elif name.lower().startswith(_PREFIX) or (plain.startswith(_PREFIX) and plain.removeprefix(_PREFIX) in fields):
            close = difflib.get_close_matches(plain.removeprefix(_PREFIX), fields, n=1)
            problems.append(f"{path} is no setting{_meant(close)}")
        elif not name.startswith("."):
            others.append((path, plain))
    if problems:
        raise _refused(problems)
    missing = [name for field in fields if field not in found for name in (field, _PREFIX + field)]
    for path, plain in others:
        if close := difflib.get_close_matches(plain, missing, n=1, cutoff=0.9):
            log.warning("%s is no setting, and is not read%s", path, _meant(close))
    return found


def stripped(value: SecretStr) -> SecretStr:
    """None of them holds blanks at its ends: the end of a file's line would let nobody in. Nor a line break within: no
    header can carry it, so that every webhook would be refused, or no page taken. ValueError for one that does."""
    given = value.get_secret_value()
    if given and not given.strip():
        raise ValueError("must not be only blanks: leave it empty instead")
    if not is_one_line(given.strip()):
        raise ValueError("must be one line, without control characters")
    return SecretStr(given.strip())


def is_one_line(secret: str) -> bool:
    """Whether it holds no line break and no other control character, as each token and key does."""
    return not re.search(r"[\x00-\x1f\x7f]", secret)


def _whole(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _meant(close: Sequence[str]) -> str:
    return f" (meant {_PREFIX}{close[0].removeprefix(_PREFIX)}?)" if close else ""


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
