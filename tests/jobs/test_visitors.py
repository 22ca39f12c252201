"""The operator's policy and the door to the queue: modes, ownership, clusters, quotas; refused in
core, whatever a page shows.
"""

from __future__ import annotations

import time

import pytest

from core import paths
from core.jobs import leases, policy, queue, seat, visitors, worker
from core.jobs.policy import Quotas
from core.jobs.runners import ray
from core.jobs.runners.base import Handle
from core.jobs.visitors import JOBS, TRANSCRIBE, Ledger, Refused, Visitor

ANNA, BERT = Visitor("anna", "full", quotas=Quotas()), Visitor("bert", "full", quotas=Quotas())
RECIPE = {"recipe": {"corpus": {"name": "voice_commands", "options": {}}}}


@pytest.fixture
def server_toml(tmp_path, monkeypatch):
    file = tmp_path / "server.toml"
    monkeypatch.setenv(policy.FILE_VARIABLE, str(file))
    for name in (policy.MODE_VARIABLE, "SPEECH_ROOT", "RAY_API_SERVER_ADDRESS", "SUPERNET_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    return lambda text: file.write_text(text)


# the policy


def test_without_a_file_nothing_is_decided(monkeypatch):
    monkeypatch.delenv(policy.FILE_VARIABLE, raising=False)
    monkeypatch.setattr(paths, "ROOT", paths.ROOT / "nowhere")
    found = policy.load()
    assert (found.settings.mode, found.quotas, found.settings.users) == ("", None, ())


def test_a_whole_file_is_read_and_the_environment_adds_to_it(server_toml, monkeypatch, tmp_path):
    server_toml(
        f'mode = "demo"\nspeech_folders = ["{tmp_path}/a", "$MORE"]\nusers ='
        ' ["@x.org"]\n[quotas]\njobs = 1\n[clusters.lab]\naddress = "http://head:8265"\nstorage ='
        ' "s3://b/r"\n'
    )
    monkeypatch.setenv("MORE", "/more")
    monkeypatch.setenv("SPEECH_ROOT", "/speech")
    found = policy.load()
    assert (
        found.settings.mode == "demo"
        and found.quotas == Quotas(jobs=1)
        and list(found.clusters) == ["lab"]
    )
    assert list(map(str, found.folders)) == [f"{tmp_path}/a", "/more", "/speech"]
    monkeypatch.setenv(policy.MODE_VARIABLE, "read-only")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://mine:8265")
    monkeypatch.setenv("SUPERNET_STORAGE", "file:///shared")
    found = policy.load()
    assert (
        found.settings.mode == "read-only"
        and found.clusters["default"].storage == "file:///shared"
        and len(found.clusters) == 2
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mode = 'open'", "open"),
        ("mod = 'full'", "did you mean 'mode'"),
        ("x = [", "is no TOML"),
        ("[quotas]\njob = 1", "did you mean 'jobs'"),
        ("[quotas]\njobs = -1", "at least 0"),
        ("clusters = 3", "expected tables"),
        ("[clusters.x]\naddress = 'http://a'", "needs an address and a storage"),
        ("users = 'me'", "users"),
        ("a = " + "[" * 5000, "is no TOML"),
    ],
)
def test_a_wrong_file_is_named(server_toml, text, words):
    server_toml(text)
    with pytest.raises(ValueError, match="server.toml") as problem:
        policy.load()
    assert words in str(problem.value)


def test_a_changed_file_counts_at_once_and_a_missing_one_is_named(server_toml):
    server_toml('mode = "demo"')
    assert policy.load().settings.mode == "demo"
    server_toml('mode = "full"  # changed')
    assert policy.load().settings.mode == "full"
    policy.file().unlink()
    with pytest.raises(ValueError, match="does not exist"):
        policy.load()


# modes and ownership


@pytest.mark.parametrize("mode", ["read-only", "demo", "nothing"])
def test_nobody_but_in_full_starts_or_changes_jobs(server_toml, mode):
    server_toml("")
    number, who = queue.add("train", RECIPE | {"visitor": "v"}), Visitor("v", mode)
    for act in (
        lambda: visitors.add(who, "train", RECIPE),
        lambda: visitors.cancel(who, number),
        lambda: visitors.resume(who, number),
        lambda: visitors.wake_worker(who),
        lambda: visitors.add(who, "evaluate", {"run": "r"}),
        lambda: visitors.add(who, "export", {"run": "r"}),
    ):
        with pytest.raises(
            Refused,
            match=f"is {mode}, so nobody can start, cancel or resume jobs here.*SUPERNET_MODE",
        ):
            act()
    assert (
        len(queue.list_jobs()) == 1
        and queue.get(number).state == "queued"
        and not queue.worker_alive()
    )


