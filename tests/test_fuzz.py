"""Random bytes and random damage over all that is read: manifests, Kaldi files, tables, ARPA,
recipes, packed files, runs, checkpoints, the queue. Whatever comes, it is read or refused by a
ValueError: no traceback, no hang, and no silent change of what carries a checksum.

SUPERNET_FUZZ_S gives every test so many seconds (default 3); failures say the bytes, which
`@example` then keeps.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
import sqlite3
import time

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, example, given, settings, strategies as st

from core import paths
from core.cli.main import main as cli
from core.common import reading
from core.corpora import folder, kaldi, manifest
from core.data import filters as sift, prepare, prepared
from core.data.source import SpeechRecipe
from core.jobs import queue as jobs
from core.lm import arpa
from core.records import Choice, Recipe, Utterance
from core.registry import recipes as recipe_files
from core.speech import marks
from core.storage import packing, store
from core.training import checkpoints
from tests import standin
from tests.pipelines.test_wrong_input import ARPA

SECONDS = float(os.environ.get("SUPERNET_FUZZ_S", 3))
ODD = [
    "\ufeff",
    "\u2028",
    "\u0085",
    "\x0b",
    "\x1c",
    "\0",
    "\r",
    "\n",
    "\t",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "9" * 400,
    "[" * 2000,
    "{",
    "}",
    '"',
    "\\",
    "<unk>",
    "[noise]",
    "é",
    "\ud800",
    "../",
    "$HOME",
    "-1",
    "ngram 3=0",
    "\\end\\",
    "extends",
    "None",
]


@pytest.fixture
def until():
    """When the test's time is up: a slow machine tries fewer examples instead of failing."""
    return time.monotonic() + SECONDS


def fuzz(strategy):
    """Many examples, as many as the time allows; always in the same order, so that a failure on one
    machine is one on all.
    """

    def wrap(test):
        @functools.wraps(test)
        def timed(*given_to, until, **named):
            if time.monotonic() < until:
                test(*given_to, until=until, **named)

        return settings(
            max_examples=200,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )(given(data=strategy)(timed))

    return wrap


def mutated(whole: bytes):
    """A right file with a few bytes changed, cut out, cut off or put in."""
    place, odd = (
        st.integers(0, len(whole)),
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([o.encode("utf-8", "surrogatepass") for o in ODD]),
        ),
    )
    change = st.tuples(place, st.integers(0, 40), odd)

    def apply(changes):
        data = whole
        for at, length, new in changes:
            data = data[:at] + new + data[at + length :]
        return data

    return st.one_of(
        st.lists(change, min_size=1, max_size=4).map(apply),
        place.map(lambda at: whole[:at]),
        st.binary(max_size=200),
    )


def read_or_refused(read):
    """What `read` gives, None when it refuses. Any other exception fails the test."""
    try:
        return read()
    except ValueError as error:
        assert str(error).strip()
        return None


# text


@fuzz(
    st.text(st.characters(), max_size=60) | st.lists(st.sampled_from(ODD), max_size=6).map("".join)
)
def test_lines_lose_nothing(until, data):
    text = data.encode("utf-8", "surrogatepass").decode("utf-8", "replace").replace("\ufeff", "")
    raw = text.encode()
    assume(raw[:2] not in (b"\xff\xfe", b"\xfe\xff"))
    ends = text.replace("\r\n", "\n").replace("\r", "\n")
    assert list(reading.lines(raw)) == (ends[:-1] if ends.endswith("\n") else ends).split(
        "\n"
    ) * bool(ends)
    words, found = marks.without(text, ["*x*"])
    assert found or words == text


ROWS = b"".join(
    json.dumps(
        {
            "id": f"u{n}",
            "audio_filepath": "a.wav",
            "text": f"word {n}",
            "duration": 1.5,
            "speaker": "s",
        }
    ).encode()
    + b"\n"
    for n in range(4)
)


def items(corpus) -> None:
    found, dropped = sift.gather(corpus)
    for utterance in (u for mine in found.values() for u in mine):
        assert isinstance(utterance, Utterance) and utterance.text and 0 < utterance.seconds <= 60
    assert all(d.reason for d in dropped)


@pytest.fixture
def home(tmp_path):
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(32000, np.float32), 16000)
    return tmp_path


