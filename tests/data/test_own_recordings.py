"""A user's own test sets: added, measured as speech of any corpus is, removed."""

from __future__ import annotations

import pytest

from core import paths
from core.corpora import base
from core.data import test_sets
from tests import sounds


def recordings(folder, *texts: str):
    folder.mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / f"a{number}.wav").write_bytes(sounds.encoded(sounds.voice(1.0), "WAV"))
        (folder / f"a{number}.txt").write_text(text)
    return folder


def test_a_folder_becomes_a_split_with_all_its_recordings(own_artifacts, tmp_path):
    folder = recordings(tmp_path / "a", "turn it on", "turn it off", "stop")
    (folder / "torn.wav").write_bytes(b"RIFF")
    (folder / "torn.txt").write_text("hello")
    content = test_sets.add("kitchen", folder)
    assert (content.utterances, content.seconds) == (3, pytest.approx(3.0))
    assert len(content.dropped) == 1
    assert content.dropped[0].startswith("yours:torn: ")
    assert test_sets.names() == ["kitchen"]
    corpus = base.make(test_sets.corpus("yours/kitchen"))
    assert corpus.splits() == ["yours/kitchen"]
    texts = [u.text for u in corpus.utterances("yours/kitchen") if not isinstance(u, base.Dropped)]
    assert sorted(texts) == ["stop", "turn it off", "turn it on"]


def test_a_name_is_one_folders(own_artifacts, tmp_path):
    first, second = recordings(tmp_path / "a", "one"), recordings(tmp_path / "b", "two")
    test_sets.add("mine", first)
    assert test_sets.add("mine", first).utterances == 1, "the same folder again"
    with pytest.raises(ValueError, match="another test set called mine"):
        test_sets.add("mine", second)
    test_sets.remove("mine")
    assert first.is_dir(), "a folder of the user's own is never deleted"
    test_sets.add("mine", second)


def test_what_cannot_be_used_is_no_set(own_artifacts, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="nothing in"):
        test_sets.add("empty", tmp_path / "empty")
    silent = recordings(tmp_path / "a", "hello")
    (silent / "a0.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match="none of these recordings can be used"):
        test_sets.add("silent", silent)
    assert test_sets.names() == []
    with pytest.raises(ValueError, match="no test set yours/nope here, only none"):
        test_sets.corpus("yours/nope")
    paths.test_sets().mkdir(parents=True)
    (paths.test_sets() / "torn.json").write_text("{")
    with pytest.raises(ValueError, match="torn is damaged"):
        test_sets.corpus("yours/torn")


@pytest.mark.parametrize(
    ("given", "name"), [("My Kitchen!", "my-kitchen"), ("Büro 2", "b-ro-2"), ("a" * 60, "a" * 40)]
)
def test_names_are_letters_and_digits(given, name):
    assert test_sets.named(given) == name


@pytest.mark.parametrize("given", ["", "...", "train", "Dev"])
def test_names_that_cannot_be(given):
    with pytest.raises(ValueError, match="expected a name"):
        test_sets.named(given)
