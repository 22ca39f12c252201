"""What is asked of a training before it is queued and only its method knows: whether it stores the
sizes that its job will measure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from core import paths
from core.common import libraries

LONGEST_S = 120.0  # of loading torch and building the model; a training asks again
CODE = """import json, sys
from core.pipelines import trial
print(json.dumps(trial.wrong_sizes(json.load(sys.stdin))))"""


def check_sizes(recipe: dict[str, Any]) -> None:
    """ValueError where a training of these tables of a recipe would not store a size that they
    name. In a process of its own, which loads torch; without torch nothing is known yet.
    """
    if not recipe.get("evaluation", {}).get("sizes") or libraries.lacking("torch"):
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            input=json.dumps(recipe),
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=True,
        )
    except subprocess.SubprocessError:  # whatever it is, a training says it
        return
    if reason := json.loads(done.stdout.splitlines()[-1]):
        raise ValueError(reason)
