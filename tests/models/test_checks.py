"""What models refuse of their own arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

NETWORK = srx.ReactionNetwork(["A -> B", "B -> A"], rates=[1.0, 2.0])
PI_NET = srx.PiNet(2, width=2, degree=2, key=jax.random.key(0))
MODELS = [NETWORK, NETWORK.to_polynomial(), PI_NET]
USES = [lambda model: model(0.0, jnp.ones(2)), srx.to_sympy, srx.to_reactions]
TEXTS = [str, lambda model: model.kept(), srx.to_mhchem, lambda model: model.to_polynomial()]


@pytest.mark.parametrize(
    ("model", "use"),
    [(model, use) for model in MODELS for use in USES] + [(NETWORK, use) for use in TEXTS],
)
def test_a_stack_of_models_is_not_taken_for_one(model, use):
    def stacked(count):
        return jax.tree.map(lambda x: jnp.stack(count * [x]), model)

    for count in (2, 3):
        with pytest.raises(ValueError, match=rf"The model is a stack of {count}\. Take one"):
            use(stacked(count))
    lanes = jax.vmap(lambda one: one(0.0, jnp.ones(2)))(stacked(2))
    np.testing.assert_allclose(lanes[1], model(0.0, jnp.ones(2)), rtol=1e-12)
