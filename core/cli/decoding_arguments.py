"""Arguments on how words are found; options of evaluation, whose ranges are checked there."""

from __future__ import annotations

import argparse

from core.cli.option_types import Named, finite, whole


def add(c: argparse.ArgumentParser) -> None:
    c.add_argument(
        "--decoder",
        action=Named,
        metavar="NAME",
        help="greedy, graph (words over a decoding graph), or modified_beam_search (transducers)",
    )
    c.add_argument(
        "--beam", type=whole(0, 1000), metavar="N", help="hypotheses of a transducer's beam search"
    )
    c.add_argument(
        "--lm",
        action=Named,
        metavar="FILE",
        help="language model of the decoding graph: open (the shipped one) or an ARPA file",
    )
    c.add_argument(
        "--grammar",
        action=Named,
        metavar="FILE",
        help=(
            "understand only this: commands (the built-in ones) or a file of sentence "
            "patterns; with --lm both"
        ),
    )
    c.add_argument(
        "--scale",
        type=finite,
        metavar="X",
        help="how much the sound counts beside the graph's words, 0.01 to 10",
    )
    c.add_argument(
        "--blank-penalty",
        type=finite,
        metavar="X",
        help="taken off the blank's log-probability, -10 to 20",
    )


def engine(c: argparse.ArgumentParser) -> None:
    """What a measurement runs on."""
    c.add_argument(
        "--engine",
        action=Named,
        dest="measured_on",
        metavar="NAME",
        help="what decodes and is timed: torch (the reference), onnx or sparse, as on devices;"
        " sherpa: the exported folder in stock sherpa-onnx, not timed",
    )
    c.add_argument(
        "--precision",
        action=Named,
        metavar="NAME",
        help="fp32, bf16 (torch), or int8 (onnx, sparse, sherpa)",
    )
