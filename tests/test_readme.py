"""The documents keep their word: commands parse, the Python block runs, numbers are those of the
records, paths and links exist.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from core import paths
from core.cli import arguments, main as cli
from core.lm import grammars
from core.records import Report
from core.registry import recipes as recipe_files
from core.storage import store

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CORE_README = (ROOT / "core" / "README.md").read_text(encoding="utf-8")
LANGUAGE = paths.RELEASED / "language" / "README.md"
RESULTS = paths.RELEASED / "README.md"
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "core").rglob("*.md")),
    ROOT / "dashboard" / "README.md",
    RESULTS,
    LANGUAGE,
]
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
PLACEHOLDERS = {"RUN", "SUBNET", "FILE", "FILES", "RECIPE", "N"}
MADE_LATER = re.compile(
    r"artifacts/(runs|prepared|exports|devices|test_sets|speeds|lm|jobs\.db)"
    r"|\.streamlit/secrets\.toml"
)  # by use; git ignores it
# An absolute path of somebody's machine, or where packages are fetched from: neither is true
# elsewhere.
MACHINE = re.compile(
    r"(?<![\w.$}/])/(?:work|root|home|Users|tmp|opt|mnt|srv)/[\w.-]+"
    r"|https?://[\w.:-]*(?:pypi|pythonhosted|registry|mirror|proxy|artifactory|nexus|localhost)[\w.:/-]*"
    r"|--(?:extra-)?index-url|--trusted-host"
)


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def marked(comment: str, language: str, text: str = README) -> str:
    """The fenced block directly after <!-- comment -->."""
    found = re.findall(rf"<!-- {comment} -->\n```{language}\n(.*?)```", text, re.DOTALL)
    assert len(found) == 1, (
        f"expected one ```{language} block right after <!-- {comment} -->, got {len(found)}"
    )
    return found[0].strip("\n")


def core_lines(text: str = README) -> list[str]:
    """Every `python -m core ...` of the shell blocks and of inline code, without comments."""
    lines = [
        line for block in SHELL.findall(text) for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += re.findall(
        r"`(python -m core [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    )
    return [
        m[1]
        for line in lines
        for m in [re.search(r"(?:^|[ /])python3? -m core(?: (.*))?$", " ".join(line.split()))]
        if m and m[1]
    ]


def all_core_lines() -> list[str]:
    return list(
        dict.fromkeys(
            line for page in PAGES for line in core_lines(page.read_text(encoding="utf-8"))
        )
    )


def check(line: str) -> None:
    """Parses a line as the command line does and looks up what it names; raises where that
    fails.
    """
    words = [re.sub(r"^N(,M)?$", "7", word) for word in shlex.split(line, comments=True)]
    if "--help" in words:
        words.remove("--help")
        commands = next(
            a.choices
            for a in arguments.top_parser()._actions
            if hasattr(a, "choices") and a.choices
        )
        assert not words or words[0] in commands, f"`{line}`: no such command"
        return
    given = arguments.top_parser().parse_args(words)
    recipe = getattr(given, "recipe", None)
    if recipe and recipe not in PLACEHOLDERS and not recipe.startswith("my"):
        loaded = recipe_files.load_recipe(recipe if "/" not in recipe else ROOT / recipe)
        settings = [
            s for s in getattr(given, "settings", []) if not PLACEHOLDERS & set(re.split(r"\W", s))
        ]
        recipe_files.override(loaded, settings) if settings else None
    for word in words:
        if re.match(r"(artifacts|core|dashboard|tests)/", word) and "<" not in word:
            assert (ROOT / word).exists(), f"`{line}`: {word} does not exist"


# ---- README.md


def test_the_readme_is_short():
    lines = README.splitlines()
    wide = [
        f"line {number}: {len(line)}" for number, line in enumerate(lines, 1) if len(line) > 120
    ]
    assert len(lines) <= 150
    assert wide == []


def test_the_readme_answers_in_order():
    titles = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert titles == [
        "Run it",
        "What it can and cannot do",
        "Shipped sizes",
        "Eight commands",
        "Python",
        "Add to it",
        "Where the rest is",
        "License",
    ]
    assert len(re.findall(r"^- \*\*Can(?:not)?\*\* ", README, re.MULTILINE)) == 6
    (picture,) = re.findall(r"^!\[.+\]\((.+\.webp)\)$", README, re.MULTILINE)
    assert (ROOT / picture).stat().st_size <= 600_000
    with Image.open(ROOT / picture) as moving:  # by `python -m tests.animation`
        assert moving.n_frames > 10
    assert "git clone --depth 1" in README


@pytest.mark.parametrize("comment", ["run command", "test command"])
def test_the_two_commands_set_everything_up(comment):
    command = marked(comment, "sh")
    assert "\n" not in command.replace("\\\n", " "), "one command, please"
    assert "venv" in command
    assert "-r requirements.txt" in command
    for file in re.findall(r"[\w./]+\.(?:txt|py)\b", command):
        assert (ROOT / file).is_file(), file
    ends = {"run command": "streamlit run dashboard/app.py", "test command": "-m pytest"}
    assert ends[comment] in command
    assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0


def test_ci_finds_the_same_commands():
    """With its own sed."""
    function = next(
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line.startswith("command_of()")
    )
    for comment in ("run command", "test command"):
        done = subprocess.run(
            ["bash", "-c", f'{function}; command_of "{comment}"'],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip("\n") == marked(comment, "sh")


def test_there_are_eight_commands():
    block = next(b for b in SHELL.findall(README) if "-m core list" in b)
    assert len(block.strip().splitlines()) == 8
    assert len(core_lines(f"```sh\n{block}```")) == 8


@pytest.mark.slow
def test_the_python_block_runs(open_speech, monkeypatch, capsys):
    """A whole utterance and a stream give the same text, and partial results grow before the
    end.
    """
    code = marked("python", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})
    whole, *partial, final = capsys.readouterr().out.splitlines()
    assert len({text for text in partial if text}) >= 3
    assert final == whole
    assert len({"put", "coat", "went", "rain"} & set(final.split())) >= 3


# ---- numbers are those of the records


def tables(comment: str, text: str) -> list[list[dict[str, str]]]:
    """Rows {title: cell} of the table after each <!-- comment -->."""
    found = []
    for block in re.findall(rf"<!-- {comment} -->\n((?:\|.*\n)+)", text):
        head, _, *rows = [
            [cell.strip().strip("`") for cell in line.strip("|").split("|")]
            for line in block.splitlines()
        ]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


SPLITS = {
    "strings of commands": "speech_commands/strings",
    "built-in commands": "voice_commands/test",
    "test-clean": "librispeech/test-clean",
    "test-clean, noisy": "librispeech-noisy/test-clean-noisy",
}
RUNS = {
    "supernet": "supernet",
    "individually pruned": "gradual_magnitude-",
    "small dense": "small_dense-",
    "Simple-Top-k": "simple_topk-",
    "CSP": "csp-",
    "Iterative-Zero-Out, small": "iterative_zero_out-",
    "OrthoSoftmax, small": "ortho_softmax-",
    "half of the blocks, small": "individual-",
    "transducer, omni": "omni-",
}


def measured(row: dict[str, str], split: str) -> Report | None:
    """The streaming report of a row's model and subnet with its file size; words come from the
    decoding graph where tokens are phonemes, else greedily.
    """
    model = row.get("model", "supernet")
    decoder = "graph" if model == "supernet" else "greedy"
    runs = [r.id for r in store.runs() if r.released and r.id.startswith(RUNS[model])]
    found = [
        r
        for run in runs
        for r in store.reports(run, added=False)
        if (r.subnet, r.split, r.decoder, f"{r.file_bytes / 1e6:.2f}")
        == (row["subnet"], split, decoder, row["file, MB"])
        and r.chunk_ms > 0
    ]
    assert len(found) <= 1, found
    return found[0] if found else None


def wrong_cells(row: dict[str, str]) -> list[str]:
    wrong = []
    for title, split in SPLITS.items():
        cell = row.get(title, row.get(f"WER, {title}"))
        report = measured(row, split)
        if cell is None or (cell == "-" and report is None):
            continue
        share = (
            [f"{100 * value:.1f}" for value in (report.wer, report.wer_low, report.wer_high)]
            if report
            else ["-"] * 3
        )
        told = (
            [f"{100 * report.sparsity:.1f} %", f"{share[0]} ({share[1]}-{share[2]})"]
            if report
            else ["-", "-"]
        )
        if told != [row["sparsity"], cell.replace(" % (", " (")]:
            wrong.append(f"{row} {title}: the record says {told}")
    return wrong


@pytest.mark.slow
def test_the_tables_of_sizes_are_the_records():
    (sizes,) = tables("sizes", README)
    results = tables("results", RESULTS.read_text(encoding="utf-8"))
    assert [row["subnet"] for row in sizes] == ["dense", "u50", "u70", "u80", "u90"]
    assert [len(rows) for rows in results] == [6, 18]
    assert [w for rows in (sizes, *results) for row in rows for w in wrong_cells(row)] == []


def test_what_the_model_can_says_the_numbers_of_the_table():
    (said,) = (line for line in README.splitlines() if line.startswith("- **Can** write down"))
    (sizes,) = tables("sizes", README)
    cells = {row["subnet"]: row["WER, test-clean"].split(" (")[0] for row in sizes}
    assert re.findall(r"\d+\.\d %", said) == [cells[name] for name in ("dense", "u70", "u90")]


@pytest.mark.slow
def test_a_wrong_number_would_be_seen():
    row = tables("sizes", README)[0][1]
    assert wrong_cells(row) == []
    for title, cell in row.items():
        if title != "subnet":
            changed = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), cell)
            assert wrong_cells(row | {title: changed}), title


@pytest.mark.slow
def test_the_language_model_is_the_one_that_ships():
    text = LANGUAGE.read_text(encoding="utf-8")
    from core.lm import arpa, languages

    model = arpa.load(languages.shipped())
    shipped = next(line for line in text.splitlines() if "(ships)" in line)
    assert [cell.strip() for cell in shipped.strip("|").split("|")][2:5] == [
        *(f"{len(table.log10):,}".replace(",", " ") for table in model.tables[1:]),
        f"{languages.shipped().stat().st_size / 1e6:.2f}",
    ]
    assert len(text.splitlines()) <= 40


# ---- commands of all pages


def test_the_slurm_script_has_ten_lines_and_starts_a_recipe_that_exists():
    script = marked(
        "sbatch", "sh", (ROOT / "core" / "jobs" / "README.md").read_text(encoding="utf-8")
    )
    assert len(script.splitlines()) == 10
    assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0
    check(script.splitlines()[-1].split("-m core ")[1])


@pytest.mark.slow
@pytest.mark.parametrize("line", all_core_lines())
def test_every_core_command_of_the_pages_parses(line):
    check(line)


@pytest.mark.parametrize(
    "line",
    [
        "trian voice_commands",
        "train voice_command",
        "train voice_commands --sets a=1",
        "train voice_commands --set training.minuts=5",
        "tarin --help",
        "evaluate RUN --split x",
        "transcribe RUN dense artifacts/released/samples/nothing.opus",
        "jobs clone M",
    ],
)
def test_a_wrong_command_would_be_seen(line):
    with pytest.raises((SystemExit, AssertionError, ValueError)):
        check(line)


def looking() -> list[str]:
    """Core commands of the pages that only look, as words after `python -m core`."""
    bare = sorted({line.split("#")[0].strip() for line in all_core_lines()})
    return [
        line
        for line in bare
        if re.match(r"list\b|jobs$|.* --help$", line) and not PLACEHOLDERS & set(line.split())
    ]


@pytest.mark.slow
def test_commands_that_only_look_are_executed(capfd):
    """In this process: what trains and measures is executed by test_readme_commands."""
    assert {"list", "list bench", "jobs", "compare --help"} <= set(looking())
    for line in looking():
        try:
            code = cli.main(shlex.split(line))
        except SystemExit as stop:  # argparse's help
            code = stop.code
        assert code in (0, None), line
        assert capfd.readouterr().out.strip(), line


@pytest.mark.slow
def test_help_works():
    done = subprocess.run(
        [sys.executable, "-m", "core", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "release" in done.stdout


# ---- packages, paths, links


def package_picture() -> list[str]:
    """The picture of packages of core/README.md, a line each."""
    blocks = re.findall(r"```text\n(.*?)```", CORE_README, re.DOTALL)
    assert len(blocks) == 1
    return blocks[0].splitlines()


def test_the_recipe_and_the_patterns_of_the_core_readme_are_read(tmp_path):
    (recipe,) = re.findall(r"```toml\n(.*?)```", CORE_README, re.DOTALL)
    (tmp_path / "mine.toml").write_text(recipe)
    assert recipe_files.load_recipe(tmp_path / "mine.toml").corpus.name == "folder"
    (patterns,) = re.findall(r"```\n(turn .*?)```", CORE_README, re.DOTALL)
    read = grammars.read(patterns)
    assert len(read.sentences) == 3 and set(read.slots) == {"thing", "room"}


def test_the_picture_names_every_package_and_nothing_else():
    named = [
        word
        for line in package_picture()
        if not line.startswith(" ---")
        for word in re.split(r"\s{2,}", line.strip())[0].split()
    ]
    missing = [
        word
        for word in named
        if not (ROOT / "core" / word.replace(".", "/")).exists()
        and not (ROOT / "core" / f"{word.replace('.', '/')}.py").exists()
    ]
    assert missing == [], "core/README.md names packages that do not exist"
    folders = {p.parent for p in (ROOT / "core").rglob("*.py")} - {ROOT / "core"}
    packages = {str(f.relative_to(ROOT / "core")).replace("/", ".") for f in folders}
    assert packages - set(named) == set(), "core/README.md does not name them"
    picture = "\n".join(package_picture())
    pages = {p.parent.name for p in (ROOT / "dashboard").rglob("*.py")}
    assert [p for p in sorted(pages) if not re.search(rf"\b{p}\b", picture)] == []


def missing_paths(file: Path, text: str) -> list[str]:
    """Paths in inline code that exist neither in the project nor in the page's own folder; of
    NAME.py the folder must exist.
    """
    found = []
    for word in re.findall(
        r"`([\w./*-]+/[\w.*-]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    ):
        is_path = word.endswith("/") or re.search(r"\.(py|toml|md|zst|txt|png|json)$", word)
        if not is_path or MADE_LATER.match(word):
            continue
        word = re.sub(r"NAME\.\w+$", "", word)
        if not any((base / word).exists() for base in (ROOT, file.parent)) and not re.match(
            r"LibriSpeech/|manifests/", word
        ):
            found.append(word)
    return found


@pytest.mark.parametrize("file", PAGES, ids=name_of)
def test_named_paths_exist(file):
    assert missing_paths(file, file.read_text(encoding="utf-8")) == []


def test_a_missing_path_would_be_seen():
    text = (
        "`core/nothing.py` `core/methods/NAME.py` `core/nowhere/NAME.py` `sparsity/blocks.py`"
        " `artifacts/exports/RUN/`"
    )
    assert missing_paths(ROOT / "core" / "README.md", text) == ["core/nothing.py", "core/nowhere/"]


def documents() -> list[Path]:
    return [
        *PAGES,
        *sorted(set(paths.RELEASED.rglob("*.md")) - set(PAGES)),
        ROOT / "requirements.txt",
        ROOT / "tests" / "requirements.txt",
    ]


def test_pictures_and_links_lead_somewhere():
    for file in documents():
        for target in (
            re.findall(r"\]\(([^)#\s]+)\)", file.read_text(encoding="utf-8"))
            if file.suffix == ".md"
            else ()
        ):
            there = target.startswith(("http://", "https://")) or (file.parent / target).exists()
            assert there, f"{name_of(file)}: {target}"


def test_every_page_is_linked_from_the_readme():
    links = {(ROOT / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)\)", README)}
    assert [name_of(p) for p in PAGES[1:] if p not in links] == []


@pytest.mark.parametrize("file", documents(), ids=name_of)
def test_no_path_of_a_machine_and_no_registry_is_named(file):
    text = file.read_text(encoding="utf-8")
    assert MACHINE.findall(text) == []
    assert str(ROOT) not in text


def test_a_machine_path_would_be_seen():
    for bad in (
        "see /home/me/x",
        "(/opt/app/core)",
        "--index-url x",
        "https://pypi.example.org/simple",
    ):
        assert MACHINE.search(bad), bad
    for good in (
        "$SPEECH_ROOT/data/x",
        "artifacts/released/tmp/x",
        "and/or",
        "https://www.openslr.org/12",
    ):
        assert not MACHINE.search(good), good


# ---- requirements


@pytest.mark.parametrize("file", ["requirements.txt", "tests/requirements.txt"])
def test_pinned_versions_are_those_installed(file):
    pins = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    pins = [p for p in pins if p and not p.startswith("-r")]
    assert pins
    assert all("==" in p for p in pins), f"{file}: every package is pinned with =="
    wrong = []
    for name, version in (p.split("==") for p in pins):
        try:
            installed = importlib.metadata.version(name.split("[")[0]).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            if file == "requirements.txt":  # what only browser tests need may be absent
                wrong.append(f"{name} is not installed")
            continue
        if installed != version:
            wrong.append(f"{name}: {file} says {version}, installed is {installed}")
    assert not wrong, "; ".join(wrong)


def test_every_required_package_is_explained():
    table = CORE_README.partition("## Libraries")[2].partition("\n## ")[0]
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        name = re.split(r"[=\[#]", line)[0].strip()
        assert not name or re.search(rf"(?<![\w-]){name}(?![\w-])", table), (
            f"core/README.md does not say what {name} is for"
        )


def test_every_step_of_the_demonstration_is_performed_by_a_test():
    text = (ROOT / "dashboard" / "README.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\| \d+ \|.*\| `(test_\w+)` \|$", text, re.M)
    known = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    assert len(steps) == 9
    assert [step for step in steps if f"def {step}(" not in known] == []
