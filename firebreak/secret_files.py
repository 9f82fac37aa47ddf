"""Settings in files, as secret stores mount them: each named like its variable in lower case, `firebreak_slack_token`.

What is meant for us and cannot be used is refused: without that secret the engine would run and call nobody. A file may
be a link to any other place, as agenix and Vault's agent make them. The directory may be shared: hidden files
(Kubernetes' `..data`) and what is named like no setting that is missing are somebody else's, and stop no start.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from firebreak.domain.errors import SettingsInvalid

log = logging.getLogger(__name__)  # on standard error also before logs are configured, as they are by a setting

_PREFIX = "firebreak_"
_ADVICE = "Correct, rename or remove the file that is named, which the engine's account must be able to read."


def secret_files(
    folder: Path, fields: Collection[str], secrets: Collection[str], given: Collection[str]
) -> dict[str, Path]:
    """The file of each of `fields` that has one. SettingsInvalid names each file that is meant for one that neither a
    file nor the environment (`given`) gives. `secrets`: the fields that are looked for behind a name like theirs."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        told = f"settings cannot be used: FIREBREAK_SECRETS_DIR: {folder}: {error.strerror}"
        raise SettingsInvalid(told) from None
    found: dict[str, Path] = {}
    others, problems = [], []
    for name in names:
        path, field = folder / name, name.lower().removeprefix(_PREFIX)
        if name.lower() == _PREFIX + field and field in fields:
            if field in found:
                problems.append(f"{path} and {found[field].name} are one setting")
            found[field] = path
        elif not name.startswith("."):
            others.append(name)
    for name in others:
        near, is_ours = _near(name, fields, secrets)
        meant = "" if not near or near in found or near in given else f" (meant {_PREFIX}{near}?)"
        if is_ours and meant:
            problems.append(f"{folder / name} is no setting{meant}")
        elif is_ours or meant:
            log.warning("%s is no setting, and is not read%s", folder / name, meant)
    if problems:
        raise _refused(problems)
    return found


def _near(name: str, fields: Collection[str], secrets: Collection[str]) -> tuple[str, bool]:
    """The field that may be meant, empty where nobody can tell; and whether the file is ours by its name."""
    plain = _plain(name)
    if not plain.startswith(_PREFIX):
        if close := difflib.get_close_matches(plain, [_PREFIX + s for s in secrets], n=1, cutoff=0.9):
            return close[0].removeprefix(_PREFIX), True
        # Many a secret of others is called token or key: only what is hardly another word, and never surely ours.
        return next(iter(difflib.get_close_matches(plain, secrets, n=1, cutoff=0.85)), ""), False
    told = plain.removeprefix(_PREFIX)
    if "." in name:  # a certificate, a key, a copy; or a secret that an editor gave an ending
        words = (told, _plain(name.partition(".")[0]).removeprefix(_PREFIX))
        close = [field for word in words for field in difflib.get_close_matches(word, secrets, n=1, cutoff=0.85)]
    else:
        close = difflib.get_close_matches(told, fields, n=1)
        if close and close[0] not in secrets:  # without it the engine calls people all the same
            close = difflib.get_close_matches(told, fields, n=1, cutoff=0.8)
    return (close[0] if close else ""), True


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


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
