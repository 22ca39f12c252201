"""What a sound file's own structure says: which container it is, whether bytes are missing, whether
its length is known.

Nothing is decoded here. Writers that stream leave 0 or the largest number as length, and a file
that was cut still has the old one. ADTS AAC, AMR and raw frames have neither lengths nor checksums.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

STREAMED = 0x7FFF0000  # sizes from here on mean "not known yet" (sox, FFmpeg, arecord, GStreamer)
HEAD = 64  # bytes that tell every container
MOST_PAGES = 2_000_000  # of an Ogg file: 500 hours of ordinary ones
MP3_IN_WAV = 0x55
MP3_PADDING = 2 * 4095  # samples before and after the sound, at most: LAME's fields of 12 bits
# what programs write behind the sound of a WAV
TRAILER = re.compile(
    b"LIST|id3 |ID3 |bext|iXML|_PMX|cue |fact|smpl|inst|labl|ltxt|note|adtl|plst|PEAK|LGWV|JUNK|"
    b"junk|PAD |FLLR|DISP|afsp|cart|minf|elm1|regn|umid|MD5 |axml|chna|SAUR|ResU|acid|strc"
)
MOST_TRAILER_BYTES = 1 << 24
BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Layout:
    """kind: the container, "" if unknown. known_length: the header's number of samples is exact.
    missing: bytes that the file says it has and has not, -1 if it only lacks its end mark. unread:
    bytes after the sound that belong to nothing. damaged: what is wrong. end: the byte where the
    sound ends although no length says so, 0 for the end of the file. samples: of a channel, at
    least."""

    kind: str = ""
    known_length: bool = True
    missing: int = 0
    unread: int = 0
    damaged: str = ""
    end: int = 0
    samples: int = 0


def inspect(file: BinaryIO, byte_count: int) -> Layout:
    """The layout of a seekable file; reads headers only, all pages of an Ogg file."""
    file.seek(0)
    head = file.read(HEAD)
    if head[:4] == b"RIFF" and head[8:12] != b"WAVE":
        return Layout("avi" if head[8:11] == b"AVI" else "")
    for magic, at, look in _LOOKS:
        if head[at : at + len(magic)] == magic:
            try:
                return look(file, byte_count, head)
            except struct.error:
                return Layout(damaged=f"its header is cut: the file ends after {byte_count} bytes")
    start = _id3_end(head)
    return _mp3(file, byte_count, start) if start or head[:1] == b"\xff" else Layout()


def _riff(file: BinaryIO, byte_count: int, head: bytes) -> Layout:
    """WAV: chunks after each other; RF64 keeps its sizes in a chunk of its own."""
    order, at, long_size, known = (">" if head[:4] == b"RIFX" else "<"), 12, 0, True
    while at + 8 <= byte_count:
        file.seek(at)
        name, length = struct.unpack(order + "4sI", file.read(8))
        if name == b"ds64":
            long_size = struct.unpack(order + "8xQ", file.read(16))[0]
        elif name == b"fmt ":
            form, _, rate = struct.unpack(order + "HHI", file.read(8))
            if not rate:
                return Layout("wav", damaged="its header says a sample rate of 0 Hz")
            known = form != MP3_IN_WAV  # decoders count its last frame otherwise
        elif name == b"data":
            if length == 0xFFFFFFFF and long_size:
                length = long_size
            return _data(file, byte_count, at + 8, length, order, known)
        at += 8 + length + length % 2
    if at <= byte_count:
        raise struct.error("no sound")
    return Layout("wav", missing=at - byte_count)


def _data(
    file: BinaryIO, byte_count: int, start: int, length: int, order: str, known: bool
) -> Layout:
    have = byte_count - start
    streamed = STREAMED <= length <= 0xFFFFFFFF
    if have and (length == 0 or streamed and length > have):
        end = _sound_end(file, byte_count, start, order)
        return Layout("wav", known and bool(length) and not end, end=end)
    if length > have:
        return Layout("wav", known, missing=length - have)
    at = start + length + length % 2
    while at + 8 <= byte_count:  # lists of titles and the like
        file.seek(at)
        name, more = struct.unpack(order + "4sI", file.read(8))
        if not all(32 <= byte < 127 for byte in name) or at + 8 + more > byte_count:
            break
        at += 8 + more + more % 2
    return Layout("wav", known, unread=max(0, byte_count - at))


def _sound_end(file: BinaryIO, byte_count: int, start: int, order: str) -> int:
    """Where known chunks begin that end with the file, behind a sound of unknown length; 0 if there
    are none."""
    tail_at = max(start, byte_count - MOST_TRAILER_BYTES)
    file.seek(tail_at)
    tail = file.read(byte_count - tail_at)
    for match in TRAILER.finditer(tail):
        at = match.start()
        while TRAILER.match(tail, at) and at + 8 <= len(tail):
            length = struct.unpack_from(order + "I", tail, at + 4)[0]
            at += 8 + length + length % 2
        if at in (len(tail), len(tail) + 1):
            return tail_at + match.start()
    return 0


def _sized(
    kind: str, field: str, at: int, more: int = 0, open_ended: tuple[int, ...] = ()
) -> Callable[..., Layout]:
    """Containers that say at byte `at` how many bytes they have, `more` not counted."""

    def look(file: BinaryIO, byte_count: int, head: bytes) -> Layout:
        length = struct.unpack_from(field, head, at)[0]
        if length in open_ended:
            return Layout(kind, False)
        return Layout(kind, True, missing=max(0, length + more - byte_count))

    return look


def _au(file: BinaryIO, byte_count: int, head: bytes) -> Layout:
    start, length = struct.unpack_from(">II" if head[:1] == b"." else "<II", head, 4)
    return Layout(
        "au", True, missing=0 if length >= STREAMED else max(0, start + length - byte_count)
    )


def _nist(file: BinaryIO, byte_count: int, head: bytes) -> Layout:
    file.seek(0)
    words = [line.split() for line in file.read(1024).decode("latin-1").splitlines()]
    field = {w[0]: w[2] for w in words if len(w) == 3 and w[1].startswith("-")}
    try:
        length = 1024 + int(field["sample_count"]) * int(field["channel_count"]) * int(
            field["sample_n_bytes"]
        )
    except (KeyError, ValueError):
        return Layout("nist", True)
    return Layout(
        "nist",
        True,
        missing=0 if "shorten" in field.get("sample_coding", "") else max(0, length - byte_count),
    )


def _caf(file: BinaryIO, byte_count: int, head: bytes) -> Layout:
    at = 8
    while at + 12 <= byte_count:
        file.seek(at)
        name, length = struct.unpack(">4sq", file.read(12))
        if length < 0:  # the sound of a stream, to the end of the file
            return Layout("caf")
        at += 12 + length
        if name == b"data":
            break
    return Layout("caf", missing=max(0, at - byte_count))


def _flac(file: BinaryIO, byte_count: int, head: bytes) -> Layout:
    samples = struct.unpack_from(">Q16x", head, 18)[0] & 0xFFFFFFFFF
    # libFLAC itself notices what is missing or damaged
    return Layout("flac", known_length=samples > 0)


def _ogg(file: BinaryIO, byte_count: int, head: bytes) -> Layout:
    """Every page's checksum; whether all streams end, and whether others begin after them (a
    chain)."""
    at, chained, pages = 0, False, 0
    last: dict[int, bool] = {}
    while at < byte_count and pages < MOST_PAGES:
        file.seek(at)
        head = file.read(27)
        if head[:4] != b"OggS":
            return Layout("ogg", damaged=f"no Ogg page where one should begin, at byte {at}")
        flags, serial, count = struct.unpack("<5xB8xI8xB", head)
        sizes = file.read(count)
        end = at + 27 + count + sum(sizes)
        if end > byte_count or len(sizes) < count:
            return Layout("ogg", missing=max(1, end - byte_count))
        page = head + sizes + file.read(sum(sizes))
        if not _page_whole(page):
            return Layout("ogg", damaged=f"the checksum of an Ogg page is wrong, at byte {at}")
        chained |= bool(flags & 2) and any(last.values())
        last[serial] = bool(flags & 4)
        at, pages = end, pages + 1
    return Layout("ogg", not chained, missing=0 if all(last.values()) else -1)


def _page_whole(page: bytes) -> bool:
    """Ogg's checksum is zlib's with all bits the other way round."""
    blank = page[:22] + bytes(4) + page[26:]
    reflected = zlib.crc32(blank.translate(BITS_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return struct.pack(">I", reflected).translate(BITS_REVERSED) == page[22:26]


def _boxes(file: BinaryIO, byte_count: int, head: bytes) -> Layout:
    """MP4 and its relatives: boxes after each other."""
    at = 0
    while at + 8 <= byte_count:
        file.seek(at)
        length, _, long_length = struct.unpack(">I4sQ", (file.read(16) + bytes(8))[:16])
        length = long_length if length == 1 else length
        if length == 0:  # to the end of the file
            return Layout("mp4")
        if length < 8:
            return Layout("mp4", damaged=f"a box of {length} bytes, at byte {at}")
        at += length
    return Layout("mp4", missing=max(0, at - byte_count))


def _matroska(file: BinaryIO, byte_count: int, head: bytes) -> Layout:
    """WebM, too: a header, then one segment, whose size a live stream leaves open."""
    length, start = _vint(head, 4)
    file.seek(start + length + 4)
    segment, begin = _vint(file.read(12), 0)
    live = segment == (1 << 7 * begin) - 1
    return Layout(
        "matroska", missing=0 if live else max(0, start + length + 4 + begin + segment - byte_count)
    )


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length and the place after it."""
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length()
    if not first or at + width > len(data):
        raise struct.error("cut number")
    return int.from_bytes(data[at : at + width], "big") - (1 << 7 * width), at + width


