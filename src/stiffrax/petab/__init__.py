"""Problems in PEtab's format: a model in SBML, measurements and their conditions, in files.

Needs the package `petab`: `pip install 'stiffrax[petab]'`.
"""

from ._parameters import Prior as Prior
from ._problem import Problem as Problem, load as load
