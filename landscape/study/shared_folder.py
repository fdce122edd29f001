"""Whether workers on other machines see the folders in which a study keeps its networks."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from uuid import uuid4

from landscape.checks import require


@contextmanager
def marked(folders: Iterable[str | Path]) -> Iterator[dict[str, Path]]:
    """A file of this study's own beside these folders while the block lasts; each folder's, by its name."""
    mark = f".study-{uuid4().hex}"
    marks = {str(folder): Path(folder).parent / mark for folder in folders}
    try:
        for path in set(marks.values()):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        yield marks
    finally:
        for path in set(marks.values()):
            path.unlink(missing_ok=True)


def require_seen(mark: Path | None) -> None:
    """Raise a ValueError, in one line, where this machine does not see the mark; None asks for none."""
    folder = mark.parent if mark else ""
    require(
        mark is None or mark.exists(),
        f"{gethostname()} does not see the study's folder {folder}; it must be shared, under the same absolute path",
    )
