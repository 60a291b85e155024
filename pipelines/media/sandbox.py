"""Confinement of the process that decodes a file: it reads this one file, and has no network, no secrets and a bound.

Native decoders are not trusted with the bytes of strangers. Each file is decoded in a process of its own, forked from a
worker that has loaded the libraries. Before the first byte is read, the process gives up its rights for good: Landlock
leaves it one file (and the installed libraries) to read, seccomp takes sockets and the start of programs, and limits
bound its memory. Where the kernel has neither, the empty environment and the limits remain; ``ffavatar doctor`` says
what is in force.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

MEMORY_BYTES = 4 << 30
"""Address space that decoding a file may take beyond that of the idle process, bytes."""

KEPT_VARIABLES = frozenset({"PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONHOME", "TZ"})
"""Environment variables that the decoder's process gets; every other one may hold a secret."""

DENIED_CALLS = (
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg", "sendmmsg"),
    *("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "pidfd_open"),
    *("kill", "pidfd_send_signal", "rt_sigqueueinfo", "io_uring_setup", "open_by_handle_at", "bpf", "userfaultfd"),
    *("perf_event_open", "keyctl", "add_key", "request_key", "mount", "umount2", "unshare", "setns", "chroot"),
    *("pivot_root", "init_module", "finit_module", "kexec_load", "reboot", "mknod", "mknodat", "chmod", "fchmodat"),
)
"""System calls that fail with EPERM in the decoder's process."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Protection:
    """One part of the confinement."""

    name: str
    in_force: bool
    reason: str
    """Effect of the protection, or the reason why it is not in force."""


def worker_environment(python_path: str) -> dict[str, str]:
    """Return the environment of the decoder's process.

    Args:
        python_path: Value of PYTHONPATH, so that the process finds this package.
    """
    kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES}
    return kept | {"PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def load_confinement() -> None:
    """Import the libraries of the confinement; one of them starts a program to find the system's part of it."""
    for module in ("landlock", "pyseccomp"):
        try:
            __import__(module)
        except (ImportError, RuntimeError, OSError):  # `confine` gives the reason
            continue


def confine(path: str | Path | None, memory_bytes: int = MEMORY_BYTES) -> list[Protection]:
    """Take the rights from this process for good, except reading one file and the installed libraries.

    Args:
        path: The file; None for no file.
        memory_bytes: Address space that the process may still take, bytes.

    Returns:
        The parts of the confinement, each in force or with the reason why not.
    """
    memory = _limit_memory(memory_bytes)  # first: it reads how much the process has now
    return [_restrict_files(path), _restrict_calls(), memory]


def run_confined(path: str | Path, work: Callable[[], None], memory_bytes: int = MEMORY_BYTES) -> int:
    """Run a function in a forked process that may read one file, and wait for it.

    Args:
        path: The file.
        work: The function; what is imported before need not be read in the process.
        memory_bytes: Address space that the process may take, bytes.

    Returns:
        0 if the function returned; 1 if it raised; 128 + n if signal n ended the process.
    """
    parent = os.getpid()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            confine(path, memory_bytes)
            work()
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def measure_confinement() -> list[Protection]:
    """Start a confined process that tries what it must not do, and return what was refused.

    Returns:
        The parts of the confinement, as they are in force on this machine.
    """
    root = str(Path(__file__).resolve().parents[2])
    with tempfile.NamedTemporaryFile() as file:
        command = [sys.executable, "-m", "pipelines.media.sandbox", file.name]
        run = subprocess.run(command, env=worker_environment(root), capture_output=True, text=True, timeout=60)
    if run.returncode:
        return [Protection("sandbox", False, f"its process ended with status {run.returncode}")]
    return [Protection(**row) for row in json.loads(run.stdout)]


def name_for_libraries(path: str) -> str:
    """Return a name of a file that libraries can open, which take names in UTF-8 only.

    Args:
        path: The file's path; bytes that are not UTF-8 stand in it as ``os.fsdecode`` writes them.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"/proc/self/fd/{os.open(path, os.O_RDONLY)}"
    return path


def _restrict_files(path: str | Path | None) -> Protection:
    """Leave one file to read, and nothing to write, with Landlock (Linux 5.13 and newer)."""
    try:
        import landlock

        rules = landlock.Ruleset()
        for folder in _library_folders():
            rules.allow(folder, rules=landlock.FSAccess.READ_FILE | landlock.FSAccess.READ_DIR)
        if path is not None and Path(path).exists():
            rules.allow(os.fspath(path), rules=landlock.FSAccess.READ_FILE)
        rules.apply()
    except (ImportError, OSError, RuntimeError) as error:
        return Protection("files", False, f"Landlock: {_first_line(error)}")
    return Protection("files", True, "one file and the installed libraries can be read, and nothing written (Landlock)")


def _library_folders() -> list[str]:
    """Return the folders of installed code, of which a library may import a part late; no data lie there."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    package = Path(__file__).resolve().parents[1]
    return [str(package), *sorted({p for p in map(sysconfig.get_path, names) if Path(p).is_dir()})]


def _restrict_calls() -> Protection:
    """Refuse ``DENIED_CALLS`` with seccomp."""
    try:
        import pyseccomp

        calls = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        for name in DENIED_CALLS:
            try:
                calls.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
            except (OSError, ValueError):  # this processor has no such call
                continue
        calls.load()
    except (ImportError, OSError, RuntimeError) as error:
        return Protection("calls", False, f"seccomp: {_first_line(error)}")
    return Protection("calls", True, "no sockets, no programs, no signals to others (seccomp)")


def _limit_memory(memory_bytes: int) -> Protection:
    """Bound the address space, and write no core file, which would hold the frames."""
    limit = _address_space() + memory_bytes
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (OSError, ValueError) as error:
        return Protection("memory", False, f"RLIMIT_AS: {_first_line(error)}")
    return Protection("memory", True, f"at most {memory_bytes / 2**30:g} GiB for a file (RLIMIT_AS)")


def _address_space() -> int:
    """Return the bytes of address space that this process has now."""
    return psutil.Process().memory_info().vms


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def _try_forbidden(path: str) -> None:
    """Confine this process, try to read, to connect, to start a program and to take memory, and print what came of it.

    Args:
        path: The one file that may be read.
    """
    load_confinement()
    parts = confine(path)
    Path(path).read_bytes()

    def read() -> None:
        Path(sys.executable).read_bytes()

    def connect() -> None:
        socket.socket().close()

    def start() -> None:
        os.execv(sys.executable, [sys.executable, "-c", ""])

    def fill() -> None:
        bytearray(MEMORY_BYTES + (1 << 30))

    tried = {"files": (read,), "calls": (connect, start), "memory": (fill,)}
    measured = []
    for part in parts:
        escaped = part.in_force and not all(_is_refused(action) for action in tried[part.name])
        measured.append(Protection(part.name, False, "announced, and not in force") if escaped else part)
    print(json.dumps([asdict(part) for part in measured]))


def _is_refused(action: Callable[[], None]) -> bool:
    try:
        action()
    except (PermissionError, MemoryError):
        return True
    return False


if __name__ == "__main__":
    _try_forbidden(sys.argv[1])
