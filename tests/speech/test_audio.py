"""Sound files of every kind become mono 16 kHz float32, and broken ones say what is wrong with
them.
"""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from core.speech import audio


def tone(seconds=1.0, rate=16000, hz=440.0):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def peak_hz(samples):
    return (
        np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))))
        * audio.SAMPLE_RATE
        / len(samples)
    )


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_any_rate_becomes_16_khz(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(1.0, rate), rate)
    samples = audio.read(tmp_path / "a.wav")
    assert samples.dtype == np.float32 and abs(len(samples) - 16000) <= 1
    assert abs(peak_hz(samples) - 440) < 2


def test_stereo_is_averaged_and_float_wav_is_read(tmp_path):
    left, right = tone(hz=300), tone(hz=900)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav"), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("ending", [".wav", ".flac", ".opus", ".ogg"])
def test_written_files_read_back(tmp_path, ending):
    audio.write(tmp_path / f"a{ending}", tone(2.0))
    samples = audio.read(tmp_path / f"a{ending}")
    assert abs(len(samples) - 32000) < 400 and abs(peak_hz(samples[4000:20000]) - 440) < 3
    assert abs(audio.duration(tmp_path / f"a{ending}") - 2.0) < 0.03
    assert [p.name for p in tmp_path.iterdir()] == [f"a{ending}"]


@pytest.mark.parametrize("ending", [".wav", ".flac", ".opus"])
def test_a_stretch_is_the_same_part_of_the_whole(tmp_path, ending):
    rng = np.random.default_rng(0)
    audio.write(
        tmp_path / f"a{ending}",
        np.convolve(rng.standard_normal(64000) * 0.1, np.ones(20) / 4, "same"),
    )
    whole = audio.read(tmp_path / f"a{ending}")
    part = audio.read(tmp_path / f"a{ending}", offset=1.5, seconds=0.75)
    tolerance = (
        0.02 if ending == ".opus" else 0
    )  # a lossy decoder needs some packets to settle after a seek
    assert len(part) == 12000
    np.testing.assert_allclose(part, whole[24000:36000], atol=tolerance)


@pytest.mark.slow
def test_a_stretch_of_a_long_file_is_not_read_whole(tmp_path, monkeypatch):
    audio.write(tmp_path / "long.flac", np.tile(tone(10.0), 60))  # 10 minutes
    asked = []
    real = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile,
        "read",
        lambda self, frames=-1, *a, **k: asked.append(frames) or real(self, frames, *a, **k),
    )
    assert len(audio.read(tmp_path / "long.flac", offset=500.0, seconds=5.0)) == 80000
    assert asked == [80000]


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"this is no sound at all" * 50, "no sound that can be decoded"),
    ],
)
def test_files_that_are_no_sound_say_so(tmp_path, content, words):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(audio.AudioError, match=words):
        audio.read(path)


def test_zero_samples_and_not_a_number_say_so(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), 16000)
    with pytest.raises(audio.AudioError, match="zero length"):
        audio.read(tmp_path / "none.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(1600, np.nan, np.float32), 16000, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match="not finite"):
        audio.read(tmp_path / "nan.wav")


def test_truncated_flac_is_an_error_and_no_shorter_sound(tmp_path):
    rng = np.random.default_rng(0)
    audio.write(tmp_path / "a.flac", rng.standard_normal(80000) * 0.1)
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(data[: len(data) // 2])
    with pytest.raises(audio.AudioError, match="truncated"):
        audio.read(tmp_path / "a.flac")
    assert (
        len(audio.read(tmp_path / "a.flac", 0.0, 1.0)) == 16000
    )  # what is there can still be used


def test_more_than_the_file_holds_is_an_error_but_rounding_is_not(tmp_path):
    audio.write(tmp_path / "a.wav", tone(2.0))
    assert len(audio.read(tmp_path / "a.wav", 0.0, 2.05)) == 32000
    with pytest.raises(audio.AudioError, match="2 s long"):
        audio.read(tmp_path / "a.wav", 0.0, 3.0)
    with pytest.raises(audio.AudioError, match="2 s long"):
        audio.read(tmp_path / "a.wav", 5.0, None)
    with pytest.raises(audio.AudioError, match="offset"):
        audio.read(tmp_path / "a.wav", -1.0)


def test_uploads_are_decoded_from_memory():
    for ending in (".wav", ".flac", ".opus"):
        assert abs(len(audio.decode(audio.encode(tone(), ending), f"a{ending}")) - 16000) < 400
    with pytest.raises(audio.AudioError, match="photo.jpg"):
        audio.decode(b"\xff\xd8\xff\xe0 not a sound" * 100, "photo.jpg")
    with pytest.raises(audio.AudioError, match="empty"):
        audio.decode(b"", "a.wav")


def test_m4a_uploads_go_through_pyav(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="stereo")
        data = np.stack([tone(2.0, 44100)] * 2)
        for i in range(0, data.shape[1] - 1023, 1024):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(data[:, i : i + 1024]), "fltp", "stereo"
            )
            frame.sample_rate, frame.pts = 44100, i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    samples = audio.decode((tmp_path / "a.m4a").read_bytes(), "a.m4a")
    assert abs(len(samples) - 32000) < 2500 and abs(peak_hz(samples[8000:24000]) - 440) < 3


def test_mp3_is_read(tmp_path):
    soundfile.write(tmp_path / "a.mp3", tone(2.0), 16000)
    assert abs(peak_hz(audio.read(tmp_path / "a.mp3")[8000:24000]) - 440) < 3


def test_unknown_endings_and_opus_rates_are_refused():
    with pytest.raises(audio.AudioError, match=".xyz"):
        audio.encode(tone(), ".xyz")
    with pytest.raises(audio.AudioError, match="44100"):
        audio.encode(tone(), ".opus", 44100)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch(factor):
    faster = audio.speed(tone(2.0), factor)
    assert abs(len(faster) - 32000 / factor) <= 2
    assert abs(peak_hz(faster) - 440 * factor) < 2


@pytest.mark.slow
@pytest.mark.speech
def test_real_opus_has_the_length_its_manifest_says(speech_root):
    import json

    lines = (
        (speech_root / "manifests" / "librispeech.dev-heldout.jsonl").read_text().splitlines()[:5]
    )
    for entry in map(json.loads, lines):
        samples = audio.read(speech_root / "manifests" / entry["audio_filepath"])
        assert abs(len(samples) / 16000 - entry["duration"]) < 0.01 and np.abs(samples).max() > 0.01
