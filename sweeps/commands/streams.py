"""The standard streams of the command line: that nobody reads its output, or no disk takes it, never ends the work."""

import errno
import io
import os
import sys
from typing import Any


class Outlet(io.FileIO):
    """A file descriptor to which writing never fails: after an error, which is kept, everything is dropped."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write what can be written; as many bytes as were given count as written."""
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes

    @property
    def is_full(self) -> bool:
        """Whether something was lost, other than to a reader that went away as `head` does."""
        return self.error is not None and self.error.errno != errno.EPIPE


def guard_streams() -> Outlet | None:
    """Make standard output and standard error never fail, and a closed stream the null device.

    Returns the outlet of standard output, unless something else than a file stands for it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed: without this, the next file that is opened would take its number
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    outlet = _guard("stdout")
    _guard("stderr")
    return outlet


def _guard(name: str) -> Outlet | None:
    stream = getattr(sys, name)
    if not isinstance(stream, io.TextIOWrapper):
        return None
    outlet = Outlet(stream.fileno(), "w", closefd=False)
    text = io.TextIOWrapper(
        outlet if stream.write_through else io.BufferedWriter(outlet),
        encoding=stream.encoding,
        errors="backslashreplace",  # a terminal may lack the letters of a word
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    setattr(sys, name, text)
    return outlet
