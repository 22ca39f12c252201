"""What is said of a job: its title, its times, its stages, what is left to do."""

from __future__ import annotations

from core.common import stages
from core.common.stages import Stage
from core.jobs import queue
from core.jobs.job import Job
from core.records import Recipe
from core.registry import recipes
from core.storage import estimates
from core.storage.estimates import Estimate
from dashboard.markdown import escape

WORDS = {
    "prepare": "Prepare speech",
    "train": "Train",
    "search": "Search for good sizes",
    "evaluate": "Measure",
    "export": "Write files to take away",
}
STATES = {  # color-blind safe: each state has a sign and a word as well as a color
    "queued": ("gray", ":material/schedule:", "waiting"),
    "running": ("blue", ":material/play_arrow:", "running"),
    "done": ("green", ":material/check:", "done"),
    "failed": ("red", ":material/error:", "failed"),
    "cancelled": ("orange", ":material/cancel:", "cancelled"),
}
LOST = ("orange", ":material/heart_broken:", "no worker")


def span(seconds: float) -> str:
    """A length of time for people: "45 s", "12 min", "3 h 05 min", "2 days"."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 3600 * 1.5:
        return f"{seconds / 60:.0f} min"
    if seconds < 86400 * 2:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds / 86400:.0f} days"


def when(job: Job, now: float) -> str:
    """One short line about the job's times."""
    if queue.lost(job):
        silent = span(now - (job.heartbeat or job.started or now))
        return f"its worker has been silent for {silent}; the next one takes it up where it was"
    if job.state == "running" and job.started:
        return f"running for {span(now - job.started)}{left(job, now)}" + placed(job)
    if job.state == "queued":
        expected = expectation(job)
        return f"waiting for {span(now - job.created)}" + (
            f"; takes {expected.words()}" if expected else ""
        )
    took = f", took {span(job.ended - job.started)}" if job.ended and job.started else ""
    return f"ended {span(now - job.ended)} ago{took}{placed(job)}" if job.ended else ""


def left(job: Job, now: float) -> str:
    """What is left of a running job: its own count where it has one, before that the estimate. Of
    its present stage alone, and said so, where nobody knows what the later ones take.
    """
    expected, stage = expectation(job), stages.read(job.message).name
    known = expected.stages if expected is not None else {}
    order = stages.OF_KIND.get(job.kind, ())
    later = order[order.index(stage) + 1 :] if stage in order else ()
    low, high = expected.after(stage) if expected is not None else (0.0, 0.0)
    of = ""
    if any(name not in known for name in later):
        low, high, of = 0.0, 0.0, " of this stage"
    if job.eta_s is not None:
        low, high = low + job.eta_s, high + job.eta_s
    elif stage in known:
        low, high = low + known[stage][0], high + known[stage][1]
    if low == high:
        return f", about {span(high)} left{of}" if job.eta_s is not None else ""
    return f", about {estimates.between(low, high)} left{of}"


def placed(job: Job) -> str:
    """Where it runs or ran, unless that is this machine's processors."""
    return f", on {escape(job.place)}" if job.place not in ("", "cpu") else ""


def recipe_of(job: Job) -> Recipe | None:
    """The recipe that a job brings; None for other jobs, and where it is no recipe any more."""
    try:
        return recipes.recipe_from(job.payload["recipe"])
    except (KeyError, ValueError, TypeError):
        return None


def expectation(job: Job) -> Estimate | None:
    """What a training job takes on this machine, as far as that is known."""
    if job.kind != "train" or job.runner != "local" or (recipe := recipe_of(job)) is None:
        return None
    device = (job.place or job.device).partition(":")[0]
    return estimates.of(recipe, device)


def stage_line(job: Job) -> str:
    """The stages of a running job in their order, the present one with its count; "" where its
    kind has none or its message names none.
    """
    order, now = stages.OF_KIND.get(job.kind, ()), stages.read(job.message)
    if not order or (now.name not in order and now.name != stages.STARTING and job.message):
        return ""
    at = order.index(now.name) if now.name in order else -1
    parts = []
    for number, name in enumerate(order):
        if number == at:
            parts.append(f":material/pending: **{name}** {escape(now.count())}".rstrip())
        else:
            done = ":material/check_circle:" if number < at else ":material/circle:"
            parts.append(f"{done} {name}")
    return " &nbsp; ".join(parts)


def progress_of(job: Job) -> tuple[float, str]:
    """(share, text) of the job's bar: of its present stage where that is counted."""
    stage: Stage = stages.read(job.message)
    if stage.total:
        more = f": {stage.more}" if stage.more else ""
        return stage.share, f"{stage.share:.0%} of {stage.name}{more}"
    share = min(1.0, max(0.0, job.progress))
    return share, f"{share:.0%} {job.message}".strip()


def subject(job: Job) -> str:
    """What the job is about: its run, or the title or method of the recipe it brings."""
    recipe = job.payload.get("recipe")
    facts = job.run or job.payload.get("run", "")
    if isinstance(recipe, dict):
        method = recipe.get("method", {})
        return (
            recipe.get("title")
            or facts
            or (method.get("name", "") if isinstance(method, dict) else "")
        )
    if job.kind in ("evaluate", "export"):
        new = (job.payload.get("new") or {}).get("name")
        sizes = [new] if new else job.payload.get("subnets", [])
        named = ", ".join(sizes[:3]) + (" ..." if len(sizes) > 3 else "")
        return ": ".join(filter(None, (facts, named or "all sizes")))
    return facts or str(recipe or "")


def name_of(number: int) -> str:
    """A job in one line, for the list to choose from."""
    try:
        job = queue.get(number)
    except (ValueError, OSError):
        return f"{number}"
    return f"{number} · {WORDS.get(job.kind, job.kind)} · {subject(job)}"


def reason(job: Job) -> str:
    """Why a job failed, in the one line that says it."""
    lines = job.error.strip().splitlines()
    return lines[-1] if lines else ""
