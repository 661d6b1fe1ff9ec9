"""Predictions of runs that the data of a fit do not have, by a model in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._likelihood_model import LikelihoodModel
from stiffrax.training._new_runs import check_runs_known
from stiffrax.training._parameter_vector import ParameterVector

ALL_NAMES = ["a", "b", "c"]


def runs(names, first=1.0):
    values = np.ones((len(names or ALL_NAMES), 2, 1)) * np.array([first, 1.0])[:, None]
    return srx.Measurements.from_arrays([0.0, 1.0], values, names=["A"], run_names=names)


class Start(LikelihoodModel):  # type: ignore
    """Predicts what runs start from, times their gain."""

    def __init__(self, system, data):
        self.vector, self.data = ParameterVector(system), data

    def on(self, data):
        return Start(self.vector.given, data)

    def predict(self, x):
        start = self.vector.system(x).initial_state.unwrap()
        rows = [start[k] if start.ndim == 2 else start for k in self.data.numbers]
        values = jnp.stack(rows)[:, None]
        return srx.Simulation(values, values, values, jnp.zeros(len(rows), bool))


def check(system, fitted, new, acting):
    model = Start(system, fitted)
    check_runs_known(model, model.vector.start, new, np.asarray(acting, float))


def field(t, y, args):
    return -y


BY_ROW = srx.System(field, srx.positive([[1.0], [2.0], [3.0]]), states=["A"])
ALL = runs(ALL_NAMES)


def test_a_run_with_the_number_of_another_is_refused():
    with pytest.raises(ValueError, match="'d' has the number 0, which is that of run 'a'"):
        check(BY_ROW, ALL, runs(["d"]), [1, 1, 1])


def test_of_runs_without_names_what_they_start_from_tells_which_they_are():
    check(BY_ROW, runs(None), runs(None), [1, 1, 1])
    with pytest.raises(ValueError, match="'0' has the number 0, which is that of run '0'"):
        check(BY_ROW, runs(None), runs(None, first=2.0), [1, 1, 1])


def test_a_run_held_out_whose_start_was_not_estimated_is_refused():
    kept, out = ALL.split([2])
    with pytest.raises(ValueError, match=r"'c' depends on one of \['initial_state\[2\]\[0\]'\]"):
        check(BY_ROW, kept, out, [1, 1, 0])


def test_runs_of_the_fit_in_any_selection_are_not():
    check(BY_ROW, ALL, ALL.select(["c", "a"]), [1, 1, 1])
    check(BY_ROW, ALL.split([2])[0], ALL.select(["b"]), [1, 1, 0])


def test_a_run_held_out_with_a_known_start_is_not():
    rows = srx.System(BY_ROW.field, jnp.ones((3, 1)), states=["A"], parameters=srx.positive(1.0))
    kept, out = ALL.split([2])
    check(rows, kept, out, [1])


def test_a_run_of_a_condition_that_leads_to_what_was_not_estimated_is_refused():
    class ByPlate(Start):
        def on(self, data):
            return ByPlate(self.vector.given, data)

        def predict(self, x):
            offset = self.vector.system(x).parameters["offset"].unwrap()
            values = offset[self.data.constants["plate"].astype(int)][:, None, None]
            return srx.Simulation(values, values, values, jnp.zeros(len(values), bool))

    system = srx.System(
        field, jnp.ones(1), states=["A"], parameters={"offset": srx.positive(np.ones(3))}
    )
    data = srx.Measurements.from_arrays(
        [0.0, 1.0], np.ones((3, 2, 1)), names=["A"], constants={"plate": [0.0, 1.0, 2.0]}
    )
    kept, out = data.split([2])
    model = ByPlate(system, kept)
    with pytest.raises(ValueError, match=r"depends on one of \['parameters.offset\[2\]'\]"):
        check_runs_known(model, model.vector.start, out, np.array([1.0, 1.0, 0.0]))
    check_runs_known(model, model.vector.start, data.select([1]), np.array([1.0, 1.0, 0.0]))


class TestByNumber:
    def system(self, **functions):
        parts = {"field": field, "initial_state": srx.positive([1.0])} | functions
        return srx.System(**parts, states=["A"])

    @pytest.mark.parametrize(
        "functions",
        [
            {"field": lambda t, y, args: -jnp.arange(3.0)[args.run] * y},
            {"field": jax.jit(lambda t, y, args: -jnp.arange(3.0)[args.run] * y)},
            {"observe": lambda t, y, args: {"A": jnp.where(args.run == 1, 2, 1) * y[0]}},
            {"initial_state": lambda args: jnp.arange(3.0)[args.run, None]},
            {"initial_state": srx.SteadyState(jnp.ones(1), applies=lambda args: args.run > 0)},
        ],
    )
    def test_functions_that_go_by_it_refuse_a_new_run(self, functions, unchecked_types):
        system = self.system(**functions, parameters={"k": srx.positive(1.0)})
        with pytest.raises(ValueError, match=rf"tells runs apart in \['{next(iter(functions))}'\]"):
            check(system, ALL, runs(["d"]), [1] * len(ParameterVector(system)))

    @pytest.mark.parametrize(
        "functions",
        [
            {},
            {"observe": lambda t, y, args: {"A": 2 * y[0]}},
            {"initial_state": lambda args: jnp.ones(1) * args.start},
            {"initial_state": srx.SteadyState(jnp.ones(1), {"k": 0.0})},
            {"initial_state": srx.SteadyState(jnp.ones(1), applies=lambda args: args.start > 0)},
            # What the new runs lack is said where they are solved.
            {"field": lambda t, y, args: -args["ligand"] * y},
            {"field": jax.jit(lambda t, y, args: -args["k"] * y)},
            {"observe": eqx.filter_jit(lambda t, y, args: {"A": args["k"] * y[0]})},
            {"initial_state": jax.checkpoint(lambda args: args["k"][None])},
        ],
    )
    def test_functions_that_do_not_take_any_run(self, functions, unchecked_types):
        system = self.system(**functions, parameters={"k": srx.positive(1.0)})
        check(system, ALL, runs(["d", "e", "f", "g"]), [1] * len(ParameterVector(system)))


def test_later_rows_of_a_run_of_the_fit_are_not_predicted_from_its_initial_state():
    later = srx.Measurements.from_arrays(
        [0.5, 1.0], np.ones((2, 1)), names=["A"], run_names=["b"], start=0.5
    )
    one = srx.System(field, jnp.ones(1), states=["A"], parameters=srx.positive(1.0))
    with pytest.raises(ValueError, match="'b' starts at 0.5, and at 0 in .* `start=0` where it is"):
        check(one, ALL, later, [1])
    from_first_row = srx.System(field, states=["A"], parameters=srx.positive(1.0))
    check(from_first_row, ALL, later, [1])
