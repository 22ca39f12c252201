"""Jobs from pages read speech below the operator's folders, whatever a recipe, a CSV or a link
says; the command line is free.
"""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import soundfile

from core.corpora import _files, _manifests, base
from core.jobs import confinement
from core.lm import arpa
from core.records import Choice


@pytest.fixture
def speech(tmp_path, monkeypatch):
    """The operator's folder, with recordings of three speakers, beside a secret."""
    root = tmp_path / "speech"
    for speaker in "abc":
        (root / speaker).mkdir(parents=True)
        for number in range(3):
            soundfile.write(root / speaker / f"{number}.wav", np.full(8000, 0.1), 16000)
            (root / speaker / f"{number}.txt").write_text("one two")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "keys.csv").write_text("hunter2;path\nx;y\n")
    soundfile.write(tmp_path / "secret" / "call.wav", np.full(8000, 0.1), 16000)
    monkeypatch.setenv("SPEECH_ROOT", str(root))
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    monkeypatch.delenv(confinement.VARIABLE, raising=False)
    return root


@pytest.fixture
def confined(speech, monkeypatch):
    monkeypatch.setenv(confinement.VARIABLE, "")  # so that it is put back
    confinement.confine({"visitor": "v", "folders": [str(speech)]})
    return speech


def corpus(**options) -> base.Corpus:
    return base.make(Choice("folder", options))


def items(**options) -> list:
    made = corpus(**{"search_share": 0.0, "dev_share": 0.0, "test_share": 0.0} | options)
    return [item for split in made.splits() for item in made.utterances(split)]


def test_the_command_line_expands_variables_as_its_shell_would(speech, monkeypatch):
    monkeypatch.setenv("MINE", str(speech.parent))
    assert (
        _files.resolve("$MINE/speech") == speech
        and _files.resolve("$SPEECH_ROOT/a") == speech / "a"
    )
    assert (
        str(_files.resolve("~/x")) == os.path.expanduser("~/x")
        and len(items(root="$MINE/speech")) == 9
    )
    confinement.confine({"recipe": {}})  # a job of the command line
    assert confinement.folders() is None


def test_a_confined_job_has_speech_root_and_the_operators_folders(confined):
    assert (
        _files.resolve("$SPEECH_ROOT/a")
        == _files.resolve("${SPEECH_ROOT}/a")
        == _files.resolve(str(confined / "a"))
        == confined / "a"
    )
    assert len(items(root="$SPEECH_ROOT")) == 9


@pytest.mark.parametrize(
    "path",
    [
        "$DB_PASSWORD",
        "$SPEECH_ROOT/$DB_PASSWORD",
        "~",
        "~root",
        "/",
        "/etc",
        "/etc/passwd",
        "{root}/../secret",
        "$SPEECH_ROOT/..",
        "$SPEECH_ROOT/link",
        "core",
        "server.toml",
        "",
        ".",
        "artifacts/jobs.db",
        "artifacts",
        "{root}x",
        "/proc/self/environ",
    ],
)
def test_what_lies_elsewhere_is_refused_without_a_word_of_it(confined, path):
    (confined / "link").symlink_to(confined.parent / "secret")
    path = path.replace("{root}", str(confined))
    with pytest.raises(ValueError) as refused:
        _files.resolve(path, "folder root") if path else corpus(root=path)
    assert (
        "hunter2" not in str(refused.value)
        and "root:x" not in str(refused.value)
        and "keys.csv" not in str(refused.value)
    )


@pytest.mark.parametrize(
    "table", ["../secret/keys.csv", "{root}/../secret/keys.csv", "/etc/passwd", "link.csv"]
)
def test_a_table_outside_of_its_folder_is_not_read_by_anybody(speech, table):
    (speech / "link.csv").symlink_to(speech.parent / "secret" / "keys.csv")
    with pytest.raises(ValueError, match="expected csv to name a file in") as refused:
        corpus(root="$SPEECH_ROOT", csv=table.replace("{root}", str(speech)))
    assert "hunter2" not in str(refused.value) and "root:x" not in str(refused.value)


def test_the_first_line_of_a_table_does_not_come_back(confined):
    (confined / "odd.csv").write_text("hunter2;path\nx;y\n")
    with pytest.raises(ValueError, match="other columns") as refused:
        corpus(root="$SPEECH_ROOT", csv="odd.csv")
    assert "hunter2" not in str(refused.value)