def _id3_end(head: bytes) -> int:
    """Where an ID3v2 tag ends; 0 without one."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0)))


def _mp3(file: BinaryIO, byte_count: int, start: int) -> Layout:
    """Only a Xing or Info header with the number of bytes says how long an MP3 is, if others were
    not appended or cut off."""
    file.seek(start)
    frame = file.read(192)
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0 or not frame[1] & 6:
        file.seek(start)
        return (
            _flac(file, byte_count, file.read(HEAD))
            if frame[:4] == b"fLaC"
            else Layout("mp3" if start else "")
        )
    at = max(frame.find(b"Xing", 4, 44), frame.find(b"Info", 4, 44))
    if at < 0 or len(frame) < at + 16 or not frame[at + 7] & 2:
        return Layout("mp3", False)
    flags = frame[at + 7]
    length = struct.unpack_from(">I", frame, at + 8 + 4 * (flags & 1))[0]
    frames = struct.unpack_from(">I", frame, at + 8)[0] if flags & 1 else 0
    file.seek(max(0, byte_count - 128))
    end = byte_count - 128 if file.read(3) == b"TAG" else byte_count  # an ID3v1 tag
    return Layout(
        "mp3",
        bool(flags & 1) and start + length == end,
        missing=max(0, start + length - byte_count),
        samples=max(0, frames * (1152 if frame[1] & 0x18 == 0x18 else 576) - MP3_PADDING),
    )


_LOOKS: tuple[tuple[bytes, int, Callable[[BinaryIO, int, bytes], Layout]], ...] = (
    (b"RIFF", 0, _riff),
    (b"RIFX", 0, _riff),
    (b"RF64", 0, _riff),
    (b"BW64", 0, _riff),
    (b"fLaC", 0, _flac),
    (b"OggS", 0, _ogg),
    (b"\x1aE\xdf\xa3", 0, _matroska),
    (b"ftyp", 4, _boxes),
    (b"moov", 4, _boxes),
    (b"mdat", 4, _boxes),
    (b"moof", 4, _boxes),
    (b"styp", 4, _boxes),
    (b"FORM", 0, _sized("aiff", ">I", 4, 8, (0, 0xFFFFFFFF))),
    (b"riff", 0, _sized("w64", "<Q", 16)),
    (b"caff", 0, _caf),
    (b".snd", 0, _au),
    (b"dns.", 0, _au),
    (b"NIST_1A", 0, _nist),
)
