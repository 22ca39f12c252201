"""Two texts laid over each other word by word, as counts and as colored HTML that does not rely on
color alone.
"""

from __future__ import annotations

import html
from dataclasses import dataclass

# Okabe-Ito hues (safe for color-blind eyes), thin enough to read on white and on black; each kind
# has its own mark too
STYLES = {
    "substituted": "background:rgba(230,159,0,.28);border-bottom:2px solid #bc8200;",
    "deleted": (
        "background:rgba(86,180,233,.22);text-decoration:line-through;border-bottom:2px dotted"
        " #4b9dcc;"
    ),
    "inserted": "background:rgba(204,121,167,.28);border-bottom:3px double #cc79a7;",
}
SUBSTITUTED = "substituted word (for the expected one)"
WORD = "padding:0 .2em;border-radius:.25em;"
BOX = "line-height:1.9;overflow-wrap:anywhere;white-space:normal;font-size:1.05rem;"


@dataclass(frozen=True)
class Edit:
    """One step of an alignment: kind is same | substituted | deleted | inserted; an absent side is
    ''.
    """

    kind: str
    reference: str
    hypothesis: str


def align(reference: str, hypothesis: str) -> list[Edit]:
    """The fewest word edits that turn `reference` into `hypothesis` (Levenshtein over words, by
    jiwer).
    """
    expected, spoken = reference.split(), hypothesis.split()
    if not expected:  # jiwer refuses an empty reference
        return [Edit("inserted", "", word) for word in spoken]
    if not spoken:
        return [Edit("deleted", word, "") for word in expected]
    import jiwer  # ~0.1 s, so only when there is something to compare

    pieces: list[Edit] = []
    for chunk in jiwer.process_words(" ".join(expected), " ".join(spoken)).alignments[0]:
        left = expected[chunk.ref_start_idx : chunk.ref_end_idx]
        right = spoken[chunk.hyp_start_idx : chunk.hyp_end_idx]
        kind = {
            "equal": "same",
            "substitute": "substituted",
            "delete": "deleted",
            "insert": "inserted",
        }[chunk.type]
        if kind in ("same", "substituted"):
            pieces += [Edit(kind, a, b) for a, b in zip(left, right)]
        else:
            pieces += [Edit(kind, word, "") for word in left] + [
                Edit(kind, "", word) for word in right
            ]
    return pieces


def counts(pieces: list[Edit]) -> dict[str, int]:
    """{"words", "substituted", "deleted", "inserted"}; words are those of the reference."""
    by_kind = {kind: sum(piece.kind == kind for piece in pieces) for kind in STYLES}
    return {"words": sum(piece.kind != "inserted" for piece in pieces)} | by_kind


def error_rate(pieces: list[Edit]) -> float | None:
    """Word error rate, 0..1 and above; None when the reference holds no word."""
    by_kind = counts(pieces)
    return sum(by_kind[kind] for kind in STYLES) / by_kind["words"] if by_kind["words"] else None


def markup(pieces: list[Edit]) -> str:
    """The alignment as HTML: every word escaped, so text that looks like tags is shown and not
    obeyed.
    """
    if not pieces:
        return f'<div style="{BOX}opacity:.7">(no words)</div>'
    return f'<div dir="auto" style="{BOX}">{" ".join(_word(piece) for piece in pieces)}</div>'


def _word(piece: Edit) -> str:
    expected, spoken = html.escape(piece.reference), html.escape(piece.hypothesis)
    if piece.kind == "same":
        return f"<span>{spoken}</span>"
    said, text = {
        "substituted": (f"instead of: {expected}", f"{spoken} <small>(for {expected})</small>"),
        "deleted": ("deleted here", expected),
        "inserted": ("inserted here", f"+{spoken}"),
    }[piece.kind]
    return f'<span title="{said}" style="{WORD}{STYLES[piece.kind]}">{text}</span>'


def legend(of: str = "") -> str:
    """One line that says what the three marks mean; `of`: the other transcript, where it is no
    reference.
    """
    marks = {
        "substituted": f"another word (for that of {of})" if of else SUBSTITUTED,
        "deleted": f"word of {of} alone" if of else "deleted word",
        "inserted": f"+word that {of} lacks" if of else "+inserted word",
    }
    shown = (
        f'<span style="{WORD}{STYLES[kind]}white-space:nowrap">{html.escape(text)}</span>'
        for kind, text in marks.items()
    )
    return f'<div style="line-height:2;font-size:.85rem">{" &nbsp; ".join(shown)}</div>'


def sentence(pieces: list[Edit], of: str = "") -> str:
    """The same in words, e.g. '2 differences over 8 words (1 substituted, 1 deleted, 0 inserted):
    WER 25.0 %.' Against another transcript, `of`, a difference is no error and has no WER.
    """
    edits, rate = counts(pieces), error_rate(pieces)
    if rate is None:
        return "Nothing to compare with: the expected text has no words."
    wrong = sum(edits[kind] for kind in STYLES)
    if of:
        return f"{wrong} differences from the {edits['words']} words of {of}."
    if not wrong:
        return f"All {edits['words']} words are the same: WER 0 %."
    return (
        f"{wrong} differences over {edits['words']} words ({edits['substituted']} substituted,"
        f" {edits['deleted']} deleted, {edits['inserted']} inserted): WER"
        f" {100 * rate:.1f} %."
    )
