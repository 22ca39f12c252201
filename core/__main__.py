"""`python -m core ...`."""

import atexit
import os
import sys

from core.cli.main import main

code = main()
if "WORLD_SIZE" in os.environ:
    # One of several processes that trained together: with the threads of torch.distributed the
    # interpreter's own tear-down ended once in "terminate called without an active exception" (exit
    # -6; torch 2.11, Python 3.11) when all was done, and torchrun stopped the others.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
