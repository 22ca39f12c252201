"""Which package may import which, read from the imports by `ast`. Change this together with
core/README.md.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = """
core            records paths cost
common          libraries stages machine writing reading groups randomness hardware
registry        cards plugins catalog recipes arm_records comparison
                recipe_sets
sparsity        blocks sensing
storage         checksums run_files store metrics block_arrays packing remote_files remote spoken
                device_cost devices speeds estimates
jobs            job policy confinement heartbeat ray_client schema spare database queue seat leases
                visitors
speech          marks audio_limits containers av_decoder remains quiet decoders loudness pipes
                 audio chunks features augment normalizer phones lexicon tokenizer acoustics shards
                 grammar
speech.voices   *
speech.frontends *
corpora         *
lm              ngrams arpa estimation pruning interpolation text graph grammars spoken
                graph_files languages
data            test_sets prepared references filters source extract rows prepare prefetch batches
layers          dropout subsampling parts lstm predictor convolution feed_forward attention
                conformer_block emformer
models          *
decoding        graph_search ctc decoders
methods         *
training        mmi consistency dealing intermediate muon distributed checkpoints options pace
                learner trainer
runtime         *
evaluation      provenance scoring fitness latency material conditions
                evaluate sweep tuning
search          allocation space evolution ladders
export          *
imports         *
reports         tables arms arms_page chain claims claims_page comparisons samples sample_texts
                results card_training card publish
pipelines       resolved sizes build speech finish train search exported evaluate dry_run
                trial language compare import_run handlers
jobs.runners    *
jobs            process worker
bench           *
cli             option_types parser requests decoding_arguments work_arguments arguments listing
                job_commands remote_work main
