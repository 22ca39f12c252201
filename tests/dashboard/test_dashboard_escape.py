"""What is not ours is shown and never obeyed: one function escapes it, wherever a page shows it as
Markdown.
"""

from __future__ import annotations

import ast
import json
import re

import pytest
import streamlit as st

from core import paths
from core.jobs import leases, queue
from core.registry import catalog
from core.registry.cards import CardOption
from core.storage import store
from dashboard import markdown, measurements
from dashboard.charts import hover
from dashboard.components import forms
from tests import standin
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

MARKDOWN = {
    "markdown",
    "caption",
    "info",
    "warning",
    "error",
    "success",
    "write",
    "title",
    "header",
    "subheader",
    "expander",
    "toast",
    "progress",
    "button",
    "checkbox",
    "toggle",
    "page_link",
    "metric",
    "badge",
    "tabs",
    "popover",
    "spinner",
    "status",
}
# what may stand in Markdown as it is: numbers, our own words, and what was escaped where it was put
# together
OURS = {
    "answer.text",
    "choice.describe(chosen)",
    "diff.sentence(pieces)",
    "job_words.when(job, now)",
    "job_words.stage_line(job)",
    "sentence",
    "about",
    "heading",
    "title",
    "label",
    "audio_view.WAVE_SENTENCE",
    "audio_view.SPECTROGRAM_SENTENCE",
    "speed_words(transcript.rtf)",
    "CAN",  # of the Transcribe page
    "WORDS",  # of the Explore page
    "BY_BEAM",
    "BY_LANGUAGE",
    "axis.short",
    "icon",
    "word",
    "color",
    "LOG_LINES",
    "cell",
    "outputs",
    "empty",
    "mask.shape[0]",
    "eta",
    "number",
    "job.id",
    "gpus",
    "threads",
    "name",
    "listening.AT_ONCE",
    "who.mode",
    "text",
    "share",
    "low",
    "chosen",
    "subnet",
    "facts['TITLE']",
    "number + changed",
    "GREEDILY",
    "HOW_TO_READ",  # of the Evidence page
    "HOW_TO_GIVE",  # of one's own recordings
    "tip",
    "SMALLER",
    "list(PARTS)",
    "verdicts",
    "many",
    "now",
    "counts[most]",
}
PAGES_OF_OURS = {
    "part.replace('\\n## ', '\\n#### ')",
}  # artifacts/released/comparison


def harmless(node: ast.expr) -> bool:
    """Whether an expression is constant, a number, escaped, or one of OURS."""
    if isinstance(node, ast.Constant) or ast.unparse(node) in OURS | PAGES_OF_OURS:
        return True
    if isinstance(node, ast.Call):
        name = (
            node.func.attr
            if isinstance(node.func, ast.Attribute)
            else node.func.id
            if isinstance(node.func, ast.Name)
            else ""
        )
        if name == "format":
            return all(harmless(k.value) for k in node.keywords)
        if name == "join":
            return isinstance(node.args[0], ast.GeneratorExp) and harmless(node.args[0].elt)
        return name in ("escape", "percent", "len", "min", "max")  # percent: dashboard/shares.py
    if isinstance(node, ast.FormattedValue):
        return node.format_spec is not None or harmless(node.value)
    if isinstance(node, ast.JoinedStr):
        return all(map(harmless, node.values))
    if isinstance(node, ast.IfExp):
        return harmless(node.body) and harmless(node.orelse)
    if isinstance(node, ast.BinOp):
        return harmless(node.left) and harmless(node.right)
    return False


def obeyed(source: str) -> list[str]:
    """Every expression that reaches Markdown as it is."""
    found = []
    for call in (
        n
        for n in ast.walk(ast.parse(source))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
    ):
        if call.func.attr in MARKDOWN and ast.unparse(call.func.value) not in (
            "soundfile",
            "export",
            "target",  # a file
        ):
            texts = call.args[1:2] if call.func.attr == "progress" else call.args[:1]
            texts += [k.value for k in call.keywords if k.arg in ("help", "text", "label", "body")]
            found += [
                f"line {t.lineno}: {call.func.attr}({ast.unparse(t)[:90]})"
                for t in texts
                if not harmless(t)
            ]
    return found


@pytest.mark.parametrize(
    "file", sorted((ROOT / "dashboard").rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT))
)
def test_every_word_that_is_not_ours_is_escaped(file):
    assert obeyed(file.read_text(encoding="utf-8")) == []


def test_a_word_that_is_not_escaped_would_be_seen():
    for bad in (
        "st.error(str(problem))",
        "st.markdown(f'**{run}**')",
        "left.caption(f'a {x.name} b')",
        "st.info('a' + title_of(run))",
        "st.expander(run)",
        "st.progress(0.5, job.message)",
        "st.button('x', help=f'{split}')",
        "st.warning('; '.join(names))",
    ):
        assert obeyed(bad), bad
    for good in (
        "st.error(escape(problem))",
        "st.caption(f'{x:.1f} % of {escape(run)}')",
        "st.progress(0.5, f'{share:.0%}')",
    ):
        assert not obeyed(good), good


EVIL = [
    "![x](http://127.0.0.1:9911/beacon.png)",
    "[click](http://evil.example)",
    "<http://evil.example>",
    "<img src=x onerror=alert(1)>",
    "http://evil.example/a",
    "HTTPS://evil.example",
    "www.evil.example",
    "a_www.evil.example",
    "me@evil.example",
    "**bold**",
    "# head",
    "`code`",
    "$x^2$",
    ":red[x]",
    ":material/home:",
    ":smile:",
    "~~x~~",
    "| a | b |",
    "&lt;b&gt;",
    "- item",
    "\\![x](http://evil.example)",
    ":streamlit:",
    "[^1]: note",
    "![x][y]\n\n[y]: http://evil.example",
]


