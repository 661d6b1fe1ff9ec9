"""Chemical reactions, fast and slow ones far apart."""

import numpy as np
from jaxtyping import Float

from ._problem import Problem

_ROBERTSON_RATES = (0.04, 3e7, 1e4)


def _robertson_components(t, y, args):
    del t
    y1, y2, y3 = y
    k1, k2, k3 = args
    return (
        -k1 * y1 + k3 * y2 * y3,
        k1 * y1 - k3 * y2 * y3 - k2 * y2**2,
        k2 * y2**2,
    )


def _robertson_dae_components(t, y, args):
    y1, y2, y3 = y
    return (*_robertson_components(t, y, args)[:2], y1 + y2 + y3 - 1)


def robertson() -> Problem:
    """ROBER: `y1 -> y2` (k1), `2 y2 -> y2 + y3` (k2), `y2 + y3 -> y1 + y3` (k3); the sum is 1.

    **Returns:** `Problem` of 3 states, t from 0 to 1e11, with known values from t = 0.4 on; `args`
    are the rates `(k1, k2, k3) = (0.04, 3e7, 1e4)`.

    Source: Robertson, The solution of a set of reaction rate equations (1966).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.robertson().true_equations()["y2"]
    0.04*y1 - 30000000.0*y2**2 - 10000.0*y2*y3

    ```
    """
    return Problem(
        "ROBER",
        _robertson_components,
        y0=(1.0, 0.0, 0.0),
        t1=1e11,
        args=_ROBERTSON_RATES,
        reference=_ROBERTSON_REFERENCE,
    )


def robertson_dae() -> Problem:
    """ROBER of index 1: `0 = y1 + y2 + y3 - 1` in place of the third equation.

    **Returns:** `Problem` as `robertson`, with mass matrix diag(1, 1, 0) and the same solution.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.robertson_dae().true_equations()["y3"]
    Eq(0, y1 + y2 + y3 - 1)

    ```
    """
    return Problem(
        "ROBER as DAE",
        _robertson_dae_components,
        y0=(1.0, 0.0, 0.0),
        t1=1e11,
        args=_ROBERTSON_RATES,
        mass=np.diag([1.0, 1.0, 0.0]),
        reference=_ROBERTSON_REFERENCE,
    )


_ROBERTSON_REFERENCE = (
    (0.4, (0.9851721138609899, 3.386395378974904e-5, 0.01479402218522039)),
    (4.0, (0.9055186785842539, 2.240475687560201e-5, 0.09445891665887049)),
    (40.0, (0.715827068719405, 9.185534764557764e-6, 0.28416374574583037)),
    (100.0, (0.6172348823960877, 6.153591274639123e-6, 0.3827589640126376)),
    (400.0, (0.45051866847110245, 3.2229014416746115e-6, 0.5494781086274559)),
    (4e3, (0.18320225777670932, 8.94237125277591e-7, 0.8167968479861654)),
    (4e4, (0.03898337708548285, 1.6217683159096825e-7, 0.9610164607376855)),
    (1e5, (0.017865921142099464, 7.274751468436319e-8, 0.9821340061103858)),
    (4e5, (0.004938274520979815, 1.9849940879543756e-8, 0.9950617056290793)),
    (4e6, (0.0005168096014924384, 2.0682944912244536e-9, 0.9994831883302131)),
    (4e7, (5.2030718441205475e-5, 2.0813357318925326e-10, 0.9999479690734252)),
    (4e8, (5.207702103573173e-6, 2.0830915594153648e-11, 0.9999947922770656)),
    (4e9, (5.208276611435935e-7, 2.083311716604572e-12, 0.9999994791702556)),
    (4e10, (5.208345176799239e-8, 2.083338177925489e-13, 0.99999994791634)),
    (1e11, (2.083340149701294e-8, 8.333360770334784e-14, 0.9999999791665152)),
)


def _oregonator_components(t, y, args):
    del t
    y1, y2, y3 = y
    s, q, w = args
    return (
        s * (y2 + y1 * (1 - q * y1 - y2)),
        (y3 - (1 + y1) * y2) / s,
        w * (y1 - y3),
    )


def oregonator() -> Problem:
    """OREGO, the Field-Noyes model of the Belousov-Zhabotinskii reaction.

    **Returns:** `Problem` of 3 states, t from 0 to 360; `args` is
    `(s, q, w) = (77.27, 8.375e-6, 0.161)`.

    Source: the Bari test set for initial value problem solvers.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.oregonator()
    Problem(OREGO, n=3, t from 0 to 360)

    ```
    """
    return Problem(
        "OREGO",
        _oregonator_components,
        y0=(1.0, 2.0, 3.0),
        t1=360.0,
        args=(77.27, 8.375e-6, 0.161),
        reference=(
            (30.0, (1.0006614671804968, 1512.7789373482503, 10358.543127672276)),
            (360.0, (1.0008148703185227, 1228.178521549888, 132.05549428465082)),
        ),
    )


