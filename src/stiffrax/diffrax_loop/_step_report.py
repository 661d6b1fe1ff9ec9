"""What a step tells its controller: the error, and what it says of itself beside it."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree, Shaped

# In units of the spacing of floating-point numbers, as in SciPy: nine tenths of five spacings are
# rounded to five again, so that a rejected step would be tried again as it was, for ever.
_SPACINGS = 10


def scaled_error(error: Any, scale: Any) -> Float[Array, "*n"]:
    """`error / scale`; zero for an error of zero, also where the scale is zero or not a number, and
    infinite for one that is, also where the scale is."""
    error = error.value if isinstance(error, ErrorLeaf) else error
    none, failed = jnp.asarray(error) == 0, jnp.isinf(error)
    return jnp.where(none, 0.0, error / jnp.where(none | failed, 1.0, scale))


@final
class ErrorLeaf(eqx.Module):
    """An array of errors that is divided by a scale as `scaled_error` does.

    diffrax's controller divides by `atol + rtol |y|`. With a plain array 0 / NaN rejects
    the step by which a solver ends a solve, 0 / 0 every step of a state at rest without `atol`, and
    inf / inf a step that failed at an infinite state: all turn the size of the step into NaN, for ever.
    """

    value: Float[Array, "*n"]

    def __truediv__(self, scale: Any) -> Float[Array, "*n"]:
        return scaled_error(self.value, scale)


def smallest_step(t: Any) -> Shaped[Array, ""]:
    """Below this a rejected step is not worth a smaller one: `t` and `t + h` are all but the same."""
    t = jnp.abs(lax.stop_gradient(jnp.asarray(t)))
    limits = jnp.finfo(t.dtype)
    return _SPACINGS * jnp.maximum(limits.eps * t, limits.tiny)


@final
class StepWork(eqx.Module):
    """Work of one attempted step, or of all of them: evaluations of the vector field, of its
    Jacobian, factorizations (of all systems of a step and its error), solves of the stage system,
    iterations, and cycles of GMRES."""

    f_evaluations: Array
    jacobians: Array
    factorizations: Array
    linear_solves: Array
    newton_iterations: Array
    gmres_cycles: Any = 0


@final
class StepReport(eqx.Module):
    """Takes the place of the error estimate where a controller or an adjoint asks for more.

    diffrax hands a solver's error to the controller as it is (but for NaNs, which become infinite,
    and whole numbers, which become floating), so that this is how a report gets there.

    `component`: that with the largest scaled error, or which moved most where the iteration failed.
    `finite`: whether the stages are, of which an error that is not may say no more.
    """

    error: PyTree[Array]
    converged: Array
    finite: Array
    theta: Array
    most_iterations: Array
    component: Array
    work: StepWork

    def sent(self) -> "StepReport":
        """With floating numbers only: diffrax would make them so, and with strict promotion fail."""

        def floating(x: Any) -> Array:
            is_floating = jnp.issubdtype(jnp.result_type(x), jnp.floating)
            return x if is_floating else jnp.asarray(x).astype(float)

        return jax.tree.map(floating, self)

    def restored(self) -> "StepReport":
        """With the dtypes from before it was sent."""
        counts = (self.most_iterations, self.component, self.work)
        most_iterations, component, work = jax.tree.map(
            lambda x: jnp.asarray(x).astype(int), counts
        )
        return StepReport(
            error=self.error,
            converged=jnp.asarray(self.converged).astype(bool),
            finite=jnp.asarray(self.finite).astype(bool),
            theta=self.theta,
            most_iterations=most_iterations,
            component=component,
            work=work,
        )


@final
class ReportingNorm(eqx.Module):
    """A norm that asks the solver it reaches for a `StepReport` in place of an error.

    A controller's tolerances and norm are all that diffrax hands on to an implicit solver. `counts`:
    whether for diffrax's loop, whatever the controller.
    """

    norm: Any
    counts: bool = eqx.field(static=True, default=False)

    def __call__(self, tree: PyTree) -> Any:
        return self.norm(tree)


def reporting_norm(norm: Any) -> ReportingNorm:
    """The norm as one that asks for a report, if it is not one already."""
    return norm if isinstance(norm, ReportingNorm) else ReportingNorm(norm)


def plain_norm(norm: Any) -> Any:
    """The norm itself, whether or not it asks for a report."""
    return norm.norm if isinstance(norm, ReportingNorm) else norm


def asks_for_report(norm: Any) -> bool:
    """Whether this is the norm of a controller that reads a `StepReport`."""
    return isinstance(norm, ReportingNorm)
