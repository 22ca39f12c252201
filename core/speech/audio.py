"""Sound in and out: any file or upload becomes mono float32 at 16 kHz, or an error that says what is wrong with it.

Letters: N samples. Reading goes through soundfile (WAV, FLAC, OGG/Opus,
MP3), uploads also through PyAV (M4A, AAC, ...).
"""
from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16000      # Hz, of everything after this module
TOLERANCE_S = 0.1        # a file may end this much before the stretch asked for: manifests round durations
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS")}


class AudioError(ValueError):
    """A sound that cannot be used; the text says which and why."""


def why(path: str | Path, error: Exception) -> str:
    """Why the sound of a file cannot be used, from whatever reading it raised: damaged files raise more than AudioError."""
    return str(error) if isinstance(error, AudioError) else f"{path}: {type(error).__name__}: {error}"


def read(path: str | Path, offset: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """Samples float32 [N], mono 16 kHz, about -1..1, from `offset` s on, `seconds` s long (None: to the end).

    Only the stretch asked for is decoded. Raises AudioError for a file that is missing, empty, unreadable or truncated.
    """
    if offset < 0 or (seconds is not None and seconds <= 0):
        raise AudioError(f"{path}: offset {offset} s, length {seconds} s; offset must be >= 0 and the length > 0")
    if not Path(path).is_file():
        raise AudioError(f"{path}: no such file; check the path in the manifest")
    if Path(path).stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    try:
        with soundfile.SoundFile(str(path)) as file:
            return _stretch(file, str(path), offset, seconds)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise AudioError(f"{path}: cannot be decoded ({error}); it may be truncated or no audio file") from error


def _stretch(file: soundfile.SoundFile, name: str, offset: float, seconds: float | None) -> np.ndarray:
    rate, frames = file.samplerate, file.frames
    start = round(offset * rate)
    if frames <= 0:
        raise AudioError(f"{name}: zero length, no samples in the file")
    wanted = frames - start if seconds is None else round(seconds * rate)
    if wanted <= 0 or start + wanted > frames + TOLERANCE_S * rate:
        raise AudioError(f"{name}: {wanted / rate:g} s from {offset:g} s on are asked for, but the file is "
                         f"{frames / rate:g} s long; it is truncated or the manifest is wrong")
    wanted = min(wanted, frames - start)
    if start:
        file.seek(start)
    samples = file.read(wanted, dtype="float32", always_2d=True)
    if len(samples) < wanted:
        raise AudioError(f"{name}: truncated, {len(samples)} of {wanted} samples could be decoded")
    return _mono16k(samples, rate, name)


def _mono16k(samples: np.ndarray, rate: int, name: str) -> np.ndarray:
    """[N, channels] at `rate` -> [N] at 16 kHz; channels are averaged."""
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise AudioError(f"{name}: {int((~np.isfinite(mono)).sum())} samples are not finite numbers; write it again")
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    if not len(mono):
        raise AudioError(f"{name}: zero length, no samples left at 16 kHz")
    return np.ascontiguousarray(mono, dtype=np.float32)


def decode(data: bytes, name: str = "upload") -> np.ndarray:
    """Samples float32 [N], mono 16 kHz, of a whole file held in memory (an upload); soundfile first, then PyAV."""
    if not data:
        raise AudioError(f"{name}: the file is empty (0 bytes)")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return _stretch(file, name, 0.0, None)
    except AudioError:
        raise
    except (soundfile.SoundFileError, RuntimeError) as error:
        return _decode_av(data, name, str(error))


def _decode_av(data: bytes, name: str, first_error: str) -> np.ndarray:
    import av  # only for containers that libsndfile does not know
    pieces = []
    try:
        with av.open(io.BytesIO(data)) as container:
            if not container.streams.audio:
                raise AudioError(f"{name}: holds no sound, only {[s.type for s in container.streams]} streams")
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            for frame in container.decode(container.streams.audio[0]):
                pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    except (av.error.FFmpegError, OSError) as error:
        raise AudioError(f"{name}: is no audio that can be decoded ({first_error}; {error}); "
                         f"allowed are WAV, FLAC, OGG/Opus, MP3, M4A/AAC and what FFmpeg reads") from error
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    return _mono16k(samples[:, None], SAMPLE_RATE, name)


def encode(samples: np.ndarray, ending: str = ".wav", rate: int = SAMPLE_RATE) -> bytes:
    """`samples` [N] (or [N, channels]) as the bytes of a file: ".wav", ".flac" (16 bit), ".opus" or ".ogg" (Vorbis)."""
    if ending not in FORMATS:
        raise AudioError(f"cannot write '{ending}' files; allowed are {', '.join(FORMATS)}")
    if ending == ".opus" and rate not in OPUS_RATES:
        raise AudioError(f"Opus has no {rate} Hz; allowed are {OPUS_RATES}: resample first")
    kind, subtype = FORMATS[ending]
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(np.asarray(samples, np.float32), -1.0, 1.0), rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def write(path: str | Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Writes `samples` [N] in the format that the file's ending names (see `encode`), whole or not at all."""
    from core.storage import store
    store.write_bytes(Path(path), encode(samples, Path(path).suffix.lower(), rate))


def duration(path: str | Path) -> float:
    """Length in s from the header alone; AudioError if it is missing or no audio file."""
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise AudioError(f"{path}: cannot be read ({error})") from error
    return info.frames / info.samplerate


def speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """`samples` [N] played `factor` times faster, [N / factor]; pitch moves too (Ko et al. 2015, as in Kaldi)."""
    if not 0.25 <= factor <= 4:
        raise AudioError(f"speed factor {factor}; allowed is 0.25 to 4")
    if factor == 1:
        return samples
    return soxr.resample(np.asarray(samples, np.float32), SAMPLE_RATE * factor, SAMPLE_RATE)
