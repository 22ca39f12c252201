"""Corpora: what they read, what they refuse and why, and that no speaker is in two splits; tiny
audio made here.
"""

from __future__ import annotations

import json
import sys
import types
from itertools import combinations

import numpy as np
import pytest
import soundfile

from core import paths
from core.corpora import _files, _speakers, base
from core.data.filters import gather
from core.records import Choice, Utterance
from core.registry import catalog, plugins
from core.speech import acoustics, audio, shards
from core.speech.normalizer import problems

RATE = 16000


def tone(path, seconds=0.5, level=0.1, rate=RATE, **kind):
    """A file with a quiet start, a tone and a quiet end; returns its path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    wave = level * np.sin(2 * np.pi * 440 * time) * (np.abs(time - seconds / 2) < seconds / 4)
    soundfile.write(
        path, wave + 1e-4 * np.random.default_rng(0).standard_normal(len(wave)), rate, **kind
    )
    return str(path)


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    return str(path)


def good(items):
    return [i for i in items if isinstance(i, Utterance)]


def reasons(items):
    return {i.id: i.reason for i in items if isinstance(i, base.Dropped)}


def speakers(corpus):
    return {s: {u.speaker for u in good(corpus.utterances(s))} for s in corpus.splits()}


def assert_disjoint(corpus):
    found = speakers(corpus)
    assert all(found.values()), found
    for a, b in combinations(found, 2):
        assert not found[a] & found[b], (a, b)


def librispeech_folder(root, folder, names, ending="flac", per=2):
    for name in names:
        text = ""
        for n in range(per):
            tone(
                root / folder / name / "7" / f"{name}-7-{n:04d}.{ending}",
                **({"format": "OGG", "subtype": "OPUS"} if ending == "opus" else {}),
            )
            text += f"{name}-7-{n:04d} HELLO WORLD {n}\n"
        (root / folder / name / "7" / f"{name}-7.trans.txt").write_text(text)


@pytest.fixture
def manifests(tmp_path):
    """Single-word clips of 6 training speakers and 2 test speakers: (train, test) manifest
    paths.
    """
    found = []
    for split, people in (("train", "abcdef"), ("test", "xy")):
        rows = []
        for person in people:
            for n in range(1 if person == "y" else 7):
                tone(tmp_path / "clips" / f"{person}{n}.wav", level=0.02 * (n + 1))
                rows.append(
                    {
                        "audio_filepath": f"../clips/{person}{n}.wav",
                        "duration": 0.5,
                        "text": ["one", "two", "three"][n % 3],
                        "speaker": person,
                        "id": f"{person}{n}",
                    }
                )
        found.append(lines(tmp_path / "m" / f"clips.{split}.jsonl", rows))
    return found


# ---- base and contract


def test_every_corpus_has_a_card_options_and_errors():
    names = plugins.names("corpora")
    assert {
        "librispeech",
        "tedlium2",
        "manifest",
        "folder",
        "kaldi",
        "mixture",
        "strings",
        "noisy",
    } <= set(names)
    for name in names:
        module = plugins.load("corpora", name)
        assert module.__doc__ and module.VERSION >= 1 and issubclass(module.Corpus, base.Corpus)
        card = catalog.card("corpora", name)
        assert not card.broken and {o.name for o in card.options} == set(
            module.Options.__dataclass_fields__
        )
        with pytest.raises(ValueError, match="nonsense"):
            base.make(Choice(name, {"nonsense": 1}))


def test_checked_reports_what_cannot_be_used(tmp_path):
    path = tone(tmp_path / "a.wav")
    items = [
        Utterance("a", path, 0, 1, "x", "s"),
        Utterance("a", path, 0, 1, "y", "s"),
        Utterance("b", path, 0, 1, "  ", "s"),
        Utterance("c", path + "x", 0, 1, "x", "s"),
        Utterance("d", path, 0, 0, "x", "s"),
        Utterance("e", path, -1, 1, "x", "s"),
        base.Dropped("f", "why"),
    ]
    found = list(base.checked(items))
    assert [u.text for u in good(found)] == ["x"]
    why = reasons(found)
    assert (
        "duplicate" in why["a"]
        and "empty" in why["b"]
        and "missing" in why["c"]
        and why["f"] == "why"
    )
    assert "no audio" in why["d"] and "no audio" in why["e"]


def test_pick_is_stable_when_speakers_come_and_seeded():
    people = [f"s{n}" for n in range(100)]
    few = _speakers.pick(people, 10, 1)
    assert len(few) == 10 and few == _speakers.pick(reversed(people), 10, 1) != _speakers.pick(
        people, 10, 2
    )
    assert len(few - _speakers.pick([*people, "new"], 10, 1)) <= 1
    assert 5 <= sum(_speakers.split_of(p, {"search": 0.1}, 1) == "search" for p in people) <= 18


def test_resolve_names_the_missing_variable(monkeypatch):
    monkeypatch.setenv("THERE", "/x")
    assert (
        str(_files.resolve("$THERE/y")) == "/x/y"
        and _files.resolve("a/b") == paths.ROOT / "a" / "b"
    )
    with pytest.raises(ValueError, match="NOT_THERE"):
        _files.resolve("${NOT_THERE}/y")


def test_unknown_split_and_corpus_say_what_there_is(manifests):
    with pytest.raises(ValueError, match="train"):
        list(base.make(Choice("manifest", {"train": [manifests[0]]})).utterances("dev"))
    with pytest.raises(ValueError, match="librispeech"):
        base.make(Choice("librispeeech", {}))


# ---- librispeech


@pytest.mark.slow
def test_librispeech_reads_any_folders_and_holds_speakers_out(tmp_path):
    librispeech_folder(tmp_path, "train-a", [str(n) for n in range(10, 20)])
    librispeech_folder(tmp_path, "train-b", [str(n) for n in range(18, 24)], "opus")
    librispeech_folder(tmp_path, "held", ["30", "23"])  # 23 is in train-b too
    librispeech_folder(tmp_path, "test-x", ["40"])
    options = {
        "root": str(tmp_path),
        "train": ["train-a", "train-b"],
        "search_speakers": {"train-a": 3, "train-b": 1},
        "dev": ["held"],
        "tests": ["test-x"],
    }
    corpus = base.make(Choice("librispeech", options))
    assert corpus.splits() == ["train", "search", "dev", "test-x"]
    assert_disjoint(corpus)
    found = speakers(corpus)
    assert len(found["search"]) == 4
    for seed in (1, 2):
        again = speakers(base.make(Choice("librispeech", {**options, "seed": seed})))
        assert (again["search"] == found["search"]) == (seed == 1)
    one = good(corpus.utterances("test-x"))[0]
    assert (
        one.id == "40-7-0000" and one.text == "HELLO WORLD 0" and one.seconds == pytest.approx(0.5)
    )
    train = list(corpus.utterances("train"))
    assert any(u.audio.endswith(".opus") for u in good(train))
    assert {
        id.split("-")[0]
        for id, why in reasons(train).items()
        if "'23' is also in split 'held'" in why
    } == {"23"}
    assert all(
        "duplicate id" in why for id, why in reasons(train).items() if not id.startswith("23-")
    )


def test_librispeech_bad_items_do_not_stop_it(tmp_path):
    librispeech_folder(tmp_path, "t", ["1"], per=5)
    folder = tmp_path / "t" / "1" / "7"
    (folder / "1-7-0000.flac").unlink()
    (folder / "1-7-0001.flac").write_bytes(b"")
    (folder / "1-7.trans.txt").write_text(
        "1-7-0000 A\n1-7-0001 B\n1-7-0002\n1-7-0003 D\n1-7-0003 D\n"
    )
    found = list(
        base.make(
            Choice("librispeech", {"root": str(tmp_path), "train": ["t"], "dev": [], "tests": []})
        ).utterances("train")
    )
    assert [u.id for u in good(found)] == ["1-7-0003"]
    why = reasons(found)
    assert (
        "missing" in why["1-7-0000"] and "0 bytes" in why["1-7-0001"] and "empty" in why["1-7-0002"]
    )
    assert "no transcript" in why["1-7-0004"] and len(found) == 6


def test_librispeech_missing_folders(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    monkeypatch.setitem(
        sys.modules, "torchaudio.datasets", types.SimpleNamespace(LIBRISPEECH=offline)
    )
    librispeech_folder(tmp_path, "mine", ["1"])
    with pytest.raises(ValueError, match=r"no network.*place its folder at .*train-clean-100"):
        list(base.make(Choice("librispeech", {"root": str(tmp_path)})).utterances("train"))
    with pytest.raises(ValueError, match=r"'odd'.*there are \['mine'\]"):
        list(
            base.make(Choice("librispeech", {"root": str(tmp_path), "train": ["odd"]})).utterances(
                "train"
            )
        )
    with pytest.raises(ValueError, match="download is off"):
        list(
            base.make(Choice("librispeech", {"root": str(tmp_path), "download": False})).utterances(
                "dev"
            )
        )
    with pytest.raises(ValueError, match="more than once"):
        base.make(
            Choice("librispeech", {"root": str(tmp_path), "train": ["mine"], "tests": ["mine"]})
        )
    with pytest.raises(ValueError, match="leave some"):
        list(
            base.make(
                Choice(
                    "librispeech",
                    {
                        "root": str(tmp_path),
                        "train": ["mine"],
                        "dev": [],
                        "tests": [],
                        "search_speakers": {"mine": 1},
                    },
                )
            ).utterances("search")
        )


def test_librispeech_download_is_asked_of_torchaudio_where_it_is_looked_for(tmp_path, monkeypatch):
    def fetch(root, url, folder_in_archive, download):
        assert download
        librispeech_folder(tmp_path / "LS", url, ["5"])
        assert f"{root}/{folder_in_archive}" == str(tmp_path / "LS")

    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    monkeypatch.setitem(
        sys.modules, "torchaudio.datasets", types.SimpleNamespace(LIBRISPEECH=fetch)
    )
    corpus = base.make(
        Choice("librispeech", {"root": str(tmp_path / "LS"), "train": [], "dev": []})
    )
    assert len(good(corpus.utterances("test-clean"))) == 2


# ---- manifest


def test_manifest_reads_and_reports(tmp_path):
    tone(tmp_path / "a.wav", 2.0)
    path = lines(
        tmp_path / "m.jsonl",
        [
            {
                "audio_filepath": "a.wav",
                "duration": 0.5,
                "offset": 1.0,
                "text": "Hé, 7!",
                "speaker": 3,
            },
            {"audio_filepath": "a.wav", "text": "whole"},
            {"audio_filepath": "a.wav", "duration": 1, "id": "n"},
            {"audio_filepath": "gone.wav", "duration": 1, "text": "x"},
            {"text": "x"},
            "{broken\n",
            "\n",
            "[1]\n",
            {"audio_filepath": "a.wav", "duration": "long", "text": "x"},
            {"audio_filepath": "a.wav", "duration": 1, "text": "", "id": "e"},
        ],
    )
    found = list(base.make(Choice("manifest", {"train": [path]})).utterances("train"))
    one, two = good(found)
    assert (one.id, one.offset, one.seconds, one.text, one.speaker) == (
        "a-1.000",
        1.0,
        0.5,
        "Hé, 7!",
        "3",
    )
    assert two.seconds == pytest.approx(2.0) and two.speaker == "no-speaker-a"
    why = reasons(found)
    assert (
        "no text" in why["n"] and "missing" in why["gone"] and "audio_filepath" in why["m.jsonl:5"]
    )
    assert "not a usable line" in why["m.jsonl:6"] and "empty" in why["e"] and len(found) == 9


def test_manifest_splits_are_disjoint(manifests, tmp_path):
    corpus = base.make(
        Choice(
            "manifest",
            {"train": [manifests[0]], "tests": {"words": manifests[1]}, "search_share": 0.4},
        )
    )
    assert corpus.splits() == ["train", "search", "words"]
    assert_disjoint(corpus)
    both = {"train": manifests, "tests": {"words": [manifests[1]]}}
    found = list(base.make(Choice("manifest", both)).utterances("train"))
    assert len(good(found)) == 42 and len(reasons(found)) == 8 and "words" in reasons(found)["x0"]
    kept = base.make(Choice("manifest", {**both, "allow_shared_speakers": True}))
    assert len(good(kept.utterances("train"))) == 50


def test_manifest_errors(manifests):
    for options, text in (
        ({}, "nothing is given"),
        ({"train": ["/gone.jsonl"]}, "/gone.jsonl"),
        ({"tests": {"dev": manifests[0]}}, "roles"),
        ({"train": manifests, "search": manifests, "search_share": 0.1}, "either search"),
        ({"search_share": 2.0}, "search_share"),
    ):
        with pytest.raises(ValueError, match=text):
            base.make(Choice("manifest", options))


def damaged(text: str) -> bytes:
    """`text`, its ? being a byte that is no UTF-8."""
    return text.encode().replace(b"?", b"\xe9")


def test_one_byte_that_is_no_utf_8_costs_one_line_and_not_the_corpus(tmp_path):
    tone(tmp_path / "a.wav", 2.0)
    line = json.dumps({"audio_filepath": "a.wav", "duration": 1, "text": "caf?", "id": "x"}) + "\n"
    (tmp_path / "m.jsonl").write_bytes(
        damaged(line) + damaged(line.replace("f?", "fe").replace('"x"', '"y"'))
    )
    librispeech_folder(tmp_path, "t", ["1"], per=2)
    (tmp_path / "t" / "1" / "7" / "1-7.trans.txt").write_bytes(
        damaged("1-7-0000 CAF?\n1-7-0001 CAFE\n")
    )
    kaldi, folder = tmp_path / "kaldi", tmp_path / "folder"
    tone(kaldi / "a.wav", 2.0)
    lines(kaldi / "wav.scp", ["r a.wav\n"])
    lines(kaldi / "segments", ["x r 0 1\n", "y r 1 2\n", "z\n"])
    (kaldi / "text").write_bytes(damaged("x caf?\ny cafe\nz cafe\n"))
    tone(folder / "a.wav", 1.0), tone(folder / "b.wav", 1.0)
    (folder / "l.csv").write_bytes(
        damaged("audio,text,split\na.wav,caf?,train\nb.wav,cafe,train\n")
    )
    for name, options, bad in (
        ("manifest", {"train": [str(tmp_path / "m.jsonl")]}, {}),
        ("kaldi", {"train": [str(kaldi)]}, {"z": "recording ''"}),
        ("librispeech", {"root": str(tmp_path), "train": ["t"], "dev": [], "tests": []}, {}),
        ("folder", {"root": str(folder)}, {}),
    ):
        found = list(base.make(Choice(name, options)).utterances("train"))
        assert [u.text.lower() for u in good(found)] == ["caf\ufffd", "cafe"], name
        assert [bool(problems(u.text)) for u in good(found)] == [True, False], name
        assert all(words in reasons(found)[id] for id, words in bad.items()) and len(
            reasons(found)
        ) == len(bad)


# ---- folder


def test_folder_of_txt_files_divides_speakers(tmp_path):
    for person in range(8):
        for n in range(2):
            tone(tmp_path / "r" / f"p{person}" / f"{n}.flac")
            (tmp_path / "r" / f"p{person}" / f"{n}.txt").write_text(f"hello\n {n}")
    tone(tmp_path / "r" / "p0" / "silent.wav")
    (tmp_path / "r" / "p1" / "0.flac").write_bytes(b"fLaC")
    corpus = base.make(Choice("folder", {"root": str(tmp_path / "r")}))
    assert corpus.splits() == ["train", "search", "dev", "test"]
    assert_disjoint(corpus)
    found = [i for s in corpus.splits() for i in corpus.utterances(s)]
    assert len(good(found)) == 15 and {"p0/silent", "p1/0"} == set(reasons(found))
    assert {u.text for u in good(found)} == {"hello 0", "hello 1"} and good(found)[
        0
    ].speaker.startswith("r/p")


def test_folder_with_csv(tmp_path):
    for name in "abcd":
        tone(tmp_path / f"{name}.wav", 1.0)
    (tmp_path / "list.csv").write_text(
        "\ufeffFile;Transcript;Speaker;Split\na.wav;eins,"
        " zwei;1;train\nb.wav;b;2;valid\nc.wav;c;3;test\n"
        "d.wav;d;3;train\ne.wav;e;4;train\n;x;5;train\n",
        "utf-8",
    )
    corpus = base.make(Choice("folder", {"root": str(tmp_path)}))
    assert corpus.splits() == ["train", "dev", "test"]
    found = list(corpus.utterances("train"))
    assert [(u.id, u.text, u.seconds) for u in good(found)] == [("a", "eins, zwei", 1.0)]
    why = reasons(found)
    assert "'test'" in why["d"] and "missing" in why["e"] and "no audio" in why["list.csv:7"]


def csv_corpus(root, *rows, columns="audio,text,split"):
    for name in "abcdefgh":
        tone(root / f"{name}.wav")
    (root / "l.csv").write_text("".join(f"{row}\n" for row in (columns, *rows)))
    return base.make(Choice("folder", {"root": str(root)}))


@pytest.mark.parametrize(
    "later", ["f.wav,six,test", 'f.wav,"six, yes",test', '"f.wav","six, yes",test']
)
def test_a_quote_that_is_never_closed_costs_its_own_line_and_not_the_rows_after_it(tmp_path, later):
    corpus = csv_corpus(
        tmp_path,
        'a.wav,"one, and\nmore",train',
        "",
        'b.wav,"two,train',
        "c.wav,three,train",
        "d.wav,four,test",
        later,
        'g.wav,"seven" or so,test',
        'h.wav,say "eight",test',
    )
    train, test = (list(corpus.utterances(split)) for split in ("train", "test"))
    assert [(u.id, u.text) for u in good(train)] == [("a", "one, and more"), ("c", "three")]
    assert reasons(train) == {
        "l.csv:5": "not a usable line: a quote is opened and never closed",
        "*": "no row of l.csv names it: 2 sound files, e.g. b.wav",
    }
    assert [u.id for u in good(test)] == ["d", "f", "g", "h"] and not reasons(test)
    assert [u.text for u in good(test)][2:] == [
        "seven or so",
        'say "eight"',
    ], "sloppy quotes are read as they were"
    told = [drop for drop in gather(corpus)[1] if "quote" in drop.reason]
    assert [(d.split, d.kind, d.rule) for d in told] == [("train", "not a usable line", False)], (
        "prepare counts one bad item"
    )


def test_an_endless_cell_costs_its_own_line_and_unreadable_columns_are_named(tmp_path):
    endless = "x" * 140_000  # Python's reader takes 131072
    corpus = csv_corpus(
        tmp_path,
        "a.wav,one,test",
        f"b.wav,{endless},test",
        f'c.wav,"{endless}',
        f"d.wav,four{' ' * 140_000},test",
        "e.wav,five,test",
        'f.wav,"six,test',
    )
    assert corpus.splits() == ["test"], (
        "a bad line belongs where the row before it belongs: it makes no split of its own"
    )
    found = list(corpus.utterances("test"))
    assert [u.id for u in good(found)] == ["a", "e"] and list(reasons(found)) == [
        *(f"l.csv:{n}" for n in (3, 4, 5, 7)),
        "*",
    ]
    assert all("field limit (131072)" in reasons(found)[f"l.csv:{n}"] for n in (3, 5))
    assert all("never closed" in reasons(found)[f"l.csv:{n}"] for n in (4, 7))
    for columns in ('audio,"text,split', f"audio,text,{endless}"):
        with pytest.raises(
            ValueError, match="columns in line 1 of .*l.csv cannot be read: not a usable line"
        ):
            csv_corpus(tmp_path, "a.wav,one,test", columns=columns)


def test_a_row_with_more_or_fewer_cells_than_the_header_is_dropped_with_its_line(tmp_path):
    corpus = csv_corpus(
        tmp_path,
        "a.wav,open, the door,test",
        'b.wav,"open, the door",test,,',
        "c.wav,stop",
        "d.wav",
        "e.wav,one\u2028 two,test",
    )
    found = [item for split in corpus.splits() for item in corpus.utterances(split)]
    assert {u.id: u.text for u in good(found)} == {"b": "open, the door", "e": "one two"}
    assert {id: reason for id, reason in reasons(found).items() if id != "*"} == {
        "l.csv:2": "not a usable line: line 2 has 4 cells, the header 3: put a text that holds the"
        " delimiter in quotes",
        "l.csv:4": "not a usable line: line 4 has 2 cells, the header 3: it lacks split; leave an"
        " unknown cell empty",
        "l.csv:5": "not a usable line: line 5 has 1 cells, the header 3: it lacks text and split;"
        " leave an unknown cell empty",
    }


def test_folder_errors(tmp_path):
    with pytest.raises(ValueError, match="not a folder"):
        base.make(Choice("folder", {"root": str(tmp_path / "no")}))
    with pytest.raises(ValueError, match="nothing in"):
        base.make(Choice("folder", {"root": str(tmp_path)}))
    tone(tmp_path / "a.wav")
    (tmp_path / "l.csv").write_text("name,words\na.wav,x\n")
    with pytest.raises(ValueError, match="columns"):
        base.make(Choice("folder", {"root": str(tmp_path)}))
    (tmp_path / "l.csv").write_text("audio,text,speaker\na.wav,x,1\n")
    with pytest.raises(ValueError, match="cannot be divided"):
        base.make(Choice("folder", {"root": str(tmp_path)}))
    only_train = {"root": str(tmp_path), "search_share": 0.0, "dev_share": 0.0, "test_share": 0.0}
    assert base.make(Choice("folder", only_train)).splits() == ["train"]


# ---- kaldi and tedlium


def test_kaldi(tmp_path):
    data = tmp_path / "data"
    tone(data / "r1.wav", 4.0)
    lines(data / "wav.scp", ["r1 r1.wav\n", "r2 sox r1.wav -t wav - |\n"])
    lines(
        data / "text",
        [
            "u1 good morning\n",
            "u2 night\n",
            "u3 tail\n",
            "u4 command\n",
            "u5 x\n",
            "u6\n",
            "u7 x\n",
        ],
    )
    lines(data / "utt2spk", ["u1 anna\n", "u2 bert\n", "u3 anna\n"])
    lines(
        data / "segments",
        [
            "u1 r1 0.5 1.75\n",
            "u2 r1 2 2\n",
            "u3 r1 3 -1\n",
            "u4 r2 0 1\n",
            "u5 r9 0 1\n",
            "u6 r1 0 1\n",
            "u8 r1 0 1\n",
        ],
    )
    found = list(base.make(Choice("kaldi", {"train": [str(data)]})).utterances("train"))
    one, three = good(found)
    assert (one.id, one.offset, one.seconds, one.speaker) == ("u1", 0.5, 1.25, "anna")
    assert three.seconds == pytest.approx(1.0)
    why = reasons(found)
    assert (
        "no audio" in why["u2"]
        and "command" in why["u4"]
        and "not in wav.scp" in why["u5"]
        and "empty" in why["u6"]
    )
    assert "only in text" in why["u7"] and "only in segments" in why["u8"]
    (data / "segments").unlink()
    lines(data / "wav.scp", ["u1 cat r1.wav |\n"])
    with pytest.raises(ValueError, match="wav-copy"):
        list(base.make(Choice("kaldi", {"train": [str(data)]})).utterances("train"))
    lines(data / "wav.scp", ["u1 r1.wav\n"])
    (one,) = good(base.make(Choice("kaldi", {"tests": {"t": str(data)}})).utterances("t"))
    assert one.seconds == pytest.approx(4.0) and one.speaker == "anna"
    (data / "text").unlink()
    with pytest.raises(ValueError, match="no text"):
        base.make(Choice("kaldi", {"train": [str(data)]}))


def test_tedlium2(tmp_path):
    root = tmp_path / "TEDLIUM_release2"
    for split, talk in (
        ("train", "AnnaB_2010"),
        ("train", "CarlD_2009"),
        ("dev", "EvaF_2011"),
        ("test", "AnnaB_2012X"),
    ):
        tone(root / split / "sph" / f"{talk}.sph", 5.0, format="NIST", subtype="PCM_16")
        lines(
            root / split / "stm" / f"{talk}.stm",
            [
                ";; a comment\n",
                f"{talk} 1 {talk} 0.00 1.00 <o,f0,male> ignore_time_segment_in_scoring\n",
                f"{talk} 1 {talk} 1.00 3.50 <o,f0,male> it 's the(2) <unk> end {{SMACK}}\n",
                "short line\n",
            ],
        )
    corpus = base.make(Choice("tedlium2", {"root": str(tmp_path), "search_share": 0.0}))
    assert corpus.splits() == ["train", "dev", "test"]
    assert_disjoint(corpus)
    train = list(corpus.utterances("train"))
    (one,) = good(train)
    assert (one.text, one.offset, one.seconds, one.speaker) == ("it's the end", 1.0, 2.5, "CarlD")
    assert len(audio.read(one.audio, one.offset, one.seconds)) == 40000
    assert "not an stm line" in " ".join(reasons(train).values()) and "'test'" in " ".join(
        reasons(train).values()
    )
    drop = base.make(
        Choice("tedlium2", {"root": str(root), "search_share": 0.0, "unknown": "drop"})
    )
    assert (
        not good(drop.utterances("dev"))
        and "a word is <unk>" in reasons(drop.utterances("dev")).values()
    )
    gone = base.make(Choice("tedlium2", {"root": str(tmp_path / "gone"), "download": False}))
    with pytest.raises(ValueError, match=r"gone/TEDLIUM_release2.*openslr.org/19"):
        list(gone.utterances("dev"))


# ---- strings, noisy, mixture


def string_options(manifests, **more):
    return {
        "train": [manifests[0]],
        "tests": {"w-strings": manifests[1]},
        "search_speakers": 1,
        "processes": 1,
        **more,
    }


@pytest.mark.slow
def test_strings_use_every_clip_and_keep_speakers_apart(manifests, capsys):
    corpus = base.make(Choice("strings", string_options(manifests, uses=2)))
    assert corpus.splits() == ["train", "search", "w-strings"]
    assert_disjoint(corpus)
    assert "3 words: one" in capsys.readouterr().err  # the word set is printed
    rows = list(shards.rows(corpus.folder()))
    for split, uses in (("train", 2), ("w-strings", 1)):
        clips = [c for row in rows if row["split"] == split for c in row["clips"]]
        assert len(clips) == uses * len(set(clips)) and len(set(clips)) == (
            35 if split == "train" else 8
        )
    test = good(corpus.utterances("w-strings"))
    assert sorted(len(u.text.split()) for u in test if u.speaker == "y") == [
        1
    ]  # joins what there is
    assert all(2 <= len(u.text.split()) <= 6 for u in test if u.speaker == "x")
    for row in rows:
        samples = audio.read(row["audio"], row["offset"], row["seconds"])
        assert len(samples) == round(row["seconds"] * RATE) and np.abs(samples).max() > 0.005
        assert row["seconds"] < 0.85 * len(
            row["clips"]
        )  # 0.5 s each with gaps, their silence trimmed


def test_strings_level_gap_and_word_places():
    rng = np.random.default_rng(1)
    loud, soft = (np.full(8000, level, np.float32) for level in (0.4, 0.1))
    wave = base_strings().joined([loud, soft, soft], (100, 100), rng)
    assert len(wave) == 3 * 8000 + 3 * 1600
    assert wave[800:8800].mean() == pytest.approx(wave[10400:18400].mean(), rel=0.02)  # one level
    assert 0 < acoustics.rms(wave[8900:10300]) < 0.02  # low noise, not nothing


def base_strings():
    return plugins.load("corpora", "strings")


@pytest.mark.parametrize("count", range(0, 40))
def test_string_sizes_add_up_and_leave_no_stump(count):
    sizes = base_strings().sizes(count, 2, 6, np.random.default_rng(count))
    assert sum(sizes) == count and all(2 <= s <= 6 for s in sizes if count > 1)


@pytest.mark.slow
def test_strings_are_made_once_and_remade_when_something_changes(manifests):
    def folder(**more):
        return base.make(Choice("strings", string_options(manifests, **more))).folder()

    first = folder()
    stamp = (first / shards.MADE).stat().st_mtime_ns
    sound = {p.name: p.read_bytes() for p in first.glob("*.flac")}
    assert (
        folder() == folder(processes=2) == first
        and (first / shards.MADE).stat().st_mtime_ns == stamp
    )
    assert folder(seed=2) != first and folder(gap_max=500.0) != first
    (first / shards.MADE).unlink()  # half made: is made again, to the same bits
    assert {p.name: p.read_bytes() for p in folder(processes=2).glob("*.flac")} == sound
    assert not list(first.parent.glob("*.tmp-*"))


@pytest.fixture
def bad_clips(manifests, tmp_path):
    """A manifest of one good clip and three bad ones."""

    def clip(name: str, seconds: float, text: str, id: str) -> dict:
        file = f"../clips/{name}.wav"
        return {"audio_filepath": file, "duration": seconds, "text": text, "speaker": "z", "id": id}

    rows = [
        clip("a0", 0.5, "two words", "z1"),
        clip("a0", 9.0, "long", "z2"),
        clip("a1", 0.5, "one", "z3"),
        clip("a2", float("inf"), "one", "z4"),
    ]
    return lines(tmp_path / "m" / "bad.jsonl", rows)


def test_strings_drop_bad_clips(bad_clips):
    corpus = base.make(Choice("strings", {"tests": {"t": bad_clips}, "processes": 1}))
    found = list(corpus.utterances("t"))
    assert [u.text for u in good(found)] == ["one"]
    assert "not a single word" in reasons(found)["z1"]
    assert "truncated" in reasons(found)["z2"]
    assert "length inf s" in reasons(found)["z4"], "only one clip is lost"


def test_a_noisy_copy_drops_bad_clips(bad_clips):
    options = {
        "corpus": "manifest",
        "options": {"tests": {"t": bad_clips}},
        "splits": {"n": "t"},
        "kinds": ["pink"],
        "processes": 1,
    }
    found = list(base.make(Choice("noisy", options)).utterances("n"))
    assert {u.id for u in good(found)} == {"z1", "z3"}
    assert "z4" in reasons(found)


def test_strings_refuse_sizes_that_do_not_go_together(manifests):
    with pytest.raises(ValueError, match="words_min"):
        base.make(Choice("strings", string_options(manifests, words_min=7)))
    with pytest.raises(ValueError, match="leave some"):
        list(
            base.make(Choice("strings", string_options(manifests, search_speakers=6))).utterances(
                "train"
            )
        )


def test_noisy_copy(manifests):
    inner = {
        "corpus": "manifest",
        "options": {"tests": {"clean": manifests[1]}},
        "splits": {"noisy": "clean"},
        "processes": 1,
    }
    corpus = base.make(Choice("noisy", inner))
    assert corpus.splits() == ["noisy"]
    clean = {u.id: u for u in good(corpus.source.utterances("clean"))}
    copy = good(corpus.utterances("noisy"))
    assert {u.id: (u.text, u.speaker) for u in copy} == {
        u.id: (u.text, u.speaker) for u in clean.values()
    }
    for u in copy:
        a, b = (audio.read(x.audio, x.offset, x.seconds) for x in (u, clean[u.id]))
        assert len(a) == len(b) and 0.5 < np.corrcoef(a, b)[0, 1] < 0.999
    few = good(base.make(Choice("noisy", {**inner, "utterances": 2})).utterances("noisy"))
    assert {u.speaker for u in few} == {"x", "y"}  # spread over speakers
    with pytest.raises(ValueError, match="role"):
        base.make(Choice("noisy", {**inner, "splits": {"train": "clean"}}))
    with pytest.raises(ValueError, match="nothere"):
        base.make(Choice("noisy", {**inner, "splits": {"a": "nothere"}}))


def test_mixture(manifests, tmp_path):
    librispeech_folder(
        tmp_path / "LS", "mine", ["a", "70", "71"]
    )  # speaker "a" is in the manifests too
    read = {
        "corpus": "librispeech",
        "prefix": "read",
        "share": 0.3,
        "options": {"root": str(tmp_path / "LS"), "train": ["mine"], "dev": [], "tests": []},
    }
    words = {
        "corpus": "manifest",
        "options": {"train": [manifests[0]], "tests": {"words": manifests[1]}},
    }
    again = {
        "corpus": "manifest",
        "prefix": "again",
        "options": {"train": [manifests[0]]},
        "share": 1.0,
    }
    corpus = base.make(Choice("mixture", {"parts": [read, words, again]}))
    assert corpus.splits() == ["train", "manifest/words"] and corpus.shares() == {"read": 0.3}
    found = list(corpus.utterances("train"))
    assert len(good(found)) == 6 + 42 and all(
        "also in 'train'" in why for why in reasons(found).values()
    )
    assert {u.id.split(":")[0] for u in good(found)} == {"read", "manifest"} and len(
        reasons(found)
    ) == 42
    assert len(good(corpus.utterances("manifest/words"))) == 8
    assert corpus.versions() == {"mixture": 1, "librispeech": 1, "manifest": 1}
    assert any("CC BY 4.0" in licence for _, licence in corpus.attributions())


def test_mixture_keeps_test_speakers_out_of_every_part(manifests, tmp_path):
    leak = {"corpus": "manifest", "prefix": "leak", "options": {"train": [manifests[1]]}}
    test = {
        "corpus": "manifest",
        "options": {"train": [manifests[0]], "tests": {"words": manifests[1]}},
    }
    found = list(base.make(Choice("mixture", {"parts": [leak, test]})).utterances("train"))
    assert {u.speaker for u in good(found)} == set("abcdef") and len(reasons(found)) == 8


def test_a_mixture_narrowed_to_a_test_needs_no_other_speech():
    from core.corpora import mixture

    gone = {"corpus": "librispeech", "options": {"root": "$NO_SUCH_FOLDER"}, "prefix": "books"}
    built_in = {"corpus": "voice_commands", "options": {"hours": 1.0}}
    options = {"parts": [gone, built_in]}
    narrowed = mixture.Corpus.narrow(options, ["voice_commands/test"])
    assert base.make(Choice("mixture", narrowed)).splits() == ["voice_commands/test"]
    assert narrowed["parts"] == [{**built_in, "splits": ["test"]}]
    assert [
        mixture.Corpus.narrow(options, s)
        for s in ([], ["search"], ["voice_commands/test", "dev"], ["x/y"])
    ] == [options] * 4


def test_mixture_errors(manifests):
    part = {"corpus": "manifest", "options": {"train": [manifests[0]]}}
    for parts, text in (
        ([], "parts is empty"),
        ([part, part], "used twice"),
        ([{**part, "shar": 1}], "shar"),
        ([{**part, "share": 0}], "share"),
        ([{"corpus": "manifestt"}], "manifestt"),
        ([{**part, "options": {"x": 1}}], r"parts\[0\].*x"),
        ([{**part, "splits": ["dev"]}], "dev"),
    ):
        with pytest.raises(ValueError, match=text):
            base.make(Choice("mixture", {"parts": parts}))


# ---- acoustics


def test_noise_has_the_level_asked_for_and_rooms_decay():
    speech = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.05
    for kind in acoustics.NOISES:
        added = acoustics.add_noise(speech, 10.0, np.random.default_rng(1), kind) - speech
        assert 20 * np.log10(acoustics.rms(speech) / acoustics.rms(added)) == pytest.approx(
            10, abs=0.01
        ), kind
    room = acoustics.rir(0.4, np.random.default_rng(2), 0.0)
    energy = [
        np.sum(room[n : n + 800] ** 2) for n in (800, 2400, 4000)
    ]  # 100 ms apart: 15 dB at RT60 0.4 s
    assert 10 * np.log10(energy[0] / energy[1]) == pytest.approx(15, abs=2)
    assert 10 * np.log10(energy[1] / energy[2]) == pytest.approx(15, abs=2)
    wet = acoustics.reverberate(speech, 0.6, np.random.default_rng(3))
    assert wet.shape == speech.shape and acoustics.rms(wet) == pytest.approx(
        acoustics.rms(speech), rel=1e-3
    )
    assert np.array_equal(wet, acoustics.reverberate(speech, 0.6, np.random.default_rng(3)))
    assert (
        np.abs(acoustics.add_noise(speech * 8, 0.0, np.random.default_rng(4))).max()
        <= acoustics.PEAK + 1e-6
    )
    for call in (lambda: acoustics.rir(0, None), lambda: acoustics.noise("brown", 5, None)):
        with pytest.raises(ValueError, match="allowed"):
            call()


@pytest.mark.parametrize("ending", ["flac", "opus"])
def test_shards_read_back_at_their_place(tmp_path, ending):
    tones = {
        f: 0.3 * np.sin(2 * np.pi * f * np.arange(RATE // 2) / RATE).astype(np.float32)
        for f in (300, 1000, 2500)
    }

    def work(task):
        for f, wave in tones.items():
            yield shards.Recording({"id": str(f), "split": "s", "text": "x", "speaker": task}, wave)

    folder = shards.make(tmp_path / "f", {"a": "a"}, work, ending=ending, processes=1)
    rows = list(shards.rows(folder, "s"))
    assert len(rows) == 3
    for row in rows:
        samples = audio.read(row["audio"], row["offset"], row["seconds"])
        assert np.corrcoef(samples, tones[int(row["id"])])[0, 1] > 0.97


# ---- the real speech


@pytest.mark.slow
@pytest.mark.speech
def test_real_librispeech_counts_and_speakers(speech_root):
    corpus = base.make(
        Choice(
            "librispeech",
            {
                "root": str(speech_root / "LibriSpeech"),
                "train": ["train-clean-5", "train-clean-100-part"],
                "search_speakers": {"train-clean-100-part": 20, "train-clean-5": 3},
                "dev": ["dev-heldout"],
            },
        )
    )
    found = {s: list(corpus.utterances(s)) for s in corpus.splits()}
    for a, b in combinations(found, 2):
        assert not {u.speaker for u in good(found[a])} & {u.speaker for u in good(found[b])}, (a, b)
    assert not any(reasons(items) for items in found.values())
    count = {s: len(items) for s, items in found.items()}
    assert (
        count["train"] + count["search"] == 1519 + 968
        and count["dev"] == 96
        and count["test-clean"] == 2620
    )
    assert len({u.speaker for u in found["search"]}) == 23
    assert 0.7 < sum(u.seconds for u in found["search"]) / 3600 < 1.6
    assert sum(len(u.text.split()) for u in found["test-clean"]) == 52576


@pytest.mark.slow
@pytest.mark.speech
def test_real_manifests_counts(speech_root):
    folder = speech_root / "manifests"
    for name, count, people in (
        ("cmu_arctic.train", 2264, 2),
        ("ljspeech.train", 385, 1),
        ("fsdd.test", 500, 1),
        ("speechocean762.train", 1000, 50),
        ("speech_commands.train", 4516, 455),
    ):
        corpus = base.make(Choice("manifest", {"train": [str(folder / f"{name}.jsonl")]}))
        items = list(corpus.utterances("train"))
        assert (
            len(good(items)) == count
            and not reasons(items)
            and len({u.speaker for u in good(items)}) == people
        )


@pytest.mark.slow
@pytest.mark.speech
def test_real_test_strings(speech_root):
    folder = speech_root / "manifests"
    corpus = base.make(
        Choice(
            "strings",
            {
                "tests": {
                    "speech_commands-strings": str(folder / "speech_commands.test.jsonl"),
                    "fsdd-strings": str(folder / "fsdd.test.jsonl"),
                },
                "processes": 1,
            },
        )
    )
    assert_disjoint(corpus)
    for split, words, people in (("speech_commands-strings", 544, 67), ("fsdd-strings", 500, 1)):
        items = good(corpus.utterances(split))
        assert (
            sum(len(u.text.split()) for u in items) == words
            and len({u.speaker for u in items}) == people
        )
    assert [name for name, _ in corpus.attributions()] == [
        "speech_commands (measured only)",
        "fsdd (measured only)",
    ]
