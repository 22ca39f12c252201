"""The version of the code beside a number."""

from __future__ import annotations

import re
import subprocess

import pytest

from core import paths
from core.evaluation import provenance


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A project of one file; the answer is kept for a process, so it is asked anew."""
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.py").write_text("A = 1\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "CORE", tmp_path / "core")
    provenance.code_version.cache_clear()
    yield tmp_path
    provenance.code_version.cache_clear()


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", folder, *who, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_the_commit_and_says_when_files_differ(sources):
    git(sources, "init", "-q")
    git(sources, "add", ".")
    git(sources, "commit", "-qm", "one")
    commit = git(sources, "rev-parse", "HEAD")[:12]
    assert provenance.code_version() == commit
    (sources / "core" / "a.py").write_text("A = 2\n")
    provenance.code_version.cache_clear()
    assert provenance.code_version() == commit + "-dirty"


@pytest.mark.parametrize("folder", ["", ".git"])
def test_without_git_it_is_a_hash_over_the_sources(sources, folder):
    (sources / folder).mkdir(exist_ok=True)  # a .git without a commit is none
    first = provenance.code_version()
    assert re.fullmatch("files-[0-9a-f]{12}", first)
    (sources / "core" / "a.py").write_text("A = 3\n")
    provenance.code_version.cache_clear()
    assert provenance.code_version() != first
