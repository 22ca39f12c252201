"""What every export format offers: which subnets it holds, and the files that it makes of one."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.records import Subnet
from core.storage import packing

PRECISIONS = ("fp32", "int8")
Files = Iterator[tuple[str, bytes]]  # (name below the export's folder, content)
Sound = Callable[[], np.ndarray]  # reads float samples [N] in -1..1 at 16 kHz


@dataclass(frozen=True)
class PackedSubnet:
    """A subnet of the run in folder `run`, as the packed file that was measured."""

    run: Path
    subnet: Subnet
    data: bytes

    @functools.cached_property
    def content(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Tensors and metadata, see packing.unpack."""
        return packing.unpack(self.data)


class Format(ABC):
    """A format; each file of this folder has one class `Format`. Weight files (.safetensors, .onnx)
    that files() gives get their SHA-256 beside them.
    """

    precisions: tuple[str, ...] = PRECISIONS[:1]
    package = ""  # of the stock runtime that transcribe() calls

    def why_not(self, run: Path, subnet: Subnet) -> str:
        """Why the format cannot hold this subnet, "" where it can."""
        return ""

    @abstractmethod
    def files(self, packed: PackedSubnet, precision: str) -> Files:
        """The files of one subnet. ValueError where a part is missing (says what to do)."""

    def transcribe(self, folder: Path, sounds: Sequence[Sound], threads: int) -> list[str]:
        """The text of each sound, streamed through the stock runtime that loads files(), which
        were written to `folder`. NotImplementedError where no such runtime is called from here.
        """
        raise NotImplementedError

    def run_files(self, run: Path, subnets: Sequence[Subnet]) -> Files:
        """Files of the run as a whole, made after those of its subnets."""
        return iter(())
