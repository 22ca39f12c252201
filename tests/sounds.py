"""Sound files of many kinds for tests, made with soundfile, PyAV and numpy alone."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile


def voice(seconds: float = 2.0, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """float32 [N] with the peaks and pauses of speech, 0.5 at most."""
    time = np.arange(int(seconds * rate)) / rate
    swing = np.sin(2 * np.pi * 1.5 * time) ** 2
    noise = np.random.default_rng(seed).standard_normal(len(time)) * 0.02
    return (
        (swing * (0.4 * np.sin(2 * np.pi * 220 * time) + noise)).clip(-0.5, 0.5).astype(np.float32)
    )


def encoded(samples: np.ndarray, form: str, subtype: str | None = None, rate: int = 16000) -> bytes:
    """The bytes of a file by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def by_ffmpeg(
    samples: np.ndarray,
    form: str,
    codec: str,
    rate: int = 16000,
    piped: bool = False,
    **options: str,
) -> bytes:
    """The bytes of a mono file by FFmpeg; `piped`: as into a pipe."""
    import av

    class Pipe:  # without seek
        def __init__(self, file):
            self.write = file.write

    file = io.BytesIO()
    with av.open(Pipe(file) if piped else file, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        size = stream.codec_context.frame_size or 1024
        kind = stream.codec_context.format.name
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            part = (part * 32767).astype(np.int16) if kind.startswith("s16") else part
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(part[None]), format=kind, layout="mono"
            )
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def wav(
    samples: np.ndarray,
    size: int | None = None,
    rate: int = 16000,
    channels: int = 1,
    after: bytes = b"",
) -> bytes:
    """A 16-bit WAV whose header says `size` bytes of sound, whatever there are."""
    data = (np.asarray(samples) * 32767).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, channels, rate, 2 * rate * channels, 2 * channels, 16)
    said = len(data) if size is None else size
    body = (
        b"WAVEfmt "
        + struct.pack("<I", len(form))
        + form
        + b"data"
        + struct.pack("<I", said)
        + data
        + after
    )
    return b"RIFF" + struct.pack("<I", min(0xFFFFFFFF, len(body) if size is None else said)) + body


def without_xing(data: bytes) -> bytes:
    """An MP3 by libsndfile without its first frame, which says how long it is."""
    return data[data.index(data[:2], 100) :]
