"""The C code of native/ as a library: compiled when it is first needed, kept under artifacts/."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from core import paths

SOURCES = Path(__file__).parent / "native"
FLAGS = [  # sums may be reordered, as vectors need; -ffast-math would change the whole process
    "-std=gnu11",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
]
COMPILERS = ("gcc", "clang", "cc")
NO_COMPILER = (
    f"no C compiler was found ({', '.join(COMPILERS)}): install one, e.g. apt-get install gcc, or"
    " use engine 'onnx'"
)


def compiler() -> str | None:
    """The C compiler's path, None where there is none."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


@functools.cache
def library() -> ctypes.CDLL:
    """The library for this processor. ValueError where it cannot be built."""
    chosen = compiler()
    if chosen is None:
        raise ValueError(NO_COMPILER)
    texts = [p.read_bytes() for p in sorted(SOURCES.glob("*.[ch]"))]
    key = b"\0".join([*texts, " ".join(FLAGS).encode(), _processor().encode()])
    file = paths.native() / f"supernet-{hashlib.sha256(key).hexdigest()[:16]}.so"
    if not file.is_file():
        _compile(chosen, file)
    return _declared(ctypes.CDLL(str(file)))


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return f"{platform.machine()} {platform.processor()} {flags}"


def _compile(chosen: str, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"the sparse engine cannot be kept in {file.parent}: {error.strerror}; set"
            " SUPERNET_ARTIFACTS to a folder that can be written, or use engine 'onnx'"
        ) from None
    aside = file.with_suffix(f".tmp-{os.getpid()}")
    native = "-mcpu=native" if platform.machine() == "aarch64" else "-march=native"
    command = [chosen, *FLAGS, native, "-shared", "-fPIC", "-o", str(aside)]
    command += [str(SOURCES / name) for name in ("supernet.c", "fbank.c")] + ["-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        aside.unlink(missing_ok=True)
        raise ValueError(
            f"{chosen} could not build the sparse engine: {done.stderr.strip()[-500:]}; use engine"
            " 'onnx'"
        )
    os.replace(aside, file)


def _declared(lib: ctypes.CDLL) -> ctypes.CDLL:
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    lib.supernet_open.argtypes = [text, ctypes.c_size_t, ctypes.POINTER(text)]
    lib.supernet_open.restype = pointer
    lib.supernet_close.argtypes, lib.supernet_close.restype = [pointer], None
    lib.supernet_stream.argtypes, lib.supernet_stream.restype = [pointer, ctypes.c_int], pointer
    lib.supernet_stream_close.argtypes, lib.supernet_stream_close.restype = [pointer], None
    lib.supernet_step.argtypes = [pointer, pointer, ctypes.c_int, pointer]
    lib.supernet_step.restype = None
    return lib
