"""The drawing of the rooms and the import contract say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def contracts() -> list[dict[str, Any]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(project["tool"]["importlinter"]["contracts"])


def contract_layers() -> list[str]:
    (layers,) = (contract["layers"] for contract in contracts() if contract["type"] == "layers")
    return list(layers)


def drawn_rooms() -> set[str]:
    return {room for layer in contract_layers() for room in layer.split(" | ")}


def drawn_layers() -> list[str]:
    """The lines of the block `layers`: what stands before the explanation, arrows left out."""
    (block,) = re.findall(
        r"^```layers\n(.*?)^```", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.M | re.S
    )
    return [re.split(r"\s{2,}", line)[0] for line in block.splitlines() if line.strip() not in ("", "|")]


def test_the_drawing_shows_every_layer_of_the_contract_in_order() -> None:
    """Whoever moves a room moves it in both."""
    assert drawn_layers() == contract_layers()


def test_every_room_of_the_contract_has_something_in_it() -> None:
    """No empty rooms: each package that is drawn has a module beside its `__init__`."""
    for layer in contract_layers():
        for room in layer.split(" | "):
            path = ROOT / room.replace(".", "/")
            modules = [path.with_suffix(".py")] if path.with_suffix(".py").exists() else list(path.glob("*.py"))
            assert [m for m in modules if m.stem != "__init__"], room


def test_every_package_and_module_has_its_place_in_the_drawing() -> None:
    """A room that nobody drew would be outside the contract."""
    packages = {f"firebreak.{p.parent.name}" for p in (ROOT / "firebreak").glob("*/__init__.py")}
    modules = {f"firebreak.{p.stem}" for p in (ROOT / "firebreak").glob("*.py")}
    entry = {"firebreak.__init__", "firebreak.__main__"}  # an empty one, and one that starts the command line
    assert (packages | modules) - entry == drawn_rooms() - {"workflows", "activities"}


def test_every_room_but_three_is_kept_from_vendors() -> None:
    """Connectors and storage are made for them, the lab has its own HTTP use; a new room is among the others."""
    about = [c for c in contracts() if "sqlalchemy" in c.get("forbidden_modules", ())]
    kept = [room for contract in about for room in contract["source_modules"]]
    assert sorted(kept) == sorted(drawn_rooms() - {"firebreak.connectors", "firebreak.storage", "firebreak.lab"})
    assert len({tuple(contract["forbidden_modules"]) for contract in about}) == 1


def test_the_decisions_are_numbered_without_a_gap() -> None:
    """docs/adr/NNNN-*.md, each with its parts."""
    files = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [p.name[:4] for p in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    for path in files:
        parts = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.M)
        assert parts == ["Context", "Decision", "Consequences", "Alternatives"], path.name
