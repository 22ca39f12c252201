"""Colors and markers of methods: Okabe and Ito's colors (safe for color-blind people), and a
marker shape for every method.
"""

from __future__ import annotations

BLUE, SKY, GREEN, ORANGE, VERMILLION, PURPLE, YELLOW, GREY = (
    "#0072B2",
    "#56B4E9",
    "#009E73",
    "#E69F00",
    "#D55E00",
    "#CC79A7",
    "#F0E442",
    "#8C8C8C",
)


NAMES = {
    "omni_sparsity": "supernet",
    "small_dense": "small dense baseline",
    "dense": "dense subnet",
    "gradual_magnitude": "individually pruned",
    "csp": "compressed sensing",
    "individual": "individually trained, shallower",
    "simple_topk": "parts left out (Simple-Top-k)",
    "iterative_zero_out": "parts left out (Iterative-Zero-Out)",
    "ortho_softmax": "parts left out (OrthoSoftmax)",
    "omni": "supernet of sparsity and depth",
    "aux_loss": "early exits (Aux-Loss)",
    "random_branches": "parts left out at random",
}


STYLES = {
    "omni_sparsity": (BLUE, "circle"),
    "small_dense": (VERMILLION, "square"),
    "gradual_magnitude": (GREEN, "diamond"),
    "dense": (PURPLE, "triangle-up"),
}


SPARE = (
    (ORANGE, "cross"),
    (GREY, "x"),
    (YELLOW, "hexagon"),
    (VERMILLION, "square-open"),
    (GREEN, "diamond-open"),
    (PURPLE, "triangle-up-open"),
    (SKY, "star"),
    (ORANGE, "cross-open"),
    (GREY, "x-open"),
    (YELLOW, "hexagon-open"),
    (SKY, "star-open"),
    (BLUE, "circle-open"),
)  # far from the supernet's blue first: it is sky blue on a dark page


def style(method: str, methods: list[str], dark: bool = False) -> tuple[str, str]:
    """(color, marker) of a method; blue becomes sky blue on a dark page."""
    if method in STYLES:
        color, marker = STYLES[method]
    else:
        others = sorted(m for m in methods if m not in STYLES)
        color, marker = SPARE[others.index(method) % len(SPARE)] if method in others else SPARE[-1]
    return (SKY if dark and color == BLUE else color), marker
