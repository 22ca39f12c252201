"""Random damage to sound files of every kind: an error in words or the sound, within a time limit;
never a silent change."""

from __future__ import annotations

import functools
import time
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from core.speech import audio, audio_limits
from tests import sounds

pytestmark = pytest.mark.slow

SECONDS_EACH = 5.0  # of one file; the slowest takes 0.1 s alone
LIMITS = audio_limits.Limits(seconds=60, values=5e6, wall_s=SECONDS_EACH)
VOICE = sounds.voice(0.7)
WIDE = sounds.voice(0.7, 48000)
FORMATS = {
    "wav": lambda: sounds.wav(VOICE),
    "flac": lambda: sounds.encoded(VOICE, "FLAC"),
    "streamed flac": lambda: sounds.by_ffmpeg(VOICE, "flac", "flac", piped=True),
    "opus": lambda: sounds.by_ffmpeg(WIDE, "ogg", "libopus", 48000),
    "vorbis": lambda: sounds.encoded(VOICE, "OGG", "VORBIS"),
    "mp3": lambda: sounds.encoded(VOICE, "MP3"),
    "mp3 without xing": lambda: sounds.without_xing(sounds.encoded(VOICE, "MP3")),
    "aiff": lambda: sounds.encoded(VOICE, "AIFF"),
    "au": lambda: sounds.encoded(VOICE, "AU"),
    "caf": lambda: sounds.encoded(VOICE, "CAF"),
    "w64": lambda: sounds.encoded(VOICE, "W64"),
    "rf64": lambda: sounds.encoded(VOICE, "RF64"),
    "nist": lambda: sounds.encoded(VOICE, "NIST"),
    "m4a": lambda: sounds.by_ffmpeg(VOICE, "mp4", "aac"),
    "adts": lambda: sounds.by_ffmpeg(VOICE, "adts", "aac"),
    "webm": lambda: sounds.by_ffmpeg(WIDE, "webm", "libopus", 48000),
    "live webm": lambda: sounds.by_ffmpeg(WIDE, "webm", "libopus", 48000, True),
    "mkv": lambda: sounds.by_ffmpeg(VOICE, "matroska", "flac"),
    "ts": lambda: sounds.by_ffmpeg(VOICE, "mpegts", "aac"),
}
CHECKED = (
    "flac",
    "opus",
    "vorbis",
)  # every byte of sound is under a checksum, and the length is known
SIZED = (
    "wav",
    "aiff",
    "au",
    "caf",
    "w64",
    "rf64",
    "nist",
    "opus",
    "vorbis",
    "mp3",
    "m4a",
    "webm",
    "mkv",
    "flac",
)
fuzz = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@functools.cache
def whole(kind: str) -> tuple[bytes, np.ndarray]:
    data = FORMATS[kind]()
    return data, audio.decode(data, kind)


def decoded(data: bytes, name: str) -> tuple[np.ndarray | None, list[str]]:
    """Samples, None for an error in words, and what was told; fails for anything else."""
    told: list[str] = []
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            samples = audio.decode(data, name, LIMITS, told.append)
        except audio.AudioError as error:
            assert str(error).startswith(f"{name}: ") and "object at 0x" not in str(error), error
            samples = None
    assert time.process_time() - started < SECONDS_EACH
    if samples is not None:
        assert (
            samples.dtype == np.float32
            and samples.ndim == 1
            and len(samples)
            and np.isfinite(samples).all()
        )
    return samples, told


@fuzz
@given(
    st.binary(max_size=400),
    st.sampled_from(
        [
            b"",
            b"RIFF\x10\x27\0\0WAVEfmt ",
            b"fLaC\0\0\0\x22",
            b"OggS\0\x02",
            b"\xff\xfb\x90\x64",
            b"ID3\x03\0\0\0\0\0\x0a",
            b"\0\0\0\x18ftypM4A ",
            b"\x1aE\xdf\xa3",
            b"FORM\0\0\x10\0AIFF",
            b".snd\0\0\0\x18",
            b"caff\0\x01\0\0",
            b"NIST_1A\n   1024\n",
            b"RF64\xff\xff\xff\xffWAVEds64",
            b"#EXTM3U\n",
            b"riff\x2e\x91\xcf\x11",
        ]
    ),
)
def test_random_bytes_behind_any_head(tail, head):
    decoded(head + tail, "random")


@pytest.mark.parametrize("kind", FORMATS)
@fuzz
@given(st.data())
def test_bytes_changed_in_the_header(kind, data):
    content, _ = whole(kind)
    damaged = bytearray(content)
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=4)
    ):
        damaged[min(at, len(damaged) - 1)] = value
    decoded(bytes(damaged), kind)


@pytest.mark.parametrize("kind", SIZED)
@fuzz
@given(st.floats(0.0, 0.985))
def test_a_cut_is_never_a_shorter_sound(kind, share):
    content, _ = whole(kind)
    assert decoded(content[: int(share * len(content))], kind)[0] is None


@pytest.mark.parametrize("kind", CHECKED)
@fuzz
@given(st.floats(0.3, 0.95), st.integers(0, 7))
def test_a_flipped_bit_in_what_has_checksums_is_never_another_sound(kind, place, bit):
    content, samples = whole(kind)
    damaged = bytearray(content)
    damaged[int(place * len(damaged))] ^= 1 << bit
    found, _ = decoded(bytes(damaged), kind)
    assert found is None or np.array_equal(found, samples)


@pytest.mark.parametrize("kind", FORMATS)
@fuzz
@given(st.floats(0.05, 0.95), st.binary(min_size=1, max_size=60))
def test_bytes_changed_in_the_sound(kind, place, others):
    content, _ = whole(kind)
    at = int(place * len(content))
    decoded(content[:at] + others + content[at + len(others) :], kind)
