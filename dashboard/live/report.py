"""The live screen as one HTML file for stakeholders: works from a mail attachment, offline."""

from __future__ import annotations

import html
import json
from typing import Any

from dashboard.live import component
from dashboard.shares import percent

CLOSED = (  # what the file may load: nothing but itself
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;"
    " media-src data:"
)
STYLE = """
:root { color-scheme: light dark; --st-text-color: #1b1f24; --st-background-color: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --st-text-color: #f2f2f2; --st-background-color: #16181c; }
}
body { margin: 0 auto; max-width: 1080px; padding: 1.5rem 1rem 3rem; line-height: 1.45;
  font-family: system-ui, sans-serif; color: var(--st-text-color);
  background: var(--st-background-color); }
h1 { font-size: 1.5rem; margin: 0 0 0.3rem; } h2 { font-size: 1.1rem; margin: 1.6rem 0 0.3rem; }
dt { font-weight: 600; } dd { margin: 0 0 0.5rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def document(
    feed: dict[str, Any], title: str, test_set: str, facts: dict[str, str], commands: list[str]
) -> str:
    """One self-contained HTML file: the component fed with `feed` (live.data.payload), what the
    chosen size costs and risks in plain words, where the numbers come from.
    """
    stop = min(feed["stops"], key=lambda s: abs(s["percent"] - feed["percent"]))
    dense = feed["stops"][0]
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items()
    )
    data = json.dumps(feed).replace("<", "\\u003c")  # "</script>" or "<!--" would end the JSON
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{CLOSED}">
<title>{html.escape(title)}</title><style>{STYLE}{component.source("component.css")}</style></head>
<body><h1>{html.escape(title)}</h1>
<p>{html.escape(summary(stop, dense, test_set))}</p>
<div id="mount"><div class="live"></div></div>
<h2>What this size risks</h2><p>{html.escape(risks(stop, dense))}</p>
<h2>Where the numbers come from</h2><dl>{rows}</dl>
<pre>{html.escape(chr(10).join(commands))}</pre>
<script type="application/json" id="feed">{data}</script>
<script type="module">{component.source("component.js")}
mount({{ data: JSON.parse(document.getElementById("feed").textContent),
  parentElement: document.getElementById("mount") }});
</script></body></html>
"""


def summary(stop: dict[str, Any], dense: dict[str, Any], test_set: str) -> str:
    """The chosen size in two sentences."""
    low, high = 100 * stop["low"], 100 * stop["high"]
    return (
        f"The chosen size, {stop['name']}, sets {percent(stop['percent'] / 100)} of the prunable"
        f" weights to zero: {stop['mb']:.2f} MB to download instead of {dense['mb']:.2f} MB. On"
        f" the test set “{test_set}” its word error rate is {100 * stop['wer']:.1f} %"
        f" (95 % CI {low:.1f}-{high:.1f}); the dense model has {100 * dense['wer']:.1f} %."
    )


def risks(stop: dict[str, Any], dense: dict[str, Any]) -> str:
    """What may go wrong with the chosen size, in plain words."""
    more = 100 * (stop["wer"] - dense["wer"])
    first = (
        "It makes about as many errors as the dense model here."
        if more < 0.5
        else f"It makes about {more:.0f} more errors in 100 words than the dense model."
    )
    return (
        f"{first} The test set is one kind of speech: other speakers, rooms and microphones may be"
        " harder, so measure it on recordings of your own before you decide. Not meant for distant"
        " microphones, strong accents or children, which training had little of."
    )
