"""The code on the pages of the documentation that promise it runs as it stands there."""

import pathlib
import re

import numpy as np
import pytest

DOCS = pathlib.Path(__file__).parents[1] / "docs"
CALL = re.compile(r"`((?:srx|diffrax|jax|eqx)\.[^`]+)`")


def second_state(k, t=2.0):
    """The solution of the page's equations in closed form."""
    a, b = k**2 / (1 + k**2), k / (1 + k**2)
    slow = ((a - b) * np.cos(t) + (a + b) * np.sin(t)) / 2
    fast = -a / (1 - k)
    return slow + fast * np.exp(-k * t) + (1 - (a - b) / 2 - fast) * np.exp(-t)


@pytest.fixture(scope="module")
def coming_from():
    page = (DOCS / "coming_from.md").read_text()
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "coming_from.md", "exec"), namespace)
    return page, namespace


@pytest.mark.slow
def test_the_blocks_for_newcomers_run_and_agree_with_scipy(coming_from):
    _, found = coming_from
    assert found["difference"] < 1e-5
    assert found["value"] == pytest.approx(second_state(1000.0), rel=1e-6)
    assert found["gradient"] == pytest.approx(second_state(1000.0 + 1e-30j).imag / 1e-30, rel=1e-3)
    assert found["fit"].history.loss.shape == (20,)


@pytest.mark.slow
def test_every_call_in_the_tables_for_newcomers_can_be_written_so(coming_from):
    page, found = coming_from
    calls = CALL.findall(page)
    assert len(calls) > 40
    for call in calls:
        eval(call, found)
