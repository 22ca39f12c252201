"""`pip install -e .`: what it installs, which versions it asks for, and its console command."""

from __future__ import annotations

import fnmatch
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from core import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = SETTINGS["project"], SETTINGS["tool"]["setuptools"]


def pins(file: str) -> set[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return {bare for line in lines if (bare := line.split("#")[0].strip())}


def test_dependencies_and_version_are_written_once():
    assert set(PROJECT["dynamic"]) == {"version", "dependencies"}
    assert SETUPTOOLS["dynamic"]["dependencies"]["file"] == ["requirements.txt"]
    assert SETUPTOOLS["dynamic"]["version"]["attr"] == "core.__version__"
    assert __version__.count(".") == 2


def test_extras_have_the_pins_of_the_tests():
    extras = PROJECT["optional-dependencies"]
    own = f"{PROJECT['name']}["
    tested = [extra for name, extra in extras.items() if name != "voices"]  # too large for tests
    asked = {pin for extra in tested for pin in extra if not pin.startswith(own)}
    assert all("==" in pin for pin in extras["voices"])
    wanted = pins("tests/requirements.txt")
    assert asked == wanted, (
        f"pyproject.toml and tests/requirements.txt differ: {sorted(asked ^ wanted)}"
    )


def test_every_data_file_of_a_package_is_installed():
    patterns = SETUPTOOLS["package-data"]["*"]
    folders = [ROOT / name.rstrip("*") for name in SETUPTOOLS["packages"]["find"]["include"]]
    assert [f.name for f in folders] == ["core", "dashboard"]
    files = [
        p for f in folders for p in f.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    ]
    left_out = [
        str(p.relative_to(ROOT))
        for p in files
        if p.suffix != ".py" and not any(fnmatch.fnmatch(p.name, pattern) for pattern in patterns)
    ]
    assert files
    assert left_out == [], "no pattern of package-data in pyproject.toml matches them"


@pytest.fixture
def command():
    module, _, name = PROJECT["scripts"]["supernet"].partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("words", "code"), [(["list", "recipes"], 0), (["evaluate", "nothing"], 2)]
)
def test_the_console_command_returns_its_exit_code(command, words, code, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["supernet", *words])
    assert command() == code
    said = capsys.readouterr()
    assert "voice_commands" in said.out if code == 0 else said.err.startswith("error: ")


def test_the_command_works_from_any_folder(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from core.cli.main import main;"
        " sys.exit(main(['list', 'runs']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "released" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_licenses_are_complete():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    for part in (
        "Apache License\n",
        "END OF TERMS AND CONDITIONS",
        "core/speech/english.lexicon.zst",
        "Copyright (C) 1993-2015 Carnegie Mellon University",
        "POSSIBILITY OF SUCH DAMAGE",
    ):
        assert part in text, part
    assert PROJECT["license-files"] == ["LICENSE"]