core            __main__
"""
# a module imports what stands above it or to its left on its line; * are plug-ins, which import
# their base and _modules only
DASHBOARD = """
dashboard            markdown look shares data measurements visit
dashboard.charts     *
dashboard.model      *
dashboard.live       *
dashboard.components *
dashboard.views      *
dashboard            app
"""  # the same, but the modules of a starred package may import each other
PLUGINS = (
    "speech.voices",
    "speech.frontends",
    "imports",
    "corpora",
    "models",
    "methods",
    "runtime",
    "export",
    "jobs.runners",
    "bench",
)
DOORS = (  # packages whose __init__ has what finds and runs a plug-in
    "core.bench",
    "core.export",
    "core.runtime",
)
STRANGERS = ("corpora", "models", "sparsity")  # never import each other
NEVER_TORCH = ("core", "common", "registry", "storage", "jobs", "jobs.runners")
NO_TORCH_ON_TOP = (
    "speech",
    "speech.voices",
    "speech.frontends",
    "corpora",
    "lm",
    "data",
    "reports",
    "pipelines.handlers",
    "decoding.graph_search",
    "decoding.ctc",
    "runtime",
    "export",
    "evaluation.scoring",
    "evaluation.provenance",
    "cli",
    "core.__main__",
)  # may load it inside functions
TORCH = (
    "common.hardware",
    "data.batches",
    "runtime.torch",
    "jobs.runners._ray_spread",
    "jobs.runners._ray_train",
    "jobs.runners._ray_work",
)  # may, although their package may not
PAGES_KNOW = ("core", "common", "registry", "storage", "jobs")  # what the dashboard imports of core
PAGES_OPEN = (
    "export",
    "runtime",
    "data.references",
    "data.test_sets",
    "decoding.ctc",
    "decoding.graph_search",
    "evaluation.scoring",
    "lm.languages",
    "speech.audio",
    "speech.audio_limits",
    "speech.lexicon",
    "speech.loudness",
    "speech.normalizer",
)  # and inside functions, where audio is transcribed and files are made


def places(table: str) -> dict[str, tuple[int, int]]:
    """{"registry.catalog": (line, position)}; "registry.*" for a package of which every module has
    the same position.
    """
    joined = table.strip().replace("\n ", " ")  # an indented line continues the one above
    lines = [line.split() for line in joined.splitlines()]
    return {
        f"{package}.{name}": (row, column)
        for row, (package, *names) in enumerate(lines)
        for column, name in enumerate(names)
    }


PLACES = places(CORE)
PAGES = places(DASHBOARD)


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
    return {
        ".".join(f.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): f
        for f in files
    }


def imports(module: str, path: Path, known: dict[str, Path]) -> list[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    inside = {
        id(n)
        for f in ast.walk(tree)
        if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for n in ast.walk(f)
    }
    result = []
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [
                f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names
            ]
        result += [
            Import(module, t, id(node) in inside, f"{path.name}:{node.lineno}")
            for t in dict.fromkeys(targets)
        ]
    return result


def short(module: str, root: str = "core") -> str:
    """ "core.registry.catalog" -> "registry.catalog", "core.paths" -> "core.paths": as the table
    writes it.
    """
    return module if module.count(".") < 2 and root == "core" else module.removeprefix("core.")


def behind_door(module: str) -> str:
    """short(), and of a door its package."""
    return module.removeprefix("core.") if module in DOORS else short(module)


def package_of(name: str) -> str:
    """The longest package of the table that this short name lies in."""
    packages = {p.rsplit(".", 1)[0] for p in (*PLACES, *PAGES)}
    parts = name.split(".")
    return next(
        (p for n in range(len(parts), 0, -1) if (p := ".".join(parts[:n])) in packages), parts[0]
    )


def place(name: str) -> tuple[int, int] | None:
    table = PAGES if name.startswith("dashboard") else PLACES
    return table.get(name, table.get(f"{package_of(name)}.*"))


def is_package(module: str, known: dict[str, Path]) -> bool:
    return module in known and known[module].name == "__init__.py"


def broken(root: Path) -> list[str]:
    """Every broken rule as a sentence that names both modules."""
    core, dashboard = modules(root, "core"), modules(root, "dashboard")
    known = core | dashboard
    wrong = [
        f"{m} has no place: add it to the table"
        for m in known
        if not is_package(m, known) and place(short(m)) is None
    ]
    for module, path in sorted(known.items()):
        for i in imports(module, path, known):
            reason = _reason(i, known)
            if reason:
                wrong.append(f"{i.module} imports {i.target} ({i.where}): {reason}")
    return wrong or circles(known)


def _reason(i: Import, known: dict[str, Path]) -> str:
    top = i.target.split(".")[0]
    name = short(i.module)
    if top in ("torch", "torchaudio"):
        return _torch_reason(name, i.lazy)
    if i.module.split(".")[0] == "core" and top in ("dashboard", "streamlit", "plotly"):
        return "core knows nothing of the dashboard"
    if top not in ("core", "dashboard") or "." not in i.target:
        return ""
    if is_package(i.target, known) and short(i.target) not in DOORS:
        return "" if i.module == i.target else "a package is no module: import what is in it"
    if top == "core" and i.module.startswith("dashboard"):
        return _page_reason(behind_door(i.target), i.lazy)
    own, target = (
        m.removeprefix("core.") if is_package(m, known) else short(m) for m in (i.module, i.target)
    )
    return _order_reason(own, target, is_package(i.module, known))


def _torch_reason(name: str, lazy: bool) -> str:
    if name.startswith("dashboard"):
        return "the dashboard loads no torch itself"
    listed = {name, package_of(name)}
    if (
        name in TORCH
        or not listed & {*NEVER_TORCH, *NO_TORCH_ON_TOP}
        or (lazy and not listed & set(NEVER_TORCH))
    ):
        return ""
    return "there is no torch where words, files, jobs, sound and text are made"


def _page_reason(target: str, lazy: bool) -> str:
    if package_of(target) in PAGES_KNOW or (lazy and target in PAGES_OPEN):
        return ""
    return f"pages import {', '.join(PAGES_KNOW)}, and {', '.join(PAGES_OPEN)} inside functions"


def _order_reason(name: str, target: str, from_package: bool) -> str:
    own, other = package_of(name), package_of(target)
    if own == other and own in PLUGINS:
        shared = target in (f"{own}.base", own) or target.rsplit(".", 1)[-1].startswith("_")
        return "" if shared else "plug-ins import only their base, never each other"
    if own in STRANGERS and other in STRANGERS and own != other:
        return f"{', '.join(STRANGERS)} never import each other"
    here, there = (
        place(f"{own}.*") if from_package and own in PLUGINS else place(name),
        place(target),
    )
    if from_package and here is None:
        here = min(p for n, p in (PLACES | PAGES).items() if package_of(n) == own)
    if here is None or there is None or (own == other and here == there):
        return ""
    if there[0] > here[0]:
        return f"{target} is above it"
    return f"{target} is to its right in the same package" if there > here else ""


def circles(known: dict[str, Path]) -> list[str]:
    """A circle of imports between modules, whatever the table says."""
    graph = {
        m: {i.target for i in imports(m, path, known) if i.target in known and i.target != m}
        for m, path in known.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [f"imports go round: {' -> '.join(error.args[1])}"]
    return []


@pytest.mark.slow
def test_imports_go_one_way():
    wrong = broken(ROOT)
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_name_of_the_table_exists():
    known = modules(ROOT, "core") | modules(ROOT, "dashboard")
    names = {short(m) for m in known} | {f"{package_of(short(m))}.*" for m in known}
    assert {*PLACES, *PAGES} <= names, {*PLACES, *PAGES} - names


def test_packages_have_a_sentence_and_no_code():
    for module, path in (modules(ROOT, "core") | modules(ROOT, "dashboard")).items():
        if path.name == "__init__.py" and module not in DOORS:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert ast.get_docstring(tree), f"{module}/__init__.py does not say what belongs in it"
            assert len(tree.body) == 1 + (module == "core"), (
                f"{module}/__init__.py holds more than its docstring (and the version)"
            )


@pytest.mark.parametrize(
    ("file", "source", "words"),
    [
        (
            "core/storage/store.py",
            "from core.pipelines import train",
            ["core.storage.store imports core.pipelines.train", "above"],
        ),
        (
            "core/registry/catalog.py",
            "import core.registry.recipes",
            ["core.registry.catalog imports core.registry.recipes", "right"],
        ),
        (
            "core/registry/catalog.py",
            "def f():\n    from core.storage.store import runs",
            ["core.registry.catalog imports core.storage.store"],
        ),
        (
            "core/registry/catalog.py",
            "from . import recipes",
            ["core.registry.catalog imports core.registry.recipes", "right"],
        ),
        (
            "core/registry/catalog.py",
            "from core import storage",
            ["core.registry.catalog imports core.storage", "no module"],
        ),
        (
            "core/registry/__init__.py",
            "from core.storage import store",
            ["core.registry imports core.storage.store"],
        ),
        (
            "core/layers/parts.py",
            "from ..models import net",
            ["core.layers.parts imports core.models.net", "above"],
        ),
        (
            "core/models/net.py",
            "from core.corpora import base",
            ["core.models.net imports core.corpora.base", "each other"],
        ),
        (
            "core/sparsity/blocks.py",
            "from core.models.base import Model",
            ["core.sparsity.blocks imports core.models.base", "each other"],
        ),
        (
            "core/methods/a.py",
            "from core.methods.b import Method",
            ["core.methods.a imports core.methods.b", "their base"],
        ),
        (
            "core/methods/a.py",
            "from core.methods import b",
            ["core.methods.a imports core.methods.b", "their base"],
        ),
        (
            "core/jobs/queue.py",
            "def f():\n    import torch",
            ["core.jobs.queue imports torch", "no torch"],
        ),
        (
            "core/jobs/queue.py",
            "from core.jobs import worker",
            ["core.jobs.queue imports core.jobs.worker", "above"],
        ),
        (
            "core/corpora/tiny.py",
            "import torch.nn",
            ["core.corpora.tiny imports torch.nn", "no torch"],
        ),
        ("core/cost.py", "import streamlit", ["core.cost imports streamlit"]),
        ("core/attic.py", "", ["core.attic has no place"]),
        ("core/storage/attic.py", "", ["core.storage.attic has no place"]),
        (
            "dashboard/data.py",
            "from core import runtime",
            ["dashboard.data imports core.runtime", "inside"],
        ),
        (
            "dashboard/data.py",
            "def f():\n    from core.pipelines import train",
            ["dashboard.data imports core.pipelines.train"],
        ),
        (
            "dashboard/data.py",
            "from dashboard.views import a",
            ["dashboard.data imports dashboard.views.a", "above"],
        ),
        ("dashboard/views/a.py", "import torch", ["dashboard.views.a imports torch"]),
    ],
)
def test_each_broken_rule_is_said_with_both_names(tmp_path, file, source, words):
    for name in (
        "core/storage/__init__",
        "core/storage/store",
        "core/registry/catalog",
        "core/registry/recipes",
        "core/jobs/queue",
        "core/jobs/worker",
        "core/cost",
        "core/pipelines/train",
        "core/runtime/__init__",
        "core/methods/b",
        "core/models/net",
        "core/models/base",
        "core/corpora/base",
        "dashboard/views/a",
    ):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert broken(tmp_path) == []
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    wrong = broken(tmp_path)
    assert len(wrong) == 1 and all(w in wrong[0] for w in words), wrong


def test_a_circle_of_imports_is_found(tmp_path):
    for name, other in (
        ("a", "b"),
        ("b", "a"),
    ):  # of one starred package, where the table allows both
        path = tmp_path / "dashboard" / "charts" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"def f():\n    from dashboard.charts import {other}")
    assert (
        len(broken(tmp_path)) == 1 and "imports go round: dashboard.charts." in broken(tmp_path)[0]
    )


def test_what_is_allowed_is_not_refused(tmp_path):
    for file, source in (
        ("core/records.py", ""),
        ("core/storage/store.py", "from core import records, paths\nimport numpy"),
        ("core/paths.py", ""),
        ("core/methods/base.py", "import torch"),
        (
            "core/methods/a.py",
            "from core.methods import base\nfrom core.methods.base import Method",
        ),
        ("core/layers/parts.py", "from core.layers.dropout import x"),
        ("core/layers/dropout.py", "import torch"),
        ("core/speech/features.py", "def f():\n    import torch"),
        ("core/runtime/torch.py", "import torch"),
        ("core/jobs/queue.py", ""),
        ("core/jobs/worker.py", "from core.jobs import queue\nfrom core.jobs.runners import base"),
        ("core/jobs/runners/base.py", "from core.jobs import queue"),
        (
            "dashboard/data.py",
            "from core.storage import store\ndef f():\n    from core import runtime",
        ),
    ):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    assert broken(tmp_path) == []


@pytest.mark.slow
def test_importing_what_needs_no_torch_loads_none():
    free = {*NEVER_TORCH, *NO_TORCH_ON_TOP} - {"core.__main__"}
    known = modules(ROOT, "core")
    names = sorted(
        m
        for m in known
        if {short(m), package_of(short(m))} & free and short(m) not in (*TORCH, "core.__main__")
    )
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'{name} loads torch'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {
        "core.cli.main",
        "core.jobs.worker",
        "core.jobs.process",
        "core.pipelines.handlers",
        "core.speech.audio",
    } <= set(names)
    assert len(names) > 50


@pytest.mark.slow
def test_files_are_small_and_say_what_they_are():
    wrong = []
    for module, path in (modules(ROOT, "core") | modules(ROOT, "dashboard")).items():
        text = path.read_text(encoding="utf-8")
        if not ast.get_docstring(ast.parse(text)):
            wrong.append(f"{module} does not open with a sentence on what it is")
        if text.count("\n") > 300:
            wrong.append(f"{module} has {text.count(chr(10))} lines; 300 are the most")
    assert not wrong, "\n".join(wrong)


def long_functions(source: str, most: int = 60) -> list[str]:
    """`name (lines)` of each function of a module that has more than `most` lines."""
    functions = (
        f
        for f in ast.walk(ast.parse(source))
        if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) and f.end_lineno
    )
    lengths = [(f.name, f.end_lineno - f.lineno + 1) for f in functions]
    return [f"{name} ({length} lines)" for name, length in lengths if length > most]


@pytest.mark.slow
@pytest.mark.parametrize("package", ["core", "dashboard", "tests"])
def test_functions_are_small(package):
    wrong = [
        f"{module}: {function}; 60 lines are the most: split it into parts with names"
        for module, path in modules(ROOT, package).items()
        for function in long_functions(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def test_a_long_function_is_seen():
    long = "class A:\n  def f():\n" + "    pass\n" * 60
    assert long_functions(long) == ["f (61 lines)"] and not long_functions(long, 61)
