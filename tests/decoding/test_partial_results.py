"""Partial results: with every model and decoder the text so far is that of the chunks heard so far,
never only the final one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core import paths
from core.decoding import ctc as decoding
from core.lm import arpa, estimation
from core.lm.languages import Language
from core.registry import plugins
from core.runtime.base import PackedRecognizer
from core.speech import audio
from core.speech.features import fbank
from tests import standin
from tests.models import test_lstm_transducer, test_transducer
from tests.runtime import test_recognizer
from tests.standin import reference

MODELS = plugins.names("models")
SHIPPED = {
    "supernet": 320,
    "omni-distillationnone-randoms1-sparsest0.7-c31be4e9": 160,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of random weights for every model."""
    folder = tmp_path_factory.mktemp("runs")
    made = {"conformer_ctc": standin.make_run(folder, utterances=2)}
    for name, module, gone in (
        ("emformer_transducer", test_transducer, ("emformer_layers.1.attention",)),
        ("lstm_transducer", test_lstm_transducer, ("layers.1",)),
    ):
        made[name] = test_transducer.left_by_training(
            folder / name, module.built(standin.SYMBOLS), module.SMALL, gone
        )
    assert set(made) == set(MODELS), "a new model needs a run here"
    return made


def small_language(folder) -> Language:
    file = folder / "small.arpa"
    file.write_text(
        arpa.write(
            estimation.estimate(
                [text.split() for text in ("yes no stop", "go one two", "three yes", "no go")], 2
            )
        )
    )
    return Language(str(file))


def prefixes(heard: PackedRecognizer, wave: np.ndarray) -> list[str]:
    """The text of the first k chunks of one forward pass over everything, for every k."""
    output = heard.output([fbank(wave)])
    frames = int(output.lengths[0])
    found = []
    for k in range(-(-frames // heard.chunk) + 1):
        part = replace(output, lengths=torch.tensor([min(k * heard.chunk, frames)]))
        found.append(heard.decode(part)[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("conformer_ctc", decoding.GREEDY),
        ("conformer_ctc", decoding.GRAPH),
        *(
            (name, decoder)
            for name in MODELS
            if name != "conformer_ctc"
            for decoder in decoding.DECODERS["transducer"]
        ),
    ],
)
def test_text_so_far_is_that_of_the_chunks_so_far(runs, tmp_path, name, decoder):
    heard = reference(
        runs[name],
        "dense",
        decoder=decoder,
        language=small_language(tmp_path) if decoder == decoding.GRAPH else None,
    )
    chunk = int(heard.conditions["chunk_ms"] * audio.SAMPLE_RATE // 1000)
    wave = np.concatenate(test_transducer.sounds(8))
    if decoder == decoding.GRAPH:
        test_recognizer.talkative(heard, [fbank(wave)])
    right, stream, seen = prefixes(heard, wave), heard.stream(), []
    ahead = (
        25 + 10 * heard.model.ahead
    )  # ms: the window of a frame, and what the model sees after a chunk
    for start in range(0, len(wave), chunk):
        seen.append(stream.accept(wave[start : start + chunk]))
        whole = int(
            (1000 * (start + chunk) / audio.SAMPLE_RATE - ahead) // heard.conditions["chunk_ms"]
        )
        assert seen[-1] in right[max(0, whole) : whole + 2], (
            "what was heard must be said within a chunk"
        )
    assert len(set(filter(None, seen))) > (1 if decoder == decoding.GRAPH else 3), (
        "the text must grow"
    )
    assert stream.finish() == right[-1] == heard.transcribe([fbank(wave)])[0]


@pytest.mark.slow
@pytest.mark.parametrize("run", SHIPPED)
def test_words_of_a_shipped_sample_appear_while_it_is_spoken(run):
    wave = audio.read(paths.RELEASED / paths.SAMPLES / "9_three_commands_in_a_row.opus")
    stream, step = (
        reference(run, "dense", SHIPPED[run], decoder="greedy").stream(),
        SHIPPED[run] * 16,
    )
    seen = [stream.accept(wave[start : start + step]) for start in range(0, len(wave), step)]
    text = stream.finish()
    first = next((i for i, part in enumerate(seen) if part), len(seen))
    assert first < len(seen) / 4 and len(set(seen)) > len(seen) / 3, (
        f"text must grow with the sound: {seen}"
    )
    assert text.startswith(seen[-1])


def test_ids_are_a_copy():
    state, log_probs = (
        decoding.GreedyState(),
        np.log(np.eye(4)[[1, 0, 2]] * 0.9 + 0.02).astype(np.float32),
    )
    state.accept(log_probs[:2])
    before = state.ids
    state.accept(log_probs[2:])
    assert before == [1] and state.ids == [1, 2]
