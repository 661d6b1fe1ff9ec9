"""What must work where only the wheel is installed: run by `make wheel-test`, not by pytest."""

import importlib.metadata
import importlib.resources
import pathlib
import sys
import tempfile

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)


def installed():
    """The package is that of the wheel, with its types, and without what is optional."""
    home = pathlib.Path(srx.__file__)
    assert "site-packages" in home.parts, home
    assert srx.__version__ == importlib.metadata.version("stiffrax")
    assert importlib.resources.files("stiffrax").joinpath("py.typed").is_file()
    try:
        srx.plots.stability_region({"Radau": srx.tableaus.radau_iia(2)})
    except ValueError as error:
        assert "pip install 'stiffrax[plots]'" in str(error)  # noqa: PT017
    else:
        assert "matplotlib" in sys.modules


def solved():
    """A stiff solve, and its gradient."""

    def end(rate):
        term = diffrax.ODETerm(lambda t, y, args: -rate * (y - jnp.cos(t)))
        controller = srx.PredictiveController(rtol=1e-8, atol=1e-10)
        return diffrax.diffeqsolve(
            term,
            srx.RadauIIA5(),
            0.0,
            1.0,
            None,
            jnp.array(1.0),
            stepsize_controller=controller,
            adjoint=srx.DiscreteAdjoint(),
        ).ys[-1]

    value, gradient = jax.value_and_grad(end)(1000.0)
    assert abs(value - 0.541143) < 1e-5
    assert np.isfinite(gradient)


def recovered():
    """Data from a file, a fit, and its equation."""
    ts = np.linspace(0.0, 1.0, 9)
    data = srx.Trajectories.from_arrays(ts, np.exp(-3 * ts)[:, None], names=["c"])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "data.csv")
        data.to_csv(path)
        data = srx.Trajectories.from_csv(path)
    fit = srx.fit_least_squares(srx.Polynomial(1, degree=1), data, srx.RadauIIA5())
    equations = srx.to_sympy(fit.model, data.names, digits=3, threshold=1e-6)
    assert srx.to_text(equations, data.names) == "dc/dt = -3*c", equations


if __name__ == "__main__":
    installed()
    solved()
    recovered()
    print(f"stiffrax {srx.__version__}: the wheel works")  # noqa: T201
