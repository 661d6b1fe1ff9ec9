"""What stiffrax knows of diffrax's inside: private names, the loop and its state, terms, reports.

A move to the next version of diffrax touches this folder and nothing else.
"""

from ._counted_loop import counted_loop as counted_loop
from ._enclosing_solve import (
    enclosing_adjoint as enclosing_adjoint,
    enclosing_controller_is_pid as enclosing_controller_is_pid,
    enclosing_event as enclosing_event,
    enclosing_solve_jumps as enclosing_solve_jumps,
    enclosing_solve_throws as enclosing_solve_throws,
    enclosing_solver as enclosing_solver,
    enclosing_steps_are_fixed as enclosing_steps_are_fixed,
    report_is_read as report_is_read,
    takes_report as takes_report,
    traced_once as traced_once,
)
from ._events import (
    close_event as close_event,
    event_mask as event_mask,
    event_value as event_value,
    has_root as has_root,
    stopped_by_event as stopped_by_event,
)
from ._private_names import (
    AdjointTerm as AdjointTerm,
    nondiff_solver_controller_state as nondiff_solver_controller_state,
    use_stepsize_tol as use_stepsize_tol,
)
from ._recorded_loop import (
    Step as Step,
    StepRecord as StepRecord,
    recorded_loop as recorded_loop,
    solve_loop as solve_loop,
    start_of as start_of,
    starting_from as starting_from,
    succeeded as succeeded,
)
from ._save_buffers import (
    SavedValues as SavedValues,
    and_state as and_state,
    only_transpose_saved as only_transpose_saved,
    saved_values as saved_values,
    saved_ys as saved_ys,
    split_fns as split_fns,
    split_states as split_states,
    subs_of as subs_of,
    with_fns as with_fns,
    with_room_for_states as with_room_for_states,
    with_tangents as with_tangents,
)
from ._step_report import (
    ErrorLeaf as ErrorLeaf,
    ReportingNorm as ReportingNorm,
    StepReport as StepReport,
    StepWork as StepWork,
    asks_for_report as asks_for_report,
    plain_norm as plain_norm,
    reporting_norm as reporting_norm,
    scaled_error as scaled_error,
    smallest_step as smallest_step,
)
from ._step_times import (
    StepTimes as StepTimes,
    moving_with as moving_with,
    split_step_to as split_step_to,
    step_times as step_times,
    with_step_to as with_step_to,
)
from ._wrapped_terms import (
    close_terms as close_terms,
    own_methods as own_methods,
    unwrap_term as unwrap_term,
)
