"""What an error of the disk means: a mistake in choosing a place, or a disk that failed on the way."""

import errno
import os

import pytest

from jaxcram.errors import StoppedError, UserError
from jaxcram.results import disk


def test_a_folder_that_is_left_empty_by_an_error_is_removed_again(tmp_path):
    def fails(path, *names):
        with disk.folder(path):
            assert path.is_dir()
            for name in names:
                (tmp_path / name).touch()
            raise KeyError

    (tmp_path / "kept").mkdir()
    for path in ("kept", "kept/made", "made/too"):
        with pytest.raises(KeyError):
            fails(tmp_path / path)
    with pytest.raises(KeyError):
        fails(tmp_path / "full" / "made", "full/file")
    with disk.folder(tmp_path / "good"):
        pass
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == ["full", "full/file", "good", "kept"]
    with pytest.raises(UserError, match=r"full/file: cannot be written \(File exists\)"):
        fails(tmp_path / "full" / "file")


@pytest.mark.parametrize(
    ("number", "context", "code", "remedy"),
    [
        (errno.EROFS, disk.opening, 2, "choose another directory, or mount it for writing"),
        (
            errno.EROFS,
            disk.writing,
            75,
            "restore the disk or directory, then start the same command again: finished results are kept",
        ),
        (
            errno.ENOSPC,
            disk.opening,
            75,
            "free disk space, then start the same command again: finished results are kept",
        ),
        (errno.EACCES, disk.opening, 2, "choose another directory, or allow writing there"),
        (errno.ENOTDIR, disk.opening, 2, "choose another directory"),
    ],
)
def test_user_errors_at_the_start_are_distinguished_from_later_disk_failures(
    tmp_path, number, context, code, remedy
):
    with pytest.raises(UserError) as error, context(tmp_path):
        raise OSError(number, os.strerror(number))
    why = os.strerror(number)
    assert (error.value.exit_code, str(error.value)) == (
        code,
        f"{tmp_path}: cannot be written ({why}); {remedy}",
    )


def test_a_file_written_elsewhere_is_put_in_place(tmp_path):
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    disk.adopt(tmp_path / "new", tmp_path / "old")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "new")]
    with pytest.raises(StoppedError, match=r"old: cannot be written \(No such file or directory\)"):
        disk.adopt(tmp_path / "new", tmp_path / "old")


@pytest.mark.parametrize(
    "said", ["os_error_code='28' of a write", "I/O error: No space left on device (os error 28)"]
)
def test_the_errors_of_the_disk_within_those_of_libraries(said):
    """As TensorStore and safetensors say them."""
    found = disk.os_error(RuntimeError(said))
    assert (found.errno, found.strerror) == (errno.ENOSPC, "No space left on device")