def test_audio_that_a_table_or_manifest_names_elsewhere_is_dropped(confined):
    secret = confined.parent / "secret" / "call.wav"
    (confined / "far").symlink_to(secret.parent)
    rows = ["../secret/call.wav", str(secret), "far/call.wav", "/etc/passwd", "a/0.wav"]
    (confined / "t.csv").write_text("audio,text\n" + "".join(f"{row},one\n" for row in rows))
    found = items(root="$SPEECH_ROOT", csv="t.csv", each_file_a_speaker=True)
    assert [item.reason for item in found if isinstance(item, base.Dropped)] == [
        confinement.OUTSIDE
    ] * 4 + ["no row of t.csv names it: 8 sound files, e.g. 1.wav"]
    manifest = confined / "m.jsonl"
    for duration in ({}, {"duration": 0.5}):
        manifest.write_text(
            "".join(
                json.dumps({"audio_filepath": row, "text": "one"} | duration) + "\n"
                for row in [*rows, "$DB_PASSWORD", "$SPEECH_ROOT/b/1.wav"]
            )
        )
        found = list(base.checked(_manifests.lines(manifest)))
        assert [item.audio for item in found if not isinstance(item, base.Dropped)] == [
            str(confined / n) for n in ("a/0.wav", "b/1.wav")
        ]
        assert "hunter2" not in repr(found)


def test_nobody_learns_whether_a_file_elsewhere_is_there(confined):
    elsewhere = confined.parent / "secret"
    rows = [str(elsewhere / "call.wav"), str(elsewhere / "none.wav"), str(elsewhere / "keys.csv")]
    manifest = confined / "m.jsonl"
    manifest.write_text("".join(f'{{"audio_filepath": "{r}", "text": "one"}}\n' for r in rows))
    (confined / "t.csv").write_text("audio,text\n" + "".join(f"{row},one\n" for row in rows))
    listed = list(base.checked(_manifests.lines(manifest)))
    rowed = items(root="$SPEECH_ROOT", csv="t.csv", each_file_a_speaker=True)[:3]
    for found in (listed, rowed, [base.spoken("a", row, "one", "x") for row in rows]):
        assert len(found) == 3
        assert all(item.reason.endswith(confinement.OUTSIDE) for item in found)


def test_other_corpora_and_language_models_are_confined_too(confined):
    outside = str(confined.parent / "secret")
    for name, options in (
        ("manifest", {"train": [outside + "/keys.csv"]}),
        ("kaldi", {"train": [outside]}),
        ("strings", {"train": ["/etc/passwd"]}),
        ("librispeech", {"root": outside}),
        ("librispeech", {"root": "$SPEECH_ROOT", "train": ["../secret"]}),
        ("tedlium2", {"root": outside}),
        ("noisy", {"corpus": "folder", "options": {"root": outside}}),
        ("mixture", {"parts": [{"corpus": "folder", "options": {"root": outside}}]}),
    ):
        with pytest.raises(ValueError, match="is not below a folder that this server offers"):
            made = base.make(Choice(name, options))
            [list(made.utterances(split)) for split in made.splits()]
    with pytest.raises(ValueError, match="is not below"):
        arpa.load("/etc/passwd")


def test_a_recipe_is_checked_before_it_is_queued(speech, monkeypatch):
    good = {
        "corpus": {
            "name": "folder",
            "options": {"root": "$SPEECH_ROOT/a", "licence": "costs $5, see ~me"},
        }
    }
    confinement.check_recipe(good, [speech])
    with monkeypatch.context() as patch:
        patch.delenv("SPEECH_ROOT")
        with pytest.raises(ValueError, match="SPEECH_ROOT is not set on this server"):
            confinement.check_recipe(good, [speech])
    for options in (
        {"root": "$DB_PASSWORD"},
        {"train": ["/etc/passwd"]},
        {"tests": {"x": ["~/x"]}},
        {"parts": [{"options": {"root": "/"}}]},
        {"root": "a/../../.."},
    ):
        with pytest.raises(ValueError, match="no environment variables|is not below"):
            confinement.check_recipe({"corpus": {"name": "x", "options": options}}, [speech])
    with pytest.raises(ValueError, match=r"evaluation\.lm"):
        confinement.check_recipe(good | {"evaluation": {"lm": "/etc/passwd"}}, [speech])