@pytest.mark.parametrize(
    ("mode", "allowed"), [("full", True), ("demo", True), ("read-only", False), ("nothing", False)]
)
def test_who_may_upload(mode, allowed):
    assert Visitor("v", mode).may(TRANSCRIBE) == allowed
    if not allowed:
        with pytest.raises(Refused, match='mode = "demo" or "full"'):
            Ledger().take(Visitor("v", mode), "x", 1)


def test_a_visitor_changes_only_their_own_jobs_and_the_operator_all(server_toml):
    server_toml("")
    mine, theirs = visitors.add(ANNA, "train", RECIPE), queue.add("train", RECIPE)
    for number, who in ((mine, BERT), (theirs, ANNA)):
        with pytest.raises(Refused, match="somebody else's"):
            visitors.cancel(who, number)
    visitors.cancel(ANNA, mine)
    with pytest.raises(Refused, match="somebody else's"):
        visitors.resume(BERT, mine)
    visitors.resume(ANNA, mine)
    local = Visitor("local", "full", local=True)
    visitors.cancel(local, mine), visitors.cancel(local, theirs)
    assert {job.state for job in queue.list_jobs()} == {"cancelled"}


# clusters


def test_a_cluster_is_chosen_by_name_and_nothing_else_of_it_can_be_set(server_toml):
    server_toml(
        '[clusters.lab]\naddress = "http://head:8265"\nstorage = "s3://b/r"\nartifacts ='
        ' "/scratch"\n'
    )
    number = visitors.add(
        ANNA, "train", RECIPE, runner="ray", settings={"workers": 3}, cluster="lab"
    )
    assert queue.get(number).settings == {
        "address": "http://head:8265",
        "storage": "s3://b/r",
        "artifacts": "/scratch",
        "workers": 3,
    }
    for name, given in (
        ("lab", {"address": "http://evil"}),
        ("lab", {"storage": "file:///"}),
        ("lab", {"artifacts": "/"}),
        ("", {}),
        ("other", {}),
    ):
        with pytest.raises(
            Refused, match="can be set for a cluster|expected a cluster that this server offers"
        ):
            visitors.add(ANNA, "train", RECIPE, runner="ray", settings=given, cluster=name)
    assert len(queue.list_jobs()) == 1


@pytest.mark.parametrize("change", ["address", "storage", "artifacts", ""])
def test_nothing_is_sent_to_a_cluster_that_is_not_the_operators_any_more(
    server_toml, tmp_path, change
):
    lab = {"address": "http://head:8265", "storage": "s3://b/r", "artifacts": "/scratch"}
    text = "[clusters.lab]\n" + "".join(f"{name} = '{value}'\n" for name, value in lab.items())
    server_toml(text)
    number = visitors.add(ANNA, "train", RECIPE, runner="ray", cluster="lab")
    visitors.check_cluster(queue.get(number))
    server_toml(text.replace(lab[change], "http://elsewhere") if change else "")
    own = queue.get(queue.add("train", RECIPE, runner="ray", settings=lab))
    visitors.check_cluster(own)  # the operator's own, from the command line
    runner = ray.Runner(ray.Options(**lab))
    with pytest.raises(ValueError, match="that server.toml does not name.*nothing was sent"):
        runner.start(queue.get(number), tmp_path / "log.txt")
    assert not (tmp_path / "log.txt").exists()


# quotas


def test_jobs_at_once_and_a_day(server_toml):
    server_toml("")
    who = Visitor("v", "full", quotas=Quotas(jobs=2, queued=3))
    numbers = [visitors.add(who, "train", RECIPE) for _ in range(2)]
    with pytest.raises(Refused, match="2 jobs that wait or run, and 2 are allowed"):
        visitors.add(who, "train", RECIPE)
    visitors.add(BERT, "train", RECIPE)  # another visitor has room
    visitors.cancel(who, numbers[0])
    visitors.add(who, "train", RECIPE)
    with pytest.raises(Refused):
        visitors.resume(who, numbers[0])
    visitors.cancel(who, numbers[1])
    with pytest.raises(Refused, match="queued 3 jobs within 24 hours"):
        visitors.add(who, "train", RECIPE)


