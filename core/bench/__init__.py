"""One file, one measurement: each core/bench/<name>.py has run(options); found by scanning."""

from __future__ import annotations

from typing import Any

from core.registry import plugins


def run(name: str, given: dict[str, Any]) -> Any:
    """Run a bench and return its result. `given` becomes the bench's own `Options` where it has
    one.

    ValueError for an unknown bench or option.
    """
    module = plugins.load("bench", name)
    options = getattr(module, "Options", None)
    if options is None:
        plugins.check_known(given, (), f"bench {name}")
        return module.run({})
    return module.run(plugins.make_options(options, given, f"bench {name}"))
