"""Progress bars: shown to people, silent elsewhere."""

import types

import pytest

import stiffrax.training._progress as progress


def looked_at(monkeypatch, yes):
    """A standard error that says whether somebody looks at it."""
    stderr = types.SimpleNamespace(isatty=lambda: yes)
    monkeypatch.setattr(progress, "sys", types.SimpleNamespace(stderr=stderr))


def shown_by_a_bar(capsys):
    bar = progress.progress_bar(None, 10, "fit")
    bar.update(4)
    bar.set_postfix_str(progress.loss_and_gradient([1.0, 2.0, 0.0]))
    bar.close()
    return capsys.readouterr().err


def test_a_terminal_sees_steps_rate_time_left_loss_and_gradient(monkeypatch, capsys):
    monkeypatch.delenv("CI", raising=False)
    looked_at(monkeypatch, True)
    shown = shown_by_a_bar(capsys)
    assert "4/10" in shown
    assert "step/s" in shown
    assert "<" in shown  # time passed < time left
    assert "loss 1.000e+00, gradient 2.0e+00" in shown


@pytest.mark.parametrize(("is_terminal", "ci"), [(True, "true"), (False, "")])
def test_ci_and_files_see_nothing(is_terminal, ci, monkeypatch, capsys):
    monkeypatch.setenv("CI", ci)
    looked_at(monkeypatch, is_terminal)
    assert shown_by_a_bar(capsys) == ""
