"""Where the field of M y' = f would be taken for the rate of change."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax._mass_models import check_no_mass


def decay(t, y, args):
    return -y


CONSTRAINED = srx.ConstrainedField(
    lambda t, y, args: -y[:1], lambda t, y, args: jnp.sum(y) - 1, num_states=2
)


@pytest.mark.parametrize(
    "model",
    [
        CONSTRAINED,
        srx.System(decay, mass=np.array([1.0, 0.0])),
        srx.System(CONSTRAINED),
        srx.ScaledField(CONSTRAINED, np.ones(2), 1.0),
    ],
    ids=["constraints", "mass", "system of constraints", "part"],
)
def test_a_mass_is_found_wherever_it_is(model):
    ts, ys = jnp.linspace(0, 1, 4)[None], jnp.ones((1, 4, 2))
    with pytest.raises(ValueError, match="`model` is of the form M y' = f"):
        srx.segment_predictions(model, ts, ys)


def test_a_system_without_a_mass_is_a_model():
    check_no_mass("it", srx.System(decay))


@pytest.mark.parametrize(
    "make",
    [
        lambda: srx.PartiallyKnown(CONSTRAINED, srx.Polynomial(2, 1)),
        lambda: srx.PartiallyKnown(decay, CONSTRAINED, num_states=2),
        lambda: srx.ConstrainedField(CONSTRAINED, decay, num_states=3),
    ],
    ids=["known", "learned", "learned under constraints"],
)
def test_constraints_are_no_part_that_is_added(make):
    with pytest.raises(ValueError, match="is of the form M y' = f"):
        make()


class Around(eqx.Module):
    inner: srx.ConstrainedField | srx.System

    def __call__(self, t, y, args):
        return self.inner(t, y, args)


@pytest.mark.parametrize("inner", [CONSTRAINED, srx.System(decay, mass=np.array([1.0, 0.0]))])
def test_a_system_of_a_field_that_holds_a_mass_needs_it(inner):
    with pytest.raises(
        ValueError, match="`field` is of the form M y' = f.* Give `mass=` beside it"
    ):
        srx.System(Around(inner))
    assert srx.System(Around(inner), mass=inner.mass).mass is not None
