"""Damage never passes silently: every file of a run, a checkpoint or prepared speech is compared
when it is read, and named when it is another one. What earlier versions wrote carries no checksums
and is read as before.
"""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
import torch

from core import paths
from core.cli.main import main as cli
from core.data import prepare, prepared
from core.data.source import SpeechRecipe
from core.records import Choice, Recipe
from core.speech import features, tokenizer
from core.storage import checksums, metrics, packing, run_files, store
from core.training import checkpoints
from tests import standin


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = standin.make_run(tmp_path_factory.mktemp("runs"), "whole", blocks=1, utterances=2)
    subnet = store.subnets(run)[1]
    store.save_subnet(run, subnet.__class__(**{**subnet.__dict__, "name": "later"}))
    report = store.reports(run)[0]
    store.save_report(
        run, report.__class__(**{**report.__dict__, "split": "later/test"}), [{"id": "a"}]
    )
    store.finish(run, {"seconds": 1.5, "versions": {}})
    return run


@pytest.fixture
def run(whole, own_artifacts):
    return shutil.copytree(whole, own_artifacts / "runs" / "whole")


def flip(path, seed=0, bits=3):
    data = bytearray(path.read_bytes())
    for _ in range(bits):
        data[random.Random(seed).randrange(len(data))] ^= 1 << seed % 8
        seed += 1
    path.write_bytes(data)


def read_all(run) -> None:
    """All that reads files of a run."""
    for subnet in store.subnets(run):
        packing.pack(run, subnet)
    store.runs()
    for info in store.runs():
        if info.broken:
            raise ValueError(info.broken)
    (
        store.ranks(run),
        store.ranks_sha256(run),
        metrics.metrics(run),
        tokenizer.load(run),
        prepared.Statistics.load(run),
    )
    for step in store.rank_steps(run):
        store.ranks(run, step)
    for r in store.reports(run):
        store.hypotheses(run, r.subnet, r.split, r.chunk_ms)


UNREAD = {paths.LOG, paths.CARD, paths.TOKENS}  # for people; the tokens are those of bpe.model


@pytest.mark.slow
def test_every_file_of_a_finished_run_is_compared_when_it_is_read(run):
    read_all(run)
    names = sorted(p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file())
    assert (
        set(json.loads((run / paths.FINISHED).read_text())["files"])
        == set(names) - {paths.FINISHED, paths.CARD}
        and len(names) > 40
    )
    for number, name in enumerate(set(names) - UNREAD):
        kept = (run / name).read_bytes()
        flip(run / name, number)
        with pytest.raises(
            ValueError, match=str(run / name) + ".* is damaged|" + str(run / name) + " cannot be"
        ):
            read_all(run)
        (run / name).write_bytes(kept)
    read_all(run)


@pytest.mark.slow
def test_what_is_stored_after_the_end_carries_its_own_checksum(run):
    subnet = store.subnet(run, "later")
    store.save_subnet(
        run, subnet.__class__(**{**subnet.__dict__, "origin": "searched"})
    )  # is no damage
    report = store.reports(run)[0]
    store.save_report(run, report.__class__(**{**report.__dict__, "wer": 0.5}), [{"id": "b"}])
    assert store.subnet(run, "later").origin == "searched" and store.reports(run)[0].wer == 0.5
    file = paths.subnet_file(run, "later")
    file.write_text(file.read_text().replace("0.", "0.1", 1))
    with pytest.raises(ValueError, match=f"{file} is damaged .*its own checksum.*core fetch whole"):
        store.subnets(run)


