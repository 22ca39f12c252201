"""Every page on finished runs of several methods and models: what is left out is shown, and a size
that leaves parts out may be faster.
"""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core import cost, paths
from core.evaluation import conditions, evaluate as evaluation
from core.evaluation.material import Material
from core.pipelines import (
    build,
    dry_run,
    finish as pipelines_finish,
    train as pipelines_train,
)
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, Recipe
from core.registry import plugins
from core.speech import audio, tokenizer
from core.speech.features import fbank
from core.storage import store
from core.training.options import Options as TrainingOptions
from core.training.trainer import Trainer
from dashboard.components import sound
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

APP = str(ROOT / "dashboard" / "app.py")
MODELS = {
    "conformer_ctc": {"blocks": 2, "width": 32, "heads": 2, "kernel": 5},
    "emformer_transducer": {
        "blocks": 2,
        "width": 32,
        "heads": 2,
        "predictor": "lstm",
        "embedding": 16,
        "joint": 32,
    },
    "lstm_transducer": {"blocks": 2, "width": 32, "embedding": 16, "joint": 32},
}
OPTIONS = {
    "simple_topk": {"sizes": [3, 5]},
    "iterative_zero_out": {"sizes": [3, 5], "rounds": 2},
    "aux_loss": {"exits": [1]},
    "individual": {"blocks": 1},
    "ortho_softmax": {"sizes": [0.5, 0.75]},
    "csp": {"sparsity": 0.8, "refresh": 1},
    "gradual_magnitude": {"pattern": "2:4", "sparsity": 0.5, "refresh": 1},
    "omni": {"warmup": 0.0, "sparsest": 0.8},
    "omni_sparsity": {"warmup": 0.0, "sparsest": 0.8},
    "small_dense": {"same_bytes_as": 0.5},
}
CHOSEN = [
    ("simple_topk", "conformer_ctc"),
    ("gradual_magnitude", "conformer_ctc"),
    ("omni", "lstm_transducer"),
    ("omni_sparsity", "emformer_transducer"),
    ("csp", "lstm_transducer"),
    ("ortho_softmax", "conformer_ctc"),
    ("aux_loss", "conformer_ctc"),
    ("individual", "emformer_transducer"),
]
TOLD = CHOSEN[:4]  # whose sentences are looked at, too


def wave(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.2 * rng.normal(size=int(16000 * seconds))).astype(np.float32)


def finished(method: str, model: str):
    """A run of two updates on noise, stored as a training stores it, two of its sizes measured on
    one sound.
    """
    chunk = 160 if model == "emformer_transducer" else 320
    resolved = ResolvedRecipe(recipe_of(method, model, chunk)).built(tokenizer.CHARACTERS)
    folder = paths.runs() / f"{method}-{model}"
    train(resolved, folder)
    measure(folder, chunk)
    return folder


def recipe_of(method: str, model: str, chunk: int) -> Recipe:
    given = OPTIONS.get(method, {})
    if model != "conformer_ctc" and method.startswith("omni"):
        given = given | {"distillation": "none"}
    return Recipe(
        Choice("voice_commands"),
        Choice(model, MODELS[model]),
        Choice(method, given),
        tokens={"kind": "characters"},
        training={
            "updates": 2,
            "threads": 1,
            "chunks_ms": [chunk],
            "precision": "fp32",
            "snapshots": 1,
        },
        evaluation={"chunk_ms": float(chunk)},
        title=f"{method} on {model}",
    )


def train(resolved: ResolvedRecipe, folder) -> None:
    recipe = resolved.recipe
    network, method = build.build(resolved, tokenizer.CHARACTERS, 2)
    prepared = SimpleNamespace(folder=prepared_words(), hash="0", info={"attributions": []})
    pipelines_train._begin(folder, recipe, prepared, method.spec)

    def noise(*_, **__):
        yield from (dry_run.synthetic_batch(2.0, tokenizer.CHARACTERS, True, i) for i in range(2))

    trainer = Trainer(
        network,
        method,
        SimpleNamespace(iterate=noise),
        plugins.make_options(TrainingOptions, recipe.training, "training"),
        1,
        folder,
    )
    trainer.run(lambda *_: True)
    pipelines_finish.finish(
        trainer, folder, resolved, pipelines_finish.facts_of(trainer, recipe, prepared)
    )


