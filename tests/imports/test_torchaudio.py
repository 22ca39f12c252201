"""A bundle of torchaudio becomes a run: the same numbers and tokens, and clear refusals. No
network: a small net by torchaudio's own factory stands for the published weights.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from torch.nn import functional as F
from torchaudio.models import emformer_rnnt_model
from torchaudio.pipelines import rnnt_pipeline

from core import export, paths, runtime
from core.cli import main as cli
from core.common import writing
from core.imports import torchaudio as source
from core.models import base as models
from core.pipelines import build, dry_run, evaluate, search
from core.pipelines.import_run import import_run
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, as_dict
from core.registry import recipes
from core.speech import audio
from core.storage import store
from tests.speech.test_tokenizer import TEXTS
from tests.speech_stub import write_split

pytestmark = pytest.mark.slow

PIECES = 40  # of the SentencePiece model, without the blank, which is the last symbol of the net
SMALL = {
    "blocks": 2,
    "width": 32,
    "expansion": 2,
    "heads": 2,
    "segment": 16,
    "right_context": 4,
    "left_context": 7,
    "predictor": "lstm",
    "embedding": 16,
    "joint": 32,
}
NAME = "EMFORMER_RNNT_BASE_LIBRISPEECH"


def their_net(options: dict, symbols: int, seed: int = 0):
    """torchaudio's own, as its factory emformer_rnnt_base builds the large one."""
    torch.manual_seed(seed)
    return emformer_rnnt_model(
        input_dim=80,
        encoding_dim=options["joint"],
        num_symbols=symbols,
        segment_length=options["segment"],
        right_context_length=options["right_context"],
        time_reduction_input_dim=options["width"] // 4,
        time_reduction_stride=4,
        transformer_num_heads=options["heads"],
        transformer_ffn_dim=options["width"] * options["expansion"],
        transformer_num_layers=options["blocks"],
        transformer_dropout=0.1,
        transformer_activation="gelu",
        transformer_left_context_length=options["left_context"],
        transformer_max_memory_size=0,
        transformer_weight_init_scale_strategy="depthwise",
        transformer_tanh_on_mem=True,
        symbol_embedding_dim=options["embedding"],
        num_lstm_layers=3,
        lstm_layer_norm=True,
        lstm_layer_norm_epsilon=1e-3,
        lstm_dropout=0.3,
    ).eval()


def talkative(net, blank: int, frames: torch.Tensor):
    """Weights that fit half precision, as the run stores them, and of which speech has many tokens:
    the joiner's outputs over these frames are spread around that of the blank.
    """
    with torch.no_grad():
        length = torch.tensor([frames.shape[1]])
        encodings = net.transcribe(F.pad(frames, (0, 0, 0, 4)), length + 4)[0][0]
        joined = net.joiner.activation(encodings)
        centered = joined - joined.mean(0)
        weight = net.joiner.linear.weight
        weight.copy_(torch.randn(weight.shape) / centered.std())
        net.joiner.linear.bias.copy_(-weight @ joined.mean(0))
        net.joiner.linear.bias[blank] += 4
        for parameter in net.parameters():
            parameter.copy_(parameter.half().float())
    return net


def sentencepiece_model(pieces: int) -> bytes:
    """As torchaudio's recipe trains it: <unk> is 0, <s> and </s> follow, no blank."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=pieces,
        model_type="unigram",
        hard_vocab_limit=False,
        required_chars="abcdefghijklmnopqrstuvwxyz'",
        minloglevel=2,
    )
    return model.getvalue()


def bundle_extractor(statistics: Path):
    """The feature extractor that the bundle makes, over a statistics file of ours."""
    made = replace(getattr(rnnt_pipeline, NAME))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rnnt_pipeline.torchaudio.utils, "_download_asset", lambda _: str(statistics))
        return made.get_feature_extractor()


def speech() -> np.ndarray:
    """Real speech of a whole number of segments: at the end of others torchaudio drops a frame."""
    samples = audio.read(str(paths.RELEASED / paths.SAMPLES / "8_six_digits.opus"))
    frames = (1 + len(samples) // 160) // 16 * 16
    return samples[: 160 * (frames - 1)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A bundle's three files, and the net whose weights they hold."""
    folder = tmp_path_factory.mktemp("bundle")
    rng = np.random.default_rng(0)
    statistics = {
        "mean": (rng.random(80) * 5 + 15).tolist(),
        "invstddev": (rng.random(80) + 0.2).tolist(),
    }
    (folder / "statistics.json").write_text(json.dumps(statistics))
    (folder / "tokens.model").write_bytes(sentencepiece_model(PIECES))
    extract = bundle_extractor(folder / "statistics.json")
    features = extract(torch.from_numpy(speech()))[0][:-4]  # without the bundle's right padding
    net = talkative(their_net(SMALL, PIECES + 1), PIECES, features[None])
    torch.save(net.state_dict(), folder / "weights.pt")
    return folder, net, features


