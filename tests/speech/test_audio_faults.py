"""Damaged, cut, streamed and odd sound files: what is decoded is whole and right, or the error says
why not."""

from __future__ import annotations

import io
import os
import struct
import threading
import time

import numpy as np
import pytest
import soundfile

from core.cli.main import main as cli
from core.corpora import base
from core.records import Choice, Utterance
from core.speech import audio, audio_limits, containers, features, loudness, pipes
from tests import sounds

VOICE = sounds.voice(2.0)
OPUS = sounds.by_ffmpeg(sounds.voice(2.0, 48000), "ogg", "libopus", 48000)
LONG = sounds.by_ffmpeg(sounds.voice(5.0, 48000), "ogg", "libopus", 48000)  # in five pages
MP3 = sounds.encoded(VOICE, "MP3")


def saved(tmp_path, data: bytes, name: str = "a.wav"):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


# ---- lengths


@pytest.mark.parametrize(
    "data, samples",
    [
        (lambda: sounds.by_ffmpeg(VOICE, "flac", "flac", piped=True), 32000),
        (lambda: sounds.without_xing(MP3), 33408),
        (lambda: sounds.wav(VOICE, 0), 32000),
        (lambda: sounds.wav(VOICE, 0xFFFFFFFF), 32000),
        (lambda: sounds.wav(VOICE, 0x7FFFF000), 32000),
        (lambda: sounds.by_ffmpeg(VOICE, "wav", "pcm_s16le", piped=True), 32000),
        (lambda: sounds.by_ffmpeg(sounds.voice(2.0, 48000), "webm", "libopus", 48000, True), 31999),
        (lambda: OPUS + OPUS, 64000),
    ],
    ids=["flac", "mp3", "wav 0", "wav -1", "sox", "ffmpeg", "webm", "chain"],
)
def test_the_length_is_what_was_decoded(tmp_path, data, samples):
    file = saved(tmp_path, data())
    found = audio.read(file)
    assert abs(len(found) - samples) <= 1200 and audio.duration(file) == pytest.approx(
        len(found) / 16000, abs=1e-3
    )
    if samples in (32000, 31999):
        assert np.corrcoef(found[:31000], VOICE[:31000])[0, 1] > 0.8
    part = audio.read(file, 0.5, 1.0)
    np.testing.assert_allclose(part[:14000], found[8000:22000], atol=0.01)
    with pytest.raises(audio.AudioError, match="s long"):
        audio.read(file, 0.5, 9.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, data",
    [
        ("wav", lambda: sounds.wav(VOICE)),
        ("flac", lambda: sounds.encoded(VOICE, "FLAC")),
        ("opus", lambda: OPUS),
        ("vorbis", lambda: sounds.encoded(VOICE, "OGG", "VORBIS")),
        ("mp3", lambda: MP3),
        ("aiff", lambda: sounds.encoded(VOICE, "AIFF")),
        ("au", lambda: sounds.encoded(VOICE, "AU")),
        ("w64", lambda: sounds.encoded(VOICE, "W64")),
        ("rf64", lambda: sounds.encoded(VOICE, "RF64")),
        ("caf", lambda: sounds.encoded(VOICE, "CAF")),
        ("nist", lambda: sounds.encoded(VOICE, "NIST")),
        ("m4a", lambda: sounds.by_ffmpeg(VOICE, "mp4", "aac")),
        (
            "mp4 in parts",
            lambda: sounds.by_ffmpeg(VOICE, "mp4", "aac", movflags="frag_keyframe+empty_moov"),
        ),
        ("webm", lambda: sounds.by_ffmpeg(sounds.voice(2.0, 48000), "webm", "libopus", 48000)),
    ],
)
def test_a_file_that_was_cut_anywhere_is_an_error_and_no_shorter_sound(tmp_path, name, data):
    whole = data()
    assert len(audio.decode(whole, name)) > 31000
    for share in (0.2, 0.5, 0.77, 0.99):
        cut = whole[: int(share * len(whole))]
        with pytest.raises(audio.AudioError):
            audio.decode(cut, name)
        file = saved(tmp_path, cut, name)
        with pytest.raises(audio.AudioError):
            audio.read(file)
        if name not in ("flac", "caf"):  # libFLAC tells while it decodes
            with pytest.raises(audio.AudioError):
                audio.duration(file)


