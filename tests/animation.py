"""Makes the README's animation of the Explore page: `python -m tests.animation`. The thumb goes
from dense to the smallest size while a headless Chromium is photographed.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from core import paths
from core.bench import _browser

FILE = paths.RELEASED / "explore.webp"
VIEW = {"width": 1440, "height": 900}
WIDTH = 840  # pixels of the animation
SHARES = [step / 18 for step in range(19)]  # of the way from dense to the smallest
FRAME_MS, REST_MS = 160, 1500  # between frames; at both ends


def photographs(page: Any) -> list[Image.Image]:
    """One for each of SHARES, while the mouse holds the thumb."""
    screen = page.locator(".live").bounding_box()
    box = page.locator(".live input[type=range]").bounding_box()
    middle, pictures = box["y"] + box["height"] / 2, []
    page.mouse.move(box["x"] + 2, middle)
    page.mouse.down()
    for share in SHARES:
        page.mouse.move(box["x"] + 8 + share * (box["width"] - 16), middle, steps=2)
        page.wait_for_timeout(80)
        picture = Image.open(io.BytesIO(page.screenshot(clip=screen))).convert("RGB")
        height = round(picture.height * WIDTH / picture.width)
        pictures.append(picture.resize((WIDTH, height), Image.Resampling.LANCZOS))
    page.mouse.up()
    return pictures


def write(pictures: list[Image.Image], file: Path) -> None:
    times = [REST_MS, *[FRAME_MS] * (len(pictures) - 2), REST_MS]
    first, *others = pictures
    first.save(
        file, save_all=True, append_images=others, duration=times, loop=0, quality=30, method=4
    )


def main(file: Path = FILE) -> None:
    with _browser.served() as server, _browser.browser() as chromium:
        page = chromium.new_page(viewport=VIEW, color_scheme="light")
        page.goto(f"{server.address}/?run=supernet&subnet=dense")
        page.wait_for_selector(".live canvas", timeout=_browser.PATIENCE_S * 1000)
        _browser.settled(page)
        write(photographs(page), file)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
