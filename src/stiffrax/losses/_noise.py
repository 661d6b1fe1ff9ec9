"""Noise models: how measurements are distributed around what is predicted."""

import abc
import math
from typing import Any, ClassVar, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import check_positive
from .._trees import euclidean_norm


@final
class NoiseTerms(NamedTuple):
    r"""The negative log-likelihood of measurements, and what Fisher scoring needs of it.

    **Attributes:**

    - `cost`: negative log-likelihood of each measurement.
    - `by_value`, `by_spread`: its derivatives by the prediction and by $\log \sigma$, each over the
        square root of the Fisher information `value_rows` and `spread_rows` squared.
    - `value_rows`: square root of the information on the prediction.
    - `spread_rows`: that on $\log \sigma$.
    """

    cost: Float[Array, "..."]
    by_value: Float[Array, "..."]
    value_rows: Float[Array, "..."]
    by_spread: Float[Array, "..."]
    spread_rows: Float[Array, "..."]


class AbstractNoise(eqx.Module):
    r"""How a measurement $x$ is distributed around its prediction $\hat x$, with scale $\sigma$.

    $$-\log p(x) = \rho(z) + \log \sigma + \log |g'(x)|^{-1}, \qquad
      z = \frac{g(x) - g(\hat x)}{\sigma}$$

    with `g` the identity, or the logarithm, `on_logarithms`. $\sigma$ is the `sd` as given: a standard
    deviation if $z$ has the variance one. A subclass defines `rho`, `slope` and
    `information`, as in [this example](../own_method.md#another-noise), and `best_spread` where a
    formula gives the spread that fits residuals best. All but `information` are elementwise, for
    arrays of any shape, and differentiable.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> print(f"{srx.NormalNoise().cost(1.0, 1.0, 1.0):.4f}")  # log(2 pi) / 2
    0.9189

    ```
    """

    @property
    def on_logarithms(self) -> bool:
        """Whether `g` is the logarithm."""
        return False

    @abc.abstractmethod
    def rho(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        r"""$\rho(z)$, with the constant by which $e^{-\rho}$ has the integral one."""

    @abc.abstractmethod
    def slope(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        r"""$\rho'(z)$, of the shape of `z`."""

    @abc.abstractmethod
    def information(self) -> tuple[float, float]:
        r"""Fisher informations of the prediction, in units of sigma, and of $\log \sigma$.

        **Returns:** the means of $\rho'(z)^2$ and of $(1 - z \rho'(z))^2$ under the density, both
        positive: two numbers.
        """

    def best_spread(
        self, residual: Float[Array, "..."], mask: Any, axis: Any
    ) -> Float[Array, "..."]:
        r"""The $\sigma$ under which residuals $g(x) - g(\hat x)$ are most likely.

        **Arguments:**

        - `residual`: finite also where nothing was measured.
        - `mask`: true where it counts, of the shape of `residual`.
        - `axis`: the axes, a number or a tuple, over which one spread is shared.

        **Returns:** an array without these axes, zero where nothing counts.

        **Raises:** `ValueError` where no formula gives it.
        """
        del residual, mask, axis
        raise ValueError(
            f"{type(self).__name__} cannot estimate the standard deviation of its noise by a "
            "formula. Give it as `System(..., sd=...)`, for example "
            "`sd={'A': srx.positive(0.1, 1e-3, 10.0)}` to estimate it as a parameter."
        )

    def residual(self, measured: Any, predicted: Any) -> Float[Array, "..."]:
        r"""$g(x) - g(\hat x)$."""
        if self.on_logarithms:
            return jnp.log(measured) - jnp.log(predicted)
        return jnp.asarray(measured) - predicted

    def cost(self, measured: Any, predicted: Any, sd: Any) -> Float[Array, "..."]:
        """The negative log-likelihood of each measurement.

        **Raises:** `ValueError` where `rho` does not return one number for each residual.
        """
        z = self.residual(measured, predicted) / sd
        jacobian = jnp.log(measured) if self.on_logarithms else 0.0
        return self._of_each("rho", z) + jnp.log(sd) + jacobian

    def _of_each(self, name: str, z: Array) -> Array:
        """What a function of a subclass returns; a sum would count for every residual."""
        found = getattr(self, name)(z)
        if jnp.shape(found) != jnp.shape(z):
            raise ValueError(
                f"`{name}` of {type(self).__name__} returns shape {jnp.shape(found)} for residuals of "
                f"shape {jnp.shape(z)}; it needs one number for each."
            )
        return found

    def terms(self, measured: Any, predicted: Any, sd: Any) -> NoiseTerms:
        """The cost of each measurement with its derivatives and informations.

        **Raises:** `ValueError` where `slope` does not return one number for each residual.
        """
        z = self.residual(measured, predicted) / sd
        slope, (of_value, of_spread) = self._of_each("slope", z), self.information()
        inner = 1 / predicted if self.on_logarithms else jnp.ones_like(predicted)
        value_rows = math.sqrt(of_value) * inner / sd
        return NoiseTerms(
            cost=self.cost(measured, predicted, sd),
            by_value=-slope / math.sqrt(of_value),
            value_rows=value_rows,
            by_spread=(1 - slope * z) / math.sqrt(of_spread),
            spread_rows=jnp.full_like(predicted, math.sqrt(of_spread)),
        )


_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class AbstractGaussianNoise(AbstractNoise):
    """Noise that is normal, of the measurement or of its logarithm."""

    def rho(self, z: Array) -> Array:
        """`z^2 / 2`, normalized."""
        return z**2 / 2 + _HALF_LOG_2PI

    def slope(self, z: Array) -> Array:
        """`z`."""
        return z

    def information(self) -> tuple[float, float]:
        """The information on the value, and on the logarithm of the spread."""
        return 1.0, 2.0

    def best_spread(self, residual: Any, mask: Any, axis: Any) -> Array:
        """The root mean square."""
        size = euclidean_norm(jnp.where(mask, residual, 0), axis)
        return size / jnp.sqrt(_count(mask, axis, size))


@final
class NormalNoise(AbstractGaussianNoise):
    r"""Normal noise: $x = \hat x + \sigma e$ with $e$ normal.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> print(f"{srx.NormalNoise().cost(3.0, 1.0, 1.0):.4f}")  # 2^2 / 2 + log(2 pi) / 2
    2.9189

    ```
    """


@final
class LogNormalNoise(AbstractGaussianNoise):
    r"""Log-normal noise: $\log x = \log \hat x + \sigma e$ with $e$ normal.

    $\sigma$ is a relative spread: 0.1 is about ten percent. So is a standard deviation of the system;
    those of data are in the unit of their column, and divided by the measurement. Measurements and
    predictions are positive.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> print(f"{srx.LogNormalNoise().cost(1.0, 1.0, 0.1):.4f}")
    -1.3836

    ```
    """

    on_logarithms: ClassVar[bool] = True


@final
class LaplaceNoise(AbstractNoise):
    r"""Laplace noise, $p(x) \propto e^{-\sqrt 2 |x - \hat x| / \sigma}$: outliers count less.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> print(f"{srx.LaplaceNoise().cost(1.0, 1.0, 1.0):.4f}")  # log(2) / 2
    0.3466

    ```
    """

    def rho(self, z: Array) -> Array:
        """`sqrt(2) |z|`, normalized."""
        return math.sqrt(2) * jnp.abs(z) + 0.5 * math.log(2)

    def slope(self, z: Array) -> Array:
        """`sqrt(2) sign(z)`."""
        return math.sqrt(2) * jnp.sign(z)

    def information(self) -> tuple[float, float]:
        """Two and one."""
        return 2.0, 1.0

    def best_spread(self, residual: Any, mask: Any, axis: Any) -> Array:
        """`sqrt(2)` times the mean absolute residual."""
        total = jnp.sum(jnp.where(mask, jnp.abs(residual), 0), axis=axis)
        return math.sqrt(2) * total / _count(mask, axis, total)


@final
class StudentNoise(AbstractNoise):
    r"""Student's t noise with `df` degrees of freedom: single outliers hardly count.

    $\sigma$, also that of data, is the scale of the distribution, not its standard deviation, which
    is infinite for `df` up to two.

    **Arguments:**

    - `df`: degrees of freedom, above zero.

    **Raises:** `ValueError` for others.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> print(f"{srx.StudentNoise(1.0).cost(0.0, 0.0, 1.0):.4f}")  # log(pi)
    1.1447

    ```
    """

    df: float = eqx.field(static=True, default=4.0)

    def __check_init__(self):
        check_positive("df", self.df, write="StudentNoise(4.0)")

    def rho(self, z: Array) -> Array:
        """`(df + 1) / 2 log(1 + z^2 / df)`, normalized."""
        from scipy.special import betaln

        df = self.df
        # A difference of two logarithms of the gamma function would lose its digits.
        constant = float(betaln(df / 2, 0.5)) + 0.5 * math.log(df)
        return (df + 1) / 2 * jnp.log1p(z**2 / df) + constant

    def slope(self, z: Array) -> Array:
        """`(df + 1) z / (df + z^2)`."""
        return (self.df + 1) * z / (self.df + z**2)

    def information(self) -> tuple[float, float]:
        """`(df + 1) / (df + 3)` and `2 df / (df + 3)`."""
        return (self.df + 1) / (self.df + 3), 2 * self.df / (self.df + 3)


def _count(mask: Any, axis: Any, like: Array) -> Array:
    return jnp.maximum(jnp.sum(mask, axis=axis), 1).astype(like.dtype)
