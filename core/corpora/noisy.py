"""A seeded noisy, reverberant copy of another corpus' splits: same words, harder air, audio made
once.

Each utterance gets its own room (decaying-noise response, RT60 drawn) and its own noise (white,
pink, or babble of four other speakers of the split) at a drawn signal-to-noise ratio; both are kept
in the index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from core import paths
from core.common import randomness as chance
from core.common.reading import fingerprint
from core.corpora import _speakers, base
from core.records import Choice, Utterance, option
from core.speech import acoustics, audio, shards

VERSION = 1
VOICES = 4  # in babble
BABBLE_S = 20.0  # of each voice, at most


@dataclass(frozen=True)
class Options:
    corpus: str = option("librispeech", "the corpus to copy")
    options: dict = option({}, "its options", table="corpora/{corpus}")
    splits: dict[str, str] = option(
        {"test-clean-noisy": "test-clean"}, "new split name -> split of the corpus"
    )
    utterances: int = option(0, "at most so many per split, spread over speakers; 0 = all", low=0)
    rt60_low: float = option(0.1, "driest room", unit="s", low=0.05, high=3)
    rt60_high: float = option(0.8, "most reverberant room", unit="s", low=0.05, high=3)
    snr_low: float = option(5.0, "loudest noise", unit="dB", low=-10, high=60)
    snr_high: float = option(25.0, "softest noise", unit="dB", low=-10, high=60)
    kinds: list[str] = option(
        ["white", "pink", "babble"], "kinds of noise", choices=("white", "pink", "hum", "babble")
    )
    audio_format: str = option(
        "flac",
        "of the files that are made; Opus is 6 times smaller, a little lossy and slow",
        choices=("flac", "opus"),
    )
    seed: int = option(1, "decides rooms, noises and the subset", low=0)
    processes: int = option(
        0, "to make the audio with; 0 = one per core; changes nothing else", low=0
    )


class Corpus(base.Corpus):
    """Made once under artifacts/prepared/corpora/noisy-<hash of options and source>."""

    def __init__(self, options: Options):
        super().__init__(options)
        if (
            options.rt60_low > options.rt60_high
            or options.snr_low > options.snr_high
            or not options.kinds
        ):
            raise ValueError(
                f"noisy: rt60_low {options.rt60_low} must not be above rt60_high"
                f" {options.rt60_high}, nor snr_low {options.snr_low} above snr_high"
                f" {options.snr_high}, nor kinds be empty"
            )
        if options.corpus == self.name:
            raise ValueError("noisy: cannot copy itself; name another corpus")
        self.source = base.make(
            Choice(options.corpus, options.options), where=f"noisy ({options.corpus})"
        )
        missing = sorted(set(options.splits.values()) - set(self.source.splits()))
        if missing or not options.splits:
            raise ValueError(
                f"noisy: splits asks for {missing or 'nothing'}; '{options.corpus}' has "
                f"{self.source.splits()}"
            )
        wrong = [
            new for new, old in options.splits.items() if new in _speakers.ROLES and new != old
        ]
        if wrong:
            raise ValueError(
                f"noisy: {wrong} would give an evaluation split another role; use another name"
            )

    def splits(self) -> list[str]:
        return list(self.options.splits)

    def parts(self) -> list[base.Corpus]:
        return [self.source]

    def attributions(self) -> list[tuple[str, str]]:
        return self.source.attributions()

    def at_hand(self, split: str) -> bool:
        return False  # reading makes the audio

    def read(self, split: str) -> Iterator[base.Item]:
        bad = [
            i
            for i in self.source.utterances(self.options.splits[split])
            if isinstance(i, base.Dropped)
        ]
        yield from bad
        for row in shards.rows(self.folder(split)):
            if "reason" in row:
                yield base.Dropped(row["id"], row["reason"])
            else:
                yield Utterance(
                    *(row[k] for k in ("id", "audio", "offset", "seconds", "text", "speaker"))
                )

    def folder(self, split: str) -> Path:
        """Where the audio of one split is; made now if it is not there yet."""
        old = self.options.splits[split]
        everything = [i for i in self.source.utterances(old) if isinstance(i, Utterance)]
        chosen = subset(everything, self.options.utterances, self.options.seed)
        if not chosen:
            raise ValueError(
                f"noisy: split '{old}' of '{self.options.corpus}' has no usable utterance"
            )
        settings = {
            k: v
            for k, v in asdict(self.options).items()
            if k not in ("processes", "splits", "options", "corpus")
        }
        lines = [
            (u.id, u.text, u.speaker, u.offset, u.seconds, fingerprint(u.audio)) for u in everything
        ]
        name = f"noisy-{shards.digest([VERSION, settings, split, lines])}"
        speakers = sorted({u.speaker for u in everything})
        first = {
            s: next(u for u in sorted(everything, key=lambda u: u.id) if u.speaker == s)
            for s in speakers
        }
        tasks: dict[str, tuple[str, list[Utterance], list[Utterance]]] = {}
        for speaker in sorted({u.speaker for u in chosen}):
            others = sorted(
                _speakers.pick(
                    (s for s in speakers if s != speaker), VOICES, self.options.seed + len(tasks)
                )
            )
            tasks[shards.safe(f"{split}.{speaker}")] = (
                split,
                [u for u in chosen if u.speaker == speaker],
                [first[s] for s in others],
            )
        return shards.make(
            paths.prepared() / "corpora" / name,
            tasks,
            partial(speaker_noisy, self.options),
            ending=self.options.audio_format,
            processes=self.options.processes,
            progress=self.progress,
        )


def subset(utterances: list[Utterance], count: int, seed: int) -> list[Utterance]:
    """`count` utterances (0: all), as many of each speaker as possible, chosen by seeded hash."""
    if not count or count >= len(utterances):
        return utterances
    turn: dict[str, int] = {}
    rounds = []
    for u in sorted(utterances, key=lambda u: _speakers.stable(u.id, seed)):
        turn[u.speaker] = turn.get(u.speaker, -1) + 1
        rounds.append((turn[u.speaker], _speakers.stable(u.speaker, seed), u))
    return [u for _, _, u in sorted(rounds, key=lambda r: r[:2])[:count]]


def speaker_noisy(
    options: Options, task: tuple[str, list[Utterance], list[Utterance]]
) -> Iterator[shards.Recording]:
    """All utterances of one speaker, each in its own room and noise."""
    split, utterances, others = task
    voices = None
    for u in utterances:
        row = {"id": u.id, "split": split, "text": u.text, "speaker": u.speaker}
        rng = chance.utterance_rng(options.seed, 0, u.id, "noisy")
        rt60, snr = (
            float(rng.uniform(options.rt60_low, options.rt60_high)),
            float(rng.uniform(options.snr_low, options.snr_high)),
        )
        kind = str(rng.choice(options.kinds))
        try:
            if kind == "babble" and voices is None:
                voices = babble(others)
            samples = acoustics.reverberate(audio.read(u.audio, u.offset, u.seconds), rt60, rng)
            samples = acoustics.add_noise(samples, snr, rng, kind, voices)
        # one bad utterance must never end the making of hours: it is listed with its reason
        except Exception as error:
            yield shards.Recording({**row, "reason": audio.why(u.audio, error)}, None)
            continue
        yield shards.Recording(
            {**row, "rt60_s": round(rt60, 3), "snr_db": round(snr, 2), "noise": kind}, samples
        )


def babble(utterances: list[Utterance]) -> np.ndarray:
    """Several voices at once [N], each at RMS 1, looped to the longest; empty if none can be
    read.
    """
    voices = []
    for u in utterances:
        try:
            samples = audio.read(u.audio, u.offset, min(u.seconds, BABBLE_S))
        except Exception:
            continue  # the utterance itself is reported where it is read for its own sake
        voices.append(samples / max(acoustics.rms(samples), 1e-6))
    if not voices:
        return np.zeros(0, np.float32)
    longest = max(map(len, voices))
    return np.asarray(np.sum([np.resize(v, longest) for v in voices], axis=0, dtype=np.float32))
