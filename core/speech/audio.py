"""Sound in and out: any file or upload becomes mono float32 at 16 kHz, or an error that says what
is wrong with it.

One decoder for corpora, the command line and the dashboard. Sound is decoded in blocks, which are
mixed and resampled as they come, so that a small file which unfolds needs no memory. Letters: N
samples, C channels.
"""

from __future__ import annotations

import functools
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from core.common import writing
from core.speech import audio_limits, containers, decoders, loudness, pipes, remains
from core.speech.audio_limits import AudioError, Block, Limits, Note, Stretch

SAMPLE_RATE = 16000  # Hz, of everything after this module
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".opus": ("OGG", "OPUS"),
    ".ogg": ("OGG", "VORBIS"),
}
_ENDINGS = (
    ".3g2 .3gp .aac .ac3 .aif .aifc .aiff .alac .amr .ape .asf .au .avi .avr .awb .caf .dts "
    ".eac3 .f4a .flac .flv .gsm .htk .ircam .m4a .m4b .m4r .m4v .mka .mkv .mov .mp2 .mp3 "
    ".mp4 .mpc .mpeg .mpg .mpga .nist .oga .ogg .ogv .ogx .opus .paf .pvf .ra .rf64 .rm .sf "
    ".snd .sph .spx .ts .tta .voc .vox .w64 .wav .wave .weba .webm .wma .wmv .wv .raw .pcm"
)
# of files that hold sound, or claim to: which of them can be read is seen in them
ENDINGS = tuple(_ENDINGS.split())
LOOKS = 7  # every so many samples are looked at to see that


def ignore(text: str) -> None:
    """Who does not ask what was changed."""


def why(path: str | Path, error: Exception) -> str:
    """Why the sound of a file cannot be used, from whatever reading it raised: damaged files raise
    more than AudioError."""
    return (
        str(error) if isinstance(error, AudioError) else f"{path}: {type(error).__name__}: {error}"
    )


def read(
    path: str | Path,
    offset: float = 0.0,
    seconds: float | None = None,
    limits: Limits | None = None,
    note: Note = ignore,
    quietest_db: float = loudness.QUIETEST_OF_CORPORA_DB,
) -> np.ndarray:
    """Samples float32 [N], mono 16 kHz, about -1..1, from `offset` s on, `seconds` s long (None: to
    the end).

    Only the stretch asked for is decoded. `note` is told in a sentence what was changed or left
    out; speech quieter than `quietest_db` is amplified. Raises AudioError for a file that is
    missing, empty, unreadable, truncated or above `limits`.
    """
    if offset < 0 or (seconds is not None and seconds <= 0):
        raise AudioError(
            f"{path}: offset {offset} s, length {seconds} s; offset must be >= 0 and the length > 0"
        )
    stretch, bounds = Stretch(offset, seconds), limits or Limits()
    with _opened(path) as (file, layout):
        decoders.check(layout, str(path), whole=seconds is None)
        return _sound(
            lambda say: decoders.blocks(file, layout, str(path), stretch, bounds, say),
            layout,
            str(path),
            note,
            quietest_db,
        )


def decode(
    data: bytes, name: str = "upload", limits: Limits | None = None, note: Note = ignore
) -> np.ndarray:
    """Samples float32 [N], mono 16 kHz, of a whole file held in memory (an upload, a pipe), for
    transcription; see `read`."""
    if not data:
        raise AudioError(f"{name}: the file is empty (0 bytes)")
    file, bounds = io.BytesIO(data), limits or Limits()
    layout = containers.inspect(file, len(data))
    decoders.check(layout, name)
    return _sound(
        lambda say: decoders.blocks(file, layout, name, Stretch(), bounds, say),
        layout,
        name,
        note,
        loudness.QUIETEST_DB,
    )


def decode_rest(
    data: bytes, name: str = "upload", limits: Limits | None = None, note: Note = ignore
) -> tuple[np.ndarray, str]:
    """As `decode`, for a file that it refuses: samples [N] of what can be decoded, silent where
    sound is missing between, and in words how much is missing. AudioError where nothing can be
    decoded."""
    file = io.BytesIO(data)
    layout, rest = containers.inspect(file, len(data)), remains.Remains(file, name)
    samples = _sound(
        lambda say: decoders.limited(rest.blocks(), name, limits or Limits()),
        layout,
        name,
        note,
        loudness.QUIETEST_DB,
    )
    return samples, rest.words(max(0, layout.missing) / len(data))


def read_once(path: str, note: Note = ignore) -> np.ndarray:
    """Samples float32 [N], mono 16 kHz, of a file, a named pipe or "-", standard input, for
    transcription; see `read`."""
    if not path:
        raise AudioError("expected the name of a sound file, got ''; - reads standard input")
    try:
        if pipes.is_pipe(path):
            return decode(pipes.drained(path), path, note=note)
        return read(path, note=note, quietest_db=loudness.QUIETEST_DB)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror or error})") from error


