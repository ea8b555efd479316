"""Run a program and write the cost of its process tree into a file: python -m benchmarks.timed FILE PROGRAM ..."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import run_program

if __name__ == "__main__":
    file, *command = sys.argv[1:]
    draft = Path(file).with_suffix(".draft")
    draft.write_text(json.dumps(asdict(run_program(command)())))
    draft.rename(file)
