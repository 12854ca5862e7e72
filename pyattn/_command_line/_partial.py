"""The output of a run in the making, which a run that was killed leaves for the next.

OUTPUT.partial is the .npy file to be: room for its header, then the rows. OUTPUT.partial.json says
how many rows count, what was read for them, and with which model and options. It is replaced as a
whole, after the rows are on the disk; what stands behind the rows that count is written again. In
the end the header is filled in and the file gets its name. So at any moment either the output is
there in whole, or everything to go on with.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyattn._command_line import _check_command_line
from pyattn._command_line._records import Prefix

HEADER = 128  # bytes of a header of NumPy, whatever the number of rows: it leaves room to grow


class Position(NamedTuple):
    """How far a run has come; `full` counts texts as long as the model allows."""

    rows: int
    read: Prefix
    full: int


def written(output: Path) -> tuple[Path, Path, Path, Path]:
    """The output and what is there before it: the rows, their state, and the next state."""
    path, state, new_state = (
        output.with_name(f"{output.name}.partial{end}") for end in ("", ".json", ".json.new")
    )
    return output, path, state, new_state


class Partial:
    """Rows (dim,) of one dtype. `job` are all the settings that the result depends on."""

    def __init__(self, output: Path, dim: int, dtype: np.dtype, job: dict[str, Any]) -> None:
        self.dim, self.dtype, self.job = dim, dtype, job
        self.output, self.path, self._state, self._new_state = written(output)
        self.position = Position(0, Prefix(), 0)
        # Without a buffer: a row that is counted has left this process.
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", 0)
        self._lock()

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def found(self) -> dict[str, Any] | None:
        """The state of the run before, None if it has no row. It must be of the same job."""
        if not self._state.exists() or not self._size():
            return None
        state = _check_command_line.state(self._state, self._state.read_bytes())
        rows, job = state["rows"], state["job"]
        if not rows:
            return None
        _check_command_line.same_job(self.path, job, self.job)
        _check_command_line.size(self.path, self._size(), self._end(rows))
        return state

    def begin(self, position: Position) -> None:
        """Go on from there; 0 rows begin anew."""
        if not position.rows:  # it may be of another job
            self._state.unlink(missing_ok=True)
        self._file.truncate(self._end(position.rows))
        self._file.seek(self._end(position.rows))
        self.position = position
        self.save()

    def append(self, rows: np.ndarray, read: Prefix, full: int) -> None:
        data = memoryview(np.ascontiguousarray(rows, self.dtype)).cast("B")
        while data:
            data = data[self._file.write(data) :]
        # All at once, or not at all if Ctrl-C comes between: the rows are then written again.
        self.position = Position(self.position.rows + len(rows), read, self.position.full + full)

    def save(self) -> None:
        """First the rows, then what tells of them."""
        os.fsync(self._file.fileno())
        rows, read, full = self.position
        state = {"rows": rows, "bytes": read.length, "sha256": read.sha256, "full": full}
        with open(self._new_state, "w") as file:
            json.dump(state | {"job": self.job}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._new_state, self._state)

    def finish(self) -> None:
        """The partial file becomes the output."""
        self._file.truncate(self._end(self.position.rows))
        self._file.seek(0)
        self._file.write(self._header())
        os.fsync(self._file.fileno())
        os.replace(self.path, self.output)
        self._state.unlink(missing_ok=True)  # somebody may have tidied up

    def _header(self) -> bytes:
        header = io.BytesIO()
        described = {"descr": self.dtype.str, "fortran_order": False}
        shape = (self.position.rows, self.dim)
        np.lib.format.write_array_header_1_0(header, described | {"shape": shape})
        return header.getvalue()

    def _end(self, rows: int) -> int:
        return HEADER + rows * self.dim * self.dtype.itemsize

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _lock(self) -> None:
        """Until this process ends, however it does."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path))
        except (BlockingIOError, FileNotFoundError):  # or it has just got its name
            mine = False
        if not mine:
            self._file.close()
            _check_command_line.locked(self.path)
