"""What is left of the order on a stiff problem: the equation of Prothero and Robinson.

    y' = lambda (y - phi(t)) + phi'(t),   phi = sin(5 t + pi / 4),   0 <= t <= 10

The error is the largest at the ends of equal steps; the order is measured from there to half the
step. The last column is that error at `lambda` = -1e5 over the one at -1e6: ten where a method
divides by the stiffness. Run with

    python benchmarks/stiff_order.py
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

# Steps, so many that the order shows and so few that rounding does not.
SOLVERS = (
    (srx.BackwardEuler(), 80),
    (srx.RadauIIA3(), 80),
    (srx.RadauIIA5(), 80),
    (srx.RadauIIA9(), 80),
    (srx.RadauIIA13(), 40),
    (srx.Trapezoid(), 80),
    (srx.GaussLegendre2(), 80),
    (srx.GaussLegendre4(), 80),
    (srx.GaussLegendre6(), 80),
    (srx.Rosenbrock23(), 80),
    (srx.Rodas3P(), 80),
    (srx.Rodas4P(), 80),
    (srx.Rodas5P(), 80),
)


def phi(t):
    return jnp.sin(5 * t + jnp.pi / 4)


def field(t, y, rate):
    return -rate * (y - phi(t)) + 5 * jnp.cos(5 * t + jnp.pi / 4)


@eqx.filter_jit
def largest_error(solver, steps, rate):
    """By hand: one program for any number of steps."""
    term, h = diffrax.ODETerm(field), 10 / steps

    def body(k, carry):
        y, state, error = carry
        y, _, _, state, _ = solver.step(term, k * h, k * h + h, y, rate, state, False)
        return y, state, jnp.maximum(error, jnp.abs(y - phi(k * h + h)))

    y0 = phi(0.0 * h)
    state = solver.init(term, 0.0 * h, h, y0, rate)
    return jax.lax.fori_loop(0, steps, body, (y0, state, 0.0 * y0))[2]


def main():
    print(f"jax {jax.__version__}, diffrax {diffrax.__version__}, float64")
    print("solver         | classical order | order measured | error   | at -1e5 over at -1e6")
    for solver, steps in SOLVERS:
        coarse, fine, milder = (
            float(largest_error(solver, jnp.array(n), jnp.array(rate)))
            for n, rate in ((steps, 1e6), (2 * steps, 1e6), (steps, 1e5))
        )
        print(
            f"{type(solver).__name__:14} | {solver.tableau.order:15} | {np.log2(coarse / fine):14.2f}"
            f" | {coarse:.1e} | {milder / coarse:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
