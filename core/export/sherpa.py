"""sherpa-onnx: a folder that stock sherpa-onnx loads as a streaming CTC model, with its tokens,
test recordings and, where tokens are phonemes, the decoding graph of open speech.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from core import paths
from core.decoding import ctc
from core.decoding.graph_search import Weights
from core.export import _conformer as parts, _sherpa_graph as graphs, base
from core.lm import languages
from core.lm.graph import Graph
from core.lm.languages import Language
from core.records import Subnet
from core.runtime.base import tokenizer_of
from core.speech import audio

VERSION = 1
TESTED = "2.0.1"  # of sherpa-onnx, as tests/requirements.txt pins it
RECORDINGS = 2  # of the samples that ship
TAIL = np.zeros(audio.SAMPLE_RATE // 2, np.float32)  # after a sound: only whole chunks are decoded


class Format(base.Format):
    """sherpa-SUBNET/ or sherpa-SUBNET-int8/."""

    precisions = base.PRECISIONS
    package = "sherpa-onnx"

    def why_not(self, run: Path, subnet: Subnet) -> str:
        return parts.why_not_with_sound(run)

    def files(self, packed: base.PackedSubnet, precision: str) -> base.Files:
        metadata, name = packed.content[1], packed.subnet.name
        folder = f"sherpa-{name}" + ("" if precision == "fp32" else f"-{precision}")
        model = "model.onnx" if precision == "fp32" else f"model.{precision}.onnx"
        tokenizer = tokenizer_of(metadata)
        phonemes = ctc.usual("ctc", tokenizer.unit) == ctc.GRAPH
        shape, tensors = parts.parts(packed)
        graph = graphs.build(
            shape, tensors, metadata["statistics"], parts.FRAMES, Weights() if phonemes else None
        )
        properties = graphs.metadata(shape, parts.FRAMES) | {
            "supernet": parts.origin(packed, precision)
        }
        yield f"{folder}/{model}", parts.serialized(graph, precision, properties)
        yield f"{folder}/tokens.txt", metadata["tokens"].encode()
        if phonemes:
            words = languages.load(Language(), tokenizer)
            yield f"{folder}/HLG.fst", _fst(words)
            table = "".join(f"{word} {i}\n" for i, word in enumerate(words.words))
            yield f"{folder}/words.txt", table.encode()
        recordings = _recordings()
        for file, data in recordings.items():
            yield f"{folder}/test_wavs/{file}", data
        wav = f"test_wavs/{next(iter(recordings))}" if recordings else "YOUR.wav"
        yield f"{folder}/README.md", _readme(packed, model, wav, phonemes).encode()

    def transcribe(self, folder: Path, sounds: Sequence[base.Sound], threads: int) -> list[str]:
        """See base.Format. One sound at a time in each thread: int8 rounds activations by their
        range, so that sounds of one batch would change each other's text.
        """
        with ThreadPoolExecutor(threads) as pool:
            parts = pool.map(
                _transcribed, [folder] * threads, [sounds[i::threads] for i in range(threads)]
            )
            texts = list(parts)
        return [texts[i % threads][i // threads] for i in range(len(sounds))]


def stock(folder: Path) -> Any:
    """sherpa_onnx.OnlineRecognizer of an exported folder, one thread. ModuleNotFoundError where
    sherpa-onnx is not installed.
    """
    import sherpa_onnx

    graph = folder / "HLG.fst"
    return sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
        tokens=str(folder / "tokens.txt"),
        model=str(next(folder.glob("*.onnx"))),
        num_threads=1,
        **({"ctc_graph": str(graph)} if graph.is_file() else {}),
    )


def _transcribed(folder: Path, sounds: Sequence[base.Sound]) -> list[str]:
    recognizer, texts = stock(folder), []
    table = folder / "words.txt"
    words = [line.split()[0] for line in table.read_text().splitlines()] if table.is_file() else []
    for sound in sounds:
        stream = recognizer.create_stream()
        stream.accept_waveform(audio.SAMPLE_RATE, np.concatenate([sound(), TAIL]))
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        result = recognizer.get_result_all(stream)
        texts.append(" ".join(words[i] for i in result.words) if words else result.text.strip())
    return texts


def _fst(graph: Graph) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "HLG.fst")
        if not graph.fst.write(str(file)):
            raise OSError(f"the decoding graph could not be written to {folder}")
        return file.read_bytes()


def _recordings() -> dict[str, bytes]:
    """{name: content} of a few samples that ship, and what is said in them."""
    sounds = sorted((paths.RELEASED / paths.SAMPLES).glob("*.opus"))[:RECORDINGS]
    found = {f"{p.stem}.wav": audio.encode(audio.read(p)) for p in sounds}
    said = [f"{p.stem}.wav {p.with_suffix('.txt').read_text().strip()}\n" for p in sounds]
    return found | ({"transcripts.txt": "".join(said).encode()} if sounds else {})


def _readme(packed: base.PackedSubnet, model: str, wav: str, phonemes: bool) -> str:
    given = f"--tokens=tokens.txt --zipformer2-ctc-model={model}"
    given += " --ctc-graph=HLG.fst" if phonemes else ""
    text = f"""# {packed.subnet.name} of {packed.run.name} for sherpa-onnx

A streaming CTC model: 320 ms chunks, 16 kHz, `{model}` for the loader `zipformer2_ctc`.

```
pip install sherpa-onnx=={TESTED} sherpa-onnx-bin=={TESTED}
sherpa-onnx {given} {wav}
sherpa-onnx-microphone {given}
```

In Python: `sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(tokens=..., model=...)`. At the end of
a recording add 0.5 s of zeros, for only whole chunks are recognized. Do not use the loader for
NeMo's models: it computes other features.
"""
    if phonemes:
        text += """
Tokens are phonemes: words are found over the decoding graph of open speech (`ctc_graph="HLG.fst"`).
sherpa-onnx gives them as numbers, `recognizer.get_result_all(stream).words`; `words.txt` names
them.
"""
    return text
