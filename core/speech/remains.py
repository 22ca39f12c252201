"""What is left of a damaged or cut sound file, for somebody who wants to hear it: what FFmpeg can
decode, with silence where sound is missing between. Corpora and measurements never use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from core.speech import av_decoder
from core.speech.audio_limits import AudioError, Block, check_form

GAP_S = 0.02  # between frames: decoders of lossy sound begin a frame late
SILENCE_S = 1.0  # of a block


class Remains:
    """The decodable part of one file: `seconds` of sound and of silence, `silent` of them without
    sound; `announced` s by its header, 0 where that says nothing."""

    def __init__(self, file: BinaryIO, name: str):
        self._file, self._name = file, name
        self.seconds = self.silent = self.announced = self._begin = 0.0

    def blocks(self) -> Iterator[Block]:
        """From the beginning, each time. AudioError where nothing can be decoded."""
        import av

        self.seconds = self.silent = 0.0
        self._file.seek(0)
        options = {"format_whitelist": av_decoder.CONTAINERS}
        try:
            with av.open(self._file, "r", options=options, metadata_errors="ignore") as container:
                self.announced = (container.duration or 0) / av.time_base
                self._begin = (container.start_time or 0) / av.time_base
                for frame in _frames(container):
                    yield from self._filled(frame)
        except AudioError:
            raise
        except Exception as error:  # PyAV lets others of its own through, as in av_decoder
            if not self.seconds:
                raise AudioError(f"{self._name}: no sound that can be decoded") from error

    def _filled(self, frame: Any) -> Iterator[Block]:
        """The block of a frame of FFmpeg, after silence where it comes late."""
        block, rate = av_decoder.samples(frame), frame.sample_rate
        check_form(rate, block.shape[1], self._name)
        late = (frame.time or 0.0) - self._begin - self.seconds
        while late > GAP_S:
            silence = min(late, SILENCE_S)
            yield np.zeros((round(silence * rate), block.shape[1]), np.float32), rate
            self.seconds, self.silent = self.seconds + silence, self.silent + silence
            late -= silence
        self.seconds += len(block) / rate
        yield block, rate

    def words(self, share: float) -> str:
        """How much is missing; `share`: bytes that the file says it has and has not, over those
        that it has."""
        end = max(self.announced - self.seconds, share * self.seconds, 0.0)
        missing, left = self.silent + end, self.seconds - self.silent
        return (
            "This recording is damaged or cut: "
            + (f"{missing:.1f} s or more" if missing >= 0.05 else "nobody can tell how much")
            + f" of it is missing, {left:.1f} s are left. They are played and transcribed"
            + (", with silence in the gaps." if self.silent >= 0.05 else ".")
        )


def _frames(container: Any) -> Iterator:
    """Frames of the first sound; a packet that cannot be decoded is left out."""
    import av

    if not container.streams.audio:
        return
    stream = container.streams.audio[0]
    if stream.codec_context.name == "flac":  # else damage is played as noise
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue
