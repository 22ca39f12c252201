"""The graph of open speech is there before somebody asks, unless the operator says no."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core import paths
from core.jobs import policy
from core.lm import arpa, estimation, languages
from core.speech import phones
from core.speech.tokenizer import BLANK_SYMBOL, Phonemes
from tests.dashboard.test_dashboard_methods import APP

CODE = "from core.lm import languages; languages.build_ahead()"


def serve(monkeypatch, tmp_path, text: str) -> None:
    (tmp_path / "server.toml").write_text(text)
    monkeypatch.setenv(policy.FILE_VARIABLE, str(tmp_path / "server.toml"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "starts"), [("", 1), ("build_ahead = false", 0), ("[[", 0), ('mode = "read-only"', 0)]
)
def test_it_starts_once_where_somebody_may_transcribe(text, starts, monkeypatch, tmp_path):
    serve(monkeypatch, tmp_path, text)
    commands = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: commands.append(command))
    st.cache_resource.clear()
    for _ in range(2):
        at = AppTest.from_file(APP, default_timeout=120).run()
        assert not at.exception
    assert [c[-1] for c in commands if "build_ahead" in c[-1]] == [CODE] * starts


@pytest.mark.slow
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
    monkeypatch.setattr(os, "nice", lambda _: 0)
    languages.build_ahead()
    assert len(list(paths.graphs().iterdir())) == 1, "nets of letters need none"
    monkeypatch.setattr(languages, "_build", lambda *_: pytest.fail("built again"))
    assert "yes" in languages.load(languages.Language(), symbols).words