@pytest.fixture
def small(monkeypatch):
    """The small net in place of the published one."""
    bundle = replace(source.BUNDLES[NAME], vocabulary=PIECES + 1, options=SMALL)
    monkeypatch.setitem(source.BUNDLES, NAME, bundle)


def given(folder: Path, **changes) -> dict[str, str]:
    kinds = {"weights": "weights.pt", "tokens": "tokens.model", "statistics": "statistics.json"}
    return {kind: str(folder / name) for kind, name in kinds.items()} | changes


@pytest.fixture
def run(files, small):
    return import_run(f"torchaudio:{NAME}", given(files[0]))


def greedy(net, encodings: torch.Tensor, blank: int) -> list[int]:
    """Token ids of the net, at most one a frame as our decoders say them."""
    said, tokens = (
        net.predict(torch.tensor([[blank]], dtype=torch.int32), torch.tensor([1]), None)[::2],
        [],
    )
    for frame in encodings:
        logits = net.join(frame[None, None], torch.tensor([1]), said[0], torch.tensor([1]))[0]
        token = int(logits.argmax())
        if token != blank:
            tokens.append(token)
            said = net.predict(
                torch.tensor([[token]], dtype=torch.int32), torch.tensor([1]), said[1]
            )[::2]
    return tokens


def test_encoder_predictor_and_joiner_say_the_same_numbers(run, files):
    _, net, features = files
    loaded = runtime.load(run, "dense", engine="torch")
    raw = loaded.frontend.whole(speech())
    np.testing.assert_allclose(loaded.normalized(raw), features.numpy(), rtol=1e-5, atol=3e-4)
    frames = features[None]
    length, tokens = torch.tensor([frames.shape[1]]), torch.randint(0, PIECES, (2, 7))
    with torch.inference_mode():
        ours = loaded.model(frames, length).encodings
        theirs = net.transcribe(F.pad(frames, (0, 0, 0, 4)), length + 4)[0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        said = loaded.model.predictor.sequence(tokens + 1)
        after = F.pad(tokens, (1, 0), value=PIECES).int()
        their_said = net.predict(after, torch.tensor([8, 8]), None)[0]
        torch.testing.assert_close(said, their_said, atol=1e-5, rtol=0)
        logits = loaded.model.join(ours[0, :2], said[:, 3])
        their_logits = net.join(
            theirs[:, :1], torch.tensor([1]), their_said[:1, 3:4], torch.tensor([1])
        )
        wanted = torch.roll(their_logits[0].flatten(), 1)
    torch.testing.assert_close(logits[0], wanted, atol=1e-5, rtol=1e-5)


def test_speech_has_the_same_tokens_and_text_whole_and_as_a_stream(run, files):
    folder, net, features = files
    with torch.inference_mode():
        encodings = net.transcribe(
            F.pad(features[None], (0, 0, 0, 4)), torch.tensor([len(features) + 4])
        )[0][0]
        wanted = greedy(net, encodings, PIECES)
    assert len(wanted) > 8 and len(set(wanted)) > 4, "a test of tokens needs some"
    loaded = runtime.load(run, "dense")
    assert loaded.tokens([loaded.frontend.whole(speech())]) == [[token + 1 for token in wanted]]
    processor = rnnt_pipeline._SentencePieceTokenProcessor(str(folder / "tokens.model"))
    text = " ".join(processor([PIECES, *wanted]).split())
    stream = loaded.stream()
    for packet in np.array_split(speech(), 13):
        stream.accept(packet)
    for heard in (stream.finish(), loaded.transcribe([loaded.frontend.whole(speech())])[0]):
        assert " ".join(heard.split()) == text


def test_it_is_a_run_like_any_other(run, files, capsys, tmp_path):
    info = next(r for r in store.runs() if r.id == NAME.lower())
    assert info.finished and not info.broken and info.folder == run
    assert [s.name for s in store.subnets(run)][::7] == ["dense", "u60"]
    assert store.subnet(run, "u70").sparsity == pytest.approx(0.7, abs=0.01)
    card = (run / paths.CARD).read_text()
    assert "torchaudio.pipelines" in card and "CC BY 4.0" in card and "not trained here" in card
    names = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert all(paths.RUN_FILE.fullmatch(name) for name in names)
    assert cli.main(["list", "runs"]) == 0
    assert "Emformer RNN-T base of torchaudio" in capsys.readouterr().out
    sample = str(paths.RELEASED / paths.SAMPLES / "8_six_digits.opus")
    assert cli.main(["transcribe", run.name, "u50", sample]) == 0
    assert capsys.readouterr().out.startswith(sample)
    export.write(run.name, ["u50"], tmp_path / "hub", lambda *_: True, "hub")
    assert '\nlicense: "other"\n' in (tmp_path / "hub" / run.name / paths.CARD).read_text()
    lines = export.write(run.name, ["u90"], tmp_path, lambda *_: True)
    assert len(lines) == 1 and runtime.load(tmp_path / "u90.safetensors").transcribe(
        [np.zeros((64, 80), np.float32)]
    )


def test_it_is_measured_and_searched_on_speech_at_hand(run, tmp_path):
    rows = ["audio,text,speaker,split"]
    for split in ("train", "search", "dev", "test"):
        for u in write_split(tmp_path / "sound", split, 3, 2):
            rows.append(f"{u.audio},{u.text},{u.speaker},{split}")
    (tmp_path / "sound" / "list.csv").write_text("\n".join(rows))
    changes = {
        "search": {"sparsities": [0.5], "seconds": 4.0, "evaluations": 8, "population": 4},
        "evaluation": {"chunk_ms": 160.0, "splits": ["test"], "speed_utterances": 0},
    }
    recipe = replace(
        store.recipe(run), corpus=Choice("folder", {"root": str(tmp_path / "sound")}), **changes
    )
    writing.write_json(run / paths.RECIPE, as_dict(recipe))
    store.finish(run, {})
    reports = evaluate.evaluate(run.name, ["dense", "u70"], [], lambda *_: True)
    assert [(r.subnet, r.utterances, r.lookahead_ms) for r in reports] == [
        ("dense", 3, 42.5),
        ("u70", 3, 42.5),
    ]
    found = search.search(run.name, lambda *_: True, methods=["search"])
    assert {"s50", "m50"} <= {s.name for s in found}


# the recipe that makes a supernet of it


def test_the_recipe_makes_a_supernet_of_it(run, files):
    recipe = recipes.override(
        recipes.load_recipe("import_omni"),
        [
            f"init_from={run.name}",
            "training.batch_seconds=4",
            *(f"model.{n}={json.dumps(v)}" for n, v in SMALL.items()),
        ],
    )
    assert recipe.method.name == "omni_sparsity" and ResolvedRecipe(recipe).speech.inherits()
    estimate = dry_run.estimate(recipe)
    assert estimate["audio_hours"] > 0 and estimate["passes"] == 4
    model, _ = build.build(ResolvedRecipe(recipe), PIECES + 1, 10)
    build.start_from(model, ResolvedRecipe(recipe), (run / paths.TOKENS).read_text())
    theirs = files[1].state_dict()["joiner.linear.bias"]
    assert torch.equal(model.joiner.linear.bias, torch.roll(theirs, 1))
    with pytest.raises(ValueError, match="features.kind = 'torchaudio_mel'"):
        build.check(ResolvedRecipe(recipes.override(recipe, ["features.kind=fbank"])), PIECES + 1)


def test_the_recipe_is_of_the_published_size():
    recipe, bundle = recipes.load_recipe("import_omni"), source.BUNDLES[NAME]
    assert recipe.init_from == source.Source().name(NAME)
    assert recipe.model == Choice(source.MODEL, bundle.options) and bundle.vocabulary == 4097
    assert recipe.training["chunks_ms"] == [160] and recipe.evaluation["chunk_ms"] == 160


def test_the_published_net_fits_tensor_by_tensor(tmp_path):
    """Its shapes alone: nothing of 300 MB is computed or written."""
    with torch.device("meta"):
        theirs = rnnt_pipeline.emformer_rnnt_base(num_symbols=4097).state_dict()
        bundle = source.BUNDLES[NAME]
        ours = models.build(Choice(source.MODEL, bundle.options), bundle.vocabulary)
    renamed = {
        n.replace("predictor.", "predictor.lstm.", 1) if n.startswith("predictor.") else n: tuple(
            t.shape
        )
        for n, t in theirs.items()
    }
    assert renamed == {n: tuple(p.shape) for n, p in ours.named_parameters()}
    assert sum(math.prod(shape) for shape in renamed.values()) == 76_738_049
    published = getattr(rnnt_pipeline, NAME)
    assert (published._blank, published._n_mels, published._n_fft, published._hop_length) == (
        4096,
        80,
        400,
        160,
    )
    assert (published.segment_length, published.right_context_length) == (16, 4)


# what is refused


def refused(capsys, *words: str) -> str:
    assert cli.main(["import", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "Traceback" not in said
    left = paths.runs()
    assert not left.is_dir() or not list(left.iterdir())
    return said


def words(folder: Path, **changes) -> list[str]:
    files = given(folder, **changes).items()
    return [w for kind, file in files if file for w in (f"--{kind}", file)]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("torchaudio:EMFORMER_RNNT_BASE", f"did you mean '{NAME}'"),
        ("torchaudoi:x", "did you mean 'torchaudio'?); there are: hub, torchaudio"),
        ("torchaudio", "expected SOURCE:NAME with a source of hub, torchaudio, got torchaudio"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(capsys, what, said):
    assert said in refused(capsys, what)


def saved(tmp_path, tensors) -> str:
    torch.save(tensors, tmp_path / "other.pt")
    return str(tmp_path / "other.pt")


def test_damaged_and_wrong_weights_are_refused_by_name(files, small, tmp_path, capsys):
    folder, net, _ = files
    whole = (folder / "weights.pt").read_bytes()
    bare = net.state_dict()
    part = tmp_path / "part.pt"
    cases = {str(tmp_path / "none.pt"): "--weights: expected a file, got"}
    for name, data in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("text", b"no weights")):
        (tmp_path / name).write_bytes(data)
        cases[str(tmp_path / name)] = (
            "expected weights saved by torch.save, got a file that is damaged"
        )
    for file, said in cases.items():
        assert said in refused(capsys, f"torchaudio:{NAME}", *words(folder, weights=file))
    bias, row = "joiner.linear.bias", bare["joiner.linear.bias"]
    for tensors, said in (
        (bare | {bias: row[1:]}, "'joiner.linear.bias': expected shape [41], got shape [40]"),
        (
            {n: t for n, t in bare.items() if n != bias},
            "'joiner.linear.bias': expected shape [41], got none",
        ),
        (bare | {"extra": row}, "1 tensors are none of this model's, e.g. 'extra'"),
        (bare | {bias: row * torch.inf}, "expected numbers that fit half precision, got inf"),
        (bare | {bias: row * 0 + 1e6}, "expected numbers that fit half precision, got 1e+06"),
        ([row], "expected a dict of tensors, got list"),
    ):
        file = saved(tmp_path, tensors)
        assert said in refused(capsys, f"torchaudio:{NAME}", *words(folder, weights=file))
    assert not part.exists()


def test_code_in_a_checkpoint_is_never_run(files, small, tmp_path, capsys):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    file = saved(tmp_path, {"joiner.linear.bias": Bomb()})
    assert "expected weights" in refused(
        capsys, f"torchaudio:{NAME}", *words(files[0], weights=file)
    )
    assert not (tmp_path / "ran").exists()


def test_other_tokens_and_statistics_are_refused(files, small, tmp_path, capsys):
    folder, other = files[0], tmp_path / "other"
    other.write_bytes(sentencepiece_model(PIECES - 3))
    said = refused(capsys, f"torchaudio:{NAME}", *words(folder, tokens=str(other)))
    assert "expected a SentencePiece model of 40 pieces, got 37" in said
    other.write_bytes(b"no model")
    said = refused(capsys, f"torchaudio:{NAME}", *words(folder, tokens=str(other)))
    assert "not a SentencePiece model" in said
    for text, wanted in (
        ("{", 'expected JSON with "mean" and "invstddev"'),
        (
            '{"mean": [1], "invstddev": [1]}',
            "expected 80 values of mean and invstddev, got shapes [1]",
        ),
        (json.dumps({"mean": [1] * 80, "invstddev": [0] * 80}), "positive invstddev"),
    ):
        other.write_text(text)
        assert wanted in refused(
            capsys, f"torchaudio:{NAME}", *words(folder, statistics=str(other))
        )


def test_without_network_it_says_which_file_to_fetch(files, small, capsys, monkeypatch):
    def offline(key: str) -> str:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(rnnt_pipeline.torchaudio.utils, "_download_asset", offline)
    said = refused(capsys, f"torchaudio:{NAME}", *words(files[0], weights=""))
    assert "could not be downloaded" in said and "--weights FILE" in said
    assert "download.pytorch.org/torchaudio/models/emformer_rnnt_base_librispeech.pt" in said


def test_what_is_not_given_torchaudio_downloads(files, small, monkeypatch):
    names = {".pt": "weights.pt", ".json": "statistics.json", ".model": "tokens.model"}
    asked = []

    def download(key: str) -> str:
        asked.append(key)
        return str(files[0] / names[Path(key).suffix])

    monkeypatch.setattr(rnnt_pipeline.torchaudio.utils, "_download_asset", download)
    assert (import_run(f"torchaudio:{NAME}", {}) / paths.FINISHED).is_file()
    assert len(asked) == 3


def test_without_torchaudio_its_install_is_named(files, small, capsys, monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    for name in (
        "layers.predictor",
        "layers.emformer",
        "models._transducer",
        "models.emformer_transducer",
    ):
        monkeypatch.delitem(sys.modules, f"core.{name}", raising=False)
    said = refused(capsys, f"torchaudio:{NAME}", *words(files[0]))
    assert "needs torchaudio, which is not installed: pip install torchaudio" in said
    said = refused(capsys, f"torchaudio:{NAME}", *words(files[0], weights=""))
    assert "--weights is not given, and its download needs torchaudio" in said


def test_a_name_is_used_once_and_may_be_chosen(run, files, small, capsys):
    for wanted in ([], ["--name", run.name]):
        assert cli.main(["import", f"torchaudio:{NAME}", *words(files[0]), *wanted]) == 2
        assert f"there is a run {run.name} already" in capsys.readouterr().err
    assert cli.main(["import", f"torchaudio:{NAME}", *words(files[0]), "--name", "../x"]) == 2
    assert "--name: expected letters, digits" in capsys.readouterr().err
    assert cli.main(["import", f"torchaudio:{NAME}", *words(files[0]), "--name", "mine"]) == 0
    assert store.subnets("mine")[0].run == "mine" and store.runs()[-1].finished


def test_only_the_commands_of_transducers_need_torchaudio():
    code = (
        "import sys; sys.modules['torchaudio'] = None\n"
        "from core.registry import plugins\n"
        "rooms = ('corpora', 'methods', 'runtime', 'export', 'imports', 'frontends')\n"
        "[plugins.load(room, name) for room in rooms for name in plugins.names(room)]\n"
        "plugins.load('models', 'conformer_ctc')\n"
        "import core.cli.main, core.pipelines.train, core.pipelines.evaluate\n"
        "import core.pipelines.import_run, core.jobs.process\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
