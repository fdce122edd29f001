"""JSON, CSV, and files that count once a manifest beside them holds what they are.

A checksum stands in the manifest, sha256 of the file's bytes and of all else that the manifest says.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from landscape.checks import require
from landscape.storage.atomic import replacing
from landscape.storage.settings import as_json

CHECKSUM = "sha256"  # files of earlier versions have none, or that of the bytes alone
LARGEST = 2**28  # bytes of JSON that are read


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object in one rename."""
    text = json.dumps(content, indent=1) + "\n"  # what JSON cannot hold is complained of before anything is written
    with replacing(path) as partial:
        partial.write_text(text)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ValueError in one line if the file is missing or is none."""
    try:
        require(path.stat().st_size <= LARGEST, f"more than {LARGEST} bytes")
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be a readable JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def read_or_none(path: Path) -> dict[str, Any] | None:
    """A JSON object that can be made anew: None where the file is missing, empty, cut or changed."""
    try:
        return read_checked(path)
    except ValueError:
        return None


def write_checked(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object that holds its own checksum, in one rename."""
    write_json(path, {**content, CHECKSUM: _checksum(content)})


def read_checked(path: Path) -> dict[str, Any]:
    """Read what `write_checked` wrote. Raises ValueError in one line if it is missing or was changed."""
    return _verified(read_json(path), path)


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> Path:
    """Write a table with a header as CSV in one rename; the columns default to those of the first row."""
    target = Path(path)
    with replacing(target) as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, columns or list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return target


def write_with_manifest(target: Path, write: Callable[[Path], Any], manifest: Mapping[str, Any]) -> Path:
    """What `write` makes of a path, as `target`; then TARGET's name with .json: the manifest and the checksum."""
    json.dumps(manifest)
    with replacing(target) as partial:
        write(partial)
        checksum = _checksum(manifest, partial)
    write_json(target.with_suffix(".json"), {**manifest, CHECKSUM: checksum})
    return target


def rewrite_manifest(target: Path, manifest: Mapping[str, Any]) -> None:
    """Say something else of a file that is there."""
    write_json(target.with_suffix(".json"), {**manifest, CHECKSUM: _checksum(manifest, target)})


def read_manifest(target: Path) -> dict[str, Any]:
    """What `target` is. Raises ValueError if it has no manifest, or one of the two was changed."""
    manifest = read_json(target.with_suffix(".json"))
    try:
        return _verified(manifest, target, target)
    except OSError as error:
        raise ValueError(f"{target} is not readable: {error.strerror}; make it again") from error


def whole(target: Path) -> bool:
    """Whether a file is there with its manifest, and has the bytes that the manifest was written for."""
    try:
        read_manifest(target)
    except ValueError:
        return False
    return True


def _verified(content: dict[str, Any], path: Path, file: Path | None = None) -> dict[str, Any]:
    """The content without its checksum. Raises ValueError if that is of another content, or another file."""
    expected, earlier = content.pop(CHECKSUM, None), file and _checksum(None, file)
    require(
        expected in (None, earlier, _checksum(content, file)),
        f"{path} was changed or cut after it was written (its checksum is another); make it again",
    )
    return content


def _checksum(content: Mapping[str, Any] | None, file: Path | None = None) -> str:
    """Of a file's bytes, then of what JSON gives back of the content."""
    found = hashlib.sha256()
    if file is not None:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256")
    if content is not None:
        found.update(json.dumps(as_json(content), sort_keys=True).encode())
    return found.hexdigest()
