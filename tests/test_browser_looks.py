"""Every page as it ships, in the light and in the dark, on a desk, a tablet and a phone: nothing is
too wide, too pale to read or closed to a screen reader. Screenshots stay in .pytest_cache/d.
"""

from __future__ import annotations

import pytest

from core.bench import _browser
from tests.test_browser import PAGES, chromium  # noqa: F401 - a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SIZES = ((1440, 900), (1024, 768), (390, 844))
# of SVG, which axe leaves out: texts whose fill has a contrast below 4.5 with the page
PALE = """() => {
  const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (color) => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data]; };
  const light = (rgb) => rgb.map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const page = rgba(getComputedStyle(document.querySelector('.stApp')).backgroundColor).slice(0, 3);
  return [...document.querySelectorAll('.js-plotly-plot text')].filter((text) => {
    const style = getComputedStyle(text), [r, g, b, a] = rgba(style.fill);
    const share = (a / 255) * style.fillOpacity * style.opacity;
    if (!text.getBoundingClientRect().width || share < 0.05) return false;
    const ink = [r, g, b].map((v, i) => v * share + page[i] * (1 - share));
    const [low, high] = [light(ink), light(page)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05) < 4.5;
  }).map((text) => text.textContent);
}"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The address of a dashboard that shows the released runs alone."""
    own = tmp_path_factory.mktemp("artifacts")
    with _browser.served({"SUPERNET_ARTIFACTS": str(own)}) as server:
        yield server.address


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_legible_and_fits_at_every_size(chromium, shipped, name, theme, request):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    folder = request.config.cache.mkdir("screenshots")
    page = chromium.new_context(color_scheme=theme).new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{shipped}/{name}")
    page.wait_for_selector("h1")
    _browser.settled(page)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(500)
        page.screenshot(path=folder / f"{name}-{theme}-{width}.png")
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) <= 1, f"{name} is too wide at {width} pixels"
        assert page.evaluate(PALE) == []
    assert page.locator('[data-testid="stException"]').count() == 0
    found = axe.run(page).response["violations"]
    serious = [
        (fault["id"], [node["html"][:120] for node in fault["nodes"]])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
    page.context.close()


def test_the_next_sentence_is_written_as_this_size_writes_it(chromium, shipped):  # noqa: F811
    page = chromium.new_page()
    page.goto(f"{shipped}/?run=supernet&subnet=u90")
    said, hypothesis = page.locator(".live .said"), page.locator(".live .hyp")
    said.wait_for(timeout=_browser.PATIENCE_S * 1000)
    before = said.inner_text(), hypothesis.inner_text()
    page.get_by_role("button", name="Next sentence").click()
    assert said.inner_text() != before[0]
    assert hypothesis.inner_text() != before[1]
    page.close()
