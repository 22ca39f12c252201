"""The house's floors, read from the imports by `ast`: who may know whom. Change this and README's tree together."""
from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (  # a module imports lower floors, and names to its left on its own floor's line; a folder is one name
    "records paths cost",
    "plugins catalog recipe_files writing recipe_sets store storage history packing exports queue_file pulse jobs cluster",
    "audio features text tokenizer ngrams kneser_ney fusion chance acoustics shards grammar speaking scoring layers",
    "prepared corpora sift extract prepare batches models muon native sparsity",
    "methods prefix_beam decoding",
    "group checkpoints training export recognizer speed evaluation fitness tuning allocation search ladders release",
    "building experiment language compare rehearsal job_kinds",
    "runners worker bench child arguments listing job_commands cli __main__",
)
PLACE = {name: (floor, place) for floor, line in enumerate(FLOORS) for place, name in enumerate(line.split())}
PLUGIN_FOLDERS = ("corpora", "models", "methods", "runners", "export", "bench")  # one file is one thing
STRANGERS = ("corpora", "models", "sparsity")                                    # never import each other
NO_TORCH = ("audio", "text", "tokenizer", "ngrams", "kneser_ney", "fusion", "prefix_beam", "features", "chance", "acoustics", "shards",
            "grammar", "speaking", "scoring", "prepared", "corpora", "sift", "extract", "prepare", "release")      # beside floors 0 and 1
LAZY_DOORS = ("recognizer", "audio", "text")  # the dashboard may import these in functions, where audio is transcribed


@dataclass(frozen=True)
class Import:
    """`module` imports `target` (dotted names); `lazy` when inside a function."""
    module: str
    target: str
    lazy: bool
    where: str