@pytest.mark.parametrize("words", [["transcribe", "whole", "dense", "x.wav"], ["export", "whole"]])
def test_the_commands_name_the_damaged_file_in_one_sentence(
    run, words, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    flip(run / paths.WEIGHTS)
    assert cli(words) == 2
    told = capsys.readouterr().err
    assert (
        f"error: {run / paths.WEIGHTS} is damaged (its SHA-256 begins with " in told
        and told.count("error") == 1
        and told.endswith("again\n")
    )
    assert "python -m core fetch whole" in told and "train it again" in told


def test_a_run_of_an_earlier_version_is_read_as_before(run):
    data = json.loads((run / paths.FINISHED).read_text())
    (run / paths.FINISHED).write_text(json.dumps({"seconds": data["seconds"]}))
    for file in (run / paths.SUBNETS).iterdir():
        file.write_text(
            json.dumps(
                {n: v for n, v in json.loads(file.read_text()).items() if n != checksums.OWN}
            )
        )
    read_all(run)


def test_released_runs_are_as_they_were_released():
    folders = [p.parent for p in sorted(paths.RELEASED.glob(f"*/{paths.RECIPE}"))]
    assert folders
    for folder in folders:
        assert run_files.read_json(folder / paths.FINISHED)["files"] == checksums.of_folder(
            folder
        ), folder.name


# checkpoints


@pytest.fixture
def checkpoint(tmp_path):
    checkpoints.save(
        tmp_path,
        {"model/a": torch.arange(64.0), "extra/0": torch.zeros(3)},
        {"step": 7, "sums": {}},
    )
    return tmp_path


@pytest.mark.parametrize("file", [checkpoints.TENSORS, checkpoints.FACTS])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "zeros"])
def test_a_damaged_checkpoint_is_never_gone_on_from(checkpoint, file, damage):
    assert checkpoints.load(checkpoint)[1] == {"step": 7, "sums": {}}
    path = checkpoint / paths.CHECKPOINT / file
    data = path.read_bytes()
    for seed in range(20 if damage == "flip" else 1):
        path.write_bytes(
            {"cut": data[: len(data) // 2], "empty": b"", "zeros": bytes(len(data))}.get(
                damage, data
            )
        )
        if damage == "flip":
            flip(path, seed)
        with pytest.raises(
            ValueError,
            match=f"the checkpoint {path} is damaged .*remove the folder .*begins from its start",
        ):
            checkpoints.load(checkpoint)


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(checkpoint):
    path = checkpoint / paths.CHECKPOINT / checkpoints.FACTS
    path.write_text(json.dumps({"step": 7}))
    tensors, facts = checkpoints.load(checkpoint)
    assert facts == {"step": 7} and torch.equal(tensors["model/a"], torch.arange(64.0))


# prepared speech


@pytest.fixture
def speech(tmp_path):
    import soundfile

    rows = []
    for n in range(6):
        soundfile.write(
            tmp_path / f"{n}.wav", np.random.default_rng(n).normal(0, 0.1, 16000), 16000
        )
        rows.append(
            {
                "id": f"u{n}",
                "audio_filepath": f"{n}.wav",
                "text": "one two three",
                "duration": 1.0,
                "speaker": f"s{n}",
            }
        )
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Recipe(
        Choice("manifest", {"train": [str(tmp_path / "m.jsonl")]}),
        Choice("conformer_ctc"),
        Choice("dense"),
        tokens={"kind": "characters"},
        features={"speed_change": 0.1},
    )


def test_prepared_speech_is_compared_when_it_is_read(speech):
    folder = prepare.prepare(SpeechRecipe.of(speech))
    for name in sorted(p.name for p in folder.iterdir()):
        kept = (folder / name).read_bytes()
        if not kept:
            continue
        flip(folder / name, len(name))
        made = None
        if not name.endswith(".f16"):
            with pytest.raises(ValueError, match=f"{folder}.*prepare again"):
                prepared.Prepared(folder)
        else:
            made = prepared.Prepared(folder)
            with pytest.raises(
                ValueError,
                match=(
                    f"{folder / name} is damaged: the features of 'u.' are not those .*prepare"
                    " again"
                ),
            ):
                [made.features(row, speed) for row in made.rows("train") for speed in row.frames]
        (folder / name).write_bytes(kept)
    made = prepared.Prepared(folder)
    assert (
        len(made.rows("train")) == 6
        and made.features(made.rows("train")[0]).shape[1] == features.BINS
    )


def test_damaged_lists_are_made_again_and_damaged_features_are_not_taken_over(speech):
    folder = prepare.prepare(SpeechRecipe.of(speech))
    (folder / prepared.INDEX).write_bytes(
        (folder / prepared.INDEX).read_bytes().replace(b"three", b"threx")
    )
    assert (
        prepare.prepare(SpeechRecipe.of(speech)) == folder
        and prepared.Prepared(folder).rows("train")[0].text == "one two three"
    )
    right = [
        np.array(prepared.Prepared(folder).features(r))
        for r in prepared.Prepared(folder).rows("train")
    ]
    flip(folder / prepared.features_file(1.0))
    other = prepared.Prepared(
        prepare.prepare(
            SpeechRecipe.of(Recipe(**{**speech.__dict__, "tokens": {"kind": "pieces", "size": 32}}))
        )
    )
    assert other.folder != folder
    for row, wanted in zip(other.rows("train"), right, strict=True):
        assert np.array_equal(other.features(row), wanted)


def test_prepared_speech_of_an_earlier_version_is_read_as_before(speech):
    folder = prepare.prepare(SpeechRecipe.of(speech))
    info = json.loads((folder / prepared.MARKER).read_text())
    index = [json.loads(line) for line in (folder / prepared.INDEX).read_text().splitlines()]
    text = "".join(
        json.dumps({n: v for n, v in row.items() if n != "sums"}) + "\n" for row in index
    )
    (folder / prepared.INDEX).write_text(text)
    info["files"][prepared.INDEX] = len(text)
    (folder / prepared.MARKER).write_text(
        json.dumps({n: v for n, v in info.items() if n not in ("sha256", checksums.OWN)})
    )
    made = prepared.Prepared(folder)
    assert made.rows("train")[0].sums == {} and len(made.features(made.rows("train")[0]))
