"""Arrays from an npz file, whose claims are held against its size before memory is taken for them."""

from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy

from landscape.checks import require

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
DAMAGED = (OSError, ValueError, EOFError, KeyError, BadZipFile, RuntimeError, TokenError)  # what such bytes end in
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_arrays(path: Path) -> Arrays:
    """All arrays of a file that `np.savez` wrote; nothing is unpickled. Raises ValueError if it is none."""
    try:
        with path.open("rb") as stored:
            with ZipFile(stored) as archive:
                for entry in archive.infolist():
                    _check(archive, entry, path.stat().st_size)
            stored.seek(0)
            with np.load(stored, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except DAMAGED as error:
        raise ValueError(" ".join(str(error).split())) from error


def _check(archive: ZipFile, entry: ZipInfo, size: int) -> None:
    """Raise ValueError unless the entry holds an array of the size that its header claims."""
    require(entry.compress_type == ZIP_STORED and entry.file_size <= size, f"{entry.filename} must lie in it as it is")
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        require(version in HEADERS, f"{entry.filename} must be an array")
        shape, _, dtype = HEADERS[version](file)
        claimed = prod(shape) * dtype.itemsize
        require(
            dtype.hasobject or file.tell() + claimed == entry.file_size,
            f"{entry.filename} claims {claimed} bytes of {entry.file_size}",
        )
