"""What work has cost on this machine, and how much speech recipes have: artifacts/speeds.json.

Estimates read it. A lost or damaged file costs estimates, nothing else, so nothing here raises for
one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

from core import paths
from core.common import machine, writing

KEPT = 5  # measurements of one kind of work; the newest stay
COSTS, AMOUNTS = "costs", "amounts"


def digest(*facts: Any) -> str:
    """12 hex digits over JSON-ready data."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, default=writing.plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def note(work: str, amount: float, seconds: float) -> None:
    """Remember that this machine took `seconds` for `amount` of a kind of work."""
    if amount > 0 and seconds >= 0:
        _change(COSTS, work, [*costs(work), seconds / amount][-KEPT:])


def costs(work: str) -> list[float]:
    """Seconds for one of this kind of work as measured here, the newest last; [] where never."""
    found = _read()[COSTS].get(machine.processor(), {}).get(work, [])
    return [float(value) for value in found if isinstance(value, (int, float))]


def note_amounts(speech: str, amounts: dict[str, Any]) -> None:
    """Remember what is known of a corpus, by `digest` of its choice."""
    _change(AMOUNTS, speech, amounts_of(speech) | amounts)


def amounts_of(speech: str) -> dict[str, Any]:
    """What was remembered of a corpus; {} where nothing was."""
    found = _read()[AMOUNTS].get(machine.processor(), {}).get(speech, {})
    return found if isinstance(found, dict) else {}


def _read() -> dict[str, dict[str, dict[str, Any]]]:
    known: dict[str, dict[str, dict[str, Any]]] = {COSTS: {}, AMOUNTS: {}}
    with contextlib.suppress(OSError, ValueError):
        stored = json.loads(paths.speeds().read_bytes())
        known |= {n: stored[n] for n in known if isinstance(stored.get(n), dict)}
    return known


def _change(table: str, name: str, value: Any) -> None:
    known = _read()
    known[table].setdefault(machine.processor(), {})[name] = value
    with contextlib.suppress(OSError):  # artifacts that may only be read
        paths.speeds().parent.mkdir(parents=True, exist_ok=True)
        writing.write_json(paths.speeds(), known)
