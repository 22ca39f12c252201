"""The packed file: what is read back is the masked weight, deterministic, small, and refused when
it is not one.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core import cost, paths
from core.common import writing
from core.records import Subnet, from_dict
from core.storage import block_arrays, packing, store
from tests import standin


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"))


def subnet(run, name):
    return from_dict(Subnet, json.loads(paths.subnet_file(run, name).read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "s30", "s90"])
def test_unpacked_equals_masked(run, name):
    chosen, shape = subnet(run, name), standin.spec()
    tensors, metadata = packing.unpack(packing.pack(run, chosen))
    stored, ranks = load_file(run / paths.WEIGHTS), load_file(paths.ranks_file(run))
    assert set(tensors) == set(stored)
    zeros = 0
    for unit, kept in zip(shape.units, cost.counts(shape, chosen.keep)):
        weight = stored[unit.name + ".weight"].astype(np.float32)
        for i in range(
            unit.rows // 8
        ):  # the definition, spelled out: block (i, j) = weight[8i:8i+8, j]
            weight[8 * i : 8 * i + 8, ranks[unit.name][i] >= kept] = 0
        np.testing.assert_array_equal(tensors[unit.name + ".weight"], weight)
        assert cost.blocks_kept(unit, metadata["subnet"]["keep"][unit.name]) == kept
        zeros += int((weight == 0).sum())
    assert zeros / cost.prunable_parameters(shape) == pytest.approx(chosen.sparsity, abs=1e-3)
    assert metadata["subnet"]["name"] == name and metadata["tokens"].startswith("<blk> 0")
    assert all(value.dtype == np.float32 for value in tensors.values())


@pytest.mark.slow
def test_sparser_is_smaller_and_deterministic_over_processes(run):
    sizes = [len(packing.pack(run, subnet(run, n))) for n in ("dense", "s30", "s50", "s70", "s90")]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.5 * sizes[0]
    code = (
        "import sys,json,pathlib; from core.storage import packing; from core import records;"
        " s=records.from_dict(records.Subnet,json.load(open(sys.argv[2])));"
        " data=packing.pack(pathlib.Path(sys.argv[1]),s);print(packing.sha256(data), 'torch' in"
        " sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, run, paths.subnet_file(run, "s70")],
        text=True,
        check=True,
        capture_output=True,
        cwd=paths.ROOT,
    ).stdout.split()
    assert out == [packing.sha256(packing.pack(run, subnet(run, "s70"))), "False"]


@pytest.mark.slow
def test_raw_where_a_mask_does_not_pay(run):
    shape = standin.spec()
    unit = shape.units[0]
    nearly = dataclasses.replace(subnet(run, "dense"), keep={unit.name: 1 - 1.01 / unit.blocks})
    data = packing.pack(run, nearly)
    assert (unit.name + ".mask").encode() not in data
    assert (packing.unpack(data)[0][unit.name + ".weight"] == 0).sum() == 8


@pytest.mark.slow
def test_bad_input_is_named(run, tmp_path):
    with pytest.raises(ValueError, match="no packed subnet"):
        packing.unpack(b"hello")
    with pytest.raises(ValueError, match="no packed subnet"):
        packing.unpack(packing.pack(run, subnet(run, "s70"))[:-100])
    with pytest.raises(ValueError, match="other ranks"):
        packing.pack(run, dataclasses.replace(subnet(run, "s70"), ranks_sha256="0" * 64))
    with pytest.raises(ValueError, match="no packed file"):
        packing.unpack(tmp_path / "nothing.safetensors")
    paths.ranks_file(other := standin.make_run(tmp_path, "without")).unlink()
    with pytest.raises(ValueError, match="needs block ranks"):
        packing.pack(other, subnet(other, "s70"))
    (other / paths.WEIGHTS).write_bytes((other / paths.WEIGHTS).read_bytes()[:-100])
    with pytest.raises(ValueError, match="weights.safetensors is damaged"):
        packing.weights(other)


def test_random_bytes_are_no_weights(run):
    """Of random half-precision numbers a 32nd is not finite; the text of such a net is empty."""
    whole, noise = packing.pack(run, subnet(run, "s70")), np.random.default_rng(0)
    size = 2000
    assert len(whole) > 3 * size
    for at in np.linspace(len(whole) // 3, len(whole) - size, 20).astype(int):
        with pytest.raises(ValueError, match="no packed subnet, or a damaged one"):
            packing.unpack(whole[:at] + noise.bytes(size) + whole[at + size :])


@pytest.mark.slow
def test_numbers_that_are_not_finite_are_named(tmp_path):
    folder = standin.make_run(tmp_path, "diverged")
    values = packing.weights(folder)
    values["heads.0.bias"] = np.full_like(values["heads.0.bias"], np.nan)
    save_file(values, folder / paths.WEIGHTS)
    for door in (
        lambda: packing.weights(folder),
        lambda: packing.pack(folder, subnet(folder, "s70")),
    ):
        with pytest.raises(ValueError, match=r"29 of 29 values of 'heads.0.bias' are not finite"):
            door()


@pytest.mark.slow
def test_ranks_that_a_release_leaves_out_are_told_by_the_weights(tmp_path):
    folder = standin.make_run(tmp_path, "alone")
    stored, sha = store.ranks(folder), store.ranks_sha256(folder)  # the stand-in's are by size
    data = packing.pack(folder, subnet(folder, "s70"))
    paths.ranks_file(folder).unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        packing.ranks(folder)
    writing.write_json(paths.left_out_file(folder), {"ranks_sha256": sha})
    told = packing.ranks(folder)
    assert told.keys() == stored.keys() and all(np.array_equal(told[n], stored[n]) for n in told)
    assert packing.pack(folder, subnet(folder, "s70")) == data
    with pytest.raises(ValueError, match="other ranks"):
        packing.pack(folder, dataclasses.replace(subnet(folder, "s70"), ranks_sha256="0" * 64))
    weight = np.array([[3.0, 0.0, -4.0], [0.0, 0.0, 4.0]])
    assert block_arrays.ranks_by_size(weight, 1).tolist() == [
        [2, 3, 0],
        [4, 5, 1],
    ]  # ties by position, zeros last
    assert block_arrays.ranks_by_size(weight, 2).tolist() == [[1, 2, 0]]


@pytest.mark.slow
def test_damaged_packed_weights_are_said_to_be_damaged(tmp_path):
    folder = standin.make_run(tmp_path, "alone")
    good = packing.pack(folder, subnet(folder, "s70"))
    end = 8 + int.from_bytes(good[:8], "little")
    noise, said = np.random.default_rng(1), 0
    for _ in range(150):
        place = int(noise.integers(8, end))
        (folder / paths.WEIGHTS).write_bytes(
            good[:place] + bytes([good[place] ^ 1 << int(noise.integers(8))]) + good[place + 1 :]
        )
        try:
            packing.weights(folder)
        except ValueError as error:
            assert paths.WEIGHTS in str(error)
            said += 1
    assert said > 50  # the others fell into names and numbers that nothing contradicts


def test_written_file_is_read_back(run, tmp_path):
    path = packing.write(run, subnet(run, "s70"), tmp_path / "deep" / "s70.safetensors")
    assert [p.name for p in path.parent.iterdir()] == ["s70.safetensors"]
    assert packing.unpack(path)[1]["subnet"]["name"] == "s70"
    assert packing.zstd_bytes(path.read_bytes()) < path.stat().st_size
