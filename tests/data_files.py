"""Small data sets written in the formats that the readers read, from the formats' descriptions alone."""

import gzip
import pickle
import struct

import numpy as np
from scipy.io import savemat


def random_images(seed, count, classes, shape):
    """uint8 images and labels; every class is there where count allows it."""
    source = np.random.default_rng(seed)
    labels = source.permutation(np.arange(count) % classes)
    return source.integers(0, 256, (count, *shape), dtype=np.uint8), labels


def write_cifar(folder, classes=10, batch=6):
    """The binary version; train and test as written, (N, 3, 32, 32) and (N,)."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if classes == 10 else ["train.bin"]
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for seed, name in enumerate([*names, "test_batch.bin" if classes == 10 else "test.bin"]):
        pixels, labels = random_images(seed, batch, classes, (3, 32, 32))
        content = b""
        for image, label in zip(pixels, labels, strict=True):
            coarse = b"" if classes == 10 else bytes([label // 5])
            content += coarse + bytes([label]) + image[0].tobytes() + image[1].tobytes() + image[2].tobytes()
        (folder / name).write_bytes(content)
        parts.append((pixels, labels))
    train = tuple(np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return train, parts[-1]


def write_mnist(folder, packed=False, side=28):
    """IDX files; train and test as written, (N, 1, side, side) and (N,)."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = []
    for seed, (split, count) in enumerate({"train": 20, "t10k": 10}.items()):
        pixels, labels = random_images(seed, count, 10, (side, side))
        images = struct.pack(">BBBBIII", 0, 0, 8, 3, count, side, side) + pixels.tobytes()
        classes = struct.pack(">BBBBI", 0, 0, 8, 1, count) + bytes(labels.tolist())
        for name, content in {f"{split}-images-idx3-ubyte": images, f"{split}-labels-idx1-ubyte": classes}.items():
            path = folder / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(content) if packed else content)
        sets.append((pixels[:, None], labels))
    return tuple(sets)


def write_svhn(folder):
    """MATLAB files, 10 for the digit 0; train and test as written, (N, 3, 32, 32) and digits (N,)."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = []
    for seed, (split, count) in enumerate({"train": 20, "test": 10}.items()):
        pixels, labels = random_images(seed, count, 10, (3, 32, 32))
        ones = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        savemat(folder / f"{split}_32x32.mat", {"X": pixels.transpose(2, 3, 1, 0), "y": ones}, do_compression=True)
        sets.append((pixels, labels))
    return tuple(sets)


def write_npz(path, **changes):
    """The keys of `landscape.data.npz`; train and test as written. `changes` replace arrays, None leaves one out."""
    train, test = (random_images(seed, count, 4, (2, 5, 6)) for seed, count in ((0, 12), (1, 8)))
    arrays = {"train_inputs": train[0], "train_targets": train[1], "test_inputs": test[0], "test_targets": test[1]}
    np.savez_compressed(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return train, test


def write_python_cifar(folder, classes=10, batch=6, protocol=2):
    """The Python version; train and test as written."""
    names = [f"data_batch_{i}" for i in range(1, 6)] if classes == 10 else ["train"]
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for seed, name in enumerate([*names, "test_batch" if classes == 10 else "test"]):
        pixels, labels = random_images(seed, batch, classes, (3, 32, 32))
        key = b"labels" if classes == 10 else b"fine_labels"
        content = {
            b"batch_label": b"one",
            key: labels.tolist(),
            b"data": pixels.reshape(batch, -1),
            b"filenames": [b"a"],
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
        parts.append((pixels, labels))
    train = tuple(np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return train, parts[-1]


def write_image_folder(folder, side=6, channels=3):
    """PNG files by class; train and test as written, uint8 (N, 3, side, side) and labels."""
    from PIL import Image

    sets = []
    for seed, (split, count) in enumerate({"train": 12, "test": 8}.items()):
        pixels, labels = random_images(seed, count, 4, (channels, side, side))
        order = np.argsort(labels, kind="stable")
        for index in order:
            place = folder / split / f"class-{labels[index]}"
            place.mkdir(parents=True, exist_ok=True)
            image = pixels[index].transpose(1, 2, 0) if channels == 3 else pixels[index, 0]
            Image.fromarray(image).save(place / f"{index:02d}.png")
        sets.append((pixels[order], labels[order]))
    return tuple(sets)
