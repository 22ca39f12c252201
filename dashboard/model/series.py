"""How every run is drawn: the same color and marker on every page, whichever of them are shown."""

from __future__ import annotations

from dashboard import data
from dashboard.charts import looks


def series(dark: bool) -> dict[str, looks.Series]:
    """{run: how it is drawn} of all finished runs."""
    styles = looks.styles({info.id: info.method for info in data.run_infos()}, dark)
    return {run: looks.Series(data.run_title(run), *style) for run, style in styles.items()}
