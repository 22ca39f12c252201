"""The live screen in a real headless browser: everything follows the thumb, the choice is reported
when it is let go, and hostile words stay words.
"""

from __future__ import annotations

import pytest

from core.bench import _browser
from tests.test_browser import address, chromium, house  # noqa: F401 - fixtures

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FIND = """const find = (root) => { for (const e of root.querySelectorAll('*')) {
    if (e.classList.contains('live')) return e;
    const inner = e.shadowRoot && find(e.shadowRoot);
    if (inner) return inner; } };"""
HOSTILE = "<img src=x onerror=document.title='owned'>"


def opened(house, chromium):  # noqa: F811
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(30_000)
    page.goto(address(house))
    page.wait_for_selector(".live canvas")
    _browser.settled(page)
    return page


@pytest.fixture(scope="module")
def live(house, chromium):  # noqa: F811
    """The screen as a visitor has it, who goes on with it from test to test."""
    page = opened(house, chromium)
    yield page
    page.close()


@pytest.fixture(scope="module")
def altered(house, chromium):  # noqa: F811
    """A screen whose inside tests change: it answers no more."""
    page = opened(house, chromium)
    yield page
    page.close()


def slider(page):
    return page.locator(".live input[type=range]")


def numbers(page) -> list[str]:
    return page.locator(".live .number b").all_inner_texts()


def places(page) -> list:
    parts = page.locator(".live .curve, .live .network, .live .words, .live .number")
    return [part.bounding_box() for part in parts.all()]


def picture(page) -> str:
    return page.locator(".live canvas").evaluate("canvas => canvas.toDataURL()")


def test_everything_follows_the_thumb_and_the_choice_is_reported_on_release(live):
    before, shown, where = numbers(live), picture(live), places(live)
    dot = live.locator(".live svg .here").get_attribute("transform")
    box = slider(live).bounding_box()
    middle = box["y"] + box["height"] / 2
    live.mouse.move(box["x"] + 0.7 / 0.9 * box["width"], middle)
    live.mouse.down()
    live.mouse.move(box["x"] + 0.4 * box["width"], middle, steps=8)
    live.wait_for_timeout(150)
    assert all(a != b for a, b in zip(numbers(live)[:2], before[:2], strict=True))
    assert all("≈" in text for text in numbers(live)[:2])
    assert picture(live) != shown
    assert live.locator(".live svg .here").get_attribute("transform") != dot
    assert places(live) == where, "nothing jumps or resizes"
    assert "subnet=s70" in live.url
    live.mouse.up()
    live.wait_for_url("**subnet=s3*")


def test_the_keyboard_reaches_every_size_and_the_numbers_are_said(live):
    thumb = slider(live)
    thumb.press("Home")
    live.wait_for_url("**subnet=dense*")
    thumb.press("PageUp")
    live.wait_for_url("**subnet=s30*")
    thumb.press("ArrowRight")
    live.wait_for_url("**subnet=s31-between*")
    assert "about" in thumb.get_attribute("aria-valuetext")
    thumb.press("End")
    live.wait_for_url("**subnet=s90*")
    said = thumb.get_attribute("aria-valuetext")
    assert "90 % sparsity" in said
    assert "word error rate" in said
    assert "megabytes" in said
    assert live.locator(".live [aria-live]").inner_text().startswith("90 % sparsity")


def test_play_ends_at_the_smallest_size_and_presets_choose(live):
    live.get_by_role("button", name="Dense").click()
    live.wait_for_url("**subnet=dense*")
    live.emulate_media(reduced_motion="reduce")
    live.get_by_role("button", name="Play").click()
    live.wait_for_url("**subnet=s90*")
    live.emulate_media(reduced_motion="no-preference")
    live.get_by_role("button", name="Dense").click()
    live.get_by_role("button", name="Play").click()
    live.wait_for_timeout(1500)
    assert 0 < float(slider(live).input_value()) < 90
    live.get_by_role("button", name="Stop").click()


def test_a_point_of_the_curve_chooses_and_back_goes_back(live):
    live.locator(".live svg .stop").first.click()
    live.wait_for_url("**subnet=dense*")
    live.reload()
    live.wait_for_selector(".live canvas")
    assert float(slider(live).input_value()) == 0


