"""An argparse parser that names an unknown option, says which was meant, and never guesses."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

EXIT_CODES = (
    "exit codes: 0 done; 1 failed, e.g. a full disk or a failed job; 2 wrong input or a damaged"
    " file, said on standard error in a line for each reason; 75 stopped, and the same command goes"
    " on; 130 stopped at once by a second Ctrl-C"
)


class Parser(argparse.ArgumentParser):
    """An argparse parser that names an unknown option, says which was meant, and never guesses
    abbreviations.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given | {"allow_abbrev": False})

    def parse_known_args(self, args=None, namespace=None):
        args = list(sys.argv[1:] if args is None else args)
        commands = next(
            (a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction)), None
        )
        for word in args:
            if word == "--" or (commands is not None and not word.startswith("-")):
                if commands is not None and word not in commands and word != "--":
                    self.error(
                        f"unknown command {word!r}{_meant(word, commands)}; commands are:"
                        f" {_public(commands)}"
                    )
                break
            name = word.split("=")[0]
            if (
                word.startswith("-")
                and len(word) > 1
                and not word[1].isdigit()
                and name not in self._option_string_actions
            ):
                if Path(word).is_file():
                    self.error(f"{word} looks like an option; for the file write ./{word}")
                known = [o for o in self._option_string_actions if o.startswith("--")]
                self.error(
                    f"unknown option {name}{_meant(name, known)}; options are: {', '.join(known)}"
                )
        return super().parse_known_args(args, namespace)


def _meant(word: str, known: Any) -> str:
    close = difflib.get_close_matches(
        word, [k for k in known if not k.startswith("_")], n=1, cutoff=0.5
    )
    return f", did you mean {close[0]}?" if close else ""


def _public(commands: Any) -> str:
    return ", ".join(c for c in commands if not c.startswith("_"))
