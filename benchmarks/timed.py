"""Run a program and leave in a file what its process tree took: python -m benchmarks.timed FILE PROGRAM ..."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import tree

if __name__ == "__main__":
    file, *command = sys.argv[1:]
    draft = Path(file).with_suffix(".draft")
    draft.write_text(json.dumps(asdict(tree(command)())))
    draft.rename(file)
