"""Who is looking at a page: this machine, the model, behind a proxy, logged in; and what each
page then lets them do.
"""

from __future__ import annotations

import ast
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st

from core import paths
from core.jobs import leases, policy, queue
from dashboard import visit
from dashboard.components import sound
from tests import standin
from tests.conftest import ROOT
from tests.dashboard.test_dashboard_transcribe import encoded, tone

pytestmark = pytest.mark.slow

VIEWS = ROOT / "dashboard" / "views"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A function that says how a request came: address, headers, its peer, who has logged in."""
    monkeypatch.setenv(policy.FILE_VARIABLE, str(tmp_path / "server.toml"))
    monkeypatch.delenv(policy.MODE_VARIABLE, raising=False)
    (tmp_path / "server.toml").write_text("")

    def come(address="localhost", headers=None, ip=None, toml="", user=None, auth=False):
        (tmp_path / "server.toml").write_text(toml)
        facts = user or {}
        monkeypatch.setattr(
            visit,
            "st",
            SimpleNamespace(
                get_option={"server.address": address}.get,
                context=SimpleNamespace(headers=headers or {}, ip_address=ip),
                secrets=SimpleNamespace(
                    load_if_toml_exists=lambda: auth, __contains__=lambda *_: auth
                ),
                user=SimpleNamespace(is_logged_in=bool(user), to_dict=lambda: facts),
            ),
        )
        monkeypatch.setattr(visit, "login_is_set_up", lambda: auth)
        return visit.visitor()

    return come


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "LOCALHOST"])
@pytest.mark.parametrize(
    "host", ["localhost:8501", "127.0.0.1:8501", "[::1]:8501", "localhost", None]
)
def test_this_machine_alone_may_do_everything(server, address, host):
    who = server(address, {"Host": host} if host else {})
    assert (who.name, who.mode, who.local, who.quotas) == ("local", "full", True, None)


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        (None, {}),
        ("", {}),
        ("0.0.0.0", {}),
        ("::", {}),
        ("192.168.1.4", {}),
        ("speech.example.org", {}),
        (None, {"Host": "localhost:8501"}),
        ("localhost", {"Host": "speech.example.org"}),
        ("localhost", {"Host": "localhost.evil.org"}),
        ("localhost", {"Host": "evil.org:8501"}),
        ("localhost", {"Host": "127.0.0.1.evil.org"}),
        *(("localhost", {"Host": "localhost", name: "1.2.3.4"}) for name in visit.HANDED_ON),
    ],
)
def test_everybody_else_only_looks_unless_the_operator_says_otherwise(server, address, headers):
    who = server(address, headers, ip="1.2.3.4")
    assert (who.mode, who.local) == ("read-only", False) and who.quotas == policy.Quotas()
    who = server(address, headers, ip="1.2.3.4", toml='mode = "full"\n[quotas]\njobs = 9')
    assert (who.name, who.mode, who.local, who.quotas.jobs) == ("1.2.3.4", "full", False, 9)


def test_a_policy_that_cannot_be_read_lets_nobody_do_anything(server):
    assert server(toml='mode = "ful"').mode == server("0.0.0.0", toml="[").mode == "read-only"
    assert "server.toml" in visit.policy_problem()


def test_a_visitor_is_told_by_address_behind_a_proxy_only_where_that_is_said(server):
    headers = {"X-Real-Ip": "9.9.9.9", "X-Forwarded-For": "8.8.8.8"}
    assert server("localhost", headers, ip="1.2.3.4").name == "1.2.3.4"
    assert server("localhost", headers, ip=None).name == "unknown"
    assert server("localhost", headers, ip=None, toml="proxy = true").name == "9.9.9.9"


@pytest.mark.parametrize(
    ("user", "toml", "name", "mode"),
    [
        (None, 'mode = "full"', "1.2.3.4", "read-only"),
        (None, 'mode = "full"\nanonymous = "demo"', "1.2.3.4", "demo"),
        (None, 'mode = "demo"\nanonymous = "full"', "1.2.3.4", "demo"),
        (None, 'mode = "full"\nanonymous = "nothing"', "1.2.3.4", "nothing"),
        ({"email": "A@x.org"}, 'mode = "full"', "a@x.org", "full"),
        ({"sub": "42"}, 'mode = "full"', "42", "full"),
        ({"email": "a@x.org"}, "", "a@x.org", "read-only"),
        ({"email": "a@x.org"}, 'mode = "full"\nusers = ["@x.org"]', "a@x.org", "full"),
        (
            {"email": "a@evilx.org"},
            'mode = "full"\nusers = ["@x.org", "b@x.org"]',
            "1.2.3.4",
            "read-only",
        ),
        (
            {"email": "a@x.org", "email_verified": False},
            'mode = "full"\nusers = ["@x.org"]',
            "1.2.3.4",
            "read-only",
        ),
        ({"sub": "b@x.org"}, 'mode = "full"\nusers = ["@x.org"]', "1.2.3.4", "read-only"),
        ({"x": 1}, 'mode = "full"', "1.2.3.4", "read-only"),
    ],
)
def test_login(server, user, toml, name, mode):
    who = server("0.0.0.0", ip="1.2.3.4", toml=toml, user=user, auth=True)
    assert (who.name, who.mode, who.local) == (name, mode, False)


def test_where_login_is_set_up_nobody_is_local_by_chance(server):
    assert server("localhost", auth=True).mode == "read-only"
    assert server("localhost", toml="login = true").mode == "read-only", (
        "also when the secrets are gone"
    )
    who = server("localhost", auth=True, user={"email": "a@x.org"})
    assert (who.mode, who.local) == ("full", False)


# the pages


@pytest.fixture
def page(own_artifacts, tmp_path, monkeypatch):
    """A function: a page in this mode, on a stand-in run."""
    from streamlit.testing.v1 import AppTest

    st.cache_data.clear(), st.cache_resource.clear()
    standin.make_run(own_artifacts / "runs")
    samples = tmp_path / "released" / "samples"
    samples.mkdir(parents=True)
    (samples / "a.flac").write_bytes(encoded(tone(1.0), "FLAC"))
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "released")

    def open_page(name: str, mode: str):
        monkeypatch.setenv(policy.MODE_VARIABLE, mode)
        at = AppTest.from_file(str(VIEWS / f"{name}.py"), default_timeout=120)
        if name == "transcribe":  # the microphone is the usual source, and needs a browser
            at.session_state["source"] = sound.SAMPLE
        return at.run()

    return open_page


def text(page) -> str:
    return " ".join(
        e.value
        for kind in ("markdown", "caption", "info", "warning", "error")
        for e in page.get(kind)
    ).replace("\\", "")


@pytest.mark.parametrize("mode", ["demo", "read-only"])
def test_no_job_is_started_or_changed_from_any_page(page, mode):
    number = queue.add("train", {"recipe": {"title": "x"}, "visitor": "local"})
    train, board, explore = (page(name, mode) for name in ("train", "jobs", "explore"))
    assert (
        train.button(key="go").disabled
        and f"this server is {mode}" in text(train)
        and "SUPERNET_MODE" in text(train)
    )
    assert (
        board.button(key=f"cancel.{number}").disabled
        and board.button(key="worker").disabled
        and f"this server is {mode}" in text(board)
    )
    assert not train.exception and not board.exception and not explore.exception
    explore.query_params["subnet"] = "s60-between"
    explore.run()
    assert "measure" not in [b.key for b in explore.button] and f"this server is {mode}" in text(
        explore
    )
    assert (
        len(queue.list_jobs()) == 1
        and queue.get(number).state == "queued"
        and not queue.worker_alive()
    )


@pytest.mark.parametrize("mode", ["demo", "read-only"])
@pytest.mark.parametrize(
    ("name", "key"), [("train", "go"), ("jobs", "cancel.1"), ("jobs", "worker")]
)
def test_a_button_that_was_drawn_before_changes_nothing_either(page, monkeypatch, mode, name, key):
    number = queue.add("train", {"recipe": {"title": "x"}, "visitor": "local"})
    found = page(name, "full")
    monkeypatch.setenv(policy.MODE_VARIABLE, mode)
    found.button(key=key).click().run()
    assert not found.exception and f"this server is {mode}" in text(found)
    assert (
        len(queue.list_jobs()) == 1
        and queue.get(number).state == "queued"
        and not queue.worker_alive()
    )


def test_only_full_and_demo_transcribe(page):
    found = page("transcribe", "read-only")
    assert (
        found.button(key="go").disabled
        and not found.get("file_uploader")
        and "this server is read-only" in text(found)
    )
    found = page("transcribe", "demo")
    assert (
        not found.exception
        and not found.button(key="go").disabled
        and "this server is" not in text(found)
    )


def test_what_others_jobs_printed_is_not_shown(page, monkeypatch):
    number = queue.add("train", {"recipe": {"title": "x"}, "visitor": "anna"})
    leases.claim("w")
    paths.job_log(number).write_text("hunter2\n")
    leases.fail(number, "Traceback: hunter2", "w")
    monkeypatch.setattr(visit, "at_this_machine", lambda: False)
    found = page("jobs", "full")
    assert not found.exception and "hunter2" not in text(found) + "".join(
        c.value for c in found.code
    )
    assert found.button(key=f"resume.{number}").disabled
    monkeypatch.setattr(visit, "at_this_machine", lambda: True)
    assert "hunter2" in "".join(c.value for c in page("jobs", "full").code)


def test_uploads_count_for_their_visitor(page, monkeypatch, tmp_path):
    (tmp_path / "server.toml").write_text("[quotas]\ntranscriptions = 1\n")
    monkeypatch.setenv(policy.FILE_VARIABLE, str(tmp_path / "server.toml"))
    from dashboard.model import transcription
    from tests.dashboard.test_dashboard_transcribe import Fake

    monkeypatch.setattr(transcription, "recognizer", lambda *_: Fake("one two"))
    found = page("transcribe", "demo")
    found.button(key="go").click().run()
    assert not found.exception and "Transcripts" in [s.value for s in found.subheader]
    found.button(key="go").click().run()
    assert not found.exception and "1 transcriptions within an hour are allowed" in text(found)


def test_pages_reach_the_queue_through_one_door():
    """A page that calls queue.add, cancel, resume or start_worker itself would go around the
    operator's policy.
    """
    wrong = []
    for file in sorted((ROOT / "dashboard").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "jobs"
                and node.attr
                in (
                    "add",
                    "cancel",
                    "resume",
                    "start_worker",
                    "note",
                    "finish",
                    "fail",
                )
            ):
                wrong.append(f"{file.name}:{node.lineno} jobs.{node.attr}")
    assert not wrong


def test_the_server_that_ships_listens_on_this_machine_alone():
    assert 'address = "localhost"' in (
        ROOT / ".streamlit" / "config.toml"
    ).read_text() and np.isfinite(visit.st.get_option("server.port"))
