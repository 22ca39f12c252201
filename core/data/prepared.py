"""Speech made ready, as training and evaluation read it: rows, tokens and memory-mapped features.
Writes nothing.

A folder of artifacts/prepared/ holds index.jsonl, features-<speed>.f16 ([frames, 80] float16
without a header), statistics.json, bpe.model, tokens.txt, dropped.jsonl and prepared.json, the
marker, which was written last.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from core import paths
from core.speech import tokenizer
from core.speech.features import BINS
from core.speech.tokenizer import Tokenizer
from core.storage import checksums

MARKER = "prepared.json"
INDEX = "index.jsonl"
DROPPED = "dropped.jsonl"
FORMAT = 1
TRAIN = "train"
FEATURES = ".f16"  # ends the names of files of features
AGAIN = "delete the folder and prepare again"


def features_file(speed: float) -> str:
    """The file of one speed, e.g. features-0.9.f16."""
    return f"features-{float(speed)}{FEATURES}"


def checksum(features: np.ndarray) -> int:
    """CRC-32 of an utterance's features, in the order in which they are stored."""
    return zlib.crc32(np.ascontiguousarray(features).data)


@dataclass(frozen=True)
class Row:
    """One utterance: words, tokens and where its frames lie. `frames` is {speed: (first frame,
    number of frames)}.
    """

    id: str
    split: str
    corpus: str
    text: str  # normalized
    speaker: str
    seconds: float  # at speed 1, as decoded
    audio: str
    offset: float  # s within `audio`
    asked: float  # s, as the corpus declared it
    stamp: str  # size and time of the audio file when it was read
    tokens: tuple[int, ...]
    frames: dict[float, tuple[int, int]]
    sums: dict[float, int] = field(
        default_factory=dict
    )  # {speed: CRC-32 of its features}; none in earlier versions

    def to_json(self) -> dict[str, Any]:
        """Plain data for index.jsonl."""
        return {
            **self.__dict__,
            "tokens": list(self.tokens),
            "frames": {str(s): v for s, v in self.frames.items()},
            "sums": {str(s): v for s, v in self.sums.items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Row:
        frames = {
            float(speed): (int(first), int(count))
            for speed, (first, count) in data["frames"].items()
        }
        sums = {float(speed): int(value) for speed, value in data.get("sums", {}).items()}
        return cls(**{**data, "tokens": tuple(data["tokens"]), "frames": frames, "sums": sums})


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation [80] float32 per bin, over the clean training features at speed
    1.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def load(cls, folder: str | Path) -> Statistics:
        """From the statistics.json of prepared data or of a run; ValueError if it is missing or
        damaged.
        """
        file = Path(folder) / paths.FEATURE_STATISTICS
        try:
            data = json.loads(content := file.read_bytes())
            checksums.check(file, content)
            statistics = cls(
                np.asarray(data["mean"], np.float32), np.asarray(data["std"], np.float32)
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} cannot be read as feature statistics: {error}") from error
        if (
            statistics.mean.shape != (BINS,)
            or statistics.std.shape != (BINS,)
            or not (statistics.std > 0).all()
        ):
            raise ValueError(
                f"{file}: mean {statistics.mean.shape}, std {statistics.std.shape};"
                f" needed are ({BINS},), std > 0"
            )
        return statistics

    def to_json(self) -> dict[str, Any]:
        """Plain data for statistics.json; a float's decimal text reads back to the same bits."""
        return {"mean": [float(v) for v in self.mean], "std": [float(v) for v in self.std]}


class Prepared:
    """One finished folder. ValueError if it is half-finished, or files are others than when it was
    made: all are compared in size, all but
    the features by SHA-256. Of the features every utterance is compared when it is read, by a
    CRC-32 in the index (0.2 ms for 10 s).
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            self.info: dict[str, Any] = checksums.opened(
                json.loads((self.folder / MARKER).read_bytes()), self.folder / MARKER
            )
            self.hash: str = self.info["hash"]
            self._check_files(self.info["files"], self.info.get("sha256", {}))
        except (
            OSError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            json.JSONDecodeError,
            UnicodeDecodeError,
        ) as error:
            raise ValueError(
                f"{self.folder} holds no finished prepared data ({error}); run prepare again"
            ) from error
        self._maps: dict[float, np.ndarray] = {}
        self._files: dict[float, BinaryIO] = {}

    def _check_files(self, sizes: dict[str, int], sha256: dict[str, str]) -> None:
        for name, written_bytes in sizes.items():
            file = self.folder / name
            found_bytes = file.stat().st_size if file.is_file() else -1
            if found_bytes != written_bytes:
                raise ValueError(
                    f"{file} is {'missing' if found_bytes < 0 else f'{found_bytes} bytes'},"
                    f" written were {written_bytes} bytes: delete the folder and prepare again"
                )
        for name, wanted in sha256.items():
            if checksums.of_file(self.folder / name) != wanted:
                raise ValueError(
                    f"{self.folder / name} is damaged: its SHA-256 is not the one in {MARKER}:"
                    f" {AGAIN}"
                )

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        return tokenizer.load(self.folder)

    @functools.cached_property
    def statistics(self) -> Statistics:
        return Statistics.load(self.folder)

    @functools.cached_property
    def _rows(self) -> dict[str, list[Row]]:
        rows: dict[str, list[Row]] = {split: [] for split in self.splits}
        with (self.folder / INDEX).open(encoding="utf-8") as lines:
            for line in lines:
                row = Row.from_json(json.loads(line))
                rows[row.split].append(row)
        return rows

    @functools.cached_property
    def content(self) -> str:
        """A hash of what is heard and read, wherever and whenever the files were put there: `hash`
        changes when they are copied.
        """
        digest = hashlib.sha256(
            json.dumps(
                [
                    *(
                        self.info[n]
                        for n in (
                            "format",
                            "versions",
                            "normaliser",
                            "features",
                            "speeds",
                            "shares",
                        )
                    ),
                    (self.folder / paths.TOKENS).read_text(),
                ],
                sort_keys=True,
            ).encode()
        )
        for row in (row for split in self.splits for row in self.rows(split)):
            lengths = {speed: count for speed, (_, count) in row.frames.items()}
            digest.update(
                json.dumps(
                    [
                        row.split,
                        row.id,
                        row.corpus,
                        row.text,
                        row.speaker,
                        row.seconds,
                        row.tokens,
                        lengths,
                    ]
                ).encode()
            )
        return digest.hexdigest()[:16]

    @property
    def splits(self) -> list[str]:
        return list(self.info["splits"])

    @property
    def shares(self) -> dict[str, float]:
        """{corpus: largest share of an epoch's seconds}, as the corpus asked for it."""
        return dict(self.info["shares"])

    def rows(self, split: str) -> list[Row]:
        """The utterances of a split in the corpus' order; ValueError lists the splits there are."""
        if split not in self.splits:
            raise ValueError(
                f"there is no split '{split}' in {self.folder}; there are {self.splits}"
            )
        return self._rows[split]

    def speeds(self, split: str) -> tuple[float, ...]:
        """Speeds that a split has features of, ascending."""
        return tuple(self.info["speeds"]) if split == TRAIN else (1.0,)

    def features(self, row: Row, speed: float = 1.0) -> np.ndarray:
        """Log-mel energies float16 [F, 80] of an utterance, a read-only view of the file; not
        normalized. ValueError when they are not
        those that were written.
        """
        if speed not in row.frames:
            raise ValueError(
                f"'{row.id}' has no features at speed {speed}; it has {sorted(row.frames)}"
            )
        if speed not in self._maps:
            self._maps[speed] = np.memmap(
                self.folder / features_file(speed), np.float16, "r"
            ).reshape(-1, BINS)
        first, count = row.frames[speed]
        stored = self._maps[speed][first : first + count]
        if speed in row.sums and checksum(stored) != row.sums[speed]:
            raise ValueError(
                f"{self.folder / features_file(speed)} is damaged: the features of '{row.id}' are"
                f" not those that were written: {AGAIN}"
            )
        return stored

    def expect(self, row: Row, speed: float) -> None:
        """Tell the system that an utterance's features will be wanted soon; where it cannot be
        told, nothing happens.

        On a slow disk an utterance that is not in memory took 36 ms (120 kB), and ten of them more
        than the step they were for.
        """
        if hasattr(os, "posix_fadvise"):
            if speed not in self._files:
                self._files[speed] = open(self.folder / features_file(speed), "rb")  # noqa: SIM115 - as long as the maps
            first, count = row.frames[speed]
            bytes_per_frame = 2 * BINS
            os.posix_fadvise(
                self._files[speed].fileno(),
                first * bytes_per_frame,
                count * bytes_per_frame,
                os.POSIX_FADV_WILLNEED,
            )
