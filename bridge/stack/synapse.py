"""Runs Synapse for as long as the process that started it lives.

Standard input is a pipe whose other end the starter holds: however it ends, the pipe closes.
"""

import os
import sys
import threading


def leave_with_the_starter() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=leave_with_the_starter, daemon=True).start()

from synapse.app.homeserver import main  # noqa: E402

main()
