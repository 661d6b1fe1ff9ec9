"""Every solver of the package, for tests that put all of them through the same checks."""

import numpy as np
import pytest

import stiffrax as srx

IMPLICIT = {
    solver.__name__: solver()
    for solver in (
        srx.BackwardEuler,
        srx.Trapezoid,
        srx.RadauIIA3,
        srx.RadauIIA5,
        srx.RadauIIA9,
        srx.RadauIIA13,
        srx.GaussLegendre2,
        srx.GaussLegendre4,
        srx.GaussLegendre6,
    )
}
ROSENBROCK = {
    solver.__name__: solver()
    for solver in (srx.Rosenbrock23, srx.Rodas3P, srx.Rodas4P, srx.Rodas5P)
}
SOLVERS = {**IMPLICIT, **ROSENBROCK}
# The explicit Euler method: quickest to compile, above all under a gradient, where a claim is about
# no method.
EULER = srx.LearnableRungeKutta.from_tableau((np.zeros((1, 1)), np.ones(1), np.zeros(1)))
# One of each kind: with one stage, with an explicit one, stiffly accurate with few stages and with
# many, not stiffly accurate, and without an iteration. The others have other numbers in the same
# programs.
KINDS = ("BackwardEuler", "Trapezoid", "RadauIIA5", "RadauIIA13", "GaussLegendre4", "Rodas5P")
# With fewer stages, where the claim is not about their number: quicker to compile.
QUICK_KINDS = tuple(
    {"RadauIIA5": "RadauIIA3", "Rodas5P": "Rodas3P"}.get(name, name) for name in KINDS
)


def one_of_each_kind(names, kinds=KINDS):
    """Cases of a test: those that are not of `kinds` are slow."""
    return [name if name in kinds else pytest.param(name, marks=pytest.mark.slow) for name in names]


each_solver = pytest.mark.parametrize("name", one_of_each_kind(SOLVERS))
