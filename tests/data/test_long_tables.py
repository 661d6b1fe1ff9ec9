"""Tables with one row a measurement, as instruments and colleagues write them."""

import numpy as np
import pytest

import stiffrax as srx

LONG = (
    "time,species,value,condition,sd\n0,A,1.0,hot,0.1\n0,B,0.5,hot,0.2\n2,A,0.6,hot,0.1\n"
    "2,A,0.7,hot,0.1\n1,B,0.9,cold,0.2\n"
)


def test_one_row_a_measurement_is_read_where_that_is_said(written):
    path = written(LONG)
    data = srx.Measurements.from_csv(path, long=("species", "value"), run="condition", sd="sd")
    assert (data.run_names, data.names) == (("hot", "cold"), ("A", "B"))
    np.testing.assert_array_equal(data.ts[0], [0, 2, 2])
    np.testing.assert_array_equal(data.values[0], [[1.0, 0.5], [0.6, 0], [0.7, 0]])
    np.testing.assert_array_equal(data.mask[0], [[True, True], [True, False], [True, False]])
    np.testing.assert_array_equal(data.sd[0], [[0.1, 0.2], [0.1, 0], [0.1, 0]])
    assert data.mask[1].tolist() == [[False, True], [False, False], [False, False]]


@pytest.mark.parametrize(
    ("value", "species"), [("value [mM]", "A"), ("value", "A [mM]")], ids=["column", "name"]
)
def test_standard_deviations_in_another_unit_are_refused(written, value, species):
    path = written(f"time,species,{value},sd [uM]\n0,{species},1,50\n1,{species},2,50\n")
    with pytest.raises(
        ValueError, match="'A' of .* is in mM and its standard dev.*, 'A sd', in uM"
    ):
        srx.Measurements.from_csv(path, long=("species", "value"), sd="sd")
    data = srx.Measurements.from_csv(path, long=("species", "value"), ignore=["sd"])
    assert data.units == ("mM",)


def test_one_row_a_measurement_is_recognized(written):
    with pytest.raises(
        ValueError, match=r"Write `long=\('species', 'value'\), run='condition', sd='sd'`"
    ):
        srx.Measurements.from_csv(written(LONG))


@pytest.mark.parametrize(
    "cells", ["IL-6 p-Erk", "IL-6[pg/mL] p-Erk(AU)"], ids=["names", "names with units"]
)
def test_variables_of_one_row_a_measurement_are_renamed(written, cells):
    a, b = cells.split()
    path = written(f"time,species,value\n0,{a},1\n0,{b},2\n1,{a},3\n")
    with pytest.raises(ValueError, match=r"Write `rename=\{'IL-6': 'IL_6'\}`"):
        srx.Measurements.from_csv(path, long=("species", "value"))
    data = srx.Measurements.from_csv(
        path, long=("species", "value"), rename={"IL-6": "IL_6", b: "p_Erk"}
    )
    assert data.names == ("IL_6", "p_Erk")
    assert data.units == (("pg/mL", "AU") if "[" in a else ("", ""))
    with pytest.raises(ValueError, match=r"`rename` has 'IL-8', .*column 'species'"):
        srx.Measurements.from_csv(path, long=("species", "value"), rename={"IL-8": "x"})


def test_columns_that_do_not_exist_are_named_beside_those_that_do(written):
    path = written("time,species,value\n0,A,1\n0,B,2\n")
    with pytest.raises(ValueError, match=r"`columns` names 'a', .* it has \['time', 'A', 'B'\]"):
        srx.Measurements.from_csv(path, long=("species", "value"), columns=["a"])


def test_two_variables_of_one_name_are_told_apart(written):
    path = written("time,species,value\n0,A [mM],1\n0,A [uM],2\n")
    with pytest.raises(ValueError, match=r"both of which would be 'A'. Write `rename=\{'A \[uM\]'"):
        srx.Measurements.from_csv(path, long=("species", "value"))


def test_one_row_a_measurement_is_named_by_two_columns(written):
    path = written("time,species,value\n0,A,1\n")
    for long in ("species", ("species",)):
        with pytest.raises(ValueError, match=r"as in `long=\('species', 'value'\)`"):
            srx.Measurements.from_csv(path, long=long)


def test_a_variable_does_not_take_the_place_of_a_column(written):
    path = written("time,species,value,T\n0,A,1,300\n0,T,2,300\n")
    with pytest.raises(ValueError, match="has 'T' in column 'species' and as the name of a column"):
        srx.Measurements.from_csv(path, long=("species", "value"))


def test_a_variable_that_is_ignored_is_no_column(written):
    path = written("time,species,value,sd\n0,A [mM],1,1\n0,B,many,?\n1,B,2,1\n1,A [mM],3,1\n")
    options = {"long": ("species", "value"), "sd": "sd"}
    data = srx.Measurements.from_csv(path, ignore=["B"], **options)
    assert (data.names, data.units) == (("A",), ("mM",))
    np.testing.assert_array_equal(data.values[0, :, 0], [1, 3])
    with pytest.raises(
        ValueError, match=r"`ignore` leaves out all that column 'species' of .*: leave"
    ):
        srx.Measurements.from_csv(path, ignore=["A", "B"], **options)


def test_of_two_variables_of_one_name_one_may_be_ignored(written):
    path = written("time,species,value\n0,A [mM],1\n0,A [uM],2\n0,A [uM],2\n")
    data = srx.Measurements.from_csv(path, long=("species", "value"), ignore=["A [uM]"])
    assert (data.units, data.values.tolist()) == (("mM",), [[[1.0]]])
