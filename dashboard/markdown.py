"""Text that is not ours (run ids, titles, names of sizes and files, errors) as Markdown that shows
it and obeys nothing in it.
"""

from __future__ import annotations

import html
import re

SIGNS = re.compile(r"([\\`*_{}\[\]()#+!<>|$~:&-])")
# Streamlit makes links, icons and emoji of plain text after Markdown's signs are read, so a
# backslash does not help there: an invisible word joiner takes what they look for apart.
JOINER = "\u2060"
LINKS = re.compile(
    r"(?<=http)(?=s?://)|(?<=www)(?=\.)|(?<=@)(?=\w)|(?<=:)(?=[\w/+-]+:)", re.IGNORECASE
)


def escape(text: object) -> str:
    """Text for st.markdown, st.error, labels and all else that reads Markdown."""
    apart = LINKS.sub(JOINER, str(text))
    return SIGNS.sub(r"\\\1", apart)


def plot_text(text: object) -> str:
    """Text for Plotly, which reads a little HTML: tags are shown."""
    return html.escape(str(text), quote=False)
