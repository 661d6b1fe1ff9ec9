"""Published Rosenbrock methods.

Their authors found the coefficients by searches of their own, and printed them: unlike those of
collocation they cannot be computed here. Tests hold them to the order conditions.
"""

import functools

import numpy as np

from ._rosenbrock_tableau import RosenbrockTableau


def _lower(rows: list[list[float]], size: int) -> np.ndarray:
    matrix = np.zeros((size, size))
    for i, row in enumerate(rows):
        matrix[i, : len(row)] = row
    return matrix


def _rodas(
    name: str,
    order: int,
    gamma: float,
    a: list[list[float]],
    C: list[list[float]],
    c: list[float],
    d: list[float],
    dense: list[list[float]],
    embedded: list[float],
    dense_embedded: list[float] | None = None,
) -> RosenbrockTableau:
    """A method whose last stage, added to where it is taken, is the end of the step.

    The dense output is `theta (y1 - y0) + theta (1 - theta) (H_1 + theta H_2 + theta^2 H_3) U`,
    and `embedded` are the weights of the solution that the end is compared with; its own dense
    output, `dense_embedded` for `H_1` alone, is compared in the middle of the step.
    """
    s = len(c)
    A = _lower(a, s)
    m = A[-1] + np.eye(s)[-1]
    H = np.zeros((len(dense), s))
    for row, values in zip(H, dense, strict=True):
        row[: len(values)] = values
    powers = np.zeros((len(H) + 1, s))
    powers[0] = m
    powers[:-1] += H
    powers[1:] -= H
    e, inside = m - np.array(embedded), None
    if dense_embedded is not None:
        inside = e / 2 + (H.T @ 0.5 ** np.arange(len(H)) - dense_embedded) / 4
    return RosenbrockTableau(
        name=name,
        order=order,
        error_order=order,
        gamma=gamma,
        A=A,
        C=_lower(C, s),
        c=np.array(c),
        d=np.array(d),
        m=m,
        e=e,
        polynomial=np.ascontiguousarray(powers.T),
        stiffly_accurate=True,
        e_inside=inside,
    )


@functools.cache
def rosenbrock23() -> RosenbrockTableau:
    """Rosenbrock's method of order 2 with an estimate of order 3, of Shampine and Reichelt.

    **Returns:** the tableau, shared by everything that uses it.

    ??? cite "Reference"
        Shampine and Reichelt, *The MATLAB ODE suite*, SIAM Journal on Scientific Computing 18 (1997).

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.rosenbrock23().num_stages
    3

    ```
    """
    gamma, weight = 1 / (2 + np.sqrt(2)), 6 + np.sqrt(2)
    alpha = np.array([[0, 0, 0], [0.5, 0, 0], [0, 1, 0]])
    couplings = gamma * np.array([[1, 0, 0], [-1, 1, 0], [weight - 2, -weight, 1]])
    b, estimate = np.array([0, 1, 0]), np.array([1, -2, 1]) / 6
    slope = np.array([[1, -1], [-2 * gamma, 1], [0, 0]]) / (1 - 2 * gamma)
    inverse = np.linalg.inv(couplings)
    return RosenbrockTableau(
        name="Rosenbrock23",
        order=2,
        error_order=3,
        gamma=float(gamma),
        A=np.tril(alpha @ inverse, -1),
        C=np.tril(np.eye(3) / gamma - inverse, -1),
        c=alpha.sum(axis=1),
        d=np.array([gamma, 0, -gamma]),
        m=b @ inverse,
        e=estimate @ inverse,
        polynomial=inverse.T @ slope,
        stiffly_accurate=False,
    )


@functools.cache
def rodas3p() -> RosenbrockTableau:
    """Rodas3P: order 3 in five stages, and on semi-discretized parabolic problems.

    Its embedded solution shares the error of components that follow slow ones, of HIRES up to 300
    tolerances; what sees it is the dense output of that solution.

    **Returns:** the tableau, shared by everything that uses it.

    ??? cite "Reference"
        Steinebach, *Rosenbrock methods within OrdinaryDiffEq.jl: overview, recent developments and
        applications* (2024).

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.rodas3p().num_stages
    5

    ```
    """
    end = [2.90625, 3.375, 0.40625]
    return _rodas(
        "Rodas3P",
        3,
        1 / 3,
        a=[[], [4 / 3], [], end, end],
        C=[
            [],
            [-4.0],
            [8.25, 6.75],
            [1.21875, -5.0625, -1.96875],
            [4.03125, -15.1875, -4.03125, 6.0],
        ],
        c=[0.0, 4 / 9, 0.0, 1.0, 1.0],
        d=[1 / 3, -1 / 9, 1.0, 0.0, 0.0],
        dense=[
            [1.78125, 6.75, 0.15625, -6.0, -1.0],
            [4.21875, -15.1875, -3.09375, 9.0, 0.0],
        ],
        embedded=[*end, 1.0, 0.0],
        dense_embedded=[4.21875, -2.025, -1.63125, -1.7, -0.1],
    )


