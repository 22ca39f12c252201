"""Jobs: what waits, runs and has ended in the background, with progress, live curves, log, cancel
and resume.
"""

from __future__ import annotations

import time

import streamlit as st

from core.jobs import database, queue, visitors
from core.jobs.job import Job
from core.storage import metrics
from dashboard import visit
from dashboard.charts import curves
from dashboard.components import links, machines
from dashboard.markdown import escape

TITLE = "Jobs"
ICON = ":material/monitoring:"
ORDER = 50
SHOWN = 30
BUSY_S, IDLE_S = (
    3.0,
    15.0,
)  # seconds between two looks at the queue while something waits or runs, and otherwise
DRAW_S = 6.0  # seconds between two drawings of the curves of a running job
LOG_LINES = 60
TOLD_FOR = 15.0  # seconds that a refusal stays on the page
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
    if job.state == "running" and job.started:
        left = f", about {span(job.eta_s)} left" if job.eta_s is not None else ""
        return f"running for {span(now - job.started)}{left}" + placed(job)
    if job.state == "queued":
        return f"waiting for {span(now - job.created)}"
    took = f", took {span(job.ended - job.started)}" if job.ended and job.started else ""
    return f"ended {span(now - job.ended)} ago{took}{placed(job)}" if job.ended else ""


def placed(job: Job) -> str:
    """Where it runs or ran, unless that is this machine's processors."""
    return f", on {escape(job.place)}" if job.place not in ("", "cpu") else ""


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


def act(action, number: int) -> None:
    """Run a button's action on a job; what is refused is told at the top of the page."""
    try:
        action(visit.visitor(), number)
        if action is visitors.resume or queue.get(number).remote:  # a cluster is told by a worker
            visitors.wake_worker(visit.visitor())
    except (ValueError, OSError) as problem:
        st.session_state["refused"] = (str(problem), time.time() + TOLD_FOR)


def visible(job: Job) -> bool:
    """Whether this visitor sees what a job printed and why it failed: paths and words of whoever
    queued it.
    """
    who = visit.visitor()
    return who.local or job.payload.get("visitor") == who.name


def changeable(job: Job) -> bool:
    return visit.visitor().may(visit.JOBS) and visible(job)


def card(job: Job, now: float) -> None:
    color, icon, word = STATES[job.state]
    if job.cancel and job.state == "running":
        word = "stopping"
    with st.container(border=True):
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.markdown(
            f"**{job.id} · {escape(WORDS.get(job.kind, job.kind))}** &nbsp; :{color}-badge[{icon}"
            f" {word}]  \n{escape(subject(job))}"
        )
        if job.state in ("queued", "running"):
            right.button(
                "Cancel",
                key=f"cancel.{job.id}",
                on_click=act,
                args=(visitors.cancel, job.id),
                disabled=job.cancel or not changeable(job),
                help="A running training writes a checkpoint first, so that it can go on later.",
            )
        elif job.state in ("failed", "cancelled"):
            right.button(
                "Resume",
                key=f"resume.{job.id}",
                on_click=act,
                args=(visitors.resume, job.id),
                disabled=not changeable(job),
                help="Puts it back into the queue; a training goes on from its last checkpoint.",
            )
        if job.state == "running" or (0 < job.progress < 1):
            st.progress(
                min(1.0, max(0.0, job.progress)),
                escape(f"{job.progress:.0%} {job.message}".strip()),
            )
        st.caption(when(job, now))
        if job.kind == "export" and visible(job) and job.state == "done":
            st.caption(f":material/folder: {escape(job.message)}")
        if job.error and visible(job):
            with st.expander("Why it failed", icon=":material/bug_report:"):
                st.markdown(f"**{escape(job.error.strip().splitlines()[-1])}**")
                st.code(job.error, language=None, wrap_lines=True)


