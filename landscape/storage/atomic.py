"""Files appear whole or not at all, whoever else writes them: a killed writer leaves the old one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from uuid import uuid4

from safetensors import SafetensorError

LOCK = ".lock"  # in a folder that one process at a time may work in
ABANDONED = 3600.0  # seconds since the last byte of a temporary file, after which its writer is taken for dead


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path of this writer's own, with the same suffix beside `target`, to write to; then it takes the target's name.

    Raises:
        OSError: in one line, where the disk is full or may not be written; the old file stands.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.{uuid4().hex[:12]}.partial{target.suffix}")
    try:
        yield partial
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors say a full disk in their own way
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise OSError(f"{target} cannot be written: {reason}; make room or choose another place") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def locked(lock: Path, what: str, whose: Path, *, wait: bool = False) -> Iterator[None]:
    """Something for one process at a time; the same thread may enter again.

    Args:
        lock: the file that stands for it.
        what: it is: "folder".
        whose: its path.
        wait: for as long as another process is in.
    Raises:
        ValueError: if it cannot be written, or another process is in, unless `wait`.
    """
    from filelock import FileLock, Timeout

    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = FileLock(lock.resolve(), is_singleton=True)
        file.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise ValueError(f"{what} {whose} is in use by another process; let it end or choose another") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        raise ValueError(
            f"{what} must be writable, got {whose}: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        yield
    finally:
        file.release()


@contextmanager
def locked_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """The folder of a network for one process at a time; what killed writers left behind is removed."""
    with locked(folder / LOCK, "folder", folder, wait=wait):
        for partial in folder.glob(".*.partial*"):
            with suppress(OSError):
                if time() - partial.stat().st_mtime > ABANDONED:
                    partial.unlink()
        yield


def _sync(path: Path) -> None:
    """What the system holds of a file or a folder goes to the disk: after a loss of power it is whole as well."""
    if os.name == "nt":  # no folder can be opened there
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
