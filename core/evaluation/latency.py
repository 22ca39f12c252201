"""How fast and how large a recognizer really is: streams sound through a packed file in a fresh
child process.

`python -m core.evaluation.latency <packed file> <waves .npz> <chunk ms> <threads> <precision>
<decoding and dense's file as JSON>` prints one line of JSON; `measure` calls it. One stream at a
time, batch 1; libraries are imported before the clock starts, the first utterance warms up. Whether
a subnet is faster than dense is measured in turn with it: times from different minutes differ by a
third on a shared machine.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import paths
from core.decoding.graph_search import Weights
from core.lm.languages import OPEN, Language
from core.registry import plugins
from core.speech.audio import SAMPLE_RATE

# all on one side of the true ratio by chance: 2 of 2^6 times, so their range is a 97 % interval of
# the median
ROUNDS = 6
PIECES = 2  # of sound in a round: each of the two goes first once
PIECE = (
    3 * SAMPLE_RATE
)  # samples of a piece at most; with RTF 0.03 a round takes 0.6 s, two loadings of 0.1 s included


@dataclass(frozen=True)
class Speed:
    """Streaming speed. rtf = processing time over sound; chunk times are from a chunk's samples to
    its text.
    """

    rtf: float
    chunk_median_ms: float | None  # None with full context: there are no chunks
    chunk_p95_ms: float | None
    load_ms: float  # reading, unpacking and building, without importing libraries
    peak_rss_mb: float  # highest resident memory of the child process, libraries included
    threads: int
    bytes_read: int | None = (
        None  # from files while loading, as the system counts them; None where it does not
    )
    speed_ratio: float | None = (
        None  # as `in_turn` says; None where there is no dense subnet to compare with
    )
    speed_ratio_low: float | None = None
    speed_ratio_high: float | None = None


def measure(
    data: bytes,
    waves: Sequence[np.ndarray],
    chunk_ms: float,
    threads: int = 1,
    precision: str = "fp32",
    decoder: str = "",
    beam: int = 0,
    language: Language | None = None,
    dense: bytes | None = None,
    weights: Weights | None = None,
    engine: str = "torch",
) -> Speed:
    """Streams `waves` (float32 [N] each) through the packed file `data` in a child process;
    `dense`: the one to time it in turn with.
    """
    if not waves:
        raise ValueError("speed is measured on sound: give at least one utterance")
    with tempfile.TemporaryDirectory() as folder:
        file, other, sound = (
            Path(folder, "subnet.safetensors"),
            Path(folder, "dense.safetensors"),
            Path(folder, "waves.npz"),
        )
        file.write_bytes(data)
        other.write_bytes(dense or b"")
        np.savez(sound, *waves)
        decoding = json.dumps(
            {
                "decoder": decoder,
                "beam": beam,
                "language": language and _absolute(language),
                "weights": weights and dataclasses.asdict(weights),
                "dense": str(other) if dense else None,
                "engine": engine,
            }
        )
        command = [
            sys.executable,
            "-m",
            "core.evaluation.latency",
            str(file),
            str(sound),
            f"{chunk_ms:g}",
            str(threads),
            precision,
            decoding,
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(
            command, cwd=paths.ROOT, env=environment, capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(f"measuring the speed failed:\n{done.stderr[-2000:]}")
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def _absolute(language: Language) -> dict:
    """The language as another working folder reads it."""
    return dataclasses.asdict(language) | (
        {} if language.lm in ("", OPEN) else {"lm": str(Path(language.lm).absolute())}
    )


def peak_rss_mb() -> float:
    """Highest resident memory of this process in MB. VmHWM, because ru_maxrss is inherited from the
    parent on Linux.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def bytes_read() -> int | None:
    """Bytes that this process has read so far, also from the system's cache; None where the system
    does not say.
    """
    counters = Path("/proc/self/io")
    try:
        return next(
            int(line.split()[1])
            for line in counters.read_text().splitlines()
            if line.startswith("rchar:")
        )
    except (OSError, StopIteration):
        return None


