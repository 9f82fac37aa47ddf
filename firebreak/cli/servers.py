"""`firebreak servers`: what real servers are there, and get the missing ones."""

from __future__ import annotations

from typing import Annotated

import typer

from firebreak.servers.catalogue import CATALOGUE, spec_of
from firebreak.servers.find import find, install
from firebreak.servers.find import require as path_of
from firebreak.servers.progress import reporter_for

app = typer.Typer(no_args_is_help=True, help="The real servers: list them, get them, say where they are.")

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Servers; all of them when left out.")]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


@app.command("list")
def list_servers() -> None:
    """Every server with its pinned version, where it was found, and its size."""
    rows = [("server", "version", "found", "size", "path")]
    for spec in CATALOGUE.values():
        found = find(spec)
        if found is None:
            rows.append((spec.name, spec.version, "not built", "", ""))
        else:
            size = _megabytes(found.size_bytes)
            rows.append((spec.name, spec.version, found.origin.value, size, str(found.path)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:  # plain text: a table that folds paths to the terminal's width makes them useless
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command("install")
def install_servers(names: Names = None) -> None:
    """Find, download or build servers. The first build of all takes about 25 minutes on two cores."""
    for found in install(names or (), report=reporter_for()):
        print(f"{found.spec.name} {found.spec.version}: {found.origin.value}, {_megabytes(found.size_bytes)}")


@app.command("path")
def print_path(name: Annotated[str, typer.Argument(help="One server.")]) -> None:
    """Print the path of one installed server, or fail saying how to get it."""
    print(path_of(spec_of(name).name))
