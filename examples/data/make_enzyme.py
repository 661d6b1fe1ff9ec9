"""Writes enzyme.csv: eight runs of an enzyme that turns a substrate into a product.

`E + S <-> C -> E + P` with the rates 50, 2 and 1: the complex C is filled within some hundredths of
a second and emptied over ten. Every run has 40 times, the first at 0 and the others spaced evenly in
their logarithm from 1e-3 on, and six digits.

Run it from anywhere: `python examples/data/make_enzyme.py`.
"""

import pathlib

import numpy as np
from scipy.integrate import solve_ivp

import stiffrax as srx

BIND, LEAVE, TURN = 50.0, 2.0, 1.0


def rates(t, y):
    substrate, enzyme, complex_, _ = y
    bound, left, turned = BIND * enzyme * substrate, LEAVE * complex_, TURN * complex_
    return np.array([left - bound, left + turned - bound, bound - left - turned, turned])


def main():
    """Solves the runs from random mixtures and writes the file beside this script."""
    rng = np.random.default_rng(0)
    ts = np.append(0.0, np.geomspace(1e-3, 10.0, 39))
    starts = rng.uniform([0.5, 0.2, 0.0, 0.0], [2.0, 1.0, 0.5, 0.5], size=(8, 4))
    options = {"method": "Radau", "rtol": 1e-10, "atol": 1e-12, "t_eval": ts}
    ys = [solve_ivp(rates, (0.0, 10.0), y0, **options).y.T.round(6) for y0 in starts]
    data = srx.Trajectories.from_arrays(ts, np.stack(ys), names=("S", "E", "C", "P"))
    path = pathlib.Path(__file__).with_name("enzyme.csv")
    data.to_csv(path)
    print(f"{path.name}: {data}")


if __name__ == "__main__":
    main()
