"""`python -m core prepare|train|search|evaluate|compare|transcribe|lm|bench|release|store|fetch|list|jobs`: commands."""
from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import arguments, bench, catalog, child, jobs, listing, paths, recipe_sets, storage, store, worker
from core.records import Interrupted, Job, Recipe, Subnet
from core.records import Report as RunReport
from core.runners.base import STOPPED
from core.writing import in_words

Report = Callable[[float, str, "float | None"], bool]


def main(words: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong input (one line on stderr), 75 stopped."""
    given = arguments.parser().parse_args(words)
    if given.command == "_job":
        return child.run_job(given.id)
    try:
        return COMMANDS[given.command](given) or 0
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except Interrupted as reached:
        print(reached, file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if not in_words(error):
            raise
        print(f"error: {in_words(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _progress(stop: child.Stop) -> Report:
    """A report function for people: one line rewritten on a terminal, a line every ten seconds elsewhere."""
    terminal, last = sys.stderr.isatty(), [0.0]

    def report(progress: float, message: str = "", eta_s: float | None = None) -> bool:
        now = time.monotonic()
        if now - last[0] > (0.2 if terminal else 10.0) or progress >= 1:
            last[0] = now
            line = f"{100 * progress:5.1f} %  {message}" + (f"  ({_duration(eta_s)} left)" if eta_s else "")
            print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal and progress < 1 else "\n",
                  file=sys.stderr, flush=True)
        return not stop.asked
    return report


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"


# work

def _work(given: Any) -> int:
    """prepare, train, search, evaluate: here and now."""
    recipe = None
    if given.command in ("prepare", "train"):
        recipe = _recipe(given)
        if getattr(given, "dry_run", False):
            print(_resolved(recipe))
            from core import rehearsal
            print(rehearsal.said(rehearsal.rehearse(recipe)), file=sys.stderr)
            return 0
    else:
        storage.here(given.run)
        _check_subnets(given)
        decoding = arguments.decoding(given)
    stop = child.Stop()
    report = _progress(stop)
    from core import experiment
    if given.command == "prepare":
        result = experiment.prepare(recipe, report)
    elif given.command == "train":
        from core import group as processes
        group = processes.joined()  # of torchrun or Slurm; None for one process
        try:
            quiet = report if group is None or group.rank == 0 else lambda *_: not stop.asked
            result = experiment.train(recipe, quiet, resume=given.resume, group=group)
        finally:
            processes.leave(group)
    elif given.command == "search":
        result = experiment.search(given.run, report)
    else:
        asked = {"chunk_ms": given.chunk_ms} | ({"decoding": decoding} if decoding else {})
        if given.tune:
            from core import language
        work = language.tune if given.tune else experiment.evaluate
        result = work(given.run, given.subnets, given.splits, report, **asked)
    for line in result if isinstance(result, (list, tuple)) else [] if result is None else [result]:
        print(_short(line))
    return STOPPED if stop.asked else 0


def _compare(given: Any) -> int:
    recipe_set = recipe_sets.load(given.set, given.settings)
    stop = child.Stop()
    report = _progress(stop)
    from core import compare
    print(compare.run(recipe_set, report))
    return STOPPED if stop.asked else 0


def _short(made: Any) -> str:
    """A subnet or a report in one line; everything of it is in the run's folder."""
    if isinstance(made, Subnet):
        return f"{made.name}: {made.sparsity:.1%} zeros, {made.origin}"
    if isinstance(made, RunReport):
        return (f"{made.subnet} on {made.split}, chunk {made.chunk_ms:g} ms: {made.wer:.1%} of words wrong ({made.wer_low:.1%} to "
                f"{made.wer_high:.1%}), {made.file_bytes / 1e6:.2f} MB")
    return str(made)


def _check_subnets(given: Any) -> None:
    """Names of subnets are wrong more often than anything: said before torch is loaded. Any run has dense."""
    for name in getattr(given, "subnets", ()):
        if name != "dense":
            store.subnet(given.run, name)


def _lm(given: Any) -> None:
    from core import language
    print(language.write(given.source, given.text, given.order, Path(given.out) if given.out else None, _progress(child.Stop())))


def _recipe(given: Any) -> Recipe:
    resume = getattr(given, "resume", None)
    if given.recipe is None and resume is None:
        raise ValueError("train: say which RECIPE, or --resume RUN; `python -m core list recipes` shows the recipes")
    if resume is not None and (given.settings or given.recipe is not None):
        raise ValueError("train: --resume RUN goes on with that run's own recipe; leave out RECIPE and --set, or leave out --resume "
                         "to train another run")
    recipe = store.load_recipe(given.recipe) if given.recipe is not None else store.recipe(resume)
    return store.override(recipe, given.settings) if given.settings else recipe


def _resolved(recipe: Recipe) -> str:
    """The recipe with every option spelled out, as JSON."""
    def full(room: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
        return catalog.defaults(catalog.card(room, name)) | options
    data = {field: {"name": choice.name, "options": full(room, choice.name, choice.options)}
            for field, room in store.ROOM_OF.items() for choice in [getattr(recipe, field)]}
    known = {c.name for c in catalog.cards("settings")}
    data |= {field: full("settings", name, getattr(recipe, field)) if name in known else getattr(recipe, field)
             for field, name in store.CARD_OF.items()}
    data |= {"seed": recipe.seed, "init_from": recipe.init_from, "title": recipe.title}
    return json.dumps(data, indent=1, ensure_ascii=False)


def _transcribe(given: Any) -> None:
    if not Path(given.run).is_file():  # a packed file is a run, too
        storage.here(given.run)
    asked = arguments.decoding(given)
    from core import audio, recognizer
    if asked:
        from core import evaluation
        language = evaluation.language(evaluation.Options(**asked))
        asked = {n: v for n, v in asked.items() if n in ("decoder", "beam")} | {"language": language}
    opened = recognizer.open(given.run, given.subnet, given.chunk_ms, **asked)
    wrong = []
    for name in given.files:
        try:
            samples = audio.read(name)
        except ValueError as error:  # the other files are still transcribed
            wrong.append(f"{name}: {error}")
            continue
        stream = opened.stream()
        for start in range(0, len(samples), audio.SAMPLE_RATE):
            stream.accept(samples[start:start + audio.SAMPLE_RATE])
        print(f"{name}\t{stream.finish()}", flush=True)
    if wrong:
        raise ValueError("; ".join(wrong))


def _bench(given: Any) -> None:
    result = bench.run(given.name, arguments.options(given.settings, "--set"))
    if result is not None:
        print(result if isinstance(result, str) else json.dumps(result, indent=1, default=str))


def _release(given: Any) -> None:
    from core.release import publish, results, samples
    if not (given.run or given.results or given.samples):
        raise ValueError("release: say which RUN, --results or --samples; `python -m core list runs` shows the runs")
    if not given.run and (given.name or given.no_snapshots):
        raise ValueError("release: --name and --no-snapshots belong to a RUN")
    if given.samples:  # first: the card's example names a sample
        print(samples.write())
    if given.run:
        folder = publish.release(given.run, given.name, not given.no_snapshots,
                                 lambda text: print(text, file=sys.stderr, flush=True))
        print(publish.sizes_text(folder))
        print(paths.RELEASED / paths.RESULTS)
    elif given.results:
        print(results.write())


# jobs

def _jobs(given: Any) -> int:
    if given.todo in (None, "list"):
        print(listing.table(("id", "kind", "state", "done", "run", "message"),
                     [_job_row(j) for j in jobs.list_jobs(getattr(given, "limit", 20))]))
    elif given.todo == "work":
        words = ["--idle-minutes", given.idle_minutes, "--grace-s", given.grace_s, "--stale-s", given.stale_s, "--slots", given.slots]
        return worker.main([str(w) for w in words])
    elif given.todo == "log":
        print(jobs.log(given.id, given.lines))
        job = jobs.get(given.id)
        if job.error:
            print(job.error)
    elif given.todo == "add":
        _queued(given, given.kind, _payload(given))
    elif given.todo == "clone":
        job = jobs.get(given.id)
        same = given.runner in (None, job.runner)
        for name in ("priority", "after", "retries", "device", "runner"):
            setattr(given, name, getattr(job, name) if getattr(given, name) is None else getattr(given, name))
        given.settings_before = job.settings if same else {}
        _queued(given, job.kind, _changed(job, given.settings))
    else:
        {"cancel": jobs.cancel, "resume": jobs.resume}[given.todo](given.id)
        print(f"job {given.id} is {_state(jobs.get(given.id))}")
    elsewhere = given.todo == "cancel" and jobs.get(given.id).remote  # somebody must tell the cluster
    if (given.todo in ("add", "clone") and not given.no_worker) or given.todo == "resume" or elsewhere:
        jobs.start_worker()
    return 0


def _queued(given: Any, kind: str, payload: dict[str, Any]) -> None:
    settings = getattr(given, "settings_before", {}) | arguments.options(given.with_, "--with")
    settings |= {"address": given.address} if given.address else {}
    number = jobs.add(kind, payload, priority=given.priority, after=given.after, retries=given.retries, device=given.device,
                      runner=given.runner, settings=settings)
    print(f"job {number} is queued")


def _changed(job: Job, settings: list[str]) -> dict[str, Any]:
    """A job's payload again, with the recipe's options changed."""
    if settings and "recipe" not in job.payload:
        raise ValueError(f"job {job.id} is of kind {job.kind} and has no recipe: --set changes the recipe of prepare and train jobs")
    if not settings:
        return job.payload
    return job.payload | {"recipe": dataclasses.asdict(store.override(store.recipe_from(job.payload["recipe"]), settings))}


def _payload(given: Any) -> dict[str, Any]:
    """What a job of this kind needs, checked now rather than when its turn comes."""
    if given.kind in ("prepare", "train"):
        return {"recipe": dataclasses.asdict(_recipe(given))}
    run = "" if given.run == "-" and given.after else given.run
    if not run and given.after and jobs.get(given.after[0]).kind == "prepare":
        raise ValueError(f"job {given.after[0]} prepares speech and makes no run: name a training first in --after, or say which RUN")
    if run:
        store.run_folder(run)
    if given.kind == "search":
        return {"run": run}
    if run:
        _check_subnets(given)
    decoding = arguments.decoding(given)
    return {"run": run, "subnets": given.subnets, "splits": given.splits, "new": None, "chunk_ms": given.chunk_ms} | (
        {"decoding": decoding} if decoding else {})


def _state(job: Job) -> str:
    return "stopping" if job.state == "running" and job.cancel else job.state


def _job_row(job: Job) -> tuple[str, ...]:
    message = job.error.strip().splitlines()[-1] if job.error.strip() and job.state != "queued" else job.message
    waiting = ", ".join(f"{b.id} ({_state(b)})" for b in jobs.waits_for(job))
    message = f"waits for job {waiting}" if waiting else message
    left = f" ({_duration(job.eta_s)} left)" if job.eta_s else ""
    return str(job.id), job.kind, _state(job), f"{100 * job.progress:.0f} %", job.run, (message + left)[:80]


COMMANDS: dict[str, Callable[[Any], int | None]] = {
    "prepare": _work, "train": _work, "search": _work, "evaluate": _work, "compare": _compare, "transcribe": _transcribe, "lm": _lm,
    "bench": _bench, "release": _release,
    "store": lambda given: print(f"{len(storage.push(given.run, given.at))} files of {given.run} were copied to {storage.url(given.at)}"),
    "fetch": lambda given: print(storage.pull(given.run, given.at)),
    "list": lambda given: print(listing.everything(given.what)), "jobs": _jobs}

if __name__ == "__main__":
    sys.exit(main())
