"""Who is looking at a page and what they may do: the operator's policy, applied to one visit.

Somebody at this machine may do everything: the server listens on this machine alone
(`server.address` in .streamlit/config.toml) and the request was made to it, not handed on by a
proxy. All others may do what server.toml says, and where it says nothing, look. What a page hides
is for comfort; core/jobs/visitors.py refuses.
"""

from __future__ import annotations

import re
from typing import Any

import streamlit as st

from core.jobs import policy
from core.jobs.policy import READ_ONLY, Policy, Quotas
from core.jobs.visitors import JOBS, TRANSCRIBE, Ledger, Refused, Visitor, how_to_change
from dashboard.look import once
from dashboard.markdown import escape

LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|\[?::1\]?", re.IGNORECASE)
HANDED_ON = (
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-Ip",
    "Forwarded",
    "Via",
)
NOTHING = "nothing"


@st.cache_resource(show_spinner=False)
def ledger() -> Ledger:
    """One for the whole server, whoever visits."""
    return Ledger()


def visitor() -> Visitor:
    """Who is asking, and their mode. A policy that cannot be read lets nobody do anything."""
    return once("visitor", _visitor)


def _visitor() -> Visitor:
    try:
        decided = policy.load()
    except ValueError:
        return Visitor(_address(False), READ_ONLY)
    local = at_this_machine()
    known = login_is_set_up()
    user = _user(decided) if known else None
    mode = decided.settings.mode or ("full" if local else READ_ONLY)
    if user is None and (known or decided.settings.login):
        mode = min(mode, decided.settings.anonymous, key=(NOTHING, *reversed(policy.MODES)).index)
    local = local and user is None
    name = user or ("local" if local else _address(decided.settings.proxy))
    return Visitor(name, mode, local, decided.quotas if local else decided.quotas or Quotas())


def at_this_machine() -> bool:
    """Whether the server is reached from this machine alone, and this request was not handed on by
    a proxy.
    """
    address, headers = st.get_option("server.address") or "", st.context.headers
    host = re.sub(r":\d+$", "", headers.get("Host") or "localhost")
    return bool(LOOPBACK.fullmatch(address) and LOOPBACK.fullmatch(host)) and not any(
        headers.get(name) for name in HANDED_ON
    )


def _address(proxy: bool) -> str:
    """Where the request came from; behind a proxy that says so, what it says."""
    given = st.context.headers.get("X-Real-Ip") if proxy else st.context.ip_address
    return given if isinstance(given, str) and given else "unknown"


# login


def login_is_set_up() -> bool:
    """Whether the operator's secrets name a provider for st.login."""
    return st.secrets.load_if_toml_exists() and "auth" in st.secrets


def _user(decided: Policy) -> str | None:
    """The e-mail address or the provider's id of who has logged in and may; None for everybody
    else.
    """
    if not st.user.is_logged_in:
        return None
    facts: dict[str, Any] = st.user.to_dict()
    mail = str(facts.get("email") or "").lower() if facts.get("email_verified", True) else ""
    name, allowed = (
        mail or str(facts.get("sub") or ""),
        [entry.lower() for entry in decided.settings.users],
    )
    fits = not allowed or any(
        name == entry or entry.startswith("@") and mail.endswith(entry) for entry in allowed
    )
    return name if name and fits else None


def clusters() -> list[str]:
    """Names of the clusters that visitors may choose."""
    try:
        return sorted(policy.load().clusters)
    except ValueError:
        return []


# what the pages show of it


def header() -> None:
    """Log in and log out, and what this server lets people do; stops the page for those who may see
    nothing.
    """
    who = visitor()
    if login_is_set_up():
        if st.user.is_logged_in:
            st.sidebar.button("Log out", icon=":material/logout:", on_click=st.logout, key="logout")
        else:
            st.sidebar.button("Log in", icon=":material/login:", on_click=st.login, key="login")
    if problem := policy_problem():
        st.sidebar.error(escape(problem))
    if who.mode == NOTHING:
        st.info(
            "Log in to see this dashboard. An account that may not see it asks its operator.",
            icon=":material/lock:",
        )
        st.stop()
    if not who.may(JOBS):
        st.sidebar.caption(
            f"This server is **{who.mode}**."
            f" {escape(how_to_change(JOBS if who.may(TRANSCRIBE) else TRANSCRIBE))}"
        )


def policy_problem() -> str:
    """What is wrong in server.toml, "" when nothing is."""
    try:
        policy.load()
    except ValueError as problem:
        return f"{problem}. Until this is mended the server is read-only."
    return ""


def may(action: str) -> bool:
    """Whether this visitor may do it; says why not, and how to change that, where a page offers
    it.
    """
    try:
        visitor().check(action)
    except Refused as reason:
        st.info(escape(reason), icon=":material/lock:")
        return False
    return True