@fuzz(mutated(ROWS))
def test_manifests(until, home, data):
    (home / "m.jsonl").write_bytes(data)
    items(manifest.Corpus(manifest.Options(train=[str(home / "m.jsonl")])))


@fuzz(
    st.tuples(
        st.sampled_from(["wav.scp", "text", "utt2spk", "segments"]),
        mutated(b"u0 a.wav\nu1 a.wav\nu1 a.wav\n"),
    )
)
def test_kaldi_folders(until, home, data):
    for name, whole in {
        "wav.scp": b"u0 a.wav\nu1 a.wav\n",
        "text": b"u0 one\nu1 two\n",
        "utt2spk": b"u0 s\nu1 s\n",
        "segments": b"",
    }.items():
        (home / name).write_bytes(data[1] if name == data[0] else whole)
    read_or_refused(lambda: items(kaldi.Corpus(kaldi.Options(train=[str(home)]))))


@fuzz(
    mutated(b"audio;text;split;offset;duration\na.wav;hello;train;0,5;1,0\na.wav;you;train;1;0,5\n")
)
def test_tables(until, home, data):
    (home / "t.csv").write_bytes(data)
    read_or_refused(lambda: items(folder.Corpus(folder.Options(root=str(home)))))


@fuzz(st.tuples(mutated(ARPA.encode()), st.booleans()))
def test_language_models(until, tmp_path, data):
    file = tmp_path / ("a.arpa.gz" if data[1] else "a.arpa")
    file.write_bytes(gzip.compress(data[0]) if data[1] else data[0])
    found = read_or_refused(lambda: arpa.load(file))
    if found is not None:
        scores = [
            found.score(h, w)
            for h in ((), ("three",), ("<s>", "seven"), ("x", "y", "z"))
            for w in (*found.words[:5], "</s>", "x")
        ]
        assert all(-1e6 < s < 1e6 for s in scores) or "e" in data[0].decode("utf-8", "replace")
        assert found.follow(("<s>",), "three") is not None


RECIPE = (recipe_files.paths.RECIPES / "voice_commands.toml").read_bytes()


@fuzz(mutated(RECIPE))
@example(data=b'extends = ["voice_commands"]')
@example(data=b"a = " + b"[" * 3000)
def test_recipes(until, tmp_path, data):
    (tmp_path / "r.toml").write_bytes(data)
    found = read_or_refused(lambda: recipe_files.load_recipe(tmp_path / "r.toml"))
    assert found is None or isinstance(found, Recipe)
    (tmp_path / "r.json").write_bytes(data)
    read_or_refused(lambda: recipe_files.load_recipe(tmp_path / "r.json"))


# what is stored: refused, or exactly what was written


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = standin.make_run(tmp_path_factory.mktemp("runs"), "mine", blocks=1, utterances=1)
    store.finish(made, {"seconds": 1.0})
    return made


PACKED: list[bytes] = []


@fuzz(st.tuples(st.floats(0, 1), st.integers(0, 30), st.binary(max_size=12)))
def test_packed_files(until, run, data):
    if not PACKED:
        PACKED.append(packing.pack(run, store.subnets(run)[-1]))
    whole = PACKED[0]
    at = int(data[0] ** 6 * len(whole))  # mostly in the head
    read_or_refused(lambda: packing.unpack(whole[:at] + data[2] + whole[at + data[1] :]))


@fuzz(
    st.tuples(
        st.sampled_from(
            [
                paths.WEIGHTS,
                paths.RECIPE,
                paths.UNITS,
                paths.BPE,
                paths.FEATURE_STATISTICS,
                paths.FINISHED,
                "ranks/final.safetensors",
                "subnets/s70.json",
            ]
        ),
        st.floats(0, 1),
        st.integers(0, 20),
        st.binary(max_size=8),
    )
)
def test_runs(until, run, data):
    name, place, length, new = data
    file, before = run / name, packing.pack(run, store.subnet(run, "s70"))
    whole = file.read_bytes()
    at = int(place * len(whole))
    try:
        file.write_bytes(whole[:at] + new + whole[at + length :])
        found = read_or_refused(lambda: packing.pack(run, store.subnet(run, "s70")))
        assert found in (None, before), "other bytes without a word"
    finally:
        file.write_bytes(whole)


