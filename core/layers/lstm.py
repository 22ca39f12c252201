"""An LSTM layer (Hochreiter & Schmidhuber 1997; forget gates, no peepholes) whose matrices are
parameters like any other's.

torch.nn.LSTM keeps a list of its weights beside its parameters; here the fused kernel is given the
weights of the pass itself, so a forward pass under other weights (torch.func.functional_call) is
one of these weights, on any device. The projection stands behind the recurrence, not in it as in
Sak et al. 2014: ours, because the kernels that are quick on CPUs have none inside. Letters: B
utterances, T frames, D width, H cells.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

# cuDNN would have all weights side by side in memory: those under a mask are new tensors every
# pass, and it copies them.
warnings.filterwarnings(
    "ignore", message="RNN module weights are not part of single contiguous chunk"
)
# The CPU kernel in bf16 needs AVX-512: without it (AMD Zen 3, torch 2.11) it ends with "could not
# create a primitive descriptor".
KERNEL_IN_BF16 = "AVX512" in torch.backends.cpu.get_cpu_capability()


class Matrix(nn.Linear):
    """Weight [R, C] and bias of a product that a fused kernel computes. Called with what it is
    multiplied with, [..., C], it gives its
    weight: so what listens to the inputs of linear layers (core/methods/csp.py) hears these, too.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self.weight


class LSTM(nn.Module):
    """As wide as its input, of H cells; a linear layer brings the output back to D where H is
    another number.
    """

    def __init__(self, width: int, cells: int):
        super().__init__()
        self.cells = cells
        self.input = Matrix(
            width, 4 * cells
        )  # rows: input, forget, cell and output gates, as torch.nn.LSTM's
        self.recurrent = Matrix(cells, 4 * cells, bias=False)
        self.projection = nn.Linear(cells, width, bias=False) if cells != width else nn.Identity()
        with torch.no_grad():  # remembers at the start (Jozefowicz et al. 2015)
            self.input.bias[cells : 2 * cells] += 1.0

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D] after a state of hidden and cell [B, H] -> (y [B, T, D], the state after
        it).
        """
        weights = [
            self.input(x),
            self.recurrent.weight,
            self.input.bias,
            torch.zeros_like(self.input.bias),
        ]
        # on a GPU autocast would run this kernel in fp16, whose small gradients vanish without a
        # scaler
        device = x.device.type
        if torch.is_autocast_enabled(device) and not (x.is_cpu and KERNEL_IN_BF16):
            with torch.autocast(device, enabled=False):
                said, h, c = _fused(
                    x.float(), hidden.float(), cell.float(), [w.float() for w in weights]
                )
        else:
            said, h, c = _fused(x, hidden, cell, weights)
        self.recurrent(
            torch.cat([hidden.unsqueeze(1).to(said.dtype), said[:, :-1]], 1)
        )  # known only now
        return self.projection(said), h[0], c[0]


def _fused(
    x: Tensor, hidden: Tensor, cell: Tensor, weights: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer in one kernel. The flag `train` is nn.Module.training: without it no kernel has a
    backward pass, and there is no dropout
    in here to switch off.
    """
    state = hidden.unsqueeze(0).contiguous(), cell.unsqueeze(0).contiguous()  # as cuDNN wants them
    return torch.lstm(
        x,
        state,
        weights,
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=torch.is_grad_enabled(),
        bidirectional=False,
        batch_first=True,
    )
