"""Ends process groups when the process that started them is gone, however it went.

Run as a script by `process.Guard`, with the standard library alone. It reads lines `+GROUP` and `-GROUP` (process
group ids); when its input ends, the other side has died or has closed us, and every group still noted is ended.
"""

import contextlib
import os
import signal
import sys
import time

GRACE_S = 5.0


def send(group: int, what: int) -> bool:
    """Signal a process group; whether there still is one."""
    try:
        os.killpg(group, what)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end(groups: set[int]) -> None:
    """SIGTERM to all groups, and SIGKILL to those that are left after the grace."""
    left = {group for group in groups if send(group, signal.SIGTERM)}
    deadline = time.monotonic() + GRACE_S
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = {group for group in left if send(group, 0)}
    for group in left:
        send(group, signal.SIGKILL)


def main() -> None:
    """Follow the input to its end."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        with contextlib.suppress(ValueError):
            (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    end(groups)


if __name__ == "__main__":
    main()
