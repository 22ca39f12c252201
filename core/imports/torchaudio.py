"""RNN-T models that torchaudio offers as bundles, e.g. EMFORMER_RNNT_BASE_LIBRISPEECH: the net of
the omni-sparsity paper, 76,738,049 parameters. WHAT is the bundle's name.

Its tensors are those of core/models/emformer_transducer.py under almost the same names. torchaudio
has the blank behind the word pieces, we have it before them: rows that belong to tokens move by
one. Weights become half precision like those of every run. What is not given as a file, torchaudio
downloads. Letters: V tokens with the blank.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import paths
from core.common import libraries
from core.imports import base
from core.models import base as models
from core.records import Choice, Recipe
from core.registry import plugins
from core.speech import tokenizer
from core.speech.features import BINS

MODEL = "emformer_transducer"
OF_TOKENS = (  # our parameters whose rows are tokens
    "predictor.lstm.embedding.weight",
    "joiner.linear.weight",
    "joiner.linear.bias",
)
ASSETS = {  # of a bundle: torchaudio's name of each file's address
    "weights": "_rnnt_path",
    "tokens": "_sp_model_path",
    "statistics": "_global_stats_path",
}
LICENSE = """The model was made by the authors of torchaudio (BSD-2-Clause) and trained on
LibriSpeech (Panayotov et al. 2015, CC BY 4.0). torchaudio names no license for the weights: its
pretrained models "may have their own licenses or terms and conditions derived from the dataset used
for training". Who uses them has to find out whether that use is permitted."""


@dataclass(frozen=True)
class Bundle:
    """What the tensors of a bundle do not tell. Its blank is its last token."""

    title: str
    vocabulary: int
    options: dict[str, Any]  # of our model
    corpus: Choice  # that it is measured on
    facts: dict[str, Any] = field(default_factory=dict)


BUNDLES = {
    "EMFORMER_RNNT_BASE_LIBRISPEECH": Bundle(
        "Emformer RNN-T base of torchaudio, LibriSpeech",
        4097,
        {  # torchaudio.models.emformer_rnnt_base
            "blocks": 20,
            "width": 512,
            "expansion": 4,
            "heads": 8,
            "segment": 16,
            "right_context": 4,
            "left_context": 30,
            "predictor": "lstm",
            "embedding": 512,
            "joint": 1024,
        },
        Choice("librispeech", {"tests": ["test-clean", "test-other"]}),
        {"license": "other", "attributions": [["librispeech", "LibriSpeech, CC BY 4.0"]]},
    )
}


class Source(base.Source):
    takes = base.FILES

    def name(self, what: str) -> str:
        plugins.check_name(what, BUNDLES, "bundle of torchaudio")
        return what.lower()

    def read(self, what: str, given: Mapping[str, Path]) -> base.Imported:
        bundle = BUNDLES[what]
        files = {kind: given.get(kind) or _downloaded(what, kind) for kind in base.FILES}
        statistics = _statistics(files["statistics"])
        pieces = _pieces(files["tokens"], bundle.vocabulary)
        chunk_ms = 10 * bundle.options["segment"]
        recipe = Recipe(
            bundle.corpus,
            Choice(MODEL, bundle.options),
            Choice("dense"),
            features={"kind": "torchaudio_mel", "speed_change": 0},
            tokens={"kind": "pieces"},
            training={"chunks_ms": [chunk_ms]},
            evaluation={"chunk_ms": float(chunk_ms)},
            title=bundle.title,
        )
        weights = _weights(files["weights"], recipe.model, bundle.vocabulary)
        contents = {
            paths.TOKENS: pieces.tokens_txt().encode(),
            paths.BPE: pieces.model,
            paths.FEATURE_STATISTICS: json.dumps(statistics).encode(),
            paths.CARD: _card(what, bundle).encode(),
        }
        facts = bundle.facts | {"imported": f"torchaudio:{what}"}
        return base.Imported(contents, base.NewModel(recipe, pieces.size, weights, facts))


def _downloaded(what: str, kind: str) -> Path:
    """A file of the bundle, from torchaudio's cache or its server."""
    try:
        from torchaudio import pipelines, utils
    except ModuleNotFoundError as error:
        needs = libraries.not_installed("torchaudio")
        raise ValueError(f"--{kind} is not given, and its download needs {needs}") from error
    address = getattr(getattr(pipelines, what), ASSETS[kind])
    try:
        return Path(utils._download_asset(address))
    except (OSError, RuntimeError) as error:  # no network, no such host, a full disk
        raise ValueError(
            f"the {kind} of {what} could not be downloaded ({error}): try again with a network, or"
            f" fetch download.pytorch.org/torchaudio/{address} elsewhere and give it with"
            f" --{kind} FILE"
        ) from error


