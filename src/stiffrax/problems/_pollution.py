"""Pollution: 20 species and 25 reactions of air chemistry."""

from ._problem import Problem

_RATES = (
    *(0.35, 26.6, 1.23e4, 8.6e-4, 8.2e-4, 1.5e4, 1.3e-4, 2.4e4, 1.65e4, 9e3, 2.2e-2, 1.2e4, 1.88),
    *(1.63e4, 4.8e6, 3.5e-4, 1.75e-2, 1e8, 4.44e11, 1.24e3, 2.1, 5.78, 4.74e-2, 1.78e3, 3.12),
)

_NAMES = (
    *("NO2", "NO", "O3P", "O3", "HO2", "OH", "HCHO", "CO", "ALD", "MEO2", "C2O3", "CO2", "PAN"),
    *("CH3O", "HNO3", "O1D", "SO2", "SO4", "NO3", "N2O5"),
)


def _components(t, y, args):
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
    y0 = dict.fromkeys(_NAMES, 0.0)
    y0 |= {"NO": 0.2, "O3": 0.04, "HCHO": 0.1, "CO": 0.3, "ALD": 0.01, "SO2": 0.007}
    return Problem(
        "POLLU",
        _components,
        y0=tuple(y0.values()),
        t1=60.0,
        names=_NAMES,
        args=_RATES,
        reference=((60.0, _END),),
    )


_END = (
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
