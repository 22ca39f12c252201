"""Recordings that a visitor uploads: unpacked within limits, kept or refused as a whole."""

from __future__ import annotations

import io
import zipfile

import pytest
from streamlit.testing.v1 import AppTest

from core import paths
from core.data import test_sets
from core.jobs import queue, visitors
from dashboard.model import uploads
from tests import sounds, standin
from tests.conftest import ROOT

SOUND = sounds.encoded(sounds.voice(1.0), "WAV")


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def damaged() -> bytes:
    data = bytearray(zipped(**{"a.wav": SOUND}))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def kept() -> list[str]:
    folder = paths.test_sets()
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_files_and_zips_become_a_set(own_artifacts):
    members = {"people/anna/b.wav": SOUND, "people/anna/b.txt": b"two", "__MACOSX/x": b"junk"}
    files = [("a.wav", SOUND), ("a.txt", b"one"), ("rest.zip", zipped(**members))]
    name = uploads.store("My kitchen", files, "somebody")
    content = test_sets.content(name)
    assert (name, content.utterances, content.dropped) == ("my-kitchen", 2, ())
    assert test_sets.owner(name) == "somebody"
    with pytest.raises(ValueError, match="already: choose another name"):
        uploads.store("my kitchen", files)
    test_sets.remove(name)
    assert kept() == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([("a.wav", SOUND)], "a.txt"),
        ([("x.zip", zipped(**{"../a.wav": SOUND, "../a.txt": b"one"}))], "leads out"),
        ([("x.zip", zipped(**{"/a.wav": SOUND, "/a.txt": b"one"}))], "leads out"),
        ([("x.zip", zipped(**{"a.wav": SOUND})), ("a.wav", SOUND)], "two files are called a.wav"),
        ([("x.zip", zipped(a=b"1")[:-30] + bytes(30))], "x.zip is no zip file"),
        ([("Mine.ZIP", b"no zip")], "Mine.ZIP is no zip file: pack"),
        ([("x.zip", damaged())], "cannot be unpacked"),
        ([("x.zip", zipped(**{"big.wav": bytes(3_000_000)}))], "unfold to more than 2 MB"),
    ],
)
def test_what_cannot_be_used_is_not_kept(own_artifacts, monkeypatch, files, reason):
    monkeypatch.setattr(uploads, "MOST_UNPACKED_MB", 2)
    with pytest.raises(ValueError, match=reason):
        uploads.store("mine", files)
    assert kept() == []


def test_errors_name_no_folder_of_the_server(own_artifacts):
    inside = paths.test_sets() / "mine" / "people" / "a.wav"
    assert (
        uploads.without_paths(f"nothing in {inside.parent}; add") == "nothing in mine/people; add"
    )
    said = "[Errno 2] No such file: '/srv/app/jobs.db' (https://x.example/a/b, 3/4, and/or)"
    assert "'jobs.db' (https://x.example/a/b, 3/4, and/or)" in uploads.without_paths(said)


@pytest.mark.slow
def test_the_page_measures_uploaded_recordings(own_artifacts, monkeypatch, tmp_path):
    standin.make_run(tmp_path / "runs", "aa-supernet", title="Supernet A")
    standin.only_runs(tmp_path / "runs", monkeypatch, tmp_path / "released")
    monkeypatch.setattr(queue, "start_worker", lambda: None)
    counted = []
    monkeypatch.setattr(visitors.Ledger, "take", lambda *given: counted.append(given[-1]))
    at = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=300).run()
    at.session_state["own_recordings"] = True
    at.run()
    measure = next(b for b in at.button if b.label == "Measure")
    measure.click().run()
    assert "No files were chosen" in at.error[0].value and queue.list_jobs() == []
    sent = [("a.wav", SOUND, "audio/wav"), ("a.txt", b"turn it on", "text/plain")]
    large = [(f"{n}.wav", bytes(600_000), "audio/wav") for n in range(2)]
    monkeypatch.setattr(uploads, "MOST_MB", 1)
    at.run()
    at.file_uploader(key="own_files").set_value(large)
    next(b for b in at.button if b.label == "Measure").click().run()
    assert "have 1 MB; at most 1 MB are taken at once" in at.error[0].value
    assert counted == []
    monkeypatch.setattr(uploads, "MOST_MB", 100)
    at.run()
    at.file_uploader(key="own_files").set_value(sent)
    at.text_input(key="own_name").set_value("Kitchen")
    next(b for b in at.button if b.label == "Measure").click().run()
    assert not at.exception and not at.error
    (job,) = queue.list_jobs()
    assert job.payload["splits"] == ["yours/kitchen"]
    assert "dense" in job.payload["subnets"] and len(job.payload["subnets"]) == 4
    assert "1 recordings with 1 s of speech" in " ".join(m.value for m in at.caption)
    assert counted == [len(SOUND) + len(b"turn it on")]
    at.run()
    assert not at.error and len(queue.list_jobs()) == 1, "sent once, it does not complain"
    assert not any(b.label == "Measure" for b in at.button), "the job stands in the form's place"
    queue.cancel(job.id)
    at.run()
    at.button(key="own_again").click().run()
    assert any(b.label == "Measure" for b in at.button)
    at.file_uploader(key="own_files").set_value([("a.txt", b"turn it on", "text/plain")])
    at.text_input(key="own_name").set_value("Other")
    next(b for b in at.button if b.label == "Measure").click().run()
    assert "nothing in other; there should be sound files" in at.error[0].value.replace("\\", "")
    at.button(key="own_delete:kitchen").click().run()
    assert test_sets.names() == [] and kept() == []
