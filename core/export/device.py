"""For a machine without this project: a folder that measures it and recognizes speech there, by
NumPy and ONNX Runtime or by the C program alone. `int8` leaves out fp32.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core import paths, runtime
from core.export import _conformer as parts, _measure, base
from core.records import Subnet, as_dict
from core.runtime import _native
from core.speech import audio, features, tokenizer
from core.storage import device_cost, devices, packing, store

VERSION = 1
FOLDER = "device"
SECONDS = 10  # of sound, at least, where samples ship
CHUNK_MS = 320.0


class Format(base.Format):
    """device/: SUBNET.onnx and SUBNET.snet of each precision, what they need, and measure.py."""

    precisions = base.PRECISIONS

    def why_not(self, run: Path, subnet: Subnet) -> str:
        return parts.why_not_with_sound(run)

    def files(self, packed: base.PackedSubnet, precision: str) -> base.Files:
        name = packed.subnet.name
        for kind in (precision,) if precision == "int8" else self.precisions:
            ending = "" if kind == "fp32" else f".{kind}"
            yield f"{FOLDER}/{name}{ending}.onnx", parts.streaming(packed, kind)
            yield f"{FOLDER}/{name}{ending}.snet", runtime.flat(packed.data, precision=kind)
        facts = as_dict(_shape(packed)) | {"text": _text(packed)}
        yield f"{FOLDER}/{name}{_measure.SHAPE}", _json(facts)

    def run_files(self, run: Path, subnets: Sequence[Subnet]) -> base.Files:
        for name in ("measure.py", "recognize.py"):
            yield f"{FOLDER}/{name}", Path(__file__).with_name(f"_{name}").read_bytes()
        for source in sorted(_native.SOURCES.glob("*.[ch]")):
            yield f"{FOLDER}/native/{source.name}", source.read_bytes()
        yield f"{FOLDER}/{_measure.FACTS}", _json({"run": run.name, "flags": _native.FLAGS})
        yield f"{FOLDER}/{_measure.SOUND}", _sound().tobytes()
        yield f"{FOLDER}/features.npz", _tables()
        yield f"{FOLDER}/README.md", _readme(run, subnets[0].name).encode()


def _json(data: dict) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def _shape(packed: base.PackedSubnet) -> devices.Shape:
    spec = store.spec(packed.run)
    return devices.Shape(
        run=packed.run.name,
        subnet=packed.subnet.name,
        model=spec.model,
        packed_sha256=packing.sha256(packed.data),
        file_bytes=len(packed.data),
        chunk_ms=CHUNK_MS,
        **as_dict(device_cost.work(spec, packed.subnet.keep)),
    )


def _text(packed: base.PackedSubnet) -> str:
    """What the default engine recognizes in the sound, greedily."""
    recognizer = runtime.load(packed.data, chunk_ms=CHUNK_MS, engine="onnx", decoder="greedy")
    samples = _sound().astype(np.float32) / 32768
    (text,) = recognizer.transcribe([features.fbank(samples)])
    return text


def _sound() -> np.ndarray:
    """int16 [N]: samples that ship, one after another; noise where none do."""
    found: np.ndarray = np.zeros(0, np.float32)
    for file in sorted((paths.RELEASED / paths.SAMPLES).glob("*.opus")):
        if len(found) < SECONDS * audio.SAMPLE_RATE:
            found = np.concatenate([found, audio.read(file)])
    if not len(found):
        rng = np.random.default_rng(0)
        found = 0.1 * rng.standard_normal(SECONDS * audio.SAMPLE_RATE)
    return (np.clip(found, -1, 1) * 32767).astype("<i2")


def _readme(run: Path, subnet: str) -> str:
    phonemes = tokenizer.load(run).unit == "phonemes"
    prints = (PHONEMES if phonemes else WORDS).format(run=run.name, subnet=subnet)
    return README.format(run=run.name, subnet=subnet, prints=prints)


def _tables() -> bytes:
    """Window [400] and mel filters [257, 80], for features without a library."""
    window, banks = features.window_and_banks()
    file = io.BytesIO()
    np.savez(file, window=window, banks=banks)
    return file.getvalue()


README = """# {run} on a device

Nothing here needs the project: Python 3.9, and NumPy with ONNX Runtime (`pip install numpy
onnxruntime`) or a C compiler (`apt-get install gcc`).

```
python3 measure.py -o device.json --name "Raspberry Pi 4"
```

measures this machine: features, network and greedy decoding. Let nothing else run meanwhile. Copy
device.json into `artifacts/devices/` of the project: its dashboard offers the device under "Times
of".

```
ffmpeg -i talk.opus -f s16le -ar 16000 -ac 1 - | python3 recognize.py {subnet}.onnx
gcc -O3 -march=native -o transcribe native/*.c -lm
ffmpeg -i talk.opus -f s16le -ar 16000 -ac 1 - | ./transcribe {subnet}.snet 320
```

{prints}
"""
WORDS = "Both print what is said, in words."
PHONEMES = """Both print phonemes (ARPAbet) with spaces between, no words: this model's tokens are
phonemes, and words need a decoding graph, which is not in this folder. For words on a device, run
stock sherpa-onnx on what `python -m core export {run} --subnets {subnet} --format sherpa` writes.
The time and memory of the search for words are not in device.json."""