def test_back_and_reload_lose_nothing(live):
    slider(live).press("Home")
    live.wait_for_url("**subnet=dense*")
    _browser.settled(live)
    live.get_by_role("link", name="Layers").click()
    live.get_by_role("heading", name="Inside the model").wait_for()
    live.wait_for_url("**/layers?*subnet=dense*")
    _browser.settled(live)
    for _ in range(2):  # the page that came may have written its address anew
        if "layers" in live.url:
            live.go_back()
            live.wait_for_timeout(2000)
    live.get_by_role("heading", name="One model, every size").wait_for()
    _browser.settled(live)
    assert "subnet=dense" in live.url
    live.reload()
    live.wait_for_selector(".live canvas")
    assert "subnet=dense" in live.url
    assert float(slider(live).input_value()) == 0


def test_a_finger_moves_the_thumb(house, chromium):  # noqa: F811
    context = chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    phone = context.new_page()
    phone.goto(address(house))
    phone.wait_for_selector(".live canvas")
    _browser.settled(phone)
    slider(phone).scroll_into_view_if_needed()
    box = slider(phone).bounding_box()
    phone.touchscreen.tap(box["x"] + 0.1 * box["width"], box["y"] + box["height"] / 2)
    phone.wait_for_function("() => !location.href.includes('subnet=s70')")
    context.close()


def test_a_late_answer_does_not_take_the_thumb_from_the_hand(altered):
    places = altered.evaluate(
        """() => {
          FIND
          const screen = find(document).screen, places = [];
          const page = (percent) => {
            screen.answer({ ...screen.data, percent });
            places.push(screen.percent); };
          screen.report = () => {};
          screen.set(45); screen.release();
          screen.set(70);          // moved on before the page has answered
          page(45);                // the late answer
          screen.set(50); screen.release(); screen.set(90); screen.release();
          page(90);                // one answer for two releases
          page(45);                // and a choice of the page itself, such as "back"
          return places;
        }""".replace("FIND", FIND)
    )
    assert places == [70, 90, 45]


def test_a_frame_is_drawn_once_however_often_the_thumb_moves(live):
    draws = "() => document.querySelector('[data-testid=stMain]') && window.liveDraws()"
    live.evaluate(
        """() => {
          FIND
          const root = find(document);
          window.liveDraws = () => root.screen.draws;
          window.liveMove = (p) => root.screen.set(p);
        }""".replace("FIND", FIND)
    )
    before = live.evaluate(draws)
    live.evaluate("() => { for (let p = 10; p < 60; p++) window.liveMove(p); }")
    live.wait_for_timeout(200)
    assert live.evaluate(draws) - before == 1


def test_hostile_words_stay_words(altered):
    text = altered.evaluate(
        """(hostile) => {
          FIND
          const screen = find(document).screen, data = structuredClone(screen.data);
          data.samples = [{ title: hostile, text: hostile, audio: "",
            hypotheses: Object.fromEntries(data.stops.map((s) => [s.name, "so " + hostile])) }];
          screen.load(data);
          return screen.root.querySelector('.hyp').textContent;
        }""".replace("FIND", FIND),
        HOSTILE,
    )
    altered.wait_for_timeout(300)
    assert HOSTILE in text
    assert altered.title() != "owned"
    assert altered.locator(".live img").count() == 0


def test_the_box_of_the_chart_and_the_form_follow_each_other(live):
    corner, wer = live.locator(".live svg .limit"), live.get_by_label("% WER", exact=True)

    def form_shows(percent: str):
        corner.and_(live.locator(f"[aria-valuetext$=', {percent} % WER']")).wait_for()

    form_shows("35")
    wer.fill("41.5")
    wer.press("Enter")
    form_shows("41.5")
    corner.focus()
    live.keyboard.press("ArrowUp")
    live.wait_for_function("field => field.value !== '41.5'", arg=wer.element_handle())
    form_shows(wer.input_value())


def test_a_report_works_offline_from_a_file(live, tmp_path):
    with live.expect_download() as download:
        live.get_by_role("button", name="Report for stakeholders").click()
    file = tmp_path / "report.html"
    download.value.save_as(file)
    complaints = []
    live.on("pageerror", lambda error: complaints.append(str(error)))
    live.context.set_offline(True)
    try:
        live.goto(file.as_uri())
        live.wait_for_selector(".live canvas")
        slider(live).press("Home")
        live.wait_for_timeout(400)
        before = numbers(live)
        slider(live).press("End")
        live.wait_for_timeout(400)
        assert numbers(live)[:2] != before[:2]
        assert not complaints
    finally:
        live.context.set_offline(False)
