"""The example of the README prints what the README says."""

import contextlib
import io
import pathlib
import re

import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def numbers(text):
    return [float(x) for x in re.findall(r"\d+(?:\.\d+)?(?:e[+-]\d+)?", text)]


def test_the_example_prints_what_stands_below_it():
    example, said = re.search(
        r"```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", README, re.S
    ).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "README.md", "exec"), {})
    *state, steps = numbers(printed.getvalue())
    *said_state, said_steps = numbers(said)
    # Other processors round differently.
    assert state == pytest.approx(said_state, rel=1e-7)
    assert steps == pytest.approx(said_steps, abs=3)
