"""CIFAR's Python version: what Python 2 and 3 wrote is read, what else a pickle may do is refused before it is done."""

import os
import pickle
from pathlib import Path
from struct import Struct, pack

import numpy as np
import pytest
from data_files import random_images, write_cifar, write_python_cifar

from landscape.data import load


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_the_python_version_is_the_binary_one(name, classes, protocol, tmp_path):
    batch = 6 if classes == 10 else 100
    write_cifar(tmp_path / "binary", classes, batch)
    write_python_cifar(tmp_path / "python", classes, batch, protocol)
    ours, expected = (load(name, str(tmp_path / kind)) for kind in ("python", "binary"))
    for key in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        assert np.array_equal(getattr(ours, key), getattr(expected, key))


def word(text: str) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode()


def python2(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """As Python 2 and its numpy wrote it: strings of bytes, opcode by opcode."""
    rows = pixels.reshape(len(pixels), 3072)
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + word("b") + b"\x87R"
    minus = b"J\xff\xff\xff\xff"
    kind = b"cnumpy\ndtype\n" + word("u1") + b"K\x00K\x01\x87R(K\x03" + word("|") + b"NNN" + minus + minus + b"K\x00tb"
    shape = b"".join(b"J" + pack("<i", size) for size in rows.shape) + b"\x86"
    content = b"T" + pack("<i", rows.size) + rows.tobytes()
    array = empty + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + word("data") + array + word("labels") + numbers + b"u."


def test_what_python_2_wrote_is_read(tmp_path):
    write_python_cifar(tmp_path)
    pixels, labels = random_images(9, 6, 10, (3, 32, 32))
    (tmp_path / "test_batch").write_bytes(python2(pixels, labels))
    data = load("cifar10", str(tmp_path))
    assert data.test_targets.tolist() == labels.tolist()
    black, white = data.span
    restored = (data.test_inputs - black) / (white - black) * 255
    np.testing.assert_allclose(restored.numpy(), pixels, atol=1e-3)


class Runs:
    """What calls `function(*arguments)` where it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(mark: Path) -> dict[str, bytes]:
    array = {b"data": np.zeros((6, 3072), np.uint8), b"labels": [0] * 6}
    nothing, size = np.zeros((0, 3072), np.uint8), Struct("<i").pack
    outside = pickle.dumps(array)[:-1] + b"Pother\n0."
    return {
        "it names posix.system": pickle.dumps(Runs(os.system, f"touch {mark}")),
        "io.open": pickle.dumps(Runs(open, str(mark), "w"), protocol=0),
        "it names builtins.eval": pickle.dumps({b"data": Runs(eval, f"open({str(mark)!r}, 'w')")}, protocol=4),
        "it names builtins.getattr": pickle.dumps(Runs(getattr, "a", "upper")),
        "persistent": outside,
        "it names numpy.core.multiarray.scalar": b"\x80\x02cnumpy.core.multiarray\nscalar\n.",
        "an array is not of uint8": pickle.dumps(array | {b"data": np.array([1], object)}),
        "has 0 bytes": python2(nothing, nothing).replace(size(0) + b"J" + size(3072), size(2**30) + b"J" + size(3072)),
        "int": pickle.dumps(3),
        "list": pickle.dumps([1]),
        "labels": pickle.dumps({b"data": array[b"data"]}),
        "as many labels": pickle.dumps(array | {b"labels": [1]}),
        "labels from 0 to 9": pickle.dumps(array | {b"labels": [10] * 6}),
        "rows of 3072 bytes": pickle.dumps(array | {b"data": np.zeros((6, 30), np.uint8)}),
    }


@pytest.mark.parametrize("message", hostile(Path("mark")))
def test_a_hostile_pickle_is_refused_in_one_line_and_runs_nothing(message, tmp_path):
    write_python_cifar(tmp_path / "cifar")
    broken, mark = tmp_path / "cifar" / "data_batch_3", tmp_path / "mark"
    broken.write_bytes(hostile(mark)[message])
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load("cifar10", str(tmp_path / "cifar"))
    said = str(caught.value)
    assert said.startswith(f"{broken} must be ")
    assert message in said
    assert "\n" not in said
    assert not mark.exists()


def test_a_cut_file_is_named(tmp_path):
    write_python_cifar(tmp_path)
    content = (tmp_path / "test_batch").read_bytes()
    for cut in (0, 1, 30, len(content) // 2, len(content) - 1):
        (tmp_path / "test_batch").write_bytes(content[:cut])
        with pytest.raises(ValueError, match=r"test_batch must be a batch of CIFAR's Python version.*download"):
            load("cifar10", str(tmp_path))
