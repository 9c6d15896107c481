"""Files that are whole at every moment, and folders that one process has to itself."""

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple
from uuid import uuid4

from extractor import UserError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

MOST_BYTES = 255  # of a file's name
POLL_S = 0.05
HELD_S = 2.0      # that another program, such as a scanner on Windows, may hold a file which is to be replaced
FULL = errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)


@contextmanager
def atomic_write(path: str | Path, *, flush: bool = True, shared: bool = False) -> Iterator[Path]:
    """A path to write to, beside `path`, which it replaces when the block ends well: a kill leaves the old file or the
    new one, never half of one. `flush` to the disk first, so that this holds for a power cut too. `shared`: other
    processes, on other machines too, may be at the same file; the last one's stays. Raises UserError where it cannot
    be written."""
    path = Path(path)
    own = f".{uuid4().hex[:12]}" if shared else ""
    aside = path.with_name(f"{shortened(path.name, MOST_BYTES - 18)}{own}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        if flush:
            with open(aside, "r+b") as f:  # Windows flushes what may be written
                os.fsync(f.fileno())
        replace(aside, path)
    except OSError as e:
        remedy = "make room, and run again" if e.errno in FULL else "choose another output folder"
        raise UserError(f"{path}: cannot be written ({e.strerror or e}); {remedy}") from None
    finally:
        with suppress(OSError):  # gone, in a folder that is none, or on a disk where nothing may be written
            aside.unlink()


def replace(path: str | Path, by: str | Path):
    """os.replace, tried again for HELD_S: on Windows it fails as long as another program has one of the files open."""
    until = time.monotonic() + HELD_S
    while True:
        try:
            return os.replace(path, by)
        except PermissionError:
            if time.monotonic() > until:
                raise
        time.sleep(POLL_S)


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """A folder, made where there is none, for one process until it ends, however it does. Raises UserError where
    another one has it. Where a system or a disk knows no locks nothing is held."""
    with lock_file(folder) as f:
        if not locked(f):
            raise UserError(f"{folder}: another process is at work there; end it, or choose another folder")
        yield


class SharedFolder(NamedTuple):
    """A folder in which processes of one kind share work."""

    lock: IO
    first: bool  # nobody else was at work there

    def join(self):
        """Lets others in."""
        locked(self.lock, shared=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside it no other process is inside it; waits for that."""
        while not locked(self.lock, byte=1):
            time.sleep(POLL_S)
        try:
            yield
        finally:
            unlock(self.lock, byte=1)


@contextmanager
def shared_folder(folder: str | Path) -> Iterator[SharedFolder]:
    """As folder_lock, but for any number of processes that come through here. The first one has the folder to itself
    until it calls `join`."""
    with lock_file(folder) as f:
        first, until = locked(f), time.monotonic() + HELD_S
        while not first and not locked(f, shared=True):
            if time.monotonic() > until:
                raise UserError(f"{folder}: another process is at work there; end it, or choose another folder")
            time.sleep(POLL_S)
        yield SharedFolder(f, first)


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Says whether this process has the work on a file to itself, until it ends, however it does."""
    beside = path.with_name(f".{shortened(path.name, MOST_BYTES - 6)}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        f = open(beside, "a+")
    except OSError as e:
        raise UserError(f"{path}: cannot be written ({e.strerror}); choose another output folder") from None
    with f:
        mine = locked(f)
        try:
            yield mine
        finally:
            if mine:
                with suppress(OSError):  # Windows removes no open file
                    beside.unlink()


def lock_file(folder: str | Path) -> IO:
    if not str(folder):
        raise UserError("the output folder has no name: give out_dir one")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return open(Path(folder, ".lock"), "a+")
    except OSError as e:
        raise UserError(f"{folder}: cannot be written ({e.strerror}); choose another folder") from None


def locked(f: IO, *, shared: bool = False, byte: int = 0) -> bool:
    """Locks a byte of a file, if no other process has it; else returns False."""
    try:
        fcntl and fcntl.lockf(f, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, 1, byte)
    except OSError as e:  # of the process: its children do not hold it
        return e.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def unlock(f: IO, *, byte: int):
    with suppress(OSError):
        fcntl and fcntl.lockf(f, fcntl.LOCK_UN, 1, byte)


def content_hash(path: Path) -> str:
    """Of a file's size and 64 pieces of 16 KiB, spread over all of it: the same file under any name, in any folder.
    Raises UserError where it cannot be read."""
    pieces, piece = 64, 1 << 14
    try:
        size = path.stat().st_size
        digest = hashlib.blake2b(str(size).encode(), digest_size=8)
        with open(path, "rb") as f:
            for i in range(pieces):
                f.seek(max(0, size - piece) * i // (pieces - 1))
                digest.update(f.read(piece))
    except OSError as e:
        raise UserError(f"cannot be read ({e.strerror})", path) from None
    return digest.hexdigest()


def shortened(name: str, n_bytes: int) -> str:
    """The start of a name that takes no more bytes than these on the disk, cut between two letters."""
    return os.fsencode(name)[:n_bytes].decode("utf-8", "ignore")
