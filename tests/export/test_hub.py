"""A folder as the Hugging Face Hub expects it, which is a run again; no network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core import export, paths, runtime
from core.cli import main as cli
from core.speech.features import fbank
from core.storage import packing, store
from tests import standin
from tests.runtime.test_recognizer import sounds


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(made, own_artifacts):
    return Path(shutil.copytree(made, paths.runs() / made.name))


def exported(run: str, folder: Path, *sizes: str) -> Path:
    export.write(run, sizes, folder, lambda *_: True, "hub")
    return folder / run


@pytest.mark.slow
def test_the_card_is_one_that_the_hub_reads(run, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    folder = exported(run.name, tmp_path, "s70", "dense")
    card = hub.ModelCard.load(folder / "README.md")
    said = card.data.to_dict()
    assert (said["license"], said["language"]) == ("apache-2.0", ["en"])
    assert (said["library_name"], said["pipeline_tag"]) == (
        "supernet-asr",
        "automatic-speech-recognition",
    )
    assert {"streaming", "omni_sparsity", "conformer_ctc"} <= set(said["tags"])
    results = {(r.dataset_name, r.metric_name): r.metric_value for r in card.data.eval_results}
    report = next(r for r in store.reports(run) if r.subnet == "s70")
    value = results[report.split, "WER, s70, 320 ms chunks, greedy"]
    assert value == round(100 * report.wer, 2) and len(results) == 4
    assert "A stand-in: random weights" in card.text and f"transcribe ./{run.name} s70" in card.text
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*")}
    assert {"packed/s70.safetensors", "packed/s70.safetensors.sha256", "finished.json"} <= names
    assert "samples/4_volume_in_the_garden.opus" in names and "log.txt" not in names


@pytest.mark.slow
def test_the_folder_is_a_run_again_wherever_it_lies(run, tmp_path, capsys):
    before = {s.name: packing.pack(run, s) for s in store.subnets(run)}
    reports, features = store.reports(run), fbank(sounds(1)[0])
    right = runtime.load(run, "s50").transcribe([features])
    folder = exported(run.name, tmp_path, "s70")
    shutil.rmtree(run)
    assert {s.name: packing.pack(folder, s) for s in store.subnets(folder)} == before
    assert packing.read(folder / "packed" / "s70.safetensors") == before["s70"]
    assert runtime.load(str(folder), "s50").transcribe([features]) == right
    renamed = folder.rename(tmp_path / "0123abc")
    assert runtime.load(renamed, "s50").transcribe([features]) == right
    sample = str(renamed / "samples" / "5_kitchen_blinds.opus")
    assert cli.main(["transcribe", str(renamed), "s50", sample]) == 0
    assert capsys.readouterr().out.startswith(sample)
    assert cli.main(["transcribe", str(tmp_path / "nothing"), "s50", sample]) == 2
    shutil.copytree(renamed, paths.runs() / run.name)
    assert store.reports(run.name) == reports
    assert cli.main(["export", run.name, "--subnets", "s70"]) == 0


def test_a_shipped_run_takes_along_what_was_measured_since(own_artifacts, tmp_path):
    name = next(p.name for p in paths.RELEASED.glob("individual-*"))
    size = store.subnets(name)[0]
    folder = exported(name, tmp_path, size.name)
    assert packing.pack(folder, size) == packing.pack(store.folder_of(name), size)
    assert store.reports(folder) == store.reports(name)


@pytest.mark.slow
def test_a_run_that_is_still_trained_is_no_model_yet(run, tmp_path):
    (run / paths.FINISHED).unlink()
    with pytest.raises(ValueError, match="format 'hub' cannot hold s70.*still trained.*: .*packed"):
        exported(run.name, tmp_path / "a", "s70")
    assert not (tmp_path / "a").exists()
