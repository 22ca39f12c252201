"""FFmpeg (PyAV) as a decoder of everything that libsndfile does not know, in blocks.

FFmpeg may open only the containers listed here: others are playlists and scripts that name further
files and addresses, which a visitor must not have opened. Letters: N samples, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from core.speech import audio_limits
from core.speech.audio_limits import AudioError, Block, Note, check_form

LOST_S = 0.5  # by which a length in a header may be too large
GAP_S = 0.002  # between frames of FLAC; containers round times to 1 ms
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,flac,mp3,aac,wav,w64,aiff,au,caf,asf,asf_o,avi,flv,"
    "mpegts,mpeg,ac3,eac3,amr,amrnb,amrwb,ape,wv,tta,tak,dts,mpc,mpc8,rm,voc,loas,gsm,nut,oma,sln"
)
ID3V1_BYTES = 128
# zero and full scale of whole numbers
SCALES = {"u8": (128, 128.0), "s16": (0, 2.0**15), "s32": (0, 2.0**31), "s64": (0, 2.0**63)}


def _crc16_of(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1) ^ (0x18005 if crc & 0x8000 else 0)
    return crc


CRC16 = tuple(map(_crc16_of, range(256)))


def blocks(file: BinaryIO, name: str, first_error: str, note: Note) -> Iterator[Block]:
    import av  # only for what libsndfile does not know

    file.seek(0)
    place = 0.0
    try:
        with av.open(
            file, "r", options={"format_whitelist": CONTAINERS}, metadata_errors="ignore"
        ) as container:
            if not container.streams.audio:
                raise AudioError(
                    f"{name}: holds no sound, only "
                    f"{sorted({s.type for s in container.streams}) or 'nothing'}"
                )
            if len(container.streams.audio) > 1:
                note(f"It has {len(container.streams.audio)} audio tracks; the first one is used.")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise AudioError(
                    f"{name}: its sound is in a codec that is not known here; save it as WAV or "
                    "FLAC"
                )
            frames = container.decode(stream)
            if stream.codec_context.name == "flac":
                stream.codec_context.options = {
                    "err_detect": "crccheck+explode"
                }  # else damage is played as noise
                frames = _unbroken(container, stream, name, note)
            for block, rate in _joined(frames, name):
                place += len(block) / rate
                yield block, rate
            # of Matroska, FFmpeg leaves out what is damaged and says nothing
            whole = (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0.0
            if "matroska" in container.format.name and place < whole - LOST_S:
                raise AudioError(f"{name}: damaged, {place:.1f} of {whole:.1f} s are left")
    except AudioError:
        raise
    # PyAV lets IndexError and others of its own through for damaged files (found by fuzzing)
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(
            f"{name}: truncated or damaged after {place:.1f} s ({reason})"
            if place
            else (
                f"{name}: no sound that can be decoded ({first_error}; {reason}); it is damaged, or"
                " no audio file"
            )
        ) from error


def _unbroken(container: Any, stream: Any, name: str, note: Note) -> Iterator:
    """FLAC's frames. FFmpeg leaves out one whose checksum is wrong, which the times of the others
    tell, and takes a last one whose header is damaged for the end of the one before, whose checksum
    is then wrong over all its bytes.
    """
    first, place, packet_bytes = None, 0.0, b""
    sizes: list[int] = []  # of the first frame and the last
    for packet in container.demux(stream):
        packet_bytes = bytes(packet) or packet_bytes
        for frame in packet.decode():
            if frame.time is not None:
                first = frame.time if first is None else first
                if frame.time - first - place > GAP_S:
                    raise AudioError(f"{name}: damaged after {place:.1f} s; copy it again")
            place += frame.samples / frame.sample_rate
            sizes = [*sizes[:1], frame.samples]
            yield frame
    if packet_bytes[-ID3V1_BYTES:].startswith(b"TAG"):
        packet_bytes = packet_bytes[:-ID3V1_BYTES]
    if place and _crc16(packet_bytes):
        raise AudioError(f"{name}: damaged after about {place:.1f} s; copy it again")
    if container.format.name == "flac" and len(sizes) == 2 and sizes[0] == sizes[1]:
        note(
            f"Its length is not known and it ends with a full block at {place:.1f} s: if it was cut"
            " there, the rest is missing."
        )


def _crc16(data: bytes) -> int:
    """0 for a whole frame of FLAC, which ends with the checksum of what is before."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ CRC16[crc >> 8 ^ byte]
    return crc


def _joined(frames: Iterator, name: str) -> Iterator[Block]:
    """FFmpeg's small frames in larger blocks; a new one begins where rate or channels change."""
    parts: list[np.ndarray] = []
    form, values = (0, 0), 0
    for frame in frames:
        part = samples(frame)
        new = (frame.sample_rate, part.shape[1])
        if parts and (new != form or values >= audio_limits.BLOCK_VALUES):
            yield np.concatenate(parts), form[0]
            parts, values = [], 0
        if new != form:
            check_form(*new, name)
        form = new
        parts.append(part)
        values += part.size
    if parts:
        yield np.concatenate(parts), form[0]


def samples(frame) -> np.ndarray:
    """float32 [N, C] of one frame of FFmpeg, in -1..1."""
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(frame.samples, -1)
    zero, scale = SCALES.get(frame.format.name.removesuffix("p"), (0, 1.0))
    return ((values.astype(np.float32 if scale <= 2**15 else np.float64) - zero) / scale).astype(
        np.float32
    )
