"""Searches that are evaluated together, and interrupted."""

import signal

import numpy as np
import pytest

from stiffrax.training._lockstep import Evaluation, run_together


def search(name, interrupted):
    for k in range(3):
        if (yield np.zeros(1)) is None:
            return f"{name} after {k}"
        if k == 0 and interrupted:
            signal.raise_signal(signal.SIGINT)
    return name


def evaluate(points):
    return [Evaluation(0.0, np.eye(2), 0)] * len(points)


@pytest.fixture
def _interrupts():
    """Processes that run tests side by side ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
def test_ctrl_c_inside_of_a_search_loses_no_result():
    found = run_together([search("a", True), search("b", False)], evaluate)
    assert found == ["a after 1", "b after 1"]
