"""The README keeps its word: its commands parse, its tree is the tree, its versions are those installed."""
from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from core.cli import arguments, main as cli
from core.registry import recipes as recipe_files

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
PLACEHOLDERS = {"RUN", "SUBNET", "FILE", "FILES", "RECIPE", "N"}
# An absolute path of somebody's machine, or where packages are fetched from: neither is true elsewhere.
MACHINE = re.compile(r"(?<![\w.$}/])/(?:work|root|home|Users|tmp|opt|mnt|data|srv)/[\w.-]+"
                     r"|https?://[\w.:-]*(?:pypi|pythonhosted|registry|mirror|proxy|artifactory|nexus|localhost)[\w.:/-]*"
                     r"|--(?:extra-)?index-url|--trusted-host")


def marked(comment: str, language: str, text: str = README) -> str:
    """The fenced block directly after <!-- comment -->."""
    found = re.findall(rf"<!-- {comment} -->\n```{language}\n(.*?)```", text, re.DOTALL)
    assert len(found) == 1, f"README.md needs one ```{language} block right after <!-- {comment} -->: {len(found)}"
    return found[0].strip("\n")


def core_lines(text: str = README) -> list[str]:
    """Every `python -m core ...` of the shell blocks and of inline code, without comments."""
    lines = [line for block in SHELL.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(python -m core [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [m[1] for line in lines
            for m in [re.search(r"(?:^|[ /])python3? -m core(?: (.*))?$", line)] if m and m[1]]


def check(line: str) -> None:
    """Parses a line as the command line does and looks up what it names; raises where that fails."""
    words = shlex.split(line, comments=True)
    if "--help" in words:
        words.remove("--help")
        commands = next(a.choices for a in arguments.parser()._actions if hasattr(a, "choices") and a.choices)
        assert not words or words[0] in commands, f"`{line}`: no such command"
        return
    given = arguments.parser().parse_args(words)
    recipe = getattr(given, "recipe", None)
    if recipe and recipe not in PLACEHOLDERS and not recipe.startswith("my"):
        loaded = recipe_files.load_recipe(recipe if "/" not in recipe else ROOT / recipe)
        settings = [s for s in getattr(given, "settings", []) if not PLACEHOLDERS & set(re.split(r"\W", s))]
        recipe_files.override(loaded, settings) if settings else None
    for word in words:
        if re.match(r"(artifacts|core|dashboard|tests)/", word) and "<" not in word:
            assert (ROOT / word).exists(), f"`{line}`: {word} does not exist"


@pytest.mark.parametrize("comment", ["run command", "test command"])
def test_the_two_commands_are_one_line_each_and_set_everything_up(comment):
    command = marked(comment, "sh")
    assert "\n" not in command, "one line, please"
    assert "venv" in command and "-r requirements.txt" in command
    for file in re.findall(r"[\w./]+\.(?:txt|py)\b", command):
        assert (ROOT / file).is_file(), file
    ends = {"run command": "streamlit run dashboard/app.py", "test command": "-m pytest"}
    assert ends[comment] in command
    assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0


def test_the_slurm_script_has_ten_lines_and_starts_a_recipe_that_exists():
    script = marked("sbatch", "sh")
    assert len(script.splitlines()) == 10 and subprocess.run(["bash", "-n", "-c", script]).returncode == 0
    check(script.splitlines()[-1].split("-m core ")[1])


def test_there_are_commands_to_check():
    assert len(core_lines()) >= 3


@pytest.mark.parametrize("line", core_lines())
def test_every_core_command_of_the_readme_parses(line):
    check(line)


@pytest.mark.parametrize("line", ["trian voice_commands", "train voice_command", "train voice_commands --sets a=1",
                                  "train voice_commands --set training.minuts=5", "tarin --help", "evaluate RUN --split x",
                                  "transcribe RUN dense artifacts/released/samples/nothing.opus"])
def test_a_wrong_command_would_be_seen(line):
    with pytest.raises((SystemExit, AssertionError, ValueError)):
        check(line)


def looking() -> list[str]:
    """The README's core commands that only look, as words after `python -m core`."""
    bare = sorted({line.split("#")[0].strip() for line in core_lines()})
    return [line for line in bare if re.match(r"list\b|jobs$|.* --help$", line) and not PLACEHOLDERS & set(line.split())]


def test_commands_that_only_look_are_executed(capfd):
    """In this process: what trains and measures is executed as the same functions by test_cli, test_experiment and test_compare."""
    assert {"list", "jobs", "evaluate --help", "compare --help"} <= set(looking())
    for line in looking():
        try:
            code = cli.main(shlex.split(line))
        except SystemExit as stop:  # argparse's help
            code = stop.code
        assert code in (0, None) and capfd.readouterr().out.strip(), line


def test_help_works():
    done = subprocess.run([sys.executable, "-m", "core", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "release" in done.stdout


def tree_paths(tree: str) -> set[str]:
    """Every path a tree names: `name/` opens a folder, deeper indentation (or │├└─) is inside it; a word with a dot or
    a final / is a path, the text after the names of a line (two blanks or #) is its purpose."""
    found, folders = set(), []  # folders: (indentation, path)
    for line in tree.splitlines():
        bare = re.sub(r"[│├└─]", " ", line)
        names = re.split(r"\s{2,}|\s#", bare.strip())[0].split()
        if not names:
            continue
        indent = len(bare) - len(bare.lstrip())
        while folders and folders[-1][0] >= indent:
            folders.pop()
        above = folders[-1][1] if folders else ""
        for name in names:
            if not re.fullmatch(r"[\w.*<>-]+(?:/[\w.*<>-]+)*/?", name) or not ("." in name or name.endswith("/")):
                continue
            found.add(above + name.rstrip("/"))
            if name.endswith("/") and name == names[0]:
                folders.append((indent, above + name))
    return found


def test_the_tree_is_the_tree():
    named = tree_paths(marked("tree", "text"))
    made_later = ("artifacts/runs", "artifacts/prepared", "artifacts/jobs.db")  # appear with use, ignored by git
    wrong = [p for p in named if not list(ROOT.glob(p)) and "<" not in p and not p.startswith(made_later)]
    assert not wrong, f"the README's tree names what does not exist: {wrong}"
    missing = []
    for package in ("core", "dashboard"):
        for path in sorted((ROOT / package).iterdir()):
            is_module = path.suffix == ".py" and path.name not in ("__init__.py", "__main__.py")
            is_folder = path.is_dir() and any(path.glob("*.py"))
            if (is_module or is_folder) and f"{package}/{path.name}" not in named:
                missing.append(f"{package}/{path.name}")
    assert not missing, f"the README's tree does not name: {missing}"


def test_trees_are_read_as_they_are_drawn():
    drawn = "README.md  what this is\ncore/\n  a.py b.py   words, and no.thing else\n  rooms/      folders\n" \
            "    c.py\ntests/ # x.y\n"
    lines = "core/\n├── a.py   one\n├── rooms/\n│   └── c.py\n└── z.py\n"
    both = {"core", "core/a.py", "core/rooms", "core/rooms/c.py"}
    assert tree_paths(drawn) == both | {"README.md", "core/b.py", "tests"}
    assert tree_paths(lines) == both | {"core/z.py"}


@pytest.mark.parametrize("file", ["requirements.txt", "tests/requirements.txt"])
def test_pinned_versions_are_those_installed(file):
    pins = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    pins = [p for p in pins if p and not p.startswith("-r")]
    assert pins and all("==" in p for p in pins), f"{file}: every package is pinned with =="
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
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        name = re.split(r"[=\[#]", line)[0].strip()
        assert not name or name in README, f"the README does not say why {name} is there"


def documents() -> list[Path]:
    return [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *(ROOT / "artifacts" / "released").rglob("*.md"),
            ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt"]


@pytest.mark.parametrize("file", documents(), ids=lambda f: str(f.relative_to(ROOT)))
def test_no_path_of_a_machine_and_no_registry_is_named(file):
    text = file.read_text(encoding="utf-8")
    assert not MACHINE.findall(text), MACHINE.findall(text)
    assert str(ROOT) not in text


def test_a_machine_path_would_be_seen():
    for bad in ("see /home/me/x", "(/opt/app/core)", "--index-url x", "https://pypi.example.org/simple"):
        assert MACHINE.search(bad), bad
    for good in ("$SPEECH_ROOT/data/x", "artifacts/released/tmp/x", "and/or", "https://www.openslr.org/12"):
        assert not MACHINE.search(good), good


def test_pictures_and_links_lead_somewhere():
    for file in documents()[:1] + [f for f in documents()[1:] if f.suffix == ".md"]:
        for target in re.findall(r"\]\(([^)#\s]+)\)", file.read_text(encoding="utf-8")):
            there = target.startswith(("http://", "https://")) or (file.parent / target).exists()
            assert there, f"{file.name}: {target}"
