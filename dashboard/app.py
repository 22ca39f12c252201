"""The router: finds the pages in views/ and runs the one the address asks for; it knows no page by
name.

A page is one file in views/. Its first docstring line and the constants TITLE, ICON, ORDER, HIDDEN
(from the menu) and FORMER (an address that it had before) are read from the source without running
it, so a page that does not even parse hides nothing else.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
if str(ROOT) not in sys.path:  # `streamlit run dashboard/app.py` puts only dashboard/ on the path
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from core.jobs import policy  # noqa: E402
from dashboard import visit  # noqa: E402
from dashboard.components import choice  # noqa: E402
from dashboard.look import one_look  # noqa: E402

STYLE = """<style>.stMainBlockContainer {padding-top: 3rem; padding-bottom: 3rem;}
@media (max-width: 760px) {.stMainBlockContainer {padding-top: 4.25rem;}}
h1 {font-size: 1.7rem !important; padding: 0 0 0.4rem !important;}
[data-testid="stCaptionContainer"] {color: inherit; opacity: 0.8;}
[data-testid="stButtonGroup"] [aria-checked="true"] {background: none !important;
 box-shadow: inset 0 -3px 0 currentColor;}
[data-testid="stBaseButton-primary"], [data-tag] {color: light-dark(#FFFFFF, #111111) !important;}
[data-testid="stPaginationEllipsis"] {color: inherit;}
.js-plotly-plot :is(.xtick, .ytick, .g-xtitle, .g-ytitle, .colorbar) text
 {fill: currentColor !important; fill-opacity: 0.8;}
</style>"""  # the theme's own have a contrast below 4.5
SILENT: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
DEFAULTS = {"ICON": ":material/article:", "ORDER": 99, "HIDDEN": False, "FORMER": ""}


def page_facts(file: Path) -> dict:
    """The constants of a page from its source; a file that does not parse gets a title that says
    so.
    """
    facts = {"TITLE": file.stem.replace("_", " ").capitalize(), **DEFAULTS}
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return {**facts, "TITLE": f"{facts['TITLE']} (broken)", "ICON": ":material/error:"}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id in facts:
                    facts[target.id] = node.value.value
    return facts


def pages(folder: Path = HERE / "views") -> list:
    """Every page of the folder, in the order the pages ask for; the first is the front page. After
    them, hidden, the former addresses, which lead to the pages of today, and the front page's name,
    which Streamlit does not know as an address.
    """
    modules = [
        (page_facts(file), file)
        for file in sorted(folder.glob("*.py"))
        if not file.name.startswith("_")
    ]
    modules.sort(key=lambda page: (page[0]["ORDER"], page[1].name))
    found = [
        st.Page(
            file,
            title=facts["TITLE"],
            icon=facts["ICON"],
            url_path=file.stem if i else "front-page",  # which Streamlit then calls /
            default=i == 0,
            visibility="hidden" if facts["HIDDEN"] else "visible",
        )
        for i, (facts, file) in enumerate(modules)
    ]
    further = [(page, facts["FORMER"]) for page, (facts, _) in zip(found, modules)]
    if modules:
        further.append((found[0], modules[0][1].stem))
    return found + [
        st.Page(functools.partial(lead_to, page), title=name, url_path=name, visibility="hidden")
        for page, name in further
        if name
    ]


def lead_to(page: Any) -> None:
    """Go to a page that has another address, and take along what the address asks for."""
    asked = {name: st.query_params.get_all(name) for name in st.query_params}
    st.switch_page(page, query_params=asked)


@st.cache_resource(show_spinner=False)
def build_ahead() -> None:
    """Once in a server's life the decoding graph of open speech is built, a minute of computing, in
    a process of its own, so that the first transcription need not wait; unless server.toml says
    `build_ahead = false`.
    """
    with contextlib.suppress(ValueError):  # a policy that cannot be read: the header says so
        if policy.load().settings.build_ahead:
            code = "from core.lm import languages; languages.build_ahead()"
            subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **SILENT)


def main() -> None:
    st.set_page_config(
        page_title="One model, every size", page_icon=str(HERE / "icon.svg"), layout="wide"
    )
    st.html(STYLE)
    page = st.navigation(pages(), position="sidebar")
    with one_look():
        visit.header()
        choice.travel()
        if visit.may(visit.TRANSCRIBE):
            build_ahead()
        page.run()


main()
