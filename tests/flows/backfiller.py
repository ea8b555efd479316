"""A process that runs one backfill and can be killed, for the tests in this folder.

    python -m tests.flows.backfiller '{"model": "tiny", "start": "2024-03-01", "end": "2024-03-10"}'

Prints the final state's type and message. The exit code is 0 for every state. FILE_LIMIT in the environment limits the size of
files in bytes, to simulate a full disk.
"""

import json
import os
import resource
import signal
import sys

from flows.backfill import backfill

if __name__ == "__main__":
    if limit := int(os.environ.get("FILE_LIMIT", "0")):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails with an error, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    state = backfill(**json.loads(sys.argv[1]), return_state=True)
    print(f"{state.type.value}: {state.message}", flush=True)