def modules(root: Path, package: str) -> dict[str, Path]:
    """{dotted name: file} of every Python file of a package."""
    files = (root / package).rglob("*.py")
    return {".".join(f.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def imports(module: str, path: Path, known: dict[str, Path]) -> list[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
              for n in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            above = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names]
        found += [Import(module, t, id(node) in inside, f"{path.name}:{node.lineno}") for t in dict.fromkeys(targets)]
    return found


def name_of(module: str) -> str:
    """"core.layers.attention" -> "layers": the name that stands on a floor's line."""
    return module.split(".")[1] if "." in module else "__init__"


def broken(root: Path) -> list[str]:
    """Every broken rule as a sentence that names both modules."""
    core, dashboard = modules(root, "core"), modules(root, "dashboard")
    known = core | dashboard
    wrong = [f"{m} is on no floor: add it to FLOORS" for m in core if m != "core" and name_of(m) not in PLACE]
    for module, path in sorted(known.items()):
        for i in imports(module, path, known):
            reason = _core_reason(i) if module in core else _dashboard_reason(i)
            if reason:
                wrong.append(f"{i.module} imports {i.target} ({i.where}): {reason}")
    return wrong


def _core_reason(i: Import) -> str:
    own = name_of(i.module)
    top = i.target.split(".")[0]
    if top in ("dashboard", "streamlit", "plotly"):
        return "core knows nothing of the dashboard"
    if own not in PLACE:
        return ""
    if top in ("torch", "torchaudio"):
        torch_free = PLACE[own][0] < 2 or (own in NO_TORCH and not i.lazy)
        return "there is no torch on floors 0 and 1, nor where sound and text are made" if torch_free else ""
    if top != "core" or i.target == "core":
        return ""
    other = name_of(i.target)
    if other not in PLACE:
        return "the imported module is on no floor" if i.target != "core" else ""
    if other == own:
        shared = i.target in (f"core.{own}.base", f"core.{own}") or i.target.split(".")[-1].startswith("_")
        if own in PLUGIN_FOLDERS and not shared:
            return "plug-ins import only their base, never each other"
        return ""
    if own in STRANGERS and other in STRANGERS:
        return f"{', '.join(STRANGERS)} never import each other"
    if PLACE[other] > PLACE[own]:
        side = "on a higher floor" if PLACE[other][0] > PLACE[own][0] else "to the right on the same floor"
        return f"{other} is {side}"
    return ""


def _dashboard_reason(i: Import) -> str:
    top = i.target.split(".")[0]
    if top in ("torch", "torchaudio"):
        return "the dashboard loads no torch itself"
    if top != "core" or i.target == "core":
        return ""
    other = name_of(i.target)
    if PLACE.get(other, (9, 0))[0] <= 1 or (i.lazy and other in LAZY_DOORS):
        return ""
    return "pages import floors 0 and 1, and " + ", ".join(LAZY_DOORS) + " inside functions"


def test_the_house_stands():
    wrong = broken(ROOT)
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(("file", "source", "words"), [
    ("core/store.py", "from core import experiment", ["core.store imports core.experiment", "higher floor"]),
    ("core/catalog.py", "import core.store", ["core.catalog imports core.store", "right"]),
    ("core/catalog.py", "def f():\n    from core.store import runs", ["core.catalog imports core.store", "right"]),
    ("core/catalog.py", "from . import store", ["core.catalog imports core.store"]),
    ("core/layers/x.py", "from ..models import net", ["core.layers.x imports core.models.net", "higher floor"]),
    ("core/models/net.py", "from core.corpora import base", ["core.models.net imports core.corpora.base", "each"]),
    ("core/sparsity/x.py", "from core.models.base import Model", ["core.sparsity.x imports core.models.base", "each"]),
    ("core/methods/a.py", "from core.methods.b import Method", ["core.methods.a imports core.methods.b", "their base"]),
    ("core/methods/a.py", "from core.methods import b", ["core.methods.a imports core.methods.b", "their base"]),
    ("core/jobs.py", "def f():\n    import torch", ["core.jobs imports torch", "no torch"]),
    ("core/corpora/tiny.py", "import torch.nn", ["core.corpora.tiny imports torch.nn", "no torch"]),
    ("core/cost.py", "import streamlit", ["core.cost imports streamlit"]),
    ("core/attic.py", "", ["core.attic is on no floor"]),
    ("dashboard/data.py", "from core import recognizer", ["dashboard.data imports core.recognizer", "inside"]),
    ("dashboard/data.py", "def f():\n    from core import experiment", ["dashboard.data imports core.experiment"]),
    ("dashboard/views/a.py", "import torch", ["dashboard.views.a imports torch"]),
])
def test_each_broken_rule_is_said_with_both_names(tmp_path, file, source, words):
    for name in ("store", "catalog", "jobs", "cost", "experiment", "recognizer", "methods/b", "models/net",
                 "models/base", "corpora/base"):
        path = tmp_path / "core" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert broken(tmp_path) == []
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    wrong = broken(tmp_path)
    assert len(wrong) == 1 and all(w in wrong[0] for w in words), wrong


def test_what_is_allowed_is_not_refused(tmp_path):
    for file, source in (("core/records.py", ""), ("core/store.py", "from core import records, paths\nimport numpy"),
                         ("core/paths.py", ""), ("core/methods/base.py", "import torch"),
                         ("core/methods/a.py", "from core.methods import base\nfrom core.methods.base import Method"),
                         ("core/layers/a.py", "from core.layers.b import x"), ("core/layers/b.py", "import torch"),
                         ("core/features.py", "def f():\n    import torch"), ("core/recognizer.py", "import torch"),
                         ("dashboard/a.py", "from core import store\ndef f():\n    from core import recognizer")):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    assert broken(tmp_path) == []


def test_importing_floors_0_and_1_and_what_makes_sound_and_text_loads_no_torch():
    free = {name for name, (floor, _) in PLACE.items() if floor < 2 or name in NO_TORCH}
    names = [m for m in modules(ROOT, "core") if name_of(m) in free]
    names += ["core.cli", "core.worker", "core.child", "core.job_kinds"]
    code = "import importlib, sys\n" \
           "for name in sys.argv[1:]:\n" \
           "    importlib.import_module(name)\n" \
           "    assert 'torch' not in sys.modules, f'{name} loads torch'\n"
    done = subprocess.run([sys.executable, "-c", code, *sorted(names)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(names) > 10


def test_files_are_small_and_say_what_they_are():
    wrong = []
    for module, path in (modules(ROOT, "core") | modules(ROOT, "dashboard")).items():
        text = path.read_text(encoding="utf-8")
        if not ast.get_docstring(ast.parse(text)):
            wrong.append(f"{module} does not open with a sentence on what it is")
        if text.count("\n") > 300:
            wrong.append(f"{module} has {text.count(chr(10))} lines; 300 are the most")
    assert not wrong, "\n".join(wrong)