def test_damage_is_an_error_and_no_noise():
    flac = bytearray(sounds.encoded(VOICE, "FLAC"))
    flac[len(flac) // 2 : len(flac) // 2 + 200] = bytes(200)
    streamed = bytearray(sounds.by_ffmpeg(VOICE, "flac", "flac", piped=True))
    streamed[len(streamed) // 2 : len(streamed) // 2 + 200] = bytes(200)
    opus = bytearray(OPUS)
    opus[len(opus) // 2] ^= 4
    for name, data in (("flac", flac), ("streamed", streamed), ("opus", opus)):
        with pytest.raises(audio.AudioError, match="damaged"):
            audio.decode(bytes(data), name)


def without_a_part(data: bytes) -> bytes:
    """A hole in the middle, of another tenth of the file."""
    start, end = int(0.5 * len(data)), int(0.6 * len(data))
    return data[:start] + bytes(end - start) + data[end:]


@pytest.mark.parametrize(
    "data, seconds, gaps",
    [
        (lambda: sounds.wav(VOICE)[:-16000], 1.5, 0.0),
        (lambda: without_a_part(sounds.encoded(VOICE, "FLAC")), 2.0, 0.2),
        (lambda: without_a_part(OPUS), 1.0, 0.0),
        (lambda: without_a_part(LONG), 5.0, 0.5),
        (lambda: without_a_part(MP3), 1.8, 0.0),
        (lambda: without_a_part(sounds.by_ffmpeg(VOICE, "mp4", "aac")), 2.0, 0.1),
        (lambda: sounds.by_ffmpeg(VOICE, "matroska", "flac")[:-9000], 1.6, 0.0),
        (lambda: sounds.by_ffmpeg(VOICE, "flac", "flac", piped=True)[:-9000], 1.6, 0.0),
    ],
    ids=["wav", "flac", "opus", "long opus", "mp3", "m4a", "mkv", "streamed"],
)
def test_what_is_left_of_a_damaged_file_is_heard_by_who_asks_for_it(data, seconds, gaps):
    damaged = data()
    with pytest.raises(audio.AudioError):
        audio.decode(damaged)
    samples, words = audio.decode_rest(damaged)
    assert len(samples) / 16000 == pytest.approx(seconds, abs=0.5)
    assert np.corrcoef(samples[:9000], VOICE[:9000])[0, 1] > 0.8, "its beginning is whole"
    assert "missing" in words
    silent = (samples.reshape(-1, 1)[: len(samples) // 160 * 160].reshape(-1, 160) == 0).all(1)
    assert silent.sum() / 100 >= gaps
    assert ("silence in the gaps" in words) == (gaps > 0)


def test_nothing_is_left_of_what_is_no_sound():
    random = np.random.default_rng(0)
    for data in (b"no sound at all" * 99, sounds.wav(VOICE)[:44], sounds.wav(VOICE, rate=0), b""):
        with pytest.raises(audio.AudioError):
            audio.decode_rest(data)
    for size in (60, 5000, 60000):
        with pytest.raises(audio.AudioError):
            audio.decode_rest(random.bytes(size))
    with pytest.raises(audio_limits.TooLong):
        audio.decode_rest(sounds.wav(VOICE)[:-16000], limits=audio_limits.Limits(seconds=1))


def test_damage_inside_a_webm_is_an_error_and_no_shorter_sound():
    whole = sounds.by_ffmpeg(sounds.voice(2.0, 48000), "webm", "libopus", 48000)
    assert len(audio.decode(whole)) > 31000
    with pytest.raises(audio.AudioError, match="damaged"):
        audio.decode(without_a_part(whole))


def test_an_mp3_with_damaged_frames_is_no_shorter_sound(tmp_path):
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        data = bytearray(MP3)
        for at in rng.integers(200, len(MP3), 60):  # behind the header that tells the length
            data[at] = rng.integers(256)
        try:
            assert len(audio.decode(bytes(data), "mp3")) > 31000
        except audio.AudioError:
            found += 1
    assert found > 20
    header = bytearray(MP3)
    header[10] ^= 0xB1  # libmpg123 takes the header for sound, and stops early
    header[300:500] = bytes(200)
    with pytest.raises(audio.AudioError, match="damaged|truncated"):
        audio.decode(bytes(header), "mp3")


def test_bytes_that_are_not_read_are_told():
    told = []
    assert len(audio.decode(sounds.wav(VOICE, after=b"\x01" * 900), note=told.append)) == 32000
    assert told == ["900 bytes after its sound belong to nothing and were not read."]
    told.clear()
    audio.decode(
        sounds.wav(VOICE, after=b"LIST" + struct.pack("<I", 8) + b"INFOabcd"), note=told.append
    )
    assert told == []


def test_damage_at_the_end_of_a_flac_of_unknown_length_is_an_error():
    """FFmpeg takes a last frame whose header is damaged for the end of the one before."""
    whole = sounds.by_ffmpeg(VOICE, "flac", "flac", piped=True)
    last = whole.rindex(b"\xff\xf8")
    notes = []
    assert len(audio.decode(whole, note=notes.append)) == 32000 and not notes
    assert len(audio.decode(whole + b"TAG" + bytes(125), note=notes.append)) == 32000 and not notes
    for start, end in ((last, last + 2), (last + 4, last + 9), (last + 40, last + 60), (-2, None)):
        bad = bytearray(whole)
        bad[start:end] = bytes(b ^ 0x55 for b in bad[start:end])
        with pytest.raises(audio.AudioError, match="damaged"):
            audio.decode(bytes(bad))
    for cut in (1, 2, 100, len(whole) - last - 3):
        with pytest.raises(audio.AudioError, match="damaged"):
            audio.decode(whole[:-cut])
    found = audio.decode(whole[:last], note=notes.append)  # nothing tells it, but a full last block
    assert len(found) % 1152 == 0 and len(notes) == 1 and "if it was cut" in notes[0]


LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0"
ID3 = b"id3 " + struct.pack("<I", 3) + b"abc\0"


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize("after", [LIST, LIST + ID3, ID3 + LIST, LIST + ID3[:-1]])
def test_a_wav_of_unknown_length_ends_before_its_titles(tmp_path, size, after):
    file = saved(tmp_path, sounds.wav(VOICE, size, after=after))
    np.testing.assert_array_equal(audio.read(file), audio.decode(sounds.wav(VOICE)))
    assert audio.duration(file) == 2.0
    assert len(audio.read(file, 1.5, 0.5)) == 8000
    with pytest.raises(audio.AudioError, match="zero length"):
        audio.decode(sounds.wav(VOICE[:0], size, after=after))


# ---- what unfolds


@pytest.mark.slow
def test_sound_that_unfolds_is_decoded_in_blocks_and_stopped_at_the_limits(monkeypatch):
    monkeypatch.setattr(audio_limits, "BLOCK_VALUES", 1 << 14)
    most = []
    real = soundfile.SoundFile.read

    def read(self, frames=-1, *args, **kinds):
        block = real(self, frames, *args, **kinds)
        most.append(block.size)
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    file = sounds.encoded(np.zeros((96000 * 4, 8), np.int16), "FLAC", rate=96000)
    assert len(audio.decode(file)) == 64000 and max(most) <= 1 << 14 and len(most) > 100
    del most[:]
    for limits, words in (
        (audio_limits.Limits(seconds=3), "4 s long"),
        (audio_limits.Limits(values=1e6), "1 million values"),
        (audio_limits.Limits(wall_s=0), "took longer"),
    ):
        with pytest.raises(audio_limits.TooLong, match=words):
            audio.decode(file, limits=limits)
    assert len(most) <= 2, "what the header says is refused before decoding"
    live = sounds.by_ffmpeg(np.zeros(48000 * 6, np.float32), "webm", "libopus", 48000, True)
    assert len(audio.decode(live)) > 95000
    with pytest.raises(audio_limits.TooLong, match="longer than 3 s"):
        audio.decode(live, limits=audio_limits.Limits(seconds=3))


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_blocks_change_no_bit(monkeypatch, rate):
    stereo = np.stack([sounds.voice(3.0, rate), sounds.voice(3.0, rate, 1)], axis=1)
    file = sounds.encoded(stereo, "WAV", "FLOAT", rate)
    whole = audio.decode(file)
    monkeypatch.setattr(audio_limits, "BLOCK_VALUES", 5000)
    np.testing.assert_array_equal(audio.decode(file), whole)


@pytest.mark.parametrize("rate", [0, 1, 3999, 800_000])
def test_rates_that_no_sound_has_are_refused(rate):
    with pytest.raises(audio.AudioError, match=f"sample rate of .*{rate} Hz"):
        audio.decode(sounds.wav(VOICE, rate=rate))


@pytest.mark.parametrize("size", [12, 20, 30, 38, 41])
def test_a_header_that_is_cut_is_said(tmp_path, size):
    for kind in ("WAV", "FLAC"):
        data = sounds.encoded(VOICE, kind)[:size]
        told = f"header is cut: the file ends after {size} bytes|bytes that its header announces"
        with pytest.raises(audio.AudioError, match=told):
            audio.decode(data)
        with pytest.raises(audio.AudioError, match=told):
            audio.duration(saved(tmp_path, data))


def test_playlists_open_no_other_files(tmp_path):
    secret = saved(tmp_path, sounds.wav(VOICE))
    for text in (
        f"#EXTM3U\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {secret}\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    ):
        for name in ("a.m3u8", "a.m4a"):
            with pytest.raises(audio.AudioError):
                audio.decode(text.encode(), name)
            with pytest.raises(audio.AudioError):
                audio.read(saved(tmp_path, text.encode(), name))


# ---- channels, scales and levels


@pytest.mark.parametrize(
    "channels, told",
    [
        (lambda x: [x, x], 0),
        (lambda x: [x, 0 * x], 0),
        (lambda x: [x, -x], 1),
        (lambda x: [-0.97 * x, x], 1),
        (lambda x: [0 * x, 0 * x, x, 0 * x, 0 * x, 0 * x], 1),
        (lambda x: [x, *(0.02 * np.roll(x, 500 * n) for n in range(1, 8))], 1),
    ],
)
def test_channels_that_cancel_each_other_out_are_not_mixed(channels, told):
    notes = []
    found = audio.decode(
        sounds.encoded(np.stack(channels(VOICE), 1), "WAV", "FLOAT"), note=notes.append
    )
    assert len(notes) == told and np.corrcoef(found, VOICE)[0, 1] > 0.999
    several = len(channels(VOICE))
    assert all(("cancel each other out" in n) == (several == 2) for n in notes)
    assert several == 2 or f" of {several} is by far the loudest: it is used alone" in notes[0]
    if told:
        np.testing.assert_allclose(found, VOICE, atol=1e-6)


def test_floats_on_the_scale_of_16_bit_are_divided_and_others_refused():
    notes = []
    found = audio.decode(sounds.encoded(VOICE * 32767, "WAV", "FLOAT"), note=notes.append)
    np.testing.assert_allclose(found, VOICE, atol=1e-3)
    assert len(notes) == 1 and "16-bit" in notes[0]
    for scale in (1e6, 1e18, 1e37):
        with pytest.raises(audio.AudioError, match="got values up to"):
            audio.decode(sounds.encoded(VOICE * np.float32(scale), "WAV", "FLOAT"))


@pytest.mark.parametrize(
    "gain, changed",
    [(1.0, False), (0.3, False), (0.04, True), (0.01, True), (0.002, True), (16.0, True)],
)
def test_speech_is_brought_to_the_level_of_training_and_ordinary_speech_is_left_alone(
    gain, changed
):
    notes = []
    found = audio.decode(sounds.encoded(VOICE * gain, "WAV", "DOUBLE"), note=notes.append)
    assert bool(notes) == changed
    if not changed:
        np.testing.assert_array_equal(found, (VOICE * gain).astype(np.float32))
    else:
        assert loudness.level_db(loudness.frame_levels(found)) == pytest.approx(
            loudness.USUAL_DB, abs=0.1
        )
        assert ("amplified" if gain < 1 else "lowered") in notes[0]


def test_corpora_are_amplified_only_where_no_corpus_is(tmp_path):
    for gain, changed in ((0.1, False), (0.004, True)):
        file = saved(tmp_path, sounds.encoded(VOICE * gain, "WAV", "FLOAT"), f"{gain}.wav")
        assert np.array_equal(audio.read(file), VOICE * np.float32(gain)) != changed


def test_pauses_clicks_and_hiss_are_no_speech():
    pause = np.concatenate([np.zeros(16000 * 60, np.float32), VOICE])
    assert np.array_equal(audio.decode(sounds.encoded(pause, "WAV", "FLOAT")), pause)
    click = VOICE * 0.01
    click[100:110] = 0.9
    notes = []
    assert (
        np.abs(audio.decode(sounds.encoded(click, "WAV", "FLOAT"), note=notes.append)).max() > 5
        and notes
    )
    hiss = np.random.default_rng(0).standard_normal(32000).astype(np.float32) * 1e-4
    notes.clear()
    assert np.array_equal(
        audio.decode(sounds.encoded(hiss, "WAV", "FLOAT"), note=notes.append), hiss
    )
    assert "silent" in notes[0]


# ---- every door

FORMATS = {
    "a.wav": lambda: sounds.wav(VOICE),
    "b.m4a": lambda: sounds.by_ffmpeg(VOICE, "mp4", "aac"),
    "c.webm": lambda: sounds.by_ffmpeg(sounds.voice(2.0, 48000), "webm", "libopus", 48000),
    "d.oga": lambda: OPUS,
    "e.aiff": lambda: sounds.encoded(VOICE, "AIFF"),
    "f.mkv": lambda: sounds.by_ffmpeg(VOICE, "matroska", "flac"),
    "g.caf": lambda: sounds.encoded(VOICE, "CAF"),
    "h.w64": lambda: sounds.encoded(VOICE, "W64"),
    "i.aac": lambda: sounds.by_ffmpeg(VOICE, "adts", "aac"),
    "j.sph": lambda: sounds.encoded(VOICE, "NIST"),
    "k.odd": lambda: sounds.encoded(VOICE, "FLAC"),
    "l.au": lambda: sounds.encoded(VOICE, "AU"),
    "m.mp4": lambda: sounds.by_ffmpeg(VOICE, "mp4", "aac"),
}


@pytest.mark.slow
def test_every_door_reads_every_kind_alike(tmp_path):
    from dashboard.model import transcription

    root = tmp_path / "r"
    root.mkdir()
    for name, data in FORMATS.items():
        file = saved(root, data(), name)
        file.with_suffix(".txt").write_text("hello")
        np.testing.assert_array_equal(audio.read(file), transcription.load(data(), name))
    (
        saved(root, b"no sound", "._a.wav"),
        saved(root, b"", "cover.png"),
        (root / "README.txt").write_text("read me"),
    )
    saved(root, b"", "notes.md")
    corpus = base.make(
        Choice(
            "folder", {"root": str(root), "search_share": 0.0, "dev_share": 0.0, "test_share": 0.0}
        )
    )
    items = list(corpus.utterances("train"))
    assert [i.id for i in items if isinstance(i, Utterance)] == [name[0] for name in FORMATS]
    assert {i.id for i in items if isinstance(i, base.Dropped)} == {
        "*._",
        "*.png",
        "README",
        "*.md",
    }
    assert all(i.rule for i in items if isinstance(i, base.Dropped))
    for item in items:
        if isinstance(item, Utterance):
            assert item.seconds == pytest.approx(len(audio.read(item.audio)) / 16000, abs=1e-3)
            assert len(features.fbank(audio.read(item.audio, item.offset, item.seconds)))


def test_sounds_that_no_row_names_are_listed(tmp_path):
    for name in "abc":
        saved(tmp_path, sounds.wav(VOICE), f"{name}.wav")
    (tmp_path / "l.csv").write_text("audio,text,split\na.wav,x,train\n")
    items = list(base.make(Choice("folder", {"root": str(tmp_path)})).utterances("train"))
    assert "2 sound files, e.g. b.wav" in items[1].reason and items[1].rule


# ---- names and pipes


@pytest.mark.parametrize(
    "name, shown",
    [
        ("a b.wav", "a b.wav"),
        ("a\tb\n.wav", "a\\tb\\n.wav"),
        ("Ü日.wav", "Ü日.wav"),
        (os.fsdecode(b"l\xe9.wav"), "l\\xe9.wav"),
        ("\u2028.wav", "\\u2028.wav"),
    ],
)
def test_a_name_stays_in_its_line(name, shown):
    assert pipes.one_line(name) == shown


def test_what_is_no_file_says_what_it_is(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.wav")
    for path, words in (
        (tmp_path, "a folder"),
        (tmp_path / "pipe.wav", "a named pipe"),
        ("/dev/null", "a device"),
        (tmp_path / "no\0.wav", "cannot be read"),
        (tmp_path / "no.wav", "no such file"),
    ):
        for door in (audio.read, audio.duration):
            with pytest.raises(audio.AudioError, match=words):
                door(path)
    monkeypatch.setattr(pipes, "PATIENCE_S", 0.05)
    with pytest.raises(ValueError, match="nothing came out of this named pipe"):
        audio.read_once(str(tmp_path / "pipe.wav"))


def test_a_named_pipe_and_standard_input_are_read(tmp_path, monkeypatch):
    data = sounds.wav(VOICE)
    os.mkfifo(tmp_path / "pipe")

    def write():
        time.sleep(0.1)
        (tmp_path / "pipe").write_bytes(data)

    writer = threading.Thread(target=write)
    writer.start()
    assert len(audio.read_once(str(tmp_path / "pipe"))) == 32000
    writer.join(5)
    stdin = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr("sys.stdin", stdin)
    assert len(audio.read_once("-")) == 32000
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ValueError, match="terminal"):
        audio.read_once("-")


@pytest.mark.slow
def test_transcribe_writes_one_line_for_each_file_and_tells_changes(tmp_path, monkeypatch, capsys):
    from core import runtime

    class Fake:
        def stream(self):
            return self

        def accept(self, samples):
            pass

        def finish(self):
            return "hello"

    monkeypatch.setattr(runtime, "load", lambda *_, **__: Fake())
    packed = saved(tmp_path, b"x", "packed")
    odd = saved(tmp_path, sounds.encoded(np.stack([VOICE, -VOICE], 1), "WAV"), "a\nb.wav")
    cut = saved(tmp_path, sounds.wav(VOICE)[:9000], "cut.wav")
    assert cli(["transcribe", str(packed), "dense", str(odd), str(cut), str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == f"{tmp_path}/a\\nb.wav\thello\n"
    assert (
        "cancel each other out" in err
        and "truncated" in err
        and "a folder" in err
        and err.count(f"{cut}") == 1
    )


def test_layouts_are_looked_up_once_for_a_file_that_is_cut_into_many(tmp_path, monkeypatch):
    file, calls = saved(tmp_path, OPUS, "a.opus"), []
    real = containers.inspect
    monkeypatch.setattr(containers, "inspect", lambda *given: calls.append(1) or real(*given))
    for start in range(3):
        audio.read(file, start * 0.5, 0.5)
    assert len(calls) == 1