def duration(path: str | Path) -> float:
    """Length in s that can be decoded: from the header where it is exact, else by decoding.
    AudioError as in `read`."""
    with _opened(path) as (file, layout):
        decoders.check(layout, str(path))
        seconds = decoders.header_seconds(file, layout, str(path))
        if seconds is None:
            blocks = decoders.blocks(file, layout, str(path), Stretch(), Limits(), ignore)
            seconds = sum(len(block) / rate for block, rate in blocks)
        return seconds


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[BinaryIO, containers.Layout]]:
    """The open file and its layout."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{path}: expected a sound file, got {_kind(status.st_mode)}")
        if not status.st_size:
            raise AudioError(f"{path}: the file is empty (0 bytes)")
        with open(path, "rb", buffering=0) as file:
            yield file, _layout(os.fspath(path), status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file; check its name and folder") from None
    except (OSError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from error


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder; name the files in it"
    return (
        "a named pipe; save what comes out of it as a file"
        if stat.S_ISFIFO(mode)
        else "a device; name a file"
    )


@functools.lru_cache(maxsize=256)
def _layout(path: str, byte_count: int, changed_ns: int) -> containers.Layout:
    """Kept, because manifests cut long files into many utterances."""
    with open(path, "rb") as file:
        return containers.inspect(file, byte_count)


def _sound(
    blocks: Callable[[Note], Iterator[Block]],
    layout: containers.Layout,
    name: str,
    note: Note,
    quietest_db: float,
) -> np.ndarray:
    samples, alone = _mono16k(blocks(note), name)
    if alone:  # rare, so it is decoded again rather than every channel kept
        channel, reason = alone
        note(reason)
        samples, _ = _mono16k(blocks(ignore), name, channel)
    if layout.unread:
        note(f"{layout.unread} bytes after its sound belong to nothing and were not read.")
    try:
        return loudness.leveled(loudness.in_scale(samples, name, note), note, quietest_db)
    except ValueError as error:
        raise AudioError(str(error)) from error


def _mono16k(
    blocks: Iterable[Block], name: str, channel: int | None = None
) -> tuple[np.ndarray, tuple[int, str] | None]:
    """[N] at 16 kHz of blocks [n, C]: channels are averaged, or one is taken; and the one to take
    instead, with the reason, where averaging loses it."""
    pieces: list[np.ndarray] = []
    resampler, last_rate = None, 0
    powers, channels, mixed = np.zeros(audio_limits.MOST_CHANNELS), 1, 0.0  # sums of squares
    for block, rate in blocks:
        if block.shape[1] == 1:
            mono = block[:, 0]
        elif channel is None:
            mono = block.mean(axis=1, dtype=np.float32)
            some = block[::LOOKS]
            channels = block.shape[1]
            powers[:channels] += np.einsum("nc,nc->c", some, some)
            mixed += float(np.dot(mono[::LOOKS], mono[::LOOKS]))
        else:
            mono = np.ascontiguousarray(block[:, min(channel, block.shape[1] - 1)])
        if not np.isfinite(mono).all():
            raise AudioError(
                f"{name}: {int((~np.isfinite(mono)).sum())} samples are not finite numbers; write "
                "it again"
            )
        if rate != last_rate:
            pieces += (
                [resampler.resample_chunk(np.zeros(0, np.float32), last=True)] if resampler else []
            )
            resampler, last_rate = (
                (
                    None
                    if rate == SAMPLE_RATE
                    else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
                ),
                rate,
            )
        pieces.append(resampler.resample_chunk(mono) if resampler else mono)
    pieces += [resampler.resample_chunk(np.zeros(0, np.float32), last=True)] if resampler else []
    samples = (
        pieces[0]
        if len(pieces) == 1
        else np.concatenate(pieces)
        if pieces
        else np.zeros(0, np.float32)
    )
    if not len(samples):
        raise AudioError(f"{name}: zero length, no samples left at 16 kHz")
    return (
        np.ascontiguousarray(samples, dtype=np.float32),
        loudness.alone(powers[:channels], mixed),
    )


def encode(samples: np.ndarray, ending: str = ".wav", rate: int = SAMPLE_RATE) -> bytes:
    """`samples` [N] (or [N, channels]) as the bytes of a file: ".wav", ".flac" (16 bit), ".opus" or
    ".ogg" (Vorbis)."""
    if ending not in FORMATS:
        raise AudioError(f"cannot write '{ending}' files; allowed are {', '.join(FORMATS)}")
    if ending == ".opus" and rate not in OPUS_RATES:
        raise AudioError(f"Opus has no {rate} Hz; allowed are {OPUS_RATES}: resample first")
    kind, subtype = FORMATS[ending]
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        np.clip(np.asarray(samples, np.float32), -1.0, 1.0),
        rate,
        format=kind,
        subtype=subtype,
    )
    return buffer.getvalue()


def write(path: str | Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Writes `samples` [N] in the format that the file's ending names (see `encode`), whole or not
    at all."""

    writing.write_bytes(Path(path), encode(samples, Path(path).suffix.lower(), rate))


def speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """`samples` [N] played `factor` times faster, [N / factor]; pitch moves too (Ko et al. 2015, as
    in Kaldi)."""
    if not 0.25 <= factor <= 4:
        raise AudioError(f"speed factor {factor}; allowed is 0.25 to 4")
    if factor == 1:
        return samples
    return soxr.resample(np.asarray(samples, np.float32), SAMPLE_RATE * factor, SAMPLE_RATE)
