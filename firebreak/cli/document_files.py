"""Which files of a directory the linter reads, and which of them the engine never would."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_ENDINGS = (".yaml", ".yml")


def documents_below(path: Path, unreadable: Callable[[OSError], None]) -> list[Path]:
    """Every *.yaml and *.yml below `path`, links to folders followed, as the engine does; `unreadable` is told what
    cannot be looked into. What begins with a dot is none: editors keep their locks so, and Kubernetes the copies behind
    a mounted ConfigMap; nor is `lost+found`, which every ext4 volume has and nobody but root may read."""
    found: list[Path] = []
    known: set[str] = set()  # a link may lead in a circle
    for folder, folders, names in os.walk(path, onerror=unreadable, followlinks=True):
        place = os.path.realpath(folder)
        if place in known:
            folders.clear()
            continue
        known.add(place)
        folders[:] = [name for name in sorted(folders) if not name.startswith(".") and name != "lost+found"]
        files = [Path(folder, name) for name in (*folders, *names) if not name.startswith(".")]
        found += [file for file in files if file.suffix in _ENDINGS and not _is_special(file)]
    return sorted(found)


def _is_special(file: Path) -> bool:
    """A pipe, a socket or a device: reading may never end. What cannot be looked at is told when it is read."""
    return os.path.exists(file) and not os.path.isfile(file) and not os.path.isdir(file)


def never_loaded(runbooks: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Runbooks that were found together and lie where the engine does not look, and what to do: of its catalog it reads
    *.yaml, and no folder in it."""
    catalogs = {file.parent for file in runbooks if file.suffix == ".yaml"}
    for file in runbooks:
        if file.suffix != ".yaml":
            yield file, f"of a catalog it reads *.yaml alone; rename it to {file.with_suffix('.yaml').name}"
        elif above := sorted(catalogs.intersection(file.parents) - {file.parent}):
            yield file, f"it reads no folder of a catalog; move it to {above[0]}"
