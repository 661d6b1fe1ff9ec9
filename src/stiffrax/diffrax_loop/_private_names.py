"""The names stiffrax needs from diffrax that diffrax does not export: the only such file."""

import copyreg

from diffrax import _adjoint
from diffrax._integrate import SaveState as SaveState, loop as loop
from diffrax._root_finder import use_stepsize_tol as use_stepsize_tol
from diffrax._saveat import save_y as save_y
from diffrax._term import AdjointTerm as AdjointTerm, WrapTerm as WrapTerm

inner_loop = _adjoint._inner_loop
outer_loop = _adjoint._outer_loop
nondiff_solver_controller_state = _adjoint._nondiff_solver_controller_state

# diffrax tells open tolerances by the identity of this one object: a copy must hold the same one.
copyreg.pickle(type(use_stepsize_tol), lambda _: "use_stepsize_tol")
