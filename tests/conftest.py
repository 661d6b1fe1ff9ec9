import gc
import mmap
import os
from pathlib import Path

import equinox as eqx
import jax
import jaxlib
import pytest

# The package is not imported here: the jaxtyping plugin checks only what is imported after it.
jax.config.update("jax_enable_x64", True)
if "JAX_PLATFORMS" not in os.environ:
    jax.config.update("jax_platforms", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")


def _has_flag(name):
    """Whether this version of XLA knows the flag; it ends the process at one it does not know."""
    for file in Path(jaxlib.__file__).parent.glob("*.so"):
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text,
        ):
            if text.find(name.encode()) >= 0:
                return True
    return False


# Tests are bound by compilation. With the older of its two code generators for the processor XLA
# compiles our programs in two thirds of the time, and without LLVM's optimization in half of that.
# Slow tests run for longer than they compile: they are optimized.
CODE_GENERATOR = ("xla_cpu_use_fusion_emitters", "false")
OPTIMIZATION = ("xla_backend_optimization_level", "0")


def pytest_configure(config):
    flags = [CODE_GENERATOR, OPTIMIZATION][: 2 if "not slow" in config.option.markexpr else 1]
    # XLA reads the variable when first used.
    given = os.environ.get("XLA_FLAGS", "")
    new = [f"--{name}={value}" for name, value in flags if name not in given and _has_flag(name)]
    os.environ["XLA_FLAGS"] = " ".join([given, *new])


def pytest_collection_finish(session):
    # Tracing makes millions of small objects, few of them garbage: to look for it takes a twentieth
    # of the time.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


# Families of tests that compile for long: these cases stand for the family in `make test`, and all
# of them run in `make test-slow`. No case at all: the claim has a cheaper witness as well.
REPRESENTATIVES = {
    # adjoints
    "test_it_is_the_gradient_through_the_steps_taken": ("ts and t0",),
    "test_memory_of_step_starts_only_gives_the_same_gradient": (),
    "test_gradient_is_the_slope_of_the_frozen_step_solve": ("ROBER",),
    "test_gradient_of_an_adaptive_solve_is_that_of_backpropagation": (),
    "test_cotangents_of_end_and_polynomial_are_pulled_to_the_start": ("Trapezoid()",),
    "test_sensitivities_give_the_gradient_of_the_discrete_adjoint": ("3",),
    "test_a_failed_lane_changes_no_other": (),
    "test_under_vmap_a_failed_lane_has_no_gradient_and_the_others_keep_theirs": (),
    "test_slots_never_filled_have_no_part_in_a_gradient": (),
    "test_the_number_of_steps_needs_no_bound": (),
    "test_hessian_vector_products_are_those_of_the_discrete_adjoint": (),
    # contracts
    "test_every_option_gives_the_gradient_of_everything_that_can_be_saved": ("default",),
    "test_methods_with_an_explicit_stage_or_not_stiffly_accurate_have_their_gradient": (),
    "test_continuous_adjoints_give_the_gradient_of_everything_that_can_be_saved": ("GaussAdjoint",),
    "test_gradients_are_those_of_central_differences": ("RadauIIA5", "Trapezoid"),
    "test_gradients_with_given_step_times_are_those_of_central_differences": (),
    "test_first_and_second_derivatives_of_segments_are_those_of_central_differences": (),
    "test_every_way_to_differentiate_gives_the_same_gradient": (),
    "test_the_gradient_of_saved_values_is_that_of_the_collocation_polynomial": (),
    "test_second_derivatives_of_a_solve_are_those_of_central_differences": (),
    "test_stiffness_costs_gradients_no_digits": (),
    "test_hessian_vector_products_are_differences_of_gradients": (),
    "test_a_failed_lane_has_no_gradient_and_changes_no_other": ("full",),
    "test_lanes_of_a_batch_have_the_gradients_they_have_alone": (),
    "test_a_failed_lane_of_a_continuous_adjoint_has_no_gradient_and_changes_no_other": (),
    "test_a_failed_lane_has_the_gradient_nan_by_option": (),
    "test_time_may_run_backward": (),
    # stages
    "test_the_stage_equations_hold_alone_and_in_a_batch": ("2-Radau IIA 5",),
    "test_many_right_hand_sides_of_one_lane_are_solved_with_one_factorization": (),
    # solvers
    "test_batches_of_data_sets_are_predicted_as_each_alone": (),
    "test_predictions_are_steps_by_hand": ("solver0-3", "solver2-1"),
    "test_more_substeps_come_closer_to_the_solution": (),
    "test_the_error_is_of_the_size_of_the_tolerance_or_the_result_says_that_it_failed": (
        "RadauIIA5",
    ),
    "test_tolerances_that_float64_can_hold_are_met_on_hires": ("RadauIIA5", "RadauIIA13"),
    "test_every_adjoint_gives_the_same_gradient": ("implicit-checkpoints",),
    "test_gradients_reach_every_coefficient_and_agree_with_central_differences": (
        "explicit",
        "implicit",
    ),
    # losses, recovery and training
    "test_derivative_of_a_sum_is_the_sum_of_derivatives": (),
    "test_substeps_come_closer_to_the_solution": (),
    "test_the_compressed_residuals_have_the_gauss_newton_model_of_all_residuals": ("5",),
    "test_more_substeps_remove_the_error_of_a_coarse_method": (),
    "test_losses_never_rise": (),
    "test_an_information_criterion_needs_one_run_only": (),
    "test_free_starts_remove_what_noise_at_the_start_does_to_one_step_fits": (),
    "test_one_run_gives_what_it_gives_in_a_batch": (),
    "test_other_solvers_and_adjoints_give_the_same_gradient": (),
    "test_pi_net_is_multiplied_out": ("2-2",),
    "test_known_terms_stay_and_only_learned_ones_are_dropped": (),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        name, _, case = item.name.partition("[")
        if name in REPRESENTATIVES and case.removesuffix("]") not in REPRESENTATIVES[name]:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def jit_with():
    """`jax.jit` with other values of the compiler's options than the flags chosen above.

    For claims about last digits, which depend on the order of operations.
    """

    def jit(function, **options):
        chosen = os.environ["XLA_FLAGS"]
        options = {name: value for name, value in options.items() if name in chosen}
        return jax.jit(function, compiler_options=options or None)

    return jit


@pytest.fixture
def getkey():
    """A function that returns a new random key at each call, the same ones in every run."""
    seed = iter(range(1_000_000))
    return lambda: jax.random.key(next(seed))


@pytest.fixture(autouse=True, scope="module")
def _free_compiled_programs():
    # Compiled programs of a whole run exceed the process's limit on memory maps.
    yield
    eqx.clear_caches()
