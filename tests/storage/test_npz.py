import io
from zipfile import ZipFile

import numpy as np
import pytest

from landscape.storage.array_checkpoint import ArrayCheckpoint
from landscape.storage.npz import read_arrays


def claiming(shape, path, name="a"):
    """An array of 8 bytes whose header claims another shape."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.npy", content.getvalue() + b"\0" * 8)


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**9), (2,), ()])
def test_a_header_that_claims_more_than_the_file_holds_is_refused_before_memory_is_taken(tmp_path, shape):
    claiming(shape, tmp_path / "a.npz")
    if shape == ():
        assert read_arrays(tmp_path / "a.npz")["a"] == 0.0
        return
    with pytest.raises(ValueError, match=r"a\.npy claims \d+ bytes"):
        read_arrays(tmp_path / "a.npz")
    claiming(shape, tmp_path / "a.npz", "settings")
    with pytest.raises(ValueError, match=r"resume file .*a\.npz is not readable: settings\.npy claims .*; delete it"):
        ArrayCheckpoint(tmp_path / "a.npz", {}).load()


def test_compressed_and_foreign_entries_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(10**6))
    with pytest.raises(ValueError, match=r"a\.npy must lie in it as it is"):
        read_arrays(tmp_path / "bomb.npz")
    with ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("readme.txt", "hello hello")
    with pytest.raises(ValueError, match="magic string"):
        read_arrays(tmp_path / "text.npz")
