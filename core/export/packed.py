"""Packed file: the very file that was measured, which every engine of core/runtime opens."""

from __future__ import annotations

from pathlib import Path

from core import paths
from core.export import base
from core.storage import packing

VERSION = 1


class Format(base.Format):
    """SUBNET.safetensors."""

    def files(self, packed: base.PackedSubnet, precision: str) -> base.Files:
        packing.unpack(packed.data)  # what is not whole is not exported
        yield paths.export_file(Path(), packed.subnet.name).name, packed.data