# ---- what its files hold


def _statistics(file: Path) -> dict[str, list[float]]:
    """Its mean and inverse deviation per bin as our statistics.json says it."""
    try:
        data = json.loads(file.read_bytes())
        mean, inverse = (np.asarray(data[n], np.float64) for n in ("mean", "invstddev"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f'{file}: expected JSON with "mean" and "invstddev", got something else ({error})'
        ) from None
    if mean.shape != (BINS,) or inverse.shape != (BINS,):
        raise ValueError(
            f"{file}: expected {BINS} values of mean and invstddev, got shapes"
            f" {list(mean.shape)} and {list(inverse.shape)}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(inverse).all() and (inverse > 0).all()):
        raise ValueError(f"{file}: expected finite means and positive invstddev: copy it again")
    return {"mean": mean.tolist(), "std": (1 / inverse).tolist()}


def _pieces(file: Path, vocabulary: int) -> tokenizer.Pieces:
    """Its SentencePiece model with the blank in front."""
    try:
        pieces = tokenizer.with_blank(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if pieces.size != vocabulary:
        raise ValueError(
            f"{file}: expected a SentencePiece model of {vocabulary - 1} pieces, got"
            f" {pieces.size - 1}"
        )
    return pieces


def _weights(file: Path, model: Choice, vocabulary: int) -> dict[str, np.ndarray]:
    """Its tensors under our names, in float32, the blank in front. ValueError names a tensor that
    is missing, of another shape, or none of this model's.
    """
    with torch.device("meta"):  # shapes alone
        parameters = dict(models.build(model, vocabulary).named_parameters())
    theirs = _checkpoint(file)
    ours = {}
    for name, parameter in parameters.items():
        their_name = name.replace("predictor.lstm.", "predictor.", 1)
        found = theirs.pop(their_name, None)
        tensor = _checked(file, their_name, found, list(parameter.shape)).float()
        ours[name] = _blank_first(tensor) if name in OF_TOKENS else tensor
    if theirs:
        raise ValueError(
            f"{file}: {len(theirs)} tensors are none of this model's, e.g. {sorted(theirs)[0]!r}"
        )
    return {name: tensor.contiguous().numpy() for name, tensor in ours.items()}


def _checked(file: Path, name: str, tensor: Tensor | None, shape: list[int]) -> Tensor:
    got = "none" if tensor is None else f"shape {list(tensor.shape)}"
    if tensor is None or list(tensor.shape) != shape:
        raise ValueError(f"{file}: tensor {name!r}: expected shape {shape}, got {got}")
    largest = float(tensor.abs().max())
    if not math.isfinite(largest) or largest > torch.finfo(torch.half).max:
        raise ValueError(
            f"{file}: tensor {name!r}: expected numbers that fit half precision, got {largest:g}"
        )
    return tensor


def _blank_first(tensor: Tensor) -> Tensor:
    """[V, ...] whose last row is the blank's -> the same with that row first."""
    return torch.roll(tensor, 1, 0)


def _checkpoint(file: Path) -> dict[str, Tensor]:
    """{name: tensor} of a file by torch.save."""
    try:
        # Nothing of ours is ever pickled, but torchaudio publishes nothing else. weights_only
        # builds tensors and plain containers and runs no code that the file names.
        data = torch.load(file, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
    ) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ValueError(
            f"{file}: expected weights saved by torch.save, got a file that is damaged or another"
            f" kind ({type(error).__name__}: {reason}): download it again"
        ) from None
    if not isinstance(data, dict) or not all(isinstance(t, Tensor) for t in data.values()):
        raise ValueError(f"{file}: expected a dict of tensors, got {type(data).__name__}")
    return dict(data)


def _card(what: str, bundle: Bundle) -> str:
    return f"""# {bundle.title}

Imported, not trained here: the bundle `torchaudio.pipelines.{what}`, weights rounded to half
precision. Its own numbers are torchaudio's; what is listed of its smaller sizes is one-shot pruning
by magnitude, without any training after it.

{LICENSE}

It was trained on every folder of LibriSpeech's training speech, also what the corpus `librispeech`
holds out of it as `search`: choose sizes by `dev-clean`.
"""
