"""Tie a process to the one that started it: killed when that one dies, even by SIGKILL (Linux).

Run as a program (`python tether.py PARENT_PID COMMAND ...`) this file becomes COMMAND; it imports nothing but the
standard library, so that this costs a few milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tether(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL at the parent's death; end at once where the parent has died already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), *[ctypes.c_ulong(0)] * 3)
    if os.getppid() != parent_pid:
        sys.exit(1)


if __name__ == "__main__":
    tether(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606
