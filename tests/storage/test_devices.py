"""Device profiles: what is measured and predicted, and what is refused in which words."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest

from core import cost
from core.export import _measure
from core.storage import device_cost, devices, store
from core.storage.devices import Arm
from tests import profiles, standin

SPARSE, ONNX = Arm("sparse", "fp32", 1), Arm("onnx", "fp32", 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"), "net")


@pytest.fixture(scope="module")
def data(run):
    return profiles.made(run)


@pytest.fixture
def load(tmp_path):
    return lambda given: devices.load(profiles.write(tmp_path / "pi.json", given))


def estimate(profile, run, size, arm, sha256=""):
    return profile.estimate(arm, sha256, store.spec(run), store.subnet(run, size).keep)


@pytest.mark.slow
def test_a_measured_size_is_found_by_its_file_and_others_are_predicted(run, data, load):
    profile = load(data)
    assert profile.arms == [Arm("onnx", "fp32", 1), ONNX, SPARSE] and profile.chunk_ms == 320
    shape = profile.shape("s70")
    found = estimate(profile, run, "s70", SPARSE, shape.packed_sha256)
    assert (found.ms, found.measured) == (profiles.times("sparse", shape), True)
    assert (found.ms_p95, found.load_ms) == (2 * found.ms, 3.0)
    for arm in (SPARSE, ONNX):
        work = device_cost.work(store.spec(run), store.subnet(run, "s80").keep)
        guess = estimate(profile, run, "s80", arm)
        right = profiles.times(arm.engine, work) / arm.threads
        assert not guess.measured and guess.ms == pytest.approx(right, rel=0.01)
        assert guess.rss_mb == pytest.approx(10 + right, rel=0.02) and guess.ms_p95 is None
        assert profile.held_out(arm) < 0.01


def test_noise_of_five_percent_is_predicted_within_ten(data, load):
    noisy, rng = copy.deepcopy(data), np.random.default_rng(1)
    for timing in noisy["timings"]:
        timing["ms"] *= rng.uniform(0.95, 1.05)
    assert 0 < load(noisy).held_out(SPARSE) < 0.1


def test_zeros_save_time_only_where_they_are_left_out(run, data, load):
    profile = load(data)
    assert estimate(profile, run, "s80", SPARSE).ms < 0.8 * estimate(profile, run, "s30", SPARSE).ms
    assert estimate(profile, run, "s80", ONNX).ms == pytest.approx(
        estimate(profile, run, "s30", ONNX).ms, rel=0.01
    )


@pytest.mark.slow
def test_what_was_not_measured_nearby_is_not_predicted(run, data, load, tmp_path):
    profile, keep = load(data), store.subnet(run, "s70").keep
    spec = store.spec(run)
    wide = store.spec(standin.make_run(tmp_path, "wide", width=64))
    other = dataclasses.replace(spec, model="emformer_transducer")
    unstructured = cost.with_pattern(spec, "1x1")
    assert profile.estimate(SPARSE, "", spec, keep) is not None
    assert profile.estimate(SPARSE, "", wide, {}) is None
    assert profile.estimate(SPARSE, "", other, keep) is None
    assert profile.estimate(SPARSE, "", unstructured, keep) is None
    assert profile.estimate(ONNX, "", unstructured, keep) is not None
    few = load(profiles.made(run, ("dense", "s90")))
    assert few.estimate(SPARSE, "", spec, keep) is None and few.held_out(SPARSE) is None


def changed(data, *path, value=None):
    """A copy with what lies at `path` as `value`, removed where that is None."""
    result = copy.deepcopy(data)
    place = result
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return result


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("format",), "supernet-1", "expected a device profile (format 'supernet-device'), got"),
        (("version",), 2, "expected version 1 of profiles, got 2"),
        (("timings",), None, "the profile lacks timings"),
        (("more",), 1, "unknown option 'more'"),
        (("timings",), [], "timings: expected a list with an entry or more"),
        (("timings", 1, "ms"), None, "timings[1] lacks ms"),
        (
            ("timings", 1, "ms"),
            -1.0,
            "timings[1].ms: expected a number from 1e-06 to 1e+09, got -1.0",
        ),
        (("timings", 1, "ms"), 10**400, "expected float, got a number of over 40 digits"),
        (("timings", 1, "ms"), True, "timings[1].ms: expected float, got True (bool)"),
        (("timings", 1, "ms"), 1e6, "a 95th percentile is below its median"),
        (("timings", 0, "engine"), "torch", "expected one of 'onnx', 'sparse', got 'torch'"),
        (("timings", 1, "threads"), 1, "an arm of a subnet stands twice"),
        (("timings", 0, "subnet"), "s33", "a timing's subnet is not in shapes"),
        (("shapes", 0, "mmacs_nonzero"), 1e6, "mmacs_nonzero is above mmacs"),
        (("shapes", 0, "subnet"), "s50", "a subnet stands twice"),
        (("shapes", 0, "run"), "other", "shapes of several runs"),
        (("runtimes", "sparse"), None, "an engine has no runtime"),
        (("machine", "cores"), "4", "machine.cores: expected int, got '4'"),
        (("name",), "two\nlines", "name: expected text like"),
        (("date",), "yesterday", "date: expected text like"),
    ],
)
def test_an_altered_profile_is_refused_with_what_came_and_what_to_do(
    data, load, path, value, words
):
    with pytest.raises(ValueError, match="measure again") as error:
        load(changed(data, *path, value=value))
    assert words in str(error.value) and str(error.value).startswith("pi.json")


def places(data, path=()):
    """Every path into nested dicts and lists."""
    items = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.slow
def test_no_missing_or_mistyped_part_goes_through(data, load):
    kept = {("shapes", i) for i in range(4)} | {("timings", i) for i in range(12)}
    for path in places(data):
        for value in (None, ["x"], {"x": 1}):
            if value is None and path in kept:
                continue  # one size or arm less is another whole profile
            with pytest.raises(ValueError):
                load(changed(data, *path, value=value))


@pytest.mark.parametrize("cut", [0, 1, 40, 700])
def test_a_cut_off_file_is_said(data, tmp_path, cut):
    file = profiles.write(tmp_path / "pi.json", data)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match="pi.json is cut off or damaged.*measure again"):
        devices.load(file)


def test_other_files_are_refused(data, tmp_path):
    file = tmp_path / "pi.json"
    for content in (b"\xff\xfe", b"[" * 100_000, b"[]", b'"a"', json.dumps(data).encode()[:-1]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="pi.json"):
            devices.load(file)
    file.write_text(json.dumps(data).replace('"load_ms": 3.0', '"load_ms": NaN', 1))
    with pytest.raises(ValueError, match="the number NaN"):
        devices.load(file)
    with pytest.raises(ValueError, match="No such file"):
        devices.load(tmp_path / "nothing.json")


def test_the_script_writes_what_is_read():
    assert (_measure.FORMAT, _measure.VERSION) == (devices.FORMAT, devices.VERSION)