def worker_line(waiting: bool) -> None:
    """Whether something works on the queue, and a button that starts it."""
    if queue.worker_alive():
        st.caption(
            ":material/check_circle: A worker is alive: it takes the jobs in their order, one at a"
            " time for every device, also after you close this page."
        )
        return
    text = (
        "No worker is alive, so nothing in the queue will start."
        if waiting
        else "No worker is alive; one starts by itself with the next job."
    )
    left, right = st.columns([4, 1], vertical_alignment="center")
    (left.warning if waiting else left.caption)(text)
    if right.button("Start a worker", key="worker", disabled=not visit.visitor().may(visit.JOBS)):
        try:
            visitors.wake_worker(visit.visitor())
        except (OSError, visitors.Refused) as problem:
            st.error(
                f"No worker could be started ({escape(problem)}). In a terminal: `python -m"
                " core.jobs.worker`."
            )
        else:
            st.caption("Starting ...")


def board() -> None:
    """The list of jobs; a fragment, redrawn on its own while the rest of the page stays."""
    try:
        jobs = queue.list_jobs(SHOWN)
        if lost := database.said(database.damaged()):
            st.warning(escape(lost), icon=":material/healing:")
        worker_line(any(job.state == "queued" for job in jobs))
    except (ValueError, OSError) as problem:
        st.error(f"The queue cannot be read: {escape(problem)}")
        return
    refused, until = st.session_state.get("refused", ("", 0.0))
    if time.time() < until:
        st.warning(escape(refused))
    if not jobs:
        st.info(
            "No job has been started yet. **Train** starts one, and so does “Measure this size” on"
            " **Explore**."
        )
        links.to_page("train", "Go to Train", ":material/school:")
        return
    order = {"running": 0, "queued": 1}
    jobs.sort(
        key=lambda job: (order.get(job.state, 2), job.id if job.state == "queued" else -job.id)
    )
    known, states = st.session_state.get("known jobs"), {job.id: job.state for job in jobs}
    st.session_state["known jobs"] = states
    if known is not None and known != states:
        # what stands outside this fragment depends on it: how often to look, which jobs to look
        # closer at
        st.rerun()
    now = time.time()
    for job in jobs[:8]:
        card(job, now)
    if visit.visitor().may(visit.JOBS):
        machines.show(jobs)
    if len(jobs) > 8:
        with st.expander(f"{len(jobs) - 8} older jobs"):
            for job in jobs[8:]:
                card(job, now)


def closer(number: int) -> None:
    """Curves and log of one job; a fragment, live while it runs."""
    try:
        job = queue.get(number)
    except (ValueError, OSError) as problem:
        st.error(escape(problem))
        return
    show_curves(job)
    if not visible(job):
        st.caption("What it wrote is shown to whoever queued it.")
        return
    st.markdown("**Log**")
    written = queue.log(job.id, LOG_LINES).strip()
    if written:
        st.caption(f"The last {LOG_LINES} lines it wrote, the newest at the top.")
        st.code(
            "\n".join(reversed(written.splitlines())), language=None, height=280, wrap_lines=True
        )
    else:
        st.caption("It has written nothing yet.")


def show_curves(job: Job) -> None:
    if not job.run:
        if job.state in ("queued", "running"):
            st.caption("Curves appear when the training has begun.")
        return
    try:
        rows = metrics.metrics(job.run)
    except (ValueError, OSError) as problem:
        st.warning(f"The curves cannot be read: {escape(problem)}")
        return
    drawn = False
    for word, sentence in curves.SENTENCES.items():
        chart = curves.figure(rows, word, dark=st.context.theme.type == "dark")
        if chart is not None:
            drawn = True
            st.caption(sentence)
            st.plotly_chart(chart, key=f"curve.{job.id}.{word}", config={"displayModeBar": False})
    if not drawn and job.kind == "train":
        st.caption("Nothing to draw yet: the first point comes after some training steps.")


def main() -> None:
    st.title("Jobs")
    st.markdown(
        "Work that goes on in the background, one job at a time. You may close this page; the work"
        " goes on."
    )
    visit.may(visit.JOBS)
    busy = any(
        state in ("queued", "running")
        for state in st.session_state.get("known jobs", {"": "queued"}).values()
    )
    st.fragment(board, run_every=BUSY_S if busy else IDLE_S)()
    states = st.session_state.get("known jobs", {})
    if states:
        st.subheader("A closer look")
        number = st.selectbox(
            "Job", list(states), key="closer", label_visibility="collapsed", format_func=name_of
        )
        st.fragment(closer, run_every=DRAW_S if states[number] == "running" else None)(number)


main()