@pytest.mark.parametrize("text", EVIL)
def test_escaped_text_reads_the_same_and_holds_nothing_to_obey(text):
    made = markdown.escape(text)
    assert re.sub(r"\\(.)", r"\1", made).replace(markdown.JOINER, "") == text, (
        "a reader sees what it was"
    )
    bare = re.sub(r"\\.", "", made)
    assert not re.search(r"[][`*_<>$#!|~&]|:\w", bare), made
    seen = re.sub(
        r"\\(.)", r"\1", made
    )  # what is looked for in the text after Markdown's signs are read
    assert not re.search(r"https?://|www\.|@\w|:[\w/+-]+:", seen, re.IGNORECASE), seen


def test_escaping_touches_no_plain_words():
    assert (
        markdown.escape("Job 3 is done, 12.5 percent at 10 s")
        == "Job 3 is done, 12.5 percent at 10 s"
    )


TITLE = "![x](http://127.0.0.1:9911/x.png) <b>www.evil.example :material/home:"


@pytest.fixture
def evil_run(own_artifacts, tmp_path, monkeypatch):
    """A run whose title, subnet's origin and damage speak Markdown."""
    st.cache_data.clear(), st.cache_resource.clear()
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "released")
    run = standin.make_run(own_artifacts / "runs", "mine", title=TITLE)
    standin.make_run(own_artifacts / "runs", "other", title=TITLE)
    broken = standin.make_run(own_artifacts / "runs", "broken", title=TITLE)
    units = json.loads((run / paths.UNITS).read_text())
    (broken / paths.UNITS).write_text(json.dumps(units | {"model": 7, TITLE: 1}))
    number = queue.add(
        "train",
        {"recipe": {"title": TITLE, "method": {"name": TITLE}}, "visitor": "local"},
        run=TITLE,
    )
    leases.claim("w")
    leases.beat(number, "w", 0.5, TITLE)
    leases.note(number, "w", place=TITLE)
    leases.fail(number, f"Traceback\nValueError: {TITLE}", "w")
    assert store.recipe(run).title == TITLE
    return run


EVIDENCE = ("Claims", "All experiments", "Models side by side")  # parts of the page
PAGES = ("explore", *EVIDENCE, "layers", "transcribe", "train", "jobs")


def claimed() -> None:
    """A claim and a comparison whose every word speaks Markdown and HTML."""
    texts = dict.fromkeys(("number", "text", "arm", "against", "size", "verdict", "split"), TITLE)
    costs = ("minutes", "selection_minutes", "tmacs", "selection_tmacs", "megabytes")
    row = {**texts, "set": TITLE, "margin": 0.03, "relative": 0.1, "low": 0.0, "high": 0.2, "p": 1}
    row |= {"seeds": [[0.5, 0.4]], "unequal": False, "smaller": False, **dict.fromkeys(costs, [])}
    paths.COMPARED.mkdir(parents=True)
    (paths.COMPARED / paths.CLAIMS).write_text(json.dumps([row, row | {"set": "mine"}]))
    (paths.COMPARED / "mine.md").write_text(f"# {TITLE}\n")


@pytest.mark.parametrize("name", PAGES)
def test_no_page_obeys_a_title_an_address_or_an_error(evil_run, name, monkeypatch):
    from streamlit.testing.v1 import AppTest

    file = "evidence" if name in EVIDENCE else name
    page = AppTest.from_file(str(ROOT / "dashboard" / "views" / f"{file}.py"), default_timeout=120)
    page.query_params["run"] = TITLE
    if name in EVIDENCE:
        monkeypatch.setattr(paths, "COMPARED", paths.RELEASED / "comparison")
        claimed()
        page.session_state["evidence_part"] = name
    page.run()
    assert not page.exception
    shown = [
        e.value or ""
        for kind in ("markdown", "caption", "info", "warning", "error", "success")
        for e in page.get(kind)
    ]
    shown += [
        e.label or ""
        for kind in ("expander", "button", "selectbox", "multiselect")
        for e in page.get(kind)
    ]
    wrong = [
        text
        for text in shown
        if re.search(r"(?<!\\)!\[x|\]\(http|(?<!\\)<b>|www\.evil|:material/home:", str(text))
    ]
    assert not wrong, wrong
    bodies = [e.proto.body for e in page.get("html")]
    assert not any("<b>www" in body or "<img" in body for body in bodies)
    shown += bodies
    if name in ("explore", "layers", "jobs", *EVIDENCE):
        assert any("evil" in str(text) for text in shown), (
            "the title, or the address's run, is still shown"
        )


def test_what_a_field_is_called_has_no_backslash():
    """A browser reads a label aloud as it stands, before Markdown takes its signs off."""
    labels = [
        forms.label(option)
        for room in catalog.ROOMS
        for card in catalog.cards(room)
        for option in card.options
    ]
    assert "Hours (h)" in labels
    assert [label for label in labels if "\\" in label] == []
    evil = CardOption("thing", "int", 1, "", unit="[x](http://evil)")
    assert "\\[x\\]" in forms.label(evil)


def test_charts_show_tags_of_names(evil_run):

    st.cache_data.clear(), st.cache_resource.clear()
    points = measurements.points(("mine",))
    points = points.assign(
        split="<a href='http://evil.example'>x</a>",
        hardware="<b>y",
        title="<a href='http://evil.example'>t</a>",
    )
    for row in points.itertuples():
        text = hover.hover(row)
        assert (
            "<a" not in text and "<b>y" not in text and "&lt;a" in text and text.startswith("<b>")
        )
