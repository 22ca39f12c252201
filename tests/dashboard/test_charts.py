"""Figures and plain words: the front, its marks, masks to the block, what fits a device, when
"faster" may be said.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from core import cost
from core.records import as_dict
from core.storage import store
from dashboard.charts import (
    arms,
    curves,
    explore as charts,
    hover,
    layers as layer_charts,
    looks,
    tiles,
)
from dashboard.components import cards, diff
from dashboard.model import fits
from tests import standin

DISK = charts.AXES["MB on disk"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"), "standin")


@pytest.fixture(scope="module")
def points(run) -> pd.DataFrame:
    rows = [as_dict(r) for r in store.reports(run) if r.split == standin.SPLITS[0]]
    return pd.DataFrame(rows)


def drawn_as(points: pd.DataFrame) -> dict[str, looks.Series]:
    """Each run under its own id."""
    styles = looks.styles(dict(zip(points["run"], points["method"])))
    return {run: looks.Series(run, *style) for run, style in styles.items()}


def test_front_keeps_only_points_that_nothing_beats():
    x = np.array([1.0, 2.0, 3.0, 2.0, np.nan])
    y = np.array([9.0, 5.0, 5.0, 6.0, 0.0])
    assert charts.pareto(x, y).tolist() == [True, True, False, False, False]
    assert charts.pareto(np.array([1.0, 1.0]), np.array([2.0, 2.0])).tolist() == [
        True,
        True,
    ]  # ties stay


@pytest.mark.slow
def test_front_marks_beaten_points_by_run_and_leaves_out_what_is_not_measured(points):
    other = points.assign(method="gradual_magnitude", run="other", wer=points["wer"] + 0.1)
    both = charts.front(pd.concat([points, other], ignore_index=True), DISK)
    assert not both[both["run"] == "other"]["on_front"].any()
    assert not both[both["run"] == "other"]["beaten"].all(), "a run's own best points are not faint"
    untimed = points.assign(chunk_median_ms=[None] * len(points))
    assert charts.front(untimed, charts.AXES["ms per chunk"]).empty


@pytest.mark.parametrize("axis", list(charts.AXES.values()), ids=list(charts.AXES))
def test_every_axis_draws_every_point_with_its_interval(points, axis):
    drawn = charts.front(points, axis)
    figure = charts.front_figure(drawn, axis, drawn_as(points))
    marks = [t for t in figure.data if t.mode == "markers"]
    assert sum(len(t.x) for t in marks) == len(points)
    assert all(t.error_y.array is not None and t.error_y.arrayminus is not None for t in marks)
    first = marks[0]
    assert first.x[0] == pytest.approx(drawn.iloc[0][axis.column] / axis.divisor)
    top = 100 * points.set_index("subnet")["wer_high"][first.customdata[0][1]]
    assert first.y[0] + first.error_y.array[0] == pytest.approx(top)


def test_hover_shows_every_condition(points):
    row = next(points.assign(chunk_median_ms=None).itertuples())
    text = hover.hover(row)
    for part in (
        row.subnet,
        row.split,
        row.hardware,
        row.normaliser,
        row.decoder,
        "not measured",
        "320 ms",
        "MB",
        "left context 2560 ms",
        "loaded in 200 ms, not measured read, at most 400 MB",
        f"code {row.code_version}, file {row.file_sha256[:12]}",
    ):
        assert part in text, part
    texts = {
        row.subnet: hover.hover(row)
        for row in points.assign(bytes_read=[1234567.0] * len(points)).itertuples()
    }
    assert "points against" not in texts["dense"] and "1,234,567 bytes read" in texts["dense"]
    assert (
        "+9.6 points against its dense subnet (+0.0 to +50.0, p 0.040)" in texts["s70"]
        and "as fast as" not in texts["s70"]
    )
    row = next(
        points.assign(speed_ratio=1.02, speed_ratio_low=0.97, speed_ratio_high=1.05).itertuples()
    )
    assert "1 thread(s), 1.02 times as fast as its dense subnet (0.97 to 1.05)" in hover.hover(row)


def test_estimates_are_hollow_and_have_no_camera(points):
    drawn = charts.front(points, DISK)
    look = drawn_as(points)
    guess = charts.front_figure(drawn, DISK, look, {"x": 0.1, "wer": 0.2, "measured": False}).data[
        -1
    ]
    assert guess.text[0] == "<b>≈ 20.0 %</b>" and guess.marker.symbol == "circle-open"
    known = charts.front_figure(drawn, DISK, look, {"x": 0.1, "wer": 0.2, "measured": True}).data[
        -1
    ]
    assert "≈" not in known.text[0] and known.marker.size > guess.marker.size
    assert "toImage" in charts.config(False)["modeBarButtonsToRemove"]
    assert "toImage" not in charts.config(True)["modeBarButtonsToRemove"]


def test_methods_differ_in_color_and_in_shape():
    methods = ["omni_sparsity", "small_dense", "gradual_magnitude", "dense", "new_one", "newer_one"]
    styles = looks.styles({m: m for m in methods}).values()
    assert len({marker for _, marker in styles}) == len(methods) and len(
        {color for color, _ in styles}
    ) == len(methods)


def test_zeros_by_unit_and_kind_are_those_of_the_subnet(run):
    spec, subnet = store.spec(run), store.subnet(run, "s70")
    table = layer_charts.unit_table(spec, subnet)
    assert table["zeros"].sum() / table["weights"].sum() == pytest.approx(
        cost.sparsity_reached(spec, subnet.keep)
    )
    kinds = layer_charts.kind_table(table)
    assert kinds["zeros"].sum() == table["zeros"].sum()
    assert len(layer_charts.kinds_figure(table).data) == table["kind"].nunique()
    pooled = {u.name: tiles.pooled(store.ranks(run)[u.name] < 10**9) for u in spec.units}
    heat, words = tiles.figure(table, pooled).data
    side, gap = tiles.SIDE, tiles.GAP
    assert heat.z.shape == tuple(
        (side + gap) * table[part].nunique() for part in ("layer", "short")
    )
    assert np.nanmin(heat.z) == np.nanmax(heat.z) == 100
    assert [text.removesuffix(" %") for text in words.text] == [
        f"{100 * (1 - share):.0f}" for share in table["sparsity"]
    ]


def test_a_tile_shows_where_a_matrix_is_kept():
    """Whatever its shape: larger than a tile, or smaller."""
    for shape in ((88, 176), (22, 704), (5, 7), (1, 300)):
        mask = np.zeros(shape, bool)
        mask[:, : shape[1] // 2] = True
        tile = tiles.pooled(mask)
        assert tile.shape == (tiles.SIDE, tiles.SIDE)
        assert (tile[:, : tiles.SIDE // 3] == 100).all() and (
            tile[:, -tiles.SIDE // 3 :] == 0
        ).all()
        assert tile.mean() == pytest.approx(100 * mask.mean(), abs=8)


def test_masks_are_drawn_to_the_block(run):
    spec, subnet, ranks = store.spec(run), store.subnet(run, "s70"), store.ranks(run)
    unit = spec.units[0]
    mask = ranks[unit.name] < cost.blocks_kept(unit, subnet.keep[unit.name])
    figure = layer_charts.mask_figure(mask)
    assert figure.data[0].z.shape == (unit.rows // 8, unit.columns)
    assert int(np.asarray(figure.data[0].z).sum()) == cost.blocks_kept(unit, subnet.keep[unit.name])
    with pytest.raises(ValueError, match="different shapes"):
        layer_charts.overlap(mask, mask[:, :4])
    assert layer_charts.overlap(np.array([[True, False]]), np.array([[True, True]])).tolist() == [
        [3, 2]
    ]


def test_short_names_drop_the_layer():
    assert layer_charts.short_name("blocks.3.attention.qkv", 3) == "attention.qkv"
    assert layer_charts.short_name("encoder.output", 3) == "encoder.output"


def test_fits_picks_the_best_within_every_limit(points):
    size, wer = points["file_bytes"].min() / 1e6, 100 * points["wer"].min()
    wide = fits.Limits(1000, 1000, 1000, 100)
    best = fits.pick(points, wide)
    assert best.fits and 100 * best.row["wer"] == pytest.approx(wer)
    assert f"**{best.row['subnet']}**" in best.text and "6 of 6 measured sizes fit" in best.text
    ranked = [(row["wer"], row["file_bytes"]) for row in best.rows]
    assert len(ranked) == fits.LISTED
    assert ranked == sorted(ranked)
    assert fits.listed(best.row).startswith(f"{best.row['subnet']}, ")
    small = fits.pick(points, dataclasses.replace(wide, mb=size * 1.01))
    assert small.fits and small.row["file_bytes"] / 1e6 == pytest.approx(size)
    quick = points.assign(chunk_median_ms=np.arange(len(points)) + 1.0)
    assert fits.pick(quick, dataclasses.replace(wide, ms=1.5)).row["chunk_median_ms"] == 1.0
    lean = points.assign(peak_rss_mb=np.arange(len(points)) + 1.0)
    assert fits.pick(lean, dataclasses.replace(wide, ram=1.5)).row["peak_rss_mb"] == 1.0


def test_where_none_fits_the_nearest_miss_and_what_it_misses_are_named(points):
    wide = fits.Limits(1000, 1000, 1000, 100)
    slow = fits.pick(points, dataclasses.replace(wide, ms=8))
    assert not slow.fits and slow.row is not None
    assert "None fits. The nearest is" in slow.text and "12.0 ms per chunk (limit 8)" in slow.text
    assert "It keeps the others: " in slow.text and "400 MB of RAM" in slow.text
    rows = points.assign(chunk_median_ms=[20.0, 9.0, 30.0, 40.0, 50.0, 60.0])
    assert fits.pick(rows, dataclasses.replace(wide, ms=8)).row["chunk_median_ms"] == 9.0
    heavy = fits.pick(points, dataclasses.replace(wide, ram=100))
    assert "400 MB of RAM (limit 100)" in heavy.text
    untimed = fits.pick(points.assign(chunk_median_ms=None), wide)
    assert not untimed.fits and "not timed (limit 1000)" in untimed.text
    empty = fits.pick(points.iloc[:0], wide)
    assert (empty.row, empty.fits) == (None, False) and "Nothing has been measured" in empty.text


def test_predicted_numbers_are_marked(points):
    rows = points.assign(predicted=True)
    text = fits.pick(rows, fits.Limits(1000, 1000, 1000, 100)).text
    assert "≈ 400 MB of RAM, ≈ 12.0 ms per chunk" in text and "≈ " not in text.split("% WER")[1]
    rows = points.assign(predicted=[True] + [False] * (len(points) - 1))
    for axis, hollow in (("ms per chunk", 1), ("RAM", 1), ("MB on disk", 0)):
        figure = charts.front_figure(
            charts.front(rows, charts.AXES[axis]), charts.AXES[axis], drawn_as(rows)
        )
        shown = [
            symbol
            for trace in figure.data
            if "markers" in trace.mode
            for symbol in np.broadcast_to(trace.marker.symbol, len(trace.x))
        ]
        assert sum(symbol.endswith("-open") for symbol in shown) == hollow, axis


def test_faster_is_said_only_when_the_interval_timed_in_turn_excludes_one(run):
    point = as_dict(next(r for r in store.reports(run) if r.subnet == "s70"))

    def said(*ratio, work=1.0):
        return cards.speed_words(
            cards.speed_ratio(
                point | dict(zip(("speed_ratio", "speed_ratio_low", "speed_ratio_high"), ratio))
            ),
            work,
        )

    assert said(2.0, 1.8, 2.2) == (
        "2.00 times as fast",
        "timed in turn with the dense subnet; interval 1.80 to 2.20",
    )
    assert said(0.5, 0.4, 0.6)[0] == "2.00 times as slow"
    assert said(1.2, 0.9, 1.3) == (
        "same speed",
        "zeros save bytes, not time (measured 1.20 times, interval 0.90 to 1.30)",
    )
    assert said(1.004, 1.003, 1.01)[0] == "same speed", (
        "an interval that is shown as 1.00 to 1.01 does not exclude 1"
    )
    assert (
        cards.speed_ratio(point) is None
        and cards.speed_ratio(point | {"speed_ratio": float("nan")}) is None
    )
    headline, text = said(1.1, 0.9, 1.3, work=0.9)
    assert (
        headline == "about the same speed"
        and "parts are left out" in text
        and "interval 0.90 to 1.30" in text
    )
    headline, text = said(2.0, 1.8, 2.2, work=0.4)
    assert headline == "2.00 times as fast" and text.endswith(
        "1.80 to 2.20; parts are left out: 40 % of the dense subnet's multiplications"
    )


def test_a_size_not_timed_against_dense_says_so_and_what_it_took(run):
    point, dense = (
        as_dict(next(r for r in store.reports(run) if r.subnet == name))
        for name in ("s70", "dense")
    )
    assert cards._speed_card(point, dense, "") == (
        "same speed",
        "zeros save bytes, not time; not timed against the dense subnet; 12.0 ms per chunk",
    )
    less = point | {"mmacs_per_second": 0.4 * dense["mmacs_per_second"]}
    assert cards._speed_card(less, dense, "≈ ") == (
        "less to compute",
        (
            "parts are left out: 40 % of the dense subnet's multiplications; not timed against the"
            " dense subnet; ≈ 12.0 ms per chunk"
        ),
    )
    assert cards._speed_card(point | {"chunk_median_ms": None}, None, "")[1].endswith(
        "; not timed against the dense subnet"
    )
    assert cards._speed_card(dense, dense, "") == (
        "this is dense",
        "its other sizes are timed against it; 12.0 ms per chunk",
    )
    quick = point | {"speed_ratio": 2.0, "speed_ratio_low": 1.8, "speed_ratio_high": 2.2}
    assert cards._speed_card(quick, dense, "")[0] == "2.00 times as fast"


def test_left_out_parts_are_named_and_crossed(run):
    shape = store.spec(run)
    off = ("blocks.0.attention", "blocks.2.feed_forward_1", "blocks.2.convolution")
    size = dataclasses.replace(
        store.subnets(run)[0], keep={u.name: 0.0 for u in shape.units if u.branch in off}
    )
    table = layer_charts.unit_table(shape, size)
    assert (
        layer_charts.left_out(table)
        == "3 of 16 parts are left out (layer 1: attention; layer 3: feed forward 1, convolution)."
    )
    pooled = {u.name: np.zeros((tiles.SIDE, tiles.SIDE), np.uint8) for u in shape.units}
    crosses = tiles.figure(table, pooled).data[1].text
    assert crosses.count("×") == 4 + 2 + 2 == table["off"].sum()
    dense = layer_charts.unit_table(shape, store.subnets(run)[0])
    assert layer_charts.left_out(dense) == ""
    assert "×" not in tiles.figure(dense, pooled).data[1].text
    assert [
        layer_charts.branch_name(*given) for given in (("layers.3", 3), ("blocks.3.attention", 3))
    ] == ["whole layer", "attention"]


@pytest.mark.parametrize(
    ("wer", "words"), [(0.001, "fewer than 1"), (0.124, "about 12 of 100"), (1.3, "as many")]
)
def test_errors_in_plain_words(wer, words):
    assert words in cards.words_wrong(wer)


def test_a_point_smaller_by_a_hair_and_much_worse_is_beaten(run):
    rows = pd.DataFrame([as_dict(r) for r in store.reports(run) if r.split == standin.SPLITS[0]])
    smallest = rows.loc[rows["file_bytes"].idxmin()]
    spike = pd.DataFrame(
        [
            {
                **smallest,
                "subnet": "m90",
                "file_bytes": smallest["file_bytes"] * 0.995,
                "wer": smallest["wer"] + 0.5,
            }
        ]
    )
    drawn = charts.front(pd.concat([rows, spike]), next(iter(charts.AXES.values())))
    assert (
        drawn.set_index("subnet")["beaten"].to_dict() | {"m90": True}
        == drawn.set_index("subnet")["beaten"].to_dict()
    )
    assert not drawn.set_index("subnet")["beaten"][smallest["subnet"]]


@pytest.mark.parametrize("dark", [False, True])
def test_no_two_of_many_runs_look_the_same_and_all_can_be_seen(dark):
    methods = {f"{m} {n}": m for m in ("gradual_magnitude", "small_dense", "x") for n in range(40)}
    styles = looks.styles(methods, dark)
    assert list(styles) == list(methods) and len(set(styles.values())) == 120
    for run in ("gradual_magnitude 0", "small_dense 0"):
        assert styles[run][1] == looks.display(methods[run]).marker, "the plug-in's first"
    few = list(styles.values())[:12]
    assert len({marker for _, marker in few}) == 12 and len({color for color, _ in few}) >= 7
    assert all(looks.contrast(color, looks.PAPER[dark]) >= 3 for color, _ in styles.values())


@pytest.mark.parametrize("dark", [False, True])
def test_every_line_and_underline_can_be_seen(dark):
    """A contrast of 3 with the page (WCAG 1.4.11)."""
    rows = [{"step": 1, "loss": {str(n): 1.0 for n in range(9)}}]
    curve = [{"audio_hours": 1.0, "loss": {str(n): 1.0 for n in range(5)}}]
    kinds = pd.DataFrame(
        [(layer, kind, 9, 3) for kind in layer_charts.KIND_STYLE for layer in (1, 2)],
        columns=["layer", "kind", "weights", "zeros"],
    )
    steps = pd.DataFrame([(1, "a", 0.5), (1, "b", 0.5)], columns=["step", "name", "agree"])
    halves = np.eye(2, dtype=bool)
    figures = [
        curves.figure(rows, "loss", dark=dark),
        arms.learning_figure([{"seed": 1, "curve": curve}], dark),
        layer_charts.kinds_figure(kinds, dark),
        layer_charts.steps_figure(steps, dark),
        layer_charts.overlap_figure(halves, ~halves, "a", "b", dark),
    ]
    colors = {
        t.line.color or t.marker.color for f in figures for t in f.data if t.type == "scatter"
    }
    colors |= set(re.findall("#[0-9a-f]{6}", str(diff.STYLES)))
    colors.discard(layer_charts.PRUNED)
    assert len(colors) > 8
    assert [c for c in colors if looks.contrast(c, looks.PAPER[dark]) < looks.CONTRAST] == []


def test_contrast_is_that_of_wcag():
    assert looks.contrast("#FFFFFF", "#000000") == pytest.approx(21)
    assert looks.contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


def test_runs_of_one_method_are_drawn_apart_under_their_titles(points):
    two = pd.concat([points, points.assign(run="b", wer=points["wer"] + 0.1)])
    series = {
        run: looks.Series(f"{run} <b>", *look)
        for run, look in looks.styles({"standin": "dense", "b": "dense"}).items()
    }
    figure = charts.front_figure(charts.front(two, DISK), DISK, series)
    marks = {t.name: (t.marker.color, t.marker.symbol) for t in figure.data if t.showlegend}
    assert set(marks) == {"standin &lt;b&gt;", "b &lt;b&gt;"} and len(set(marks.values())) == 2


def test_a_long_legend_does_not_take_the_place_of_the_chart(points):
    methods = [
        "omni_sparsity",
        "csp",
        "dense",
        "individual",
        "small_dense",
        "simple_topk",
        "ortho_softmax",
    ]
    many = pd.concat([points.assign(method=method, run=method) for method in methods])
    few, all_of_them = (
        charts.front_figure(charts.front(found, DISK), DISK, drawn_as(found))
        for found in (points, many)
    )
    assert (
        few.layout.height == 440 and all_of_them.layout.height == 440 + 3 * 28
    )  # a row of the legend each, beyond four