@fuzz(
    st.tuples(
        st.sampled_from([checkpoints.TENSORS, checkpoints.FACTS]),
        st.floats(0, 1),
        st.integers(0, 20),
        st.binary(max_size=8),
    )
)
def test_checkpoints(until, tmp_path, data):
    tensors, facts = {"model/a": torch.arange(50.0)}, {"step": 3, "sums": {"a": [1.0]}}
    checkpoints.save(tmp_path, tensors, facts)
    name, place, length, new = data
    file = tmp_path / paths.CHECKPOINT / name
    whole = file.read_bytes()
    at = int(place * len(whole))
    file.write_bytes(whole[:at] + new + whole[at + length :])
    found = read_or_refused(lambda: checkpoints.load(tmp_path))
    assert found is None or (
        found[1] == facts and torch.equal(found[0]["model/a"], tensors["model/a"])
    ), "other numbers without a word"


@fuzz(st.tuples(st.integers(0, 9), st.floats(0, 1), st.integers(0, 40), st.binary(max_size=8)))
def test_prepared_speech(until, tmp_path_factory, home, data):
    rows = [
        {
            "id": f"u{n}",
            "audio_filepath": "a.wav",
            "text": "one two",
            "duration": 1.0,
            "offset": n / 2,
            "speaker": f"s{n}",
        }
        for n in range(3)
    ]
    (home / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = Recipe(
        Choice("manifest", {"train": [str(home / "m.jsonl")]}),
        Choice("conformer_ctc"),
        Choice("dense"),
        tokens={"kind": "characters"},
        features={"speed_change": 0.0},
    )
    made = prepare.prepare(SpeechRecipe.of(recipe))
    right = everything(made)
    file = sorted(p for p in made.iterdir() if p.stat().st_size)[
        data[0] % sum(p.stat().st_size > 0 for p in made.iterdir())
    ]
    whole = file.read_bytes()
    at = int(data[1] * len(whole))
    file.write_bytes(whole[:at] + data[3] + whole[at + data[2] :])
    assert read_or_refused(lambda: everything(made)) in (None, right), "other speech without a word"
    file.write_bytes(whole)


def everything(made):
    speech = prepared.Prepared(made)
    return [
        (row, speech.features(row, speed).tobytes())
        for row in speech.rows("train")
        for speed in row.frames
    ]


@fuzz(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 60), st.binary(max_size=60)), max_size=4))
def test_the_queue(until, own_artifacts, data):
    database = paths.jobs_database()
    for file in own_artifacts.glob("jobs.db*") if own_artifacts.exists() else ():
        file.unlink()
    numbers = [jobs.add("train", {"recipe": f"r{n}"}) for n in range(5)]
    db = sqlite3.connect(database)
    db.execute("pragma wal_checkpoint(truncate)")
    db.close()
    whole = bytearray(database.read_bytes())
    for place, length, new in data:
        at = int(place * len(whole))
        whole[at : at + len(new)] = new
        del whole[len(whole) - length % 7 * 100 or len(whole) :]
    database.write_bytes(whole)
    for work in (
        lambda: jobs.list_jobs(10),
        lambda: jobs.add("train", {}),
        lambda: jobs.claim("a:1:b"),
        lambda: [jobs.get(n) for n in numbers],
    ):
        read_or_refused(work)


@fuzz(
    st.lists(
        st.sampled_from(
            [
                "transcribe",
                "evaluate",
                "export",
                "jobs",
                "log",
                "list",
                "lm",
                "train",
                "--dry-run",
                "--subnets",
                "--text",
                "--out",
                "--lm",
                "--json",
                "--set",
                "--at",
                "fetch",
                "--priority",
                "runs",
                "mine",
                "dense",
                "s70",
                "",
                "-",
                "/dev/null",
                "9" * 30,
                "nan",
                "a=b",
                "\0",
                "x.wav",
            ]
        ),
        max_size=7,
    )
)
def test_command_lines(until, own_artifacts, data):
    assume(not {"train"} & set(data) and data[:1] != ["jobs", "work"])
    try:
        assert cli(data) in (0, 1, 2)
    except SystemExit as ended:
        assert ended.code in (0, 2)
