"""The dashboard in a real headless browser on a stand-in run: every page, the slider, an upload and
its transcript.
"""

from __future__ import annotations

import os
import re
import signal

import pytest

from core.bench import _browser, app
from core.jobs import queue
from tests.conftest import ROOT
from tests.jobs.test_jobs import STUB, dead, wait

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PAGES = sorted(
    file.stem
    for file in (ROOT / "dashboard" / "views").glob("*.py")
    if not file.stem.startswith("_")
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Its microphone hears a file."""
    heard = app.noise(tmp_path_factory.mktemp("microphone") / "speech.wav", 4.0)
    flags = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={heard}",
    )
    try:
        with _browser.browser(flags=flags) as found:
            yield found
    except ValueError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """(server, folder of the run it shows); the test process's own environment stays as it is."""
    from tests.standin import make_run

    artifacts = tmp_path_factory.mktemp("house")
    run = make_run(artifacts / "runs", "standin")
    with _browser.served({"SUPERNET_ARTIFACTS": str(artifacts)}) as server:
        yield server, run


@pytest.fixture
def page(chromium):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(30_000)
    yield page
    page.close()


def address(house, path: str = "", subnet: str = "s70") -> str:
    return f"{house[0].address}/{path}?run=standin&subnet={subnet}"


def test_the_bench_counts_what_is_sent_and_held(house, chromium):
    """Counts, not times: bytes and memory. First of all, while the server is new."""
    server = house[0]
    first = app.visit(chromium, server.address, app.DRAWN)
    moved = app.slide(chromium, server.address, 3)
    assert 0.02e6 < first["app"] < 2e6
    assert 0.2 < moved["slider_kB"] < 200
    assert 50e6 < server.memory() < 400e6, (
        "something heavy is loaded before anything is transcribed"
    )
    lines = app.table({"sent_MB": 1.0, "slider_ms": 301.0, "slider_kB": 3.0})
    assert "reached" in lines[1]
    assert "missed" in lines[0]
    assert "aim" not in lines[2]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_wide_and_narrow_without_an_error(house, page, name):
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address(house, name))
    page.wait_for_selector("h1")
    _browser.settled(page)
    assert page.locator('[data-testid="stException"]').count() == 0
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(500)
    wide = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wide <= 1, f"{name} is {wide} pixels wider than a phone"
    assert not complaints


def test_errors_are_filtered_and_their_pages_turned_on_a_phone(house, page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(address(house, "errors", "s90"))
    page.get_by_text("more word errors in").wait_for()
    _browser.settled(page)
    cards = page.locator('[data-testid="stHtml"]', has_text="s90, beside dense")
    assert cards.count() == 10
    first = cards.first.inner_text()
    page.locator('[data-testid="stPagination"]').get_by_text("2", exact=True).click()
    page.wait_for_function(
        "first => !document.querySelector('[data-testid=stMain]').innerText.includes(first)",
        arg=first,
    )
    _browser.settled(page)
    box = page.get_by_label("Text in a transcript")
    box.fill("no such words")
    box.press("Enter")
    page.get_by_text("No utterance fits these filters").wait_for()
    assert page.locator('[data-testid="stException"]').count() == 0


def as_tokens(page) -> None:
    """Without a decoding graph: one of open speech takes a minute to build, and these nets write no
    words of it.
    """
    _browser.settled(page)
    box = page.get_by_role("combobox", name="What it understands")
    box.scroll_into_view_if_needed()
    box.focus()
    for _ in range(4):  # the list opens and goes down to its last entry
        box.press("ArrowDown")
        page.wait_for_timeout(150)
    box.press("Enter")
    page.get_by_text("What the model itself writes").wait_for()
    _browser.settled(page)


def transcript(run, subnet: str, file) -> str:
    """What a run's subnet makes of a file, letter by letter."""
    from core import runtime
    from core.speech import audio

    stream = runtime.load(run, subnet).stream()
    stream.accept(audio.read(file))
    return " ".join(stream.finish().split())


def test_words_of_an_upload_appear_as_it_plays_and_are_those_of_the_recognizer(
    house, page, tmp_path
):
    file = app.noise(tmp_path / "speech.wav", 5.0)
    page.goto(address(house, "transcribe"))
    page.wait_for_selector("h1")
    _browser.upload(page, file)
    _browser.settled(page)
    as_tokens(page)
    page.get_by_role("button", name="Transcribe and play").click()
    words = page.locator(".speech .size .words").first
    words.wait_for()
    lengths = []
    for _ in range(8):
        lengths.append(len(words.inner_text()))
        page.wait_for_timeout(500)
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1], lengths
    page.get_by_role("button", name="▶ Play").wait_for()
    whole = transcript(house[1], "s70", file)
    assert " ".join(words.inner_text().split()) == whole, "at the end everything is there"
    page.get_by_text("Transcripts").wait_for()
    _browser.settled(page)
    assert page.locator('[data-testid="stException"]').count() == 0
    shown = [box.inner_text() for box in page.locator('[data-testid="stHtml"]').all()]
    expected = transcript(house[1], "dense", file)
    assert expected, "the stand-in wrote nothing, so nothing is tested"
    assert any(" ".join(text.split()) == expected for text in shown), (expected, shown)
    speeds = ("faster than speech", "as fast as speech", "slower than speech")
    assert sum(page.get_by_text(text).count() for text in speeds) == 2


@pytest.fixture
def speaker(house, chromium):
    """A phone with a microphone, before the Transcribe page."""
    page = chromium.new_page(viewport={"width": 390, "height": 844}, permissions=["microphone"])
    page.set_default_timeout(30_000)
    page.goto(address(house, "transcribe"))
    page.wait_for_selector("h1")
    as_tokens(page)
    yield page
    page.close()