def _hires_components(t, y, args):
    del t, args
    y1, y2, y3, y4, y5, y6, y7, y8 = y
    return (
        -1.71 * y1 + 0.43 * y2 + 8.32 * y3 + 0.0007,
        1.71 * y1 - 8.75 * y2,
        -10.03 * y3 + 0.43 * y4 + 0.035 * y5,
        8.32 * y2 + 1.71 * y3 - 1.12 * y4,
        -1.745 * y5 + 0.43 * y6 + 0.43 * y7,
        -280.0 * y6 * y8 + 0.69 * y4 + 1.71 * y5 - 0.43 * y6 + 0.69 * y7,
        280.0 * y6 * y8 - 1.81 * y7,
        -280.0 * y6 * y8 + 1.81 * y7,
    )


def hires() -> Problem:
    """HIRES, Schaefer's model of plant light response; `y7 + y8` is conserved.

    **Returns:** `Problem` of 8 states, t from 0 to 321.8122.

    Source: the Bari test set for initial value problem solvers.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.hires().true_equations()["y8"]
    -280.0*y6*y8 + 1.81*y7

    ```
    """
    return Problem(
        "HIRES",
        _hires_components,
        y0=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057),
        t1=321.8122,
        reference=(
            (
                5.0,
                (
                    0.031651675704569275,
                    0.006481549531058165,
                    0.004583451064747285,
                    0.08974323273518033,
                    0.16245145375265563,
                    0.6850438961444316,
                    0.005646700341920548,
                    5.329965807945244e-5,
                ),
            ),
            (
                321.8122,
                (
                    0.7371312573325668e-3,
                    0.1442485726316185e-3,
                    0.5888729740967575e-4,
                    0.1175651343283149e-2,
                    0.2386356198831331e-2,
                    0.6238968252742796e-2,
                    0.2849998395185769e-2,
                    0.2850001604814231e-2,
                ),
            ),
        ),
    )


def hires_initial_states() -> Float[np.ndarray, "20 8"]:
    """Twenty starts for learning HIRES from data: an exact Latin hypercube of 20 strata.

    The ranges are [0.1, 1.5] for y1, [0, 1] for y2 to y7 and [0.0005, 0.05] for y8; the paper does
    not print them, these are the round ones that its numbers fit.

    **Returns:** `Float[ndarray, "20 8"]`, one start a row.

    Source: Fronk and Petzold, Training stiff neural ordinary differential equations with implicit
    single-step methods (2024), Table 7.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.hires_initial_states().shape
    (20, 8)

    ```
    """
    return np.array(_HIRES_STARTS)


_HIRES_STARTS = (
    (0.412503, 0.906411, 0.412933, 0.213609, 0.064925, 0.293734, 0.739312, 0.043381),
    (0.378101, 0.391340, 0.156641, 0.503148, 0.817612, 0.433931, 0.191203, 0.007282),
    (0.153447, 0.071013, 0.257224, 0.455062, 0.594616, 0.367467, 0.079906, 0.047136),
    (1.366815, 0.236463, 0.873612, 0.893106, 0.150143, 0.115366, 0.968644, 0.000806),
    (1.464978, 0.993025, 0.537866, 0.611333, 0.113295, 0.245616, 0.548675, 0.009430),
    (0.174331, 0.570303, 0.497073, 0.406965, 0.047271, 0.616831, 0.686488, 0.012478),
    (0.677526, 0.659252, 0.589131, 0.925035, 0.517411, 0.966685, 0.301191, 0.029454),
    (0.574262, 0.329074, 0.033387, 0.339584, 0.992378, 0.006706, 0.446191, 0.022913),
    (1.065735, 0.518636, 0.758506, 0.998593, 0.455977, 0.483815, 0.030678, 0.004377),
    (0.638101, 0.703107, 0.846135, 0.816864, 0.216076, 0.860064, 0.613366, 0.019588),
    (1.158734, 0.012780, 0.326158, 0.561438, 0.609144, 0.518287, 0.352820, 0.034432),
    (0.949418, 0.460502, 0.961568, 0.157100, 0.282788, 0.075279, 0.806771, 0.040494),
    (1.321282, 0.269435, 0.720024, 0.122634, 0.679448, 0.838694, 0.291664, 0.025704),
    (0.802005, 0.760407, 0.901060, 0.000216, 0.427964, 0.304100, 0.116146, 0.031622),
    (0.486976, 0.815268, 0.606734, 0.081858, 0.338174, 0.582653, 0.571258, 0.014153),
    (0.792132, 0.410891, 0.392693, 0.374081, 0.764888, 0.188351, 0.923021, 0.035935),
    (1.234614, 0.605145, 0.671905, 0.660786, 0.899778, 0.751559, 0.237024, 0.015888),
    (1.082288, 0.150662, 0.070913, 0.270047, 0.362950, 0.731098, 0.485404, 0.049797),
    (0.302551, 0.136653, 0.118964, 0.763691, 0.746139, 0.900857, 0.791212, 0.022706),
    (0.895915, 0.886628, 0.236694, 0.705427, 0.934826, 0.652669, 0.889384, 0.038102),
)

