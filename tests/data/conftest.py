"""Text files as instruments and colleagues write them."""

import pytest


@pytest.fixture
def written(tmp_path):
    """Writes a text to a file, and says where it is."""

    def write(text, name="assay.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write
