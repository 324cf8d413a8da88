"""Runs Python that a model wrote, within limits: a process of its own in an empty folder, which may use
`CPU_SECONDS`, twice that by the clock, and `MEMORY_BYTES`, and neither writes files nor reaches the network
or other processes; what it prints is lost.

The limits hold off accidents, endless loops and reckless code. They are no jail: it reads what its user may
read, and who means harm finds a way out.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile

from edgekit.errors import UsageError

CPU_SECONDS = 10
MEMORY_BYTES = 1 << 30

# Runs what comes on stdin and then gives back the word it was given: to end early is not to pass. The hook
# stays for the life of the process.
_RUNNER = """
import os, resource, sys
word, seconds, size = sys.argv[1:]
del sys.argv[1:]
for limit, most in (
    (resource.RLIMIT_CPU, int(seconds)), (resource.RLIMIT_AS, int(size)), (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_CORE, 0),
):
    try:
        resource.setrlimit(limit, (most, most))
    except (OSError, ValueError):  # a limit that this system does not have
        pass
program = sys.stdin.read()
answer, nothing = os.dup(1), os.open(os.devnull, os.O_RDWR)
for standard in (0, 1, 2):
    os.dup2(nothing, standard)
REFUSED = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "os.putenv", "shutil.", "ctypes.", "pty.", "signal.",
)
def watch(event, arguments):
    if event == "open":
        _, mode, flags = arguments
        refused = set(mode) & set("wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
    else:
        refused = event.startswith(REFUSED)
    if refused:
        raise PermissionError(f"not in the sandbox: {event}")
sys.addaudithook(watch)
exec(compile(program, "program", "exec"), {"__name__": "__main__"})
os.write(answer, word.encode())
"""


def passes(program: str, cpu_seconds: int = CPU_SECONDS) -> bool:
    """Whether `program` runs to its end without an exception. Raises UsageError where there are no limits."""
    if sys.platform == "win32":
        raise UsageError("tasks with tests run a model's code, which needs the limits of a POSIX system")
    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", _RUNNER, word, str(cpu_seconds), str(MEMORY_BYTES)],
                input=program.encode("utf-8", "replace"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={},
                timeout=2 * cpu_seconds,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0 and done.stdout == word.encode()
