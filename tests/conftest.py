"""Shared fixtures: every test gets its own artifacts folder and one torch thread; real speech is
optional.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
    "CUDA_VISIBLE_DEVICES", ""
)  # tests are about numbers on processors; some hand a loop batches that no GPU holds

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
MAIN = sys.modules["__main__"]
sys.path.insert(0, str(ROOT))


@pytest.fixture(autouse=True)
def own_artifacts(tmp_path, monkeypatch):
    """Runs, prepared data and the queue of a test live in its own temporary folder."""
    monkeypatch.setenv("SUPERNET_ARTIFACTS", str(tmp_path / "artifacts"))
    return tmp_path / "artifacts"


@pytest.fixture
def open_speech(own_artifacts):
    """The decoding graph of open speech, a minute of computing, is kept where the app keeps it: its
    folder is named by a hash of all that decides it.
    """
    kept = ROOT / "artifacts" / "graphs"
    kept.mkdir(exist_ok=True)
    own_artifacts.mkdir(exist_ok=True)
    (own_artifacts / "graphs").symlink_to(kept)


@pytest.fixture(scope="session")
def spoken_once(tmp_path_factory):
    """Where the speech of small built-in corpora is kept for a whole run of the tests, whatever
    process makes it first.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "spoken"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def spoken(spoken_once, own_artifacts):
    """A test that needs the built-in commands, but not how they are made: ten seconds of processes
    that start and speak.
    """
    (own_artifacts / "prepared").mkdir(parents=True)
    (own_artifacts / "prepared" / "corpora").symlink_to(spoken_once)


@pytest.fixture(autouse=True)
def own_main(monkeypatch):
    """Streamlit's AppTest leaves the page as `__main__`, which spawned processes would then run
    instead of the test's own.
    """
    monkeypatch.setitem(sys.modules, "__main__", MAIN)


@pytest.fixture(scope="session", autouse=True)
def nothing_ahead(tmp_path_factory):
    """Pages opened by tests start no graph of open speech: a minute of computing."""
    file = tmp_path_factory.mktemp("policy") / "server.toml"
    file.write_text("build_ahead = false\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERNET_SERVER", str(file))
        yield


@pytest.fixture(scope="session")
def speech_root() -> Path:
    """The folder of real speech: $SPEECH_ROOT, or ../shared/speech beside the checkout."""
    root = Path(os.environ.get("SPEECH_ROOT", ROOT.parent / "shared" / "speech"))
    if not (root / "manifests").is_dir():
        pytest.skip(
            "no real speech here: set SPEECH_ROOT to a folder laid out like the corpora of the"
            " README"
        )
    return root


@pytest.fixture(scope="module", autouse=True)
def own_main_of_module():
    """The same for fixtures that a whole file shares."""
    sys.modules["__main__"] = MAIN


LONGEST = (
    "ray",
    "browser",
    "sherpa",
    "group",
    "compare",
    "survival",
    "readme_commands",
    "language",
    "dashboard_train",
    "search",
    "native",
    "torchaudio",
    "experiment",
    "recognizer",
)


def pytest_configure(config):
    # xdist would begin with the files of most tests: the few slow ones would come last, alone
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Files that take longest first, so that the workers end together; the order within a file
    stays.
    """
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With REQUIRE_ALL (as .ci/run sets it) a browser, speech or cluster test that is skipped has
    failed.
    """
    outcome = yield
    report = outcome.get_result()
    wanted = {"browser", "speech", "cluster"} & {m.name for m in item.iter_markers()}
    if (
        os.environ.get("REQUIRE_ALL")
        and report.skipped
        and wanted
        and not hasattr(report, "wasxfail")
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped although REQUIRE_ALL is set: {report.longrepr}"
