"""Streaming Conformer with a CTC head: causal convolutions, chunked attention, LayerNorm, no
positional encoding.

After Xu et al. 2024 (arXiv 2407.18930; METHODS.md section 3), made streaming and small. The
streaming state has the names and order that sherpa-onnx's loader of NeMo's cache-aware streaming
CTC models expects (cache_last_channel, cache_last_time, cache_last_channel_len); here
cache_last_channel holds keys and values side by side, so its last dimension is 2 D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.layers.attention import LEFT, SPAN, Layout
from core.layers.conformer_block import BRANCHES, ConformerBlock
from core.layers.dropout import Noise
from core.layers.feed_forward import QUARTERS
from core.layers.subsampling import HISTORY, Subsampling, out_lengths, with_history
from core.models.base import Cut, Model, Output
from core.records import BLOCK, FixedTensor, ModelSpec, PrunableMatrix, option

VERSION = 1
FRAME_MS = 40.0
FBANK_LOOKAHEAD_MS = 7.5  # a 25 ms window centered on its 10 ms frame reaches 7.5 ms beyond it


@dataclass(frozen=True)
class Options:
    blocks: int = option(8, "number of Conformer blocks", low=1, high=64)
    width: int = option(176, "model width D, a multiple of 8 and of heads", low=8, high=2048)
    expansion: int = option(4, "feed-forward hidden width over D", low=1, high=8)
    heads: int = option(4, "attention heads", low=1, high=32)
    kernel: int = option(15, "frames (40 ms) a causal convolution spans", low=2, high=64)
    dropout: float = option(
        0.1, "dropout of the dense net; subnets scale it by the share kept", low=0.0, high=0.9
    )
    outputs: int = option(
        1, "output layers (one per size for methods that want it)", low=1, high=64
    )
    bins: int = option(80, "feature bins", low=8, high=256)


class ConformerCTC(Model):
    frame_ms = FRAME_MS
    chunks = (0, *(n for n in range(1, SPAN + 1) if SPAN % n == 0))
    history = HISTORY

    def can_have_width(self, width: int) -> bool:
        return width % self.options.heads == 0

    def __init__(self, options: Options, vocabulary: int):
        super().__init__()
        if options.width % BLOCK:
            raise ValueError(f"model.width is {options.width}; it must be a multiple of {BLOCK}")
        if options.width % options.heads:
            raise ValueError(
                f"model.heads is {options.heads}; it must divide model.width, {options.width}"
            )
        self.options, self.vocabulary = options, vocabulary
        width, hidden = options.width, options.width * options.expansion
        self.subsampling = Subsampling(options.bins, width)
        self.blocks = nn.ModuleList(
            ConformerBlock(width, hidden, options.heads, options.kernel)
            for _ in range(options.blocks)
        )
        self.heads = nn.ModuleList(nn.Linear(width, vocabulary) for _ in range(options.outputs))
        self.noise_width = options.blocks * (4 * width + 2 * hidden)

    def forward(
        self,
        features: Tensor,
        lengths: Tensor,
        *,
        chunk: int = 0,
        gates: dict | None = None,
        noise: Noise | None = None,
        head: int = 0,
        taps: tuple[int, ...] = (),
    ) -> Output:
        x = self.subsampling(with_history(features))  # [B, T', D]
        lengths = out_lengths(lengths)
        layout = Layout(x.shape[1], lengths, chunk)
        kept: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks):
            x = block(x, layout, _of_block(gates, i), noise)
            if i in taps:
                kept[i] = self._without(x, i + 1)
        return Output(self.read_out(x, head), lengths, kept)

    def _without(self, x: Tensor, first: int) -> Tensor:
        """What blocks from `first` on make of x when none of their branches runs: an emptied block
        still normalizes.
        """
        for block in self.blocks[first:]:
            x = block.norm(x)
        return x

    def read_out(self, hidden: Tensor, head: int = 0) -> Tensor:
        layer = self.heads[head]
        return (
            layer(hidden.to(layer.weight.dtype)).float().log_softmax(-1)
        )  # a tap may be bf16 where autocast has ended

    def initial_state(self, batch: int = 1) -> dict[str, Tensor]:
        o = self.options
        return {
            "cache_last_channel": torch.zeros(batch, o.blocks, LEFT, 2 * o.width),
            "cache_last_time": torch.zeros(batch, o.blocks, o.width, o.kernel - 1),
            "cache_last_channel_len": torch.zeros(batch, dtype=torch.int64),
        }

    def stream(
        self,
        window: Tensor,
        valid: Tensor,
        state: dict[str, Tensor],
        *,
        gates: dict | None = None,
        head: int = 0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.subsampling(window)
        keys, histories = [], []
        cached = state["cache_last_channel_len"]
        for i, block in enumerate(self.blocks):
            x, k, h = block.stream(
                x,
                _of_block(gates, i),
                state["cache_last_channel"][:, i],
                state["cache_last_time"][:, i],
                cached,
                valid,
            )
            keys.append(k)
            histories.append(h)
        return self.read_out(x, head), {
            "cache_last_channel": torch.stack(keys, 1),
            "cache_last_time": torch.stack(histories, 1),
            "cache_last_channel_len": (cached + x.shape[1]).clamp(max=LEFT),
        }

    def spec(self) -> ModelSpec:
        """Prunable are all matrices inside the residual branches; front-end, norms, depthwise
        kernels, biases and heads stay.
        """
        units = []
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and name.startswith("blocks."):
                _, layer, branch, _ = name.split(".")
                kind = branch.rstrip("_12").replace("_", "-")
                units.append(
                    PrunableMatrix(
                        name, kind, int(layer), f"blocks.{layer}.{branch}", *module.weight.shape
                    )
                )
        prunable = {f"{u.name}.weight" for u in units}
        rate = 1000 / FRAME_MS
        fixed = [
            FixedTensor(n, p.numel(), self._macs(n, p, rate))
            for n, p in self.named_parameters()
            if n not in prunable
        ]
        # scores and weighted sum over the keys of a 320 ms chunk and its left context
        attention = 2 * (LEFT + 8) * self.options.width * rate
        fixed += [
            FixedTensor(f"blocks.{i}.attention.products", 0, attention)
            for i in range(self.options.blocks)
        ]
        return ModelSpec(
            "conformer_ctc",
            FRAME_MS,
            FBANK_LOOKAHEAD_MS,
            LEFT * FRAME_MS,
            tuple(units),
            tuple(fixed),
        )

    def cuts(self) -> dict[str, Cut]:
        """Feed-forwards by quarters of their hidden units, attention by heads; a convolution stays
        whole.
        """
        cuts: dict[str, Cut] = {}
        for b in (f"blocks.{i}" for i in range(self.options.blocks)):
            cuts |= {
                f"{b}.{f}": Cut(QUARTERS, (f"{b}.{f}.up",), (f"{b}.{f}.down",))
                for f in ("feed_forward_1", "feed_forward_2")
            }
            cuts[f"{b}.attention"] = Cut(
                self.options.heads,
                tuple(f"{b}.attention.{n}" for n in ("query", "key", "value")),
                (f"{b}.attention.out",),
            )
        return cuts

    @staticmethod
    def _macs(name: str, parameter: Tensor, rate: float) -> float:
        if parameter.dim() < 2:
            return 0.0
        return parameter.numel() * rate * (2 if name.startswith("subsampling.first") else 1)


def _of_block(gates: dict | None, index: int) -> dict:
    if not gates:
        return {}
    return {b: gates[f"blocks.{index}.{b}"] for b in BRANCHES if f"blocks.{index}.{b}" in gates}


def build(options: Options, vocabulary: int) -> ConformerCTC:
    """A freshly initialized model; `vocabulary` counts the blank. The caller seeds torch."""
    model = ConformerCTC(options, vocabulary)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for stem in (
        model.subsampling.first,
        model.subsampling.second,
    ):  # torch's default would shrink the signal to a tenth
        nn.init.kaiming_normal_(stem.weight, nonlinearity="relu")
        nn.init.zeros_(stem.bias)
    for (
        block
    ) in model.blocks:  # small residual branches at the start: trains without a long warm-up
        for last in (
            block.feed_forward_1.down,
            block.convolution.project,
            block.attention.out,
            block.feed_forward_2.down,
        ):
            nn.init.xavier_uniform_(last.weight, gain=1 / math.sqrt(2 * options.blocks))
    return model


__all__ = ["HISTORY", "ConformerCTC", "Options", "build"]
