"""The examples in docstrings run and print what they say."""

import ast
import doctest
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "src" / "stiffrax"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def examples_in(path):
    """Each documented object's examples, found in the source.

    Not by `doctest.DocTestFinder`: it passes over methods that equinox has wrapped.
    """
    parser = doctest.DocTestParser()
    for node in ast.walk(ast.parse(path.read_text())):
        text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        if text and ">>>" in text:
            name = getattr(node, "name", path.stem)
            yield parser.get_doctest(text, {}, name, str(path), getattr(node, "lineno", 0))


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>>" in path.read_text()]
# These compile for four seconds and more what the tests of the same names compile as well.
SLOW = {
    "adjoints/_continuous_adjoints.py",
    "adjoints/_discrete_adjoint.py",
    "adjoints/_forward_sensitivity.py",
    "controllers/_predictive.py",
    "controllers/_recording.py",
    "diagnostics/_compare_adjoints.py",
    "diagnostics/_estimate_jacobians.py",
    "diagnostics/_explain.py",
    "diagnostics/_lyapunov_spectrum.py",
    "diagnostics/_method_report.py",
    "losses/_homotopy_loss.py",
    "losses/_invariant_loss.py",
    "losses/_likelihood_loss.py",
    "losses/_loss.py",
    "losses/_neighborhood_loss.py",
    "losses/_roughness_penalty.py",
    "losses/_segment_loss.py",
    "losses/_simulation.py",
    "losses/_trajectory_loss.py",
    "models/_partially_known.py",
    "models/_pi_net.py",
    "plots/_parameter_fit.py",
    "plots/_solves.py",
    "plots/_training.py",
    "solvers/_consistent_start.py",
    "solvers/_implicit_runge_kutta.py",
    "solvers/_learnable_runge_kutta.py",
    "solvers/_mass_matrix_term.py",
    "solvers/_methods.py",
    "solvers/_rosenbrock_methods.py",
    "solvers/_segments.py",
    "solvers/_variable_order.py",
    "stages/_block_diagonal.py",
    "stages/_matrix_free.py",
    "stages/_sparsity.py",
    "tableaus/_initial_tableaus.py",
    "tableaus/_learnable_tableau.py",
    "training/_fit.py",
    "training/_fit_homotopy.py",
    "training/_fit_least_squares.py",
    "training/_fit_parameters.py",
    "training/_history.py",
    "training/_parameter_fit.py",
    "training/_profile.py",
    "training/_project_order.py",
    "training/_prune.py",
    "training/_solve_in_chunks.py",
    "training/_transforms.py",
}


def test_files_of_slow_examples_exist():
    assert {PACKAGE / name for name in SLOW} <= set(FILES)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow)
        if str(path.relative_to(PACKAGE)) in SLOW
        else path
        for path in FILES
    ],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_docstring_examples_print_what_they_say(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(verbose=False, optionflags=flags)
    for example in examples_in(path):
        runner.run(example, out=report.append)
    assert runner.tries > 0
    assert not report, "".join(report)
