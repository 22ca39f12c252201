"""Layers: where the zeros are, from the whole model down to every block of every matrix."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.records import Subnet
from dashboard import data
from dashboard.charts import layers as layer_charts, tiles
from dashboard.components import choice, layer_parts
from dashboard.markdown import escape
from dashboard.model import masks
from dashboard.shares import percent

TITLE = "Layers"
ICON = ":material/layers:"
ORDER = 2
LEAST_POINTS = 3  # of a line that is drawn
MOST_STEPS = 24  # training steps drawn; more are thinned out evenly


def is_dark() -> bool:
    return st.context.theme.type == "dark"


def pick_size(chosen: choice.Chosen) -> None:
    """A slider of the stored sizes (and the one between, if that is chosen), densest first."""
    names = data.subnet_names(chosen.run)
    names = names if chosen.subnet in names else [*names, chosen.subnet]
    sparsity = {name: _sparsity(chosen, name) for name in names}
    if st.session_state.get("size_menu") != chosen.subnet:
        st.session_state["size_menu"] = chosen.subnet
    if len(names) > 1:
        st.select_slider(
            "Size",
            sorted(names, key=lambda name: sparsity[name]),
            key="size_menu",
            format_func=lambda name: f"{name}: {percent(sparsity[name])} zeros",
            on_change=lambda: choice.choose(subnet=st.session_state["size_menu"]),
        )


def _sparsity(chosen: choice.Chosen, name: str) -> float:
    known = data.subnets(chosen.run)
    return (known[name] if name in known else choice.record(chosen)).sparsity


def every_matrix(run: str, subnet: Subnet, table: pd.DataFrame) -> None:
    """ValueError when masks are missing."""
    kept = masks.pooled(run, subnet)
    st.plotly_chart(
        tiles.figure(table, kept, is_dark()),
        key="tiles",
        config=layer_charts.CONFIG,
        alt="Every weight matrix as a tile: where its weights are kept, and their share",
    )
    out = layer_charts.left_out(table)
    st.caption(
        "**What to see:** every tile is one table of weights, its inputs from left to right; the"
        " bluer a patch, the more of it is kept, and the number is the share of the whole tile."
        + ("" if layer_charts.differ(table) else f" Here {escape(tiles.crowded(table, kept))}")
        + (
            f" A cross: {escape(out)} They are neither stored nor computed, so this size has less "
            "to do, not only less to store."
            if out
            else ""
        )
    )


def overview(run: str, subnet: Subnet, table: pd.DataFrame) -> None:
    """Every matrix as a tile, and zeros by kind over the layers where they differ."""
    st.subheader("What is left of every matrix")
    try:
        every_matrix(run, subnet, table)
    except ValueError as error:
        st.info(escape(error))
    with st.expander("The same by kind, and as numbers"):
        if layer_charts.differ(table) and table["layer"].nunique() >= LEAST_POINTS:
            st.plotly_chart(
                layer_charts.kinds_figure(table, is_dark()),
                key="kinds",
                config=layer_charts.CONFIG,
                alt="Sparsity per layer for feed-forward, attention and convolution",
            )
            st.caption(f"**What to see:** {escape(layer_charts.kinds_sentence(table))}")
        shown = table.assign(**{"sparsity %": (100 * table["sparsity"]).round(1)})
        st.dataframe(
            shown[["layer", "kind", "unit", "weights", "zeros", "sparsity %"]], hide_index=True
        )


@st.fragment
def one_matrix(chosen: choice.Chosen, subnet: Subnet) -> None:
    """The mask of one matrix drawn to the block."""
    unit = layer_parts.pick_unit(chosen.run, "unit")
    try:
        mask = masks.unit_mask(chosen.run, subnet, unit)
    except ValueError as error:
        st.info(escape(error))
        return
    st.plotly_chart(
        layer_charts.mask_figure(mask, is_dark(), unit.block),
        key="mask",
        config=layer_charts.MASK_CONFIG,
        alt=f"Kept and pruned blocks of {unit.name}",
    )
    if not mask.any():
        st.caption(
            "**What to see:** nothing is left of this matrix. Where a whole part is left out (a"
            " cross above), it is neither stored nor computed; choose another matrix to see blocks."
        )
        return
    full, empty = float(mask.any(axis=0).mean()), int((~mask.any(axis=1)).sum())
    cell, outputs = (
        ("a weight", "outputs")
        if unit.block == 1
        else (f"a block of {unit.block} weights", f"groups of {unit.block} outputs")
    )
    st.caption(
        f"**What to see:** every colored cell is {cell} that is kept. {100 * mask.mean():.1f} % of"
        f" {mask.size:,} are left; {percent(full)} of the inputs are still used, and {empty} of"
        f" {mask.shape[0]} {outputs} are empty. A full column"
        " would be an input that every output uses."
    )


@st.fragment
def two_subnets(chosen: choice.Chosen, subnet: Subnet) -> None:
    """The chosen subnet against another one: nested or not, and where they differ."""
    st.subheader("Two sizes against each other")
    others = [
        (run, name)
        for run in [chosen.run, *(r for r in data.run_ids() if r != chosen.run)]
        for name in data.subnet_names(run)
        if (run, name) != (chosen.run, chosen.subnet)
    ]
    if not others:
        st.info("There is no second size to compare with yet.")
        return
    local = [name for run, name in others if run == chosen.run]
    start = next((i for i, (_, name) in enumerate(others) if name != "dense"), 0) if local else 0
    run, name = st.selectbox(
        "Compare with",
        others,
        index=start,
        key=f"other:{chosen.run}:{chosen.subnet}",
        format_func=lambda o: o[1] if o[0] == chosen.run else f"{o[1]} · {data.run_title(o[0])}",
    )
    try:
        other = data.subnet(run, name)
        comparison = masks.compare(chosen.run, subnet, run, other)
    except ValueError as error:
        st.info(escape(error))
        return
    first, second = subnet.name, name if run == chosen.run else f"{name} ({data.run_title(run)})"
    st.markdown(comparison.words.format(a=escape(first), b=escape(second)))
    layer_parts.difference(comparison.units, first, second)
    with st.expander("One matrix of both, block by block"):
        unit = layer_parts.pick_unit(chosen.run, "both")
        figure = layer_charts.overlap_figure(
            masks.unit_mask(chosen.run, subnet, unit),
            masks.unit_mask(run, other, unit),
            first,
            second,
            is_dark(),
            unit.block,
        )
        st.plotly_chart(
            figure,
            key="overlap",
            config=layer_charts.MASK_CONFIG,
            alt=f"Blocks of {unit.name} in {first}, {second}, both or neither",
        )
        st.caption("**What to see:** in nested sizes one of the two “only in” colors is missing.")


@st.fragment
def over_training(chosen: choice.Chosen, subnet: Subnet) -> None:
    """How early the mask settled, and what it looked like at a step."""
    steps = data.rank_steps(chosen.run)
    if not masks.inside(chosen.run, subnet):
        st.info(
            "This size keeps every matrix whole or leaves it out altogether, so no mask inside one"
            " could change."
        )
        return
    steps = steps[:: max(1, -(-len(steps) // MOST_STEPS))]
    unit = layer_parts.pick_unit(chosen.run, "time")
    try:
        rows = [
            {"step": step, "name": label, "agree": masks.agreement(chosen.run, subnet, step, name)}
            for label, name in (("whole model", ""), (unit.name, unit.name))
            for step in steps
        ]
        st.plotly_chart(
            layer_charts.steps_figure(pd.DataFrame(rows), is_dark()),
            key="steps",
            config=layer_charts.CONFIG,
            alt="Share of the final blocks already chosen at each step",
        )
        st.caption(
            "**What to see:** where the line is near 100 %, the model had already decided which"
            " blocks to keep at this size; a random choice would stand at"
            f" {percent(1 - subnet.sparsity)} for the whole model."
        )
        step = (
            st.select_slider(
                "Look at the mask at step", steps, value=steps[0], key=f"step:{chosen.run}"
            )
            if len(steps) > 1
            else steps[0]
        )
        figure = layer_charts.overlap_figure(
            masks.unit_mask(chosen.run, subnet, unit, step),
            masks.unit_mask(chosen.run, subnet, unit),
            f"step {step}",
            "the finished net",
            is_dark(),
            unit.block,
        )
        st.plotly_chart(
            figure,
            key="then",
            config=layer_charts.MASK_CONFIG,
            alt=f"Blocks of {unit.name} kept at step {step} and at the end",
        )
        st.caption(
            "**What to see:** blocks in one of the two “only in” colors changed their fate after"
            " this step."
        )
    except ValueError as error:
        st.info(escape(error))


def main() -> None:
    st.title("Inside the model")
    st.markdown(
        "A speech recognizer is a stack of layers, each a few large tables of numbers. Pruning"
        " empties them in blocks, mostly of 8. Here you see how much of each table is left, and"
        " where."
    )
    chosen = choice.need_run()
    try:
        pick_size(chosen)
        subnet = choice.record(chosen)
        spec = data.spec(chosen.run)
    except ValueError as error:
        st.error(
            f"{escape(error)}\n\nChoose another model on **Explore**, or repair this run's folder."
        )
        return
    if not spec.units:
        st.info("This model has no parts that can be pruned.")
        return
    st.markdown(choice.describe(chosen))
    overview(chosen.run, subnet, layer_charts.unit_table(spec, subnet))
    with st.expander("Zoom into one matrix, block by block"):
        one_matrix(chosen, subnet)
    two_subnets(chosen, subnet)
    if data.rank_steps(chosen.run):
        with st.expander("The masks during training"):
            over_training(chosen, subnet)


main()