@functools.cache
def rodas4p() -> RosenbrockTableau:
    """Rodas4P: order 4 in six stages, and on semi-discretized parabolic problems.

    **Returns:** the tableau, shared by everything that uses it.

    ??? cite "Reference"
        Steinebach, *Order-reduction of ROW-methods for DAEs and method of lines applications*, preprint
        1741, TH Darmstadt (1995).

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.rodas4p().num_stages
    6

    ```
    """
    end = [-7.170454962423024, -4.741636671481785, -16.31002631330971, -1.062004044111401]
    return _rodas(
        "Rodas4P",
        4,
        0.25,
        a=[
            [],
            [3.0],
            [1.831036793486759, 0.4955183967433795],
            [2.304376582692669, -0.05249275245743001, -1.176798761832782],
            end,
            [*end, 1.0],
        ],
        C=[
            [],
            [-12.0],
            [-8.791795173947035, -2.207865586973518],
            [10.81793056857153, 6.780270611428266, 19.53485944642410],
            [34.19095006749676, 15.49671153725963, 54.74760875964130, 14.16005392148534],
            [
                34.62605830930532,
                15.30084976114473,
                56.99955578662667,
                18.40807009793095,
                -5.714285714285717,
            ],
        ],
        c=[0.0, 0.75, 0.21, 0.63, 1.0, 1.0],
        d=[0.25, -0.5, -0.023504, -0.0362, 0.0, 0.0],
        dense=[
            [25.09876703708589, 11.62013104361867, 28.49148307714626, -5.664021568594133],
            [
                1.638054557396973,
                -0.7373619806678748,
                8.477918219238990,
                15.99253148779520,
                -1.882352941176471,
            ],
        ],
        embedded=[*end, 1.0, 0.0],
    )


_END_5P = [
    -7.502846399306121,
    2.561846144803919,
    -11.627539656261098,
    -0.18268767659942256,
    0.030198172008377946,
]
_A_5P = [
    [],
    [3.0],
    [2.849394379747939, 0.45842242204463923],
    [-6.954028509809101, 2.489845061869568, -10.358996098473584],
    [2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641],
    _END_5P,
    [*_END_5P, 1.0],
    [*_END_5P, 1.0, 1.0],
]
_C_5P = [
    [],
    [-14.155112264123755],
    [-17.97296035885952, -2.859693295451294],
    [147.12150275711716, -1.41221402718213, 71.68940251302358],
    [165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306],
    [
        24.854864614690072,
        -3.0009227002832186,
        47.4931110020768,
        5.5814197821558125,
        -0.6610691825249471,
    ],
    [
        30.91273214028599,
        -3.1208243349937974,
        77.79954646070892,
        34.28646028294783,
        -19.097331116725623,
        -28.087943162872662,
    ],
    [
        37.80277123390563,
        -3.2571969029072276,
        112.26918849496327,
        66.9347231244047,
        -40.06618937091002,
        -54.66780262877968,
        -9.48861652309627,
    ],
]
_ABSCISSAE_5P = [
    0.0,
    0.6358126895828704,
    0.4095798393397535,
    0.9769306725060716,
    0.4288403609558664,
    1.0,
    1.0,
    1.0,
]
_TIME_5P = [
    0.21193756319429014,
    -0.42387512638858027,
    -0.3384627126235924,
    1.8046452872882734,
    2.325825639765069,
    0.0,
    0.0,
    0.0,
]
_DENSE_5P = [
    [
        25.948786856663858,
        -2.5579724845846235,
        10.433815404888879,
        -2.3679251022685204,
        0.524948541321073,
        1.1241088310450404,
        0.4272876194431874,
        -0.17202221070155493,
    ],
    [
        -9.91568850695171,
        -0.9689944594115154,
        3.0438037242978453,
        -24.495224566215796,
        20.176138334709044,
        15.98066361424651,
        -6.789040303419874,
        -6.710236069923372,
    ],
    [
        11.419903575922262,
        2.8879645146136994,
        72.92137995996029,
        80.12511834622643,
        -52.072871366152654,
        -59.78993625266729,
        -0.15582684282751913,
        4.883087185713722,
    ],
]


@functools.cache
def rodas5p() -> RosenbrockTableau:
    """Rodas5P: order 5 in eight stages, and order 4 on semi-discretized parabolic problems.

    **Returns:** the tableau, shared by everything that uses it.

    ??? cite "Reference"
        Steinebach, *Construction of Rosenbrock-Wanner method Rodas5P and numerical benchmarks within
        the Julia Differential Equations package*, BIT Numerical Mathematics 63 (2023).

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.rodas5p().num_stages
    8

    ```
    """
    return _rodas(
        "Rodas5P",
        5,
        0.21193756319429014,
        a=_A_5P,
        C=_C_5P,
        c=_ABSCISSAE_5P,
        d=_TIME_5P,
        dense=_DENSE_5P,
        embedded=[*_END_5P, 1.0, 1.0, 0.0],
    )
