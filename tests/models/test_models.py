"""What every model promises: a spec that counts right, streaming that equals the whole, gates
that skip branches.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from core import cost
from core.registry import plugins
from tests import tiny

MODELS = plugins.names("models")


def built(name: str):
    module = plugins.load("models", name)
    torch.manual_seed(0)
    return module.build(plugins.make_options(module.Options, {}, "model"), 257).eval()


@pytest.mark.parametrize("name", MODELS)
def test_anatomy_counts_every_parameter_once(name):
    model = built(name)
    spec = model.spec()
    own = dict(model.named_parameters())
    assert cost.parameters(spec) == sum(p.numel() for p in own.values())
    assert all(
        own[f"{u.name}.weight"].shape == (u.rows, u.columns) and u.rows % 8 == 0 for u in spec.units
    )
    prunable = sum(u.parameters for u in spec.units)
    assert prunable >= 0.9 * cost.parameters(spec) and 5e6 <= cost.parameters(spec) <= 12e6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "chunk"), [(n, c) for n in MODELS for c in built(n).chunks if c in (4, 8, 16, 32)]
)
def test_streaming_equals_the_whole(name, chunk):
    model = built(name)
    torch.manual_seed(1)
    features = torch.randn(1, 1237, 80)
    with torch.inference_mode():
        whole = model(features, torch.tensor([1237]), chunk=chunk)
        frames = int(whole.lengths[0])
        padded = F.pad(features, (0, 0, model.history, 4 * (-frames % chunk) + 3 + model.ahead))
        state, parts = model.initial_state(), []
        shapes = {n: s.shape for n, s in state.items()}
        for at in range(0, frames, chunk):
            window = padded[:, 4 * at : 4 * (at + chunk) + model.history + model.ahead]
            part, state = model.stream(window, torch.tensor([min(chunk, frames - at)]), state)
            parts.append(part)
            assert {n: s.shape for n, s in state.items()} == shapes
    torch.testing.assert_close(
        torch.cat(parts, 1)[:, :frames], whole.frames[:, :frames], atol=2e-4, rtol=0
    )


def test_padding_changes_nothing():
    model = tiny.model().eval()
    features = torch.randn(2, 400, 80)
    features[1, 222:] = 0  # as Batches make them
    together = model(features, torch.tensor([400, 222]), chunk=8)
    alone = model(features[1:, :222], torch.tensor([222]), chunk=8)
    torch.testing.assert_close(together.log_probs[1, :56], alone.log_probs[0], atol=1e-5, rtol=0)


def test_a_gate_of_zero_skips_the_branch_and_a_tensor_scales_it():
    model = tiny.model().eval()
    features, lengths = torch.randn(2, 80, 80), torch.tensor([80, 80])
    calls = []
    model.blocks[1].attention.register_forward_hook(lambda *_: calls.append(1))
    skipped = model(features, lengths, gates={"blocks.1.attention": 0})
    assert not calls
    scaled = model(features, lengths, gates={"blocks.1.attention": torch.zeros(2)})
    assert calls
    torch.testing.assert_close(skipped.log_probs, scaled.log_probs)
    gate = torch.tensor(1.0, requires_grad=True)
    model(
        features, lengths, gates={"blocks.0.convolution": gate}
    ).log_probs.square().sum().backward()
    assert gate.grad.abs() > 0


def test_taps_give_hidden_states_that_can_be_read_out():
    model = tiny.model().eval()
    output = model(torch.randn(1, 80, 80), torch.tensor([80]), taps=(0, 1))
    assert set(output.taps) == {0, 1}
    assert torch.equal(model.read_out(output.taps[1]), output.log_probs)


def test_a_width_that_is_no_multiple_of_eight_is_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        tiny.model(width=36)