def prepared_words():
    """A folder with the tokens and the statistics of prepared speech."""
    folder = paths.artifacts() / "words"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.train(
        ["the quick brown fox jumps over the lazy dog", "it's"],
        tokenizer.Options(kind="characters"),
        folder,
    )
    (folder / paths.FEATURE_STATISTICS).write_text(
        json.dumps({"mean": [0.0] * 80, "std": [4.0] * 80})
    )
    return folder


def measure(folder, chunk: int) -> None:
    """Reports with timings as made up as the sound: a size of less work is faster."""
    material = Material("tiny/test", ["u"], ["yes no"], ["s"], 1.0, [fbank(wave(1.0))], [])
    options = conditions.Options(
        threads=1, speed_utterances=0, repetitions=100, chunk_ms=float(chunk)
    )
    for subnet in two(folder):
        report, rows = evaluation.evaluate(folder, subnet, material, options)
        work = report.mmacs_per_second / (cost.macs_per_second(store.spec(folder)) / 1e6)
        timed = dataclasses.replace(
            report,
            chunk_median_ms=10.0 * work,
            hardware="made up",
            speed_ratio=1 / work,
            speed_ratio_low=0.95 / work,
            speed_ratio_high=1.05 / work,
        )
        store.save_report(folder, timed, rows)


def two(folder) -> list:
    """The dense size, if any, and the smallest."""
    sizes = store.subnets(folder)
    return sizes[:1] + sizes[-1:] if len(sizes) > 1 else sizes


def sample(folder) -> None:
    (folder / paths.SAMPLES).mkdir(parents=True)
    audio.write(folder / paths.SAMPLES / "noise.wav", wave(0.8, 5))


def words(at: AppTest) -> str:
    groups = (at.title, at.markdown, at.caption, at.info, at.error, at.warning, at.subheader)
    return " ".join(
        [*(e.value for group in groups for e in group), *(e.proto.body for e in at.get("html"))]
    )


def opened(view: str, run: str, subnet: str) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=300)
    at.query_params.update({"run": run, "subnet": subnet})
    at.run()
    if view != "explore":
        at.switch_page(f"views/{view}.py").run()
    assert not at.exception, (view, run, subnet, at.exception)
    assert not at.error, (view, run, subnet, words(at))
    return at


def pages(folder) -> dict[str, str]:
    """What every page that shows a run says of its smallest size; a sound is transcribed."""
    name = two(folder)[-1].name
    said = {view: words(opened(view, folder.name, name)) for view in ("explore", "layers")}
    at = opened("evidence", folder.name, name)
    at.session_state["evidence_part"] = "Models side by side"
    at.run()
    at.multiselect(key="compared").set_value([folder.name]).run()
    assert not at.exception and not at.error
    said["evidence"] = words(at)
    at = opened("transcribe", folder.name, name)
    at.segmented_control(key="source").set_value(sound.SAMPLE).run()
    at.selectbox(key="way").set_value(
        "Letters or sounds as they come"
    )  # these nets write no words of the language model
    at.button(key="go").click().run()
    assert not at.exception and not at.error, (folder.name, words(at))
    return said | {"transcribe": words(at)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("SUPERNET_ARTIFACTS", str(tmp_path_factory.mktemp("made")))
    yield {chosen: finished(*chosen) for chosen in CHOSEN}
    patch.undo()


@pytest.fixture
def home(made, monkeypatch, tmp_path):
    monkeypatch.setenv("SUPERNET_ARTIFACTS", str(next(iter(made.values())).parents[1]))
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "released")
    monkeypatch.setattr(paths, "COMPARED", tmp_path / "released" / "comparison")
    sample(tmp_path / "released")
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.mark.parametrize("chosen", CHOSEN, ids="-".join)
def test_every_page_shows_the_run(made, home, chosen):
    said = pages(made[chosen])
    assert "Transcripts" in said["transcribe"] and "RTF" in said["transcribe"]
    if chosen not in TOLD:
        return
    left = chosen[0] == "simple_topk"
    assert ("of 8 parts are left out" in said["layers"]) == left
    assert ("neither stored nor computed" in said["layers"]) == left
    assert ("leaves out altogether" in said["evidence"]) == left
