"""The graph of open speech is there before somebody asks, unless the operator says no."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from core import paths
from core.jobs import policy
from core.lm import arpa, estimation, languages
from core.speech import phones
from core.speech.tokenizer import BLANK_SYMBOL, Phonemes
from dashboard.model import graph_ahead


def serve(monkeypatch, tmp_path, text: str) -> None:
    (tmp_path / "server.toml").write_text(text)
    monkeypatch.setenv(policy.FILE_VARIABLE, str(tmp_path / "server.toml"))


@pytest.mark.parametrize("text", ["build_ahead = false", "build_ahead = 3", "[["])
def test_nothing_starts_where_it_is_not_wanted_or_the_policy_is_wrong(text, monkeypatch, tmp_path):
    serve(monkeypatch, tmp_path, text)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    assert graph_ahead.start() is None


def test_what_starts_is_the_module_itself(monkeypatch, tmp_path):
    serve(monkeypatch, tmp_path, "")
    commands = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: commands.append(command))
    graph_ahead.start()
    assert commands[0][1:] == ["-m", "dashboard.model.graph_ahead"]


def test_what_is_built_is_what_the_released_run_asks_for(monkeypatch, tmp_path):
    symbols = Phonemes([BLANK_SYMBOL, *phones.PHONES])
    run, letters = tmp_path / "released" / "a", tmp_path / "released" / "b"
    run.mkdir(parents=True)
    (run / paths.TOKENS).write_text(symbols.tokens_txt())
    (shipped,) = [p for p in paths.RELEASED.glob("simple_topk-*")]
    shutil.copytree(shipped, letters, ignore=shutil.ignore_patterns("reports", "*.safetensors"))
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "released")
    said = tmp_path / "open.arpa"
    said.write_text(arpa.write(estimation.estimate([["yes", "no"]], 2)))
    monkeypatch.setattr(languages, "shipped", lambda: said)
    graph_ahead.build()
    assert len(list(paths.graphs().iterdir())) == 1, "nets of letters need none"
    monkeypatch.setattr(languages, "_build", lambda *_: pytest.fail("built again"))
    assert "yes" in languages.load(languages.Language(), symbols).words
