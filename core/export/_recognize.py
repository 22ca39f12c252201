"""Prints what an exported ONNX file recognizes, by NumPy and ONNX Runtime alone: words, or where
the model's tokens are phonemes, phonemes with spaces between (words need a decoding graph):

    ffmpeg -i talk.opus -f s16le -ar 16000 -ac 1 - | python3 recognize.py u70.onnx [THREADS [time]]

Stands alone: it is copied as recognize.py into a folder (format `device`), beside features.npz.
With `time` its lines are those of the C program: ms to load the file, ms of every chunk from its
samples to its text, the process's highest resident memory in MB, the text.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

SHIFT, WINDOW, FFT, FACTOR = 160, 400, 512, 4  # of core/speech/features.py, in samples
BEFORE = (WINDOW - SHIFT) // 2  # frames are centered and the ends are mirrored
PREEMPHASIS, FLOOR, UNSEEN = np.float32(0.97), np.float32(1.1920929e-7), np.float32(-1e9)


class Recognizer:
    """One stream over one file; `text` is what was recognized so far."""

    def __init__(self, file: Path, threads: int = 1):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        properties = self.session.get_modelmeta().custom_metadata_map
        facts = json.loads(properties["supernet"])
        self.unit = facts["unit"]
        symbols = [line.rsplit(" ", 1)[0] for line in properties["tokens"].splitlines()]
        self.tokens = joinable(symbols, self.unit)
        self.mean, std = (np.array(facts["statistics"][n], np.float32) for n in ("mean", "std"))
        self.scale = np.float32(1) / std
        self.before, self.left = facts["history_frames"], facts["left_context_frames"]
        self.size = facts["chunk_frames"]  # encoder frames of a chunk
        with np.load(file.with_name("features.npz")) as tables:
            self.shape, self.banks = tables["window"], tables["banks"]
        self.outputs = [o.name for o in self.session.get_outputs()]
        inputs = {i.name: i.shape for i in self.session.get_inputs()}
        self.masked = "mask" in inputs
        self.state = {
            name: _value(np.zeros([d if isinstance(d, int) else 1 for d in dims], np.float32))
            for name, dims in inputs.items()
            if name not in ("window", "mask")
        }
        self.history = np.zeros((self.before, len(self.mean)), np.float32)
        self.cached, self.last, self.ids = 0, 0, list[int]()

    def chunk(self, samples: np.ndarray, frames: int) -> None:
        """The next `frames` feature frames, a whole chunk's but at the end, of their samples
        [160 frames + 240].
        """
        window = np.zeros((1, self.before + FACTOR * self.size, len(self.mean)), np.float32)
        window[0, : self.before] = self.history
        features = (self.features(samples)[:frames] - self.mean) * self.scale
        window[0, self.before : self.before + frames] = features
        self.history = window[0, -self.before :].copy()
        valid = -(-frames // FACTOR)
        given = {"window": _value(window), **self.state}
        if self.masked:
            at = np.arange(self.left + self.size) - self.left
            seen = (at >= -self.cached) & (at < valid)
            mask = np.where(seen, np.float32(0), UNSEEN)[None, None, None]
            given["mask"] = _value(mask)
        said = self.session.run_with_ort_values(self.outputs, given)
        self.state = dict(zip(self.state, said[1:]))
        self.cached = min(self.cached + self.size, self.left)
        for token in said[0].numpy()[0, :valid].argmax(1).tolist():
            if token and token != self.last:
                self.ids.append(token)
            self.last = token

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Log-mel energies [F, bins] of samples [160 F + 240]."""
        frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::SHIFT]
        frames = frames - frames.mean(1, keepdims=True)
        shaped = frames * (1 - PREEMPHASIS)
        shaped[:, 1:] = frames[:, 1:] - PREEMPHASIS * frames[:, :-1]
        power = np.square(np.abs(np.fft.rfft(shaped * self.shape, FFT))).astype(np.float32)
        return np.log(np.maximum(power @ self.banks, FLOOR))

    @property
    def text(self) -> str:
        return spelled([self.tokens[i] for i in self.ids])


def joinable(symbols: list[str], unit: str) -> list[str]:
    """As spelled() joins them; "\u2581" is the mark of a space. "_E": the phoneme ends a word."""
    phonemes = unit == "phonemes"
    return ["\u2581" + s.removesuffix("_E") for s in symbols] if phonemes else symbols


def spelled(symbols: list[str]) -> str:
    """Word pieces, letters or phonemes as text."""
    return "".join(symbols).replace("\u2581", " ").lstrip(" ")


def _value(array: np.ndarray) -> Any:
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def chunks(samples: np.ndarray, size: int) -> list[tuple[np.ndarray, int]]:
    """(samples [160 n + 240], their frames) of every chunk of `size` feature frames."""
    frames = (len(samples) + SHIFT // 2) // SHIFT
    rest = np.zeros(WINDOW + size * SHIFT, np.float32)  # behind the end: of frames that are cut off
    padded = np.concatenate([samples[:BEFORE][::-1], samples, samples[::-1][:WINDOW], rest])
    return [
        (padded[at * SHIFT : (at + size - 1) * SHIFT + WINDOW], min(size, frames - at))
        for at in range(0, frames, size)
    ]


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e6


def _now_ms() -> float:
    return 1000 * time.perf_counter()


def _fail(what: str, why: object) -> int:
    print(f"recognize.py: {what}: {why}", file=sys.stderr)
    return 2


def main() -> int:
    words = sys.argv[1:]
    threads = words[1] if len(words) > 1 else "1"
    if not 1 <= len(words) <= 3 or not threads.isdigit() or words[2:] not in ([], ["time"]):
        return _fail("usage", "recognize.py FILE.onnx [THREADS [time]] < 16 kHz mono 16-bit PCM")
    began = _now_ms()
    try:
        stream = Recognizer(Path(words[0]), int(threads))
    except Exception as error:  # ONNX Runtime's have no common kind
        return _fail(words[0], error)
    spent = [_now_ms() - began]
    data = sys.stdin.buffer.read()
    if len(data) < 2 or data[:4] == b"RIFF":
        came = "a WAV file with a header" if data[2:] else "nothing"
        return _fail("standard input", f"expected raw 16 kHz mono 16-bit PCM, got {came}")
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768
    for part, frames in chunks(samples, FACTOR * stream.size):
        began = _now_ms()
        stream.chunk(part, frames)
        spent.append(_now_ms() - began)
    if words[2:]:
        print("\n".join(f"{ms:.4f}" for ms in (*spent, _peak_mb())))
    elif stream.unit == "phonemes":
        print("recognize.py: prints phonemes, see README.md for words", file=sys.stderr)
    print(stream.text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
