"""Files that are whole at any moment."""

import pytest

from stiffrax.training._checkpoint import write_whole


def test_a_file_is_replaced_by_the_new_one(tmp_path):
    path = tmp_path / "kept"
    for text in (b"old", b"new"):
        write_whole(path, lambda file, text=text: file.write(text))
    assert [(x.name, x.read_bytes()) for x in tmp_path.iterdir()] == [("kept", b"new")]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    def torn(file):
        file.write(b"half")
        raise OSError("disk full")

    path = tmp_path / "kept"
    write_whole(path, lambda file: file.write(b"old"))
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, torn)
    assert path.read_bytes() == b"old"
