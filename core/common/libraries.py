"""Libraries that a small install leaves out, and what is said where one of them is needed."""

from __future__ import annotations

import importlib.util

OPTIONAL = ("torch", "torchaudio")


def package_of(error: BaseException) -> str:
    """The optional library that is not installed, "" for every other error."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    package = str(name).partition(".")[0]
    return package if package in OPTIONAL else ""


def not_installed(package: str) -> str:
    """Which library is missing, and what installs it; behind "needs"."""
    return (
        f"{package}, which is not installed: pip install {package}, or everything with pip install"
        " -r requirements.txt"
    )


def lacking(package: str) -> str:
    """What to tell people before they begin what needs it; "" where it is installed."""
    there = importlib.util.find_spec(package) is not None
    return "" if there else f"this needs {not_installed(package)}"