_POLLUTION_RATES = (
    *(0.35, 26.6, 1.23e4, 8.6e-4, 8.2e-4, 1.5e4, 1.3e-4, 2.4e4, 1.65e4, 9e3, 2.2e-2, 1.2e4, 1.88),
    *(1.63e4, 4.8e6, 3.5e-4, 1.75e-2, 1e8, 4.44e11, 1.24e3, 2.1, 5.78, 4.74e-2, 1.78e3, 3.12),
)

_POLLUTANTS = (
    *("NO2", "NO", "O3P", "O3", "HO2", "OH", "HCHO", "CO", "ALD", "MEO2", "C2O3", "CO2", "PAN"),
    *("CH3O", "HNO3", "O1D", "SO2", "SO4", "NO3", "N2O5"),
)


def _pollution_components(t, y, args):
    del t
    y1, y2, y3, y4, y5, y6, y7, _, y9, y10, y11, _, y13, y14, _, y16, y17, _, y19, y20 = y
    reactants = (
        *(y1, y2 * y4, y5 * y2, y7, y7, y7 * y6, y9, y9 * y6, y11 * y2, y11 * y1, y13, y10 * y2),
        *(y14, y1 * y6, y3, y4, y4, y16, y16, y17 * y6, y19, y19, y1 * y4, y19 * y1, y20),
    )
    # The leading 0 makes r[1] the first reaction, as in the literature.
    r = (0, *(k * x for k, x in zip(args, reactants, strict=True)))
    return (
        -r[1] - r[10] - r[14] - r[23] - r[24] + r[2] + r[3] + r[9] + r[11] + r[12] + r[22] + r[25],
        -r[2] - r[3] - r[9] - r[12] + r[1] + r[21],
        -r[15] + r[1] + r[17] + r[19] + r[22],
        -r[2] - r[16] - r[17] - r[23] + r[15],
        -r[3] + 2 * r[4] + r[6] + r[7] + r[13] + r[20],
        -r[6] - r[8] - r[14] - r[20] + r[3] + 2 * r[18],
        -r[4] - r[5] - r[6] + r[13],
        r[4] + r[5] + r[6] + r[7],
        -r[7] - r[8],
        -r[12] + r[7] + r[9],
        -r[9] - r[10] + r[8] + r[11],
        r[9],
        -r[11] + r[10],
        -r[13] + r[12],
        r[14],
        -r[18] - r[19] + r[16],
        -r[20],
        r[20],
        -r[21] - r[22] - r[24] + r[23] + r[25],
        -r[25] + r[24],
    )


def pollution() -> Problem:
    """POLLU, a mass-action model of air pollution; rates from 1e-4 to 4e11.

    `O1D` ends at 4e-18: ask an absolute tolerance far below that, or leave it out of relative
    comparisons.

    **Returns:** `Problem` of 20 states named by species, t from 0 to 60; `args` are the 25 rates.

    Source: Verwer, Gauss-Seidel iteration for stiff ODEs from chemical kinetics (1994), as in the
    Bari test set.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.pollution().true_equations()["HNO3"]
    16300.0*NO2*OH

    ```
    """
    y0 = dict.fromkeys(_POLLUTANTS, 0.0)
    y0 |= {"NO": 0.2, "O3": 0.04, "HCHO": 0.1, "CO": 0.3, "ALD": 0.01, "SO2": 0.007}
    return Problem(
        "POLLU",
        _pollution_components,
        y0=tuple(y0.values()),
        t1=60.0,
        names=_POLLUTANTS,
        args=_POLLUTION_RATES,
        reference=((60.0, _POLLUTION_END),),
    )


_POLLUTION_END = (
    0.5646255480022769e-1,
    0.1342484130422339,
    0.4139734331099427e-8,
    0.5523140207484359e-2,
    0.2018977262302196e-6,
    0.1464541863493966e-6,
    0.7784249118997964e-1,
    0.3245075353396018,
    0.7494013383880406e-2,
    0.1622293157301561e-7,
    0.1135863833257075e-7,
    0.2230505975721359e-2,
    0.2087162882798630e-3,
    0.1396921016840158e-4,
    0.8964884856898295e-2,
    0.4352846369330103e-17,
    0.6899219696263405e-2,
    0.1007803037365946e-3,
    0.1772146513969984e-5,
    0.5682943292316392e-4,
)
