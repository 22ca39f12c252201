"""Sound files in blocks: libsndfile for what it knows, FFmpeg for the rest; none is held whole."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import soundfile

from core.speech import audio_limits, av_decoder, quiet
from core.speech.audio_limits import (
    AudioError,
    Block,
    Limits,
    Note,
    Stretch,
    TooLong,
    check_form,
    check_size,
)
from core.speech.containers import Layout

# a file may end this much before the stretch asked for: manifests round durations
TOLERANCE_S = 0.1
MP3 = "mp3"  # in small letters a container's kind, and a format of libsndfile


def blocks(
    file: BinaryIO, layout: Layout, name: str, stretch: Stretch, limits: Limits, note: Note
) -> Iterator[Block]:
    """The blocks of a stretch of an open file. AudioError for what is damaged, cut or no sound;
    TooLong above a limit."""
    opened, error = None, "its length is not known"
    if layout.known_length:
        opened, error = _open_soundfile(file, layout)
    if opened is None:
        file = io.BufferedReader(_Beginning(file, layout.end)) if layout.end else file
        source = _cut(av_decoder.blocks(file, name, error, note), name, stretch)
    else:
        _check_promised(opened, layout, name)
        source = _soundfile_blocks(opened, name, stretch, limits)
    return limited(source, name, limits)


class _Beginning(io.RawIOBase):
    """A file as if it ended at byte `end`."""

    def __init__(self, file: BinaryIO, end: int):
        self._file, self._end = file, end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(max(0, min(len(buffer), self._end - self._file.tell())))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset, whence = self._end + offset, os.SEEK_SET
        return self._file.seek(offset, whence)


def check(layout: Layout, name: str, whole: bool = True) -> None:
    """AudioError for what is damaged and, where it is wanted `whole`, for what is cut."""
    if layout.damaged:
        raise AudioError(f"{name}: damaged, {layout.damaged}; copy it again")
    if whole and layout.missing:
        raise AudioError(
            f"{name}: truncated, "
            + (
                f"{layout.missing} bytes that its header announces are missing"
                if layout.missing > 0
                else "its end mark is missing"
            )
            + "; copy or record it again, or save what is there as a new file"
        )


def header_seconds(file: BinaryIO, layout: Layout, name: str) -> float | None:
    """Length by a header that can be relied on; None where only decoding tells."""
    opened = _open_soundfile(file, layout)[0] if layout.known_length else None
    if opened is None:
        return None
    with opened:
        _check_promised(opened, layout, name)
        check_form(opened.samplerate, opened.channels, name)
        return opened.frames / opened.samplerate


def _check_promised(opened: soundfile.SoundFile, layout: Layout, name: str) -> None:
    """AudioError where frames are damaged: libmpg123 counts what it finds, not what is promised."""
    if opened.frames < layout.samples:
        raise AudioError(
            f"{name}: damaged, {opened.frames} of about {layout.samples} samples are left; copy or"
            " record it again"
        )


def _open_soundfile(file: BinaryIO, layout: Layout) -> tuple[soundfile.SoundFile | None, str]:
    """The file opened by libsndfile, or None and why not. Opened without its name, which may
    promise raw samples."""
    file.seek(0)
    try:
        with quiet.mpg123(layout.kind in ("", MP3)):  # it also tries what nothing else knows
            if not hasattr(file, "getbuffer"):
                os.lseek(file.fileno(), 0, os.SEEK_SET)
                return soundfile.SoundFile(file.fileno(), closefd=False), ""
            return soundfile.SoundFile(file), ""
    except (soundfile.SoundFileError, RuntimeError, OSError, ValueError, TypeError) as error:
        return None, str(getattr(error, "error_string", error)).rstrip(".")


def _soundfile_blocks(
    file: soundfile.SoundFile, name: str, stretch: Stretch, limits: Limits
) -> Iterator[Block]:
    with file:
        rate, channels, frames, start = (
            file.samplerate,
            file.channels,
            file.frames,
            round(stretch.offset * file.samplerate),
        )
        check_form(rate, channels, name)
        if frames <= 0:
            raise AudioError(f"{name}: zero length, no samples in the file")
        wanted = frames - start if stretch.seconds is None else round(stretch.seconds * rate)
        if wanted <= 0 or start + wanted > frames + TOLERANCE_S * rate:
            raise _short(name, wanted / rate, stretch.offset, frames / rate)
        left = wanted = min(wanted, frames - start)
        check_size(wanted / rate, wanted * channels, name, limits)
        try:
            talks = file.format.lower() == MP3
            if start:
                with quiet.mpg123(talks):
                    file.seek(start)
            while left:
                with quiet.mpg123(talks):
                    block = file.read(
                        min(left, max(1, audio_limits.BLOCK_VALUES // channels)),
                        dtype="float32",
                        always_2d=True,
                    )
                if not len(block):
                    raise AudioError(
                        f"{name}: truncated, {wanted - left} of {wanted} samples could be decoded"
                    )
                left -= len(block)
                yield block, rate
        except (soundfile.SoundFileError, RuntimeError, OSError) as error:
            raise AudioError(
                f"{name}: cannot be decoded ({error}); it is truncated or damaged"
            ) from error


def _cut(source: Iterator[Block], name: str, stretch: Stretch) -> Iterator[Block]:
    """The blocks of a stretch of what is decoded from the beginning."""
    place = 0.0
    end = float("inf") if stretch.seconds is None else stretch.offset + stretch.seconds
    for block, rate in source:
        low, high = round((stretch.offset - place) * rate), len(block)
        if end < float("inf"):
            high = min(high, round((end - place) * rate))
        if high > max(0, low):
            yield block[max(0, low) : high], rate
        place += len(block) / rate
        if place >= end:
            return
    if not place:
        raise AudioError(f"{name}: zero length, no samples in the file")
    if place <= stretch.offset or (stretch.seconds is not None and end > place + TOLERANCE_S):
        raise _short(name, end - stretch.offset, stretch.offset, place)


def _short(name: str, wanted: float, offset: float, seconds: float) -> AudioError:
    until = "the end" if wanted == float("inf") else f"{wanted:g} s"
    return AudioError(
        f"{name}: {until} from {offset:g} s on are asked for, but the file is {seconds:g} s long; "
        "it is truncated or the "
        "manifest is wrong"
    )


def limited(source: Iterator[Block], name: str, limits: Limits) -> Iterator[Block]:
    """The same blocks; TooLong above a limit."""
    seconds, values, started = 0.0, 0, time.monotonic()
    for block, rate in source:
        seconds, values = seconds + len(block) / rate, values + block.size
        if seconds > limits.seconds:
            raise TooLong(
                f"{name}: longer than {limits.seconds:g} s; allowed are {limits.seconds:g} s: cut "
                "it into parts"
            )
        check_size(seconds, values, name, limits)
        if time.monotonic() - started > limits.wall_s:
            raise TooLong(
                f"{name}: decoding took longer than {limits.wall_s:g} s; cut it into parts or "
                "save it as mono at 16 kHz"
            )
        yield block, rate