def test_words_appear_while_somebody_speaks(speaker):
    """Words of both sizes grow in the page before Stop is pressed; then the recording can be
    played.
    """
    speaker.get_by_role("button", name="● Speak").click()
    first = speaker.locator(".speech .size .words").first
    speaker.wait_for_function("box => /[a-z]/.test(box.textContent)", arg=first.element_handle())
    early = first.inner_text()
    speaker.wait_for_function(
        "([box, early]) => box.textContent.trim().length > early.length",
        arg=[first.element_handle(), early],
    )
    speaker.get_by_role("button", name="■ Stop").click()
    speaker.get_by_role("button", name="▶ Play").wait_for()
    _browser.settled(speaker)
    assert speaker.locator('[data-testid="stException"]').count() == 0
    assert speaker.get_by_role("button", name="● Speak").count() == 1
    microphone, player = speaker.locator(".speech").all()
    assert microphone.locator(".size").count() == player.locator(".size").count() == 2
    assert len(player.locator(".words").first.inner_text()) >= len(early)
    seconds = float(re.search(r"/ 0:([\d.]+)", player.locator(".time").inner_text())[1])
    assert 1 < seconds < 30


def test_without_a_microphone_the_page_says_what_to_do(house, chromium):
    page = chromium.new_page()
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = async () => {"
        " throw new DOMException('', 'NotFoundError'); }"
    )
    page.goto(address(house, "transcribe"))
    page.get_by_role("button", name="● Speak").click()
    page.get_by_text("No microphone was found").first.wait_for()
    assert page.get_by_role("button", name="● Speak").is_enabled()
    page.close()


def test_two_visitors_at_once_get_their_own_words(house, chromium, tmp_path):
    pages = [chromium.new_context().new_page() for _ in range(2)]
    for i, (page, subnet) in enumerate(zip(pages, ("s50", "s90"))):
        page.goto(address(house, "transcribe", subnet))
        page.wait_for_selector("h1")
        _browser.upload(page, app.noise(tmp_path / f"speech{i}.wav", 6.0 + i))
    for page in pages:
        _browser.settled(page)
        as_tokens(page)
        page.get_by_role("button", name="Transcribe and play").click()
    for page, own, other in zip(pages, ("s50", "s90"), ("s90", "s50")):
        page.get_by_text("Transcripts").wait_for()
        _browser.settled(page)
        told = page.locator('[data-testid="stMain"]').inner_text()
        assert (
            page.locator('[data-testid="stException"]').count() == 0 and f"subnet={own}" in page.url
        )
        assert f"{own}" in told and f"\n{other}\n" not in told
        page.context.close()


def test_a_wrong_upload_gets_a_clear_message(house, page, tmp_path):
    (tmp_path / "notes.wav").write_text("this is no sound")
    page.goto(address(house, "transcribe"))
    page.wait_for_selector("h1")
    page.get_by_text("A file", exact=True).click()
    page.locator('input[type="file"]').set_input_files(str(tmp_path / "notes.wav"))
    page.get_by_text("isn't readable audio. Try WAV or MP3.").wait_for()
    assert page.locator('[data-testid="stException"]').count() == 0


def test_a_job_goes_on_when_the_browser_closes_and_the_app_ends_and_two_apps_have_one_worker(
    chromium, tmp_path, monkeypatch
):
    """The browser's page and then its server end while a job runs that the page's own worker has
    begun; another server finds it at work, and cancels it.
    """
    (tmp_path / "stub_jobs.py").write_text(STUB)
    environment = {
        "SUPERNET_ARTIFACTS": str(tmp_path / "house"),
        "SUPERNET_JOB_MODULE": "stub_jobs",
        "PYTHONPATH": str(tmp_path),
    }
    monkeypatch.setenv("SUPERNET_ARTIFACTS", environment["SUPERNET_ARTIFACTS"])
    number = queue.add("train", {"note": str(tmp_path / "n"), "slow": True, "steps": 2000})
    steps = lambda: int(queue.get(number).message.removeprefix("step ") or 0)  # noqa: E731
    try:
        with _browser.served(environment) as other:
            with _browser.served(environment) as server:
                page = chromium.new_page()
                page.goto(f"{server.address}/jobs")
                page.get_by_role("button", name="Start a worker").click()
                wait(lambda: queue.get(number).message.startswith("step"), 60)
                page.get_by_text("A worker is alive").wait_for(timeout=30_000)
                assert page.get_by_role("button", name="Start a worker").count() == 0
                page.close()
                seen = steps()
                wait(lambda: steps() > seen, 30)  # the browser is gone
                seen, worker = steps(), queue.get(number).worker
            assert server.process.poll() is not None
            wait(lambda: steps() > seen, 30)  # so is the app
            page = chromium.new_page()
            page.goto(f"{other.address}/jobs")
            page.get_by_text("A worker is alive").wait_for(timeout=30_000)
            assert page.get_by_role("button", name="Start a worker").count() == 0
            page.get_by_role("button", name="Cancel").click()
            wait(lambda: queue.get(number).state == "cancelled", 60)
            page.close()
        assert queue.get(number).worker == worker
        assert queue.get(number).attempts == 1
        assert len((tmp_path / "n").read_text().split()) == 1
        assert (tmp_path / "n.checkpoint").exists()
    finally:
        name = queue.get(number).worker
        if name and not dead(int(name.split(":")[1])):
            os.kill(int(name.split(":")[1]), signal.SIGTERM)
