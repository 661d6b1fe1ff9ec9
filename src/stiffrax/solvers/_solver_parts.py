"""Checks of what a solver is made of: root finder, linear solver, structure."""

from typing import Any

import diffrax
import lineax as lx
import optimistix as optx

from .._arguments import check_count, check_instance
from ..diffrax_loop import use_stepsize_tol
from ..stages import AbstractStructure, MatrixFree


def check_parts(solver: Any) -> None:
    """Refuses parts of another kind, and parts that exclude each other."""
    check_instance(
        "root_finder",
        solver.root_finder,
        optx.AbstractRootFinder,
        "an optimistix root finder",
        "root_finder=stiffrax.SimplifiedNewton()",
    )
    check_linear_algebra(solver)
    check_count("root_find_max_steps", solver.root_find_max_steps, write="root_find_max_steps=50")
    if solver.mixed_precision and isinstance(solver.structure, MatrixFree):
        raise ValueError(
            "`mixed_precision=True` was given with `structure=MatrixFree(...)`, which has no "
            "factors to keep in single precision. Leave one of them out."
        )


def check_single_steps(solver: Any) -> None:
    """Refuses a solver that needs more than single steps."""
    needs = "the step before" if isinstance(solver, diffrax.LeapfrogMidpoint) else ""
    if vars(getattr(solver, "root_finder", solver)).get("rtol") is use_stepsize_tol:
        needs = "the tolerances of an adaptive solve"
    if needs:
        raise ValueError(
            f"`{type(solver).__name__}` was given, which needs {needs}; here it takes single steps. "
            "Write `stiffrax.RadauIIA5()`, or give tolerances, as in "
            "`diffrax.Kvaerno5(root_finder=diffrax.VeryChord(1e-10, 1e-10))`."
        )


def check_linear_algebra(solver: Any) -> Any:
    """The linear solver, unless it or the structure is of another kind, or both were given."""
    check_instance(
        "linear_solver",
        solver.linear_solver,
        lx.AbstractLinearSolver | None,
        "a lineax solver",
        "linear_solver=lineax.LU()",
    )
    check_instance(
        "structure",
        solver.structure,
        AbstractStructure | None,
        "the structure of a Jacobian",
        "structure=stiffrax.Banded(1, 1)",
    )
    if solver.linear_solver is not None and solver.structure is not None:
        raise ValueError(
            "Both `linear_solver` and `structure` were given. Write `structure=Dense(solver)`, "
            "or leave one of them out."
        )
    linear_solver = solver.exact_linear_solver
    while isinstance(linear_solver, lx.Normal):
        linear_solver = linear_solver.inner_solver
    # lineax lets any solver of a user's own say so.
    if (
        type(linear_solver).__module__.startswith("lineax.")
        and not linear_solver.assume_full_rank()
    ):
        raise ValueError(
            f"`linear_solver={type(linear_solver).__name__}(...)` was given, which may leave equations "
            "unsolved. Leave it out, or write `linear_solver=lineax.LU()`, not under `vmap`."
        )
    return linear_solver
