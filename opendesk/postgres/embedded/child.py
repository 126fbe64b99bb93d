"""The last step before a program of PostgreSQL's: drops to its user, ties its life to ours, and becomes it. Linux only.

    python -I -S child.py PARENT SIGNAL UID GID PROGRAM [ARGUMENT …]

A program of its own, and not `subprocess`'s `preexec_fn`, because that runs Python between fork and exec, where a lock
that some other thread held at the fork is never released again. It starts as its parent's user, so the interpreter need
not be within reach of the user that it drops to.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(parent: int, death_signal: int, uid: int, gid: int, command: list[str]) -> None:
    if os.geteuid() != uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # The kernel forgets it at every change of user, so it comes after that; it outlives exec.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent is gone already")
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 - a shell would only be in the way


if __name__ == "__main__":
    _parent, _signal, _uid, _gid = map(int, sys.argv[1:5])
    try:
        main(_parent, _signal, _uid, _gid, sys.argv[5:])
    except OSError as exc:
        sys.exit(f"{sys.argv[5]} as user {_uid}: {exc}")
