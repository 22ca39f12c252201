"""What the operator of a server decides: who may do what and how much, and which folders and
clusters visitors may name.

Read in this module alone, from one TOML file (`server.toml` beside README.md, or the file that
SUPERNET_SERVER names) and from the operator's environment (SUPERNET_MODE, SPEECH_ROOT,
RAY_API_SERVER_ADDRESS, SUPERNET_STORAGE). The command line does not ask it: who has a shell on the
machine may do everything already.
"""

from __future__ import annotations

import functools
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import paths
from core.records import option
from core.registry import plugins

FILE_VARIABLE, MODE_VARIABLE = "SUPERNET_SERVER", "SUPERNET_MODE"
FULL, DEMO, READ_ONLY = MODES = ("full", "demo", "read-only")
ANONYMOUS = (*MODES, "nothing")
TABLES = ("quotas", "clusters")


@dataclass(frozen=True)
class Quotas:
    """Limits for one visitor; 0 = no limit."""

    jobs: int = option(3, "jobs that wait or run at once", low=0)
    queued: int = option(30, "jobs queued within 24 hours", low=0)
    minutes: float = option(120.0, "minutes of computing within 24 hours", low=0)
    disk_gb: float = option(10.0, "GB of all runs made", low=0)
    uploads: int = option(60, "recordings uploaded within an hour", low=0)
    upload_mb: float = option(500.0, "MB of them", low=0)
    transcriptions: int = option(120, "transcriptions within an hour", low=0)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that visitors may choose by its name."""

    address: str = option("", "its dashboard, e.g. http://head:8265")
    storage: str = option("", "where runs go between here and there, e.g. s3://bucket/runs")
    artifacts: str = option("~/.supernet", "folder on each of its machines")


@dataclass(frozen=True)
class Settings:
    """The plain keys of server.toml."""

    mode: str = option(
        "",
        "empty = full on this machine alone, read-only where others reach it",
        choices=("", *MODES),
    )
    anonymous: str = option(
        READ_ONLY,
        "where login is set up: the mode of those who have not logged in",
        choices=ANONYMOUS,
    )
    login: bool = option(
        False,
        "who has not logged in counts as anonymous; so it is, too, where Streamlit's secrets have"
        " [auth]",
    )
    users: tuple[str, ...] = option(
        (), "who may log in: e-mail addresses, or @domain; empty = everybody the provider lets in"
    )
    proxy: bool = option(
        False, "a reverse proxy in front sets X-Real-IP, and nobody reaches the server without it"
    )
    build_ahead: bool = option(
        True,
        "with the first page that is opened, build the decoding graph of open speech (a minute of"
        " one core, once), so that nobody waits for it; and try how fast trainings are for the"
        " estimates of the Train page, for visitors of this machine",
    )
    speech_folders: tuple[str, ...] = option(
        (), "folders that recipes from the pages may name, beside $SPEECH_ROOT"
    )


@dataclass(frozen=True)
class Policy:
    """Everything the operator has decided."""

    settings: Settings = field(default_factory=Settings)
    quotas: Quotas | None = None  # None: not given
    clusters: dict[str, Cluster] = field(default_factory=dict)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Absolute folders of speech that a visitor's recipe may name."""
        given = [*self.settings.speech_folders, *filter(None, [os.environ.get("SPEECH_ROOT")])]
        return tuple(
            paths.ROOT / os.path.expanduser(os.path.expandvars(folder)) for folder in given
        )


def file() -> Path:
    return Path(os.environ.get(FILE_VARIABLE) or paths.ROOT / "server.toml")


def load() -> Policy:
    """The policy as it is now. ValueError for a file that cannot be read, names what it does not
    know, or holds wrong values.
    """
    where, facts = file(), os.environ.get(MODE_VARIABLE, "")
    try:
        status = where.stat()
        policy = _read(where, status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        if os.environ.get(FILE_VARIABLE):
            raise ValueError(f"{FILE_VARIABLE} names {where}, which does not exist") from None
        policy = Policy()
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror}") from None
    settings = plugins.make_options(
        Settings, vars(policy.settings) | ({"mode": facts} if facts else {}), MODE_VARIABLE
    )
    return Policy(settings, policy.quotas, _from_environment() | policy.clusters)


@functools.lru_cache(maxsize=4)
def _read(where: Path, *_: int) -> Policy:
    try:
        given = tomllib.loads(where.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{where} is no TOML: {error}") from None
    plain = {name: value for name, value in given.items() if name not in TABLES}
    plugins.check_known(given, [*Settings.__dataclass_fields__, *TABLES], where.name)
    quotas = (
        plugins.make_options(Quotas, given["quotas"], f"{where.name}: quotas")
        if "quotas" in given
        else None
    )
    return Policy(
        plugins.make_options(Settings, plain, where.name),
        quotas,
        _clusters(given.get("clusters", {}), where.name),
    )


def _clusters(given: Any, where: str) -> dict[str, Cluster]:
    if not isinstance(given, dict):
        raise ValueError(f"{where}: clusters: expected tables like [clusters.lab], got {given!r}")
    clusters = {
        name: plugins.make_options(Cluster, table, f"{where}: clusters.{name}")
        for name, table in given.items()
    }
    lacking = [
        name for name, cluster in clusters.items() if not (cluster.address and cluster.storage)
    ]
    if lacking:
        raise ValueError(f"{where}: clusters.{lacking[0]} needs an address and a storage")
    return clusters


def _from_environment() -> dict[str, Cluster]:
    """The cluster of the operator's environment, called "default"."""
    address, storage = (
        os.environ.get(name, "") for name in ("RAY_API_SERVER_ADDRESS", "SUPERNET_STORAGE")
    )
    return {"default": Cluster(address, storage)} if address and storage else {}
