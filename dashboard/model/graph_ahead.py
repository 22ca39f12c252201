"""The decoding graph of open speech, built before anybody asks for it: in a process of its own, at
a low priority, so that the first transcription need not wait a minute.

Whoever asks meanwhile waits for that process (core/lm/languages.py), and nobody builds it twice.
"""

from __future__ import annotations

import os
import subprocess
import sys

from core import paths
from core.jobs import policy


def start() -> subprocess.Popen | None:
    """Begin; None where the operator does not want it (`build_ahead = false` in server.toml) or has
    a policy that cannot be read.
    """
    try:
        if not policy.load().settings.build_ahead:
            return None
    except ValueError:
        return None
    return subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def build() -> None:
    """Here and now, for every released run that needs a graph; runs of the same tokens share it."""
    from core.lm import languages
    from core.speech import tokenizer

    for folder in sorted(path.parent for path in paths.RELEASED.glob(f"*/{paths.TOKENS}")):
        tokens = tokenizer.load(folder)
        if tokens.unit == "phonemes":
            languages.load(languages.Language(), tokens)


if __name__ == "__main__":
    os.nice(10)
    build()
