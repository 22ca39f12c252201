"""What was said in a test set is found where this machine has exactly it, and nothing is downloaded
or made for it.
"""

from __future__ import annotations

import pytest

from core.corpora import base
from core.data import references
from core.data.prepare import prepare
from core.data.source import SpeechRecipe
from core.records import Choice, Recipe
from tests import sounds

SPLIT = "librispeech/test-x"


@pytest.fixture
def root(tmp_path):
    """A folder of one speaker with two utterances."""
    chapter = tmp_path / "speech" / "test-x" / "7" / "1"
    chapter.mkdir(parents=True)
    texts = {"7-1-0000": "OPEN THE DOOR", "7-1-0001": "IT'S [LAUGHTER] LATE"}
    for id in texts:
        (chapter / f"{id}.flac").write_bytes(sounds.encoded(sounds.voice(1.0), "FLAC"))
    (chapter / "7-1.trans.txt").write_text("".join(f"{i} {t}\n" for i, t in texts.items()))
    return tmp_path / "speech"


def recipe(root) -> Recipe:
    part = {
        "corpus": "librispeech",
        "options": {"root": str(root), "train": [], "dev": [], "tests": ["test-x", "test-clean"]},
    }
    parts = [part, {"corpus": "voice_commands", "options": {"hours": 0.01}}]
    corpus = Choice("mixture", {"parts": parts})
    return Recipe(corpus, Choice("conformer_ctc"), Choice("omni_sparsity"))


WORDS = {"librispeech:7-1-0000": 3, "librispeech:7-1-0001": 2}


def test_the_corpus_of_the_run_says_what_was_said(root):
    known = references.references(recipe(root), SPLIT, WORDS, [root])
    first = known["librispeech:7-1-0000"]
    assert (first.text, first.speaker, first.seconds) == ("open the door", "7", 1.0)
    assert first.audio.endswith("7-1-0000.flac")
    assert known["librispeech:7-1-0001"].text == "it's late", "marks are no words"


def test_other_utterances_than_those_measured_are_not_taken_for_them(root):
    more = WORDS | {"librispeech:7-1-0002": 4}
    assert references.references(recipe(root), SPLIT, more, [root]) == {}
    other = WORDS | {"librispeech:7-1-0000": 2}
    assert references.references(recipe(root), SPLIT, other, [root]) == {}


def test_nothing_is_read_outside_of_the_folders_that_the_operator_names(
    root, tmp_path, monkeypatch
):
    monkeypatch.setattr(base, "make", lambda choice: pytest.fail("the corpus was opened"))
    assert references.references(recipe(root), SPLIT, WORDS, []) == {}
    assert references.references(recipe(root), SPLIT, WORDS, [tmp_path / "elsewhere"]) == {}


def test_a_link_out_of_the_folders_is_not_followed(root, tmp_path):
    file = root / "test-x" / "7" / "1" / "7-1-0000.flac"
    file.rename(tmp_path / "secret.flac")
    file.symlink_to(tmp_path / "secret.flac")
    assert references.references(recipe(root), SPLIT, WORDS, [root]) == {}


@pytest.mark.parametrize("split", ["librispeech/test-clean", "voice_commands/test"])
def test_nothing_is_downloaded_and_no_audio_is_made(root, monkeypatch, own_artifacts, split):
    monkeypatch.setattr(base.Corpus, "utterances", lambda self, split: pytest.fail("it was read"))
    assert references.references(recipe(root), split, {"x": 1}, [root]) == {}
    assert not (own_artifacts / "prepared").exists()


def test_prepared_speech_says_what_was_said_where_the_corpus_has_gone(root):
    corpus = recipe(root).corpus
    only = base.plugin("mixture").narrow(corpus.options, [SPLIT])
    training = {**only["parts"][0]["options"], "train": ["train-x"], "tests": ["test-x"]}
    (root / "train-x").mkdir()
    chapter = root / "train-x" / "8" / "1"
    chapter.mkdir(parents=True)
    (chapter / "8-1-0000.flac").write_bytes(sounds.encoded(sounds.voice(1.0, seed=1), "FLAC"))
    (chapter / "8-1.trans.txt").write_text("8-1-0000 OPEN IT\n")
    parts = [{"corpus": "librispeech", "options": training}]
    prepared = Recipe(Choice("mixture", {"parts": parts}), Choice("a"), Choice("b"))
    prepared = Recipe(
        prepared.corpus, prepared.model, prepared.method, tokens={"kind": "characters"}
    )
    prepare(SpeechRecipe.of(prepared), processes=1)
    (root / "test-x").rename(root / "gone")
    known = references.references(recipe(root), SPLIT, WORDS, [])
    assert known["librispeech:7-1-0001"].text == "it's late"
    assert known["librispeech:7-1-0001"].speaker == "7"