def stream_all(
    file: Path,
    waves: Sequence[np.ndarray],
    chunk_ms: float,
    threads: int,
    precision: str,
    decoder: str = "",
    beam: int = 0,
    language: dict | None = None,
    dense: str | None = None,
    weights: dict | None = None,
    engine: str = "torch",
) -> Speed:
    """The measurement itself, in this process."""
    from core import runtime

    plugins.load("runtime", engine)  # its libraries, before the clock starts

    def opened(packed: Path) -> Any:
        return runtime.load(
            packed,
            engine=engine,
            chunk_ms=chunk_ms,
            precision=precision,
            threads=threads,
            decoder=decoder,
            beam=beam,
            language=Language(**language) if language else None,
            weights=Weights(**weights) if weights else None,
        )

    before, started = bytes_read(), time.perf_counter()
    recognizer = opened(file)
    load_ms, after = 1000 * (time.perf_counter() - started), bytes_read()
    packet = round((chunk_ms or 320) * SAMPLE_RATE / 1000)
    chunks: list[float] = []
    _stream(recognizer, waves[0], packet)
    spent = sum(_stream(recognizer, wave, packet, chunks) for wave in waves)
    median, p95 = np.percentile(chunks, [50, 95]) if chunks and chunk_ms else (None, None)
    alone = Speed(
        spent * SAMPLE_RATE / sum(map(len, waves)),
        median,
        p95,
        load_ms,
        peak_rss_mb(),
        threads,
        None if before is None or after is None else after - before,
    )
    if not dense:
        return alone
    ratio, low, high = in_turn(lambda: (opened(Path(dense)), opened(file)), waves, packet)
    return dataclasses.replace(alone, speed_ratio=ratio, speed_ratio_low=low, speed_ratio_high=high)


def in_turn(
    pair: Callable[[], tuple[Any, Any]], waves: Sequence[np.ndarray], packet: int
) -> tuple[float, float, float]:
    """How many times as fast the second of a `pair` is as the first: (median, lowest, highest) of
    ROUNDS rounds' ratios of times.

    A round opens both anew (where they lie in memory changes times, too), warms both up and streams
    the same chunks through them
    alternately, so that what slows the machine down meets both. Lowest to highest is the sign
    test's interval of the median: no
    assumption but that rounds are alike and do not depend on each other.
    """
    pieces = [wave[:PIECE] for wave in (*waves, *waves)[:PIECES]]
    ratios = []
    for _ in range(ROUNDS):
        both, spent = pair(), [0.0, 0.0]
        for recognizer in both:
            _stream(recognizer, pieces[0][: 2 * packet], packet)
        for number, piece in enumerate(pieces):
            for side in ((0, 1), (1, 0))[number % 2]:
                spent[side] += _stream(both[side], piece, packet)
        ratios.append(spent[0] / spent[1])
    return float(np.median(ratios)), min(ratios), max(ratios)


def _stream(recognizer, wave: np.ndarray, packet: int, chunks: list[float] | None = None) -> float:
    """Seconds spent on one utterance; the ms of each whole chunk are added to `chunks`.

    The first packet completes no chunk, because features look 7.5 ms ahead and some models a little
    more; from the second on each
    completes one.
    """
    stream, spent = recognizer.stream(), 0.0
    for start in range(0, len(wave), packet):
        before = time.perf_counter()
        stream.accept(wave[start : start + packet])
        took = time.perf_counter() - before
        spent += took
        if chunks is not None and start and start + packet <= len(wave):
            chunks.append(1000 * took)
    before = time.perf_counter()
    stream.finish()
    return spent + time.perf_counter() - before


def main() -> None:
    file, sound, chunk_ms, threads, precision, decoding = sys.argv[1:]
    with np.load(sound) as stored:
        waves = [stored[name] for name in stored.files]
    measured = stream_all(
        Path(file), waves, float(chunk_ms), int(threads), precision, **json.loads(decoding)
    )
    print(json.dumps(dataclasses.asdict(measured)))


if __name__ == "__main__":
    main()
