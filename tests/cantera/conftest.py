"""Small mechanisms: written for Cantera, and a stand-in for where Cantera is not installed."""

import importlib
from types import SimpleNamespace as Plain
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def ct() -> Any:
    """The package cantera; tests that need it are skipped without it.

    By the name of a module in it: this folder is found under its own name too.
    """
    pytest.importorskip("cantera.composite")
    return importlib.import_module("cantera")


@pytest.fixture
def air(ct):
    """Hydrogen and air at 1200 K."""
    gas = ct.Solution("h2o2.yaml")
    gas.TPX = 1200, 2e5, "H2:2, O2:1, N2:3.76"
    return gas


@pytest.fixture
def with_reactions(ct):
    """A gas with the species of `h2o2.yaml` and reactions of one's own."""

    def make(reactions):
        head = "units: {length: cm, quantity: mol, activation-energy: cal/mol}\nphases:\n"
        head += "- {name: gas, thermo: ideal-gas, kinetics: gas, reactions: all,\n"
        head += "   skip-undeclared-third-bodies: true,\n"
        head += "   species: [{h2o2.yaml/species: all}]}\nreactions:\n"
        return ct.Solution(yaml=head + reactions)

    return make


class NasaPoly2:
    """Constant heat capacities: 2.5 R for every species, and heats of formation."""

    def __init__(self, heat, entropy):
        low = high = [2.5, 0.0, 0.0, 0.0, 0.0, heat, entropy]
        self.coeffs = np.array([1000.0, *high, *low])


@pytest.fixture
def stand_in():
    """What is read of a Cantera solution, for `A <=> 2 B` with `k = 3 T exp(-1000 R / R T)`."""

    def make(multiplier=1.0, molecules=2):
        R = 8314.46261815324
        rate = Plain(
            pre_exponential_factor=3.0, temperature_exponent=1.0, activation_energy=1e3 * R
        )
        reaction = Plain(
            equation=f"A <=> {molecules} B",
            reaction_type="Arrhenius",
            rate=rate,
            reactants={"A": 1.0},
            products={"B": float(molecules)},
            orders={},
            reversible=True,
            third_body=None,
        )
        species = [
            Plain(name="A", thermo=NasaPoly2(-500.0, 1.0)),
            Plain(name="B", thermo=NasaPoly2(200.0, 2.0)),
        ]
        return Plain(
            name="stand-in",
            thermo_model="ideal-gas",
            species_names=["A", "B"],
            species=lambda: species,
            reactions=lambda: [reaction],
            multiplier=lambda i: multiplier,
            molecular_weights=np.array([4.0, 2.0]),
            reference_pressure=1e5,
            density_mass=0.5,
            P=2e5,
            T=900.0,
            Y=np.array([0.75, 0.25]),
        )

    return make
