"""Linear systems, dense and sparse: products, inverses, factors, refinement."""

from ._block_elimination import (
    BlockFactors as BlockFactors,
    Blocks as Blocks,
    equations_hold as equations_hold,
    factor_blocks as factor_blocks,
    stacked_columns as stacked_columns,
)
from ._cyclic_reduction import (
    WIDEST_BLOCK as WIDEST_BLOCK,
    factor_shifted_band as factor_shifted_band,
)
from ._dissection import dissect as dissect, dissect_band as dissect_band
from ._lineax_solvers import (
    ITERATIVE as ITERATIVE,
    SmallInverse as SmallInverse,
    library_solve as library_solve,
)
from ._own_derivative import with_derivative as with_derivative
from ._products import (
    largest_of_rows as largest_of_rows,
    largest_size as largest_size,
    library_matmul as library_matmul,
    root_mean_square as root_mean_square,
    short_product as short_product,
    small_matmul as small_matmul,
    stage_sum as stage_sum,
    weighted_sum as weighted_sum,
)
from ._refinement import (
    LARGEST_LEFT as LARGEST_LEFT,
    least_resolved as least_resolved,
    refine as refine,
    units_left as units_left,
)
from ._scaled_inverse import (
    ScaledInverse as ScaledInverse,
    power_of_two as power_of_two,
    scaled_inverse as scaled_inverse,
    scales as scales,
)
from ._small_inverse import (
    looped_inverse as looped_inverse,
    probed_inverse as probed_inverse,
    small_inverse as small_inverse,
    unchecked_inverse as unchecked_inverse,
)
from ._sparse_matrix import (
    Pattern as Pattern,
    SparseMatrix as SparseMatrix,
    factor_shifted_sparse as factor_shifted_sparse,
    factor_sparse as factor_sparse,
    stacked_pattern as stacked_pattern,
)