def ran(number: int, minutes: float, monkeypatch) -> None:
    """A job of these minutes, then stopped."""
    job = leases.claim("w")
    assert job.id == number
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60 * minutes)
    leases.beat(number, "w", 0.5)
    queue.cancel(number)
    leases.stopped(number, "w")


def test_minutes_count_over_jobs_and_over_resumes(server_toml, monkeypatch):
    server_toml("")
    who = Visitor("v", "full", quotas=Quotas(minutes=10))
    number = visitors.add(who, "train", RECIPE)
    ran(number, 4, monkeypatch)
    visitors.resume(who, number)
    ran(number, 4, monkeypatch)
    visitors.resume(who, number)
    assert leases.claim("w").payload["spent_s"] == pytest.approx(480, abs=5)
    assert not visitors.overdrawn(queue.get(number))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 180)
    assert (
        "11 minutes of computing within 24 hours are used up, and 10 are allowed"
        in visitors.overdrawn(queue.get(number))
    )
    with pytest.raises(Refused, match="used up"):
        visitors.add(who, "train", RECIPE)
    monkeypatch.setattr(time, "time", lambda: now + 2 * visitors.DAY_S)
    leases.fail(number, "over", "w")
    visitors.add(who, "train", RECIPE)


def test_disk(server_toml):
    server_toml("")
    who = Visitor("v", "full", quotas=Quotas(disk_gb=0.001))
    number = visitors.add(who, "train", RECIPE)
    leases.claim("w")
    leases.note(number, "w", run="big")
    assert not visitors.overdrawn(queue.get(number))
    (paths.runs() / "big").mkdir(parents=True)
    (paths.runs() / "big" / "x").write_bytes(bytes(1_100_000))
    assert "0.001 GB are allowed" in visitors.overdrawn(queue.get(number))
    with pytest.raises(Refused, match="your runs take"):
        visitors.add(who, "train", RECIPE)


@pytest.mark.slow
def test_the_worker_ends_a_job_whose_visitor_has_no_more_minutes(server_toml, monkeypatch):
    """And a job of the command line goes on."""
    server_toml("")
    handle = Ending()
    made = worker.Worker(runner=None, slots=("cpu",))
    made.name = "w"
    monkeypatch.setattr(worker, "BEAT_S", 0.0)
    number = visitors.add(Visitor("v", "full", quotas=Quotas(minutes=0.001)), "train", RECIPE)
    seat.take("w")
    job = leases.claim("w")
    time.sleep(0.1)
    made.follow(job, handle)
    found = queue.get(number)
    assert handle.told and found.state == "failed" and "are used up" in found.error
    with pytest.raises(Refused, match="used up"):
        visitors.resume(Visitor("v", "full", quotas=Quotas(minutes=0.001)), number)


class Ending(Handle):
    """A job's process that ends soon after it is told to."""

    pid, stays, told = None, False, False

    def poll(self):
        return 75 if self.told else None

    def stop(self):
        self.told = True

    def kill(self):
        pass


def test_uploads_and_transcriptions_of_an_hour(monkeypatch):
    who, book = (
        Visitor("v", "demo", quotas=Quotas(uploads=2, upload_mb=3, transcriptions=2)),
        Ledger(),
    )
    book.take(who, "a", 1_000_000)
    book.take(who, "a", 1_000_000)  # the same recording again
    with pytest.raises(Refused, match="3 MB of recordings"):
        book.take(who, "b", 2_500_000)
    book.take(who, "c", 1_000_000)
    with pytest.raises(Refused, match="2 recordings within an hour"):
        book.take(who, "d", 1)
    book.take(Visitor("w", "demo", quotas=who.quotas), "d", 1)
    book.take(who, "1"), book.take(who, "2")
    with pytest.raises(Refused, match="2 transcriptions within an hour"):
        book.take(who, "3")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + visitors.HOUR_S + 1)
    book.take(who, "d", 2_900_000)
    assert set(book._taken) == {"v"}, "what is over is forgotten"
    for n in range(300):
        book.take(Visitor("local", "full", local=True), str(n), 10_000_000)


def test_no_limits_where_the_operator_set_none(server_toml):
    server_toml("")
    local = Visitor("local", "full", local=True)
    for _ in range(5):
        visitors.add(local, "train", RECIPE)
    assert {job.payload["visitor"] for job in queue.list_jobs()} == {
        "local"
    } and JOBS in visitors.ALLOWED
