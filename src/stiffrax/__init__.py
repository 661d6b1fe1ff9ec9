"""stiffrax: solvers, adjoints and losses for stiff and chaotic equations that plug into diffrax.

The public names stand in `__init__.pyi`, once, for type checkers and for loading on first use.
"""

from importlib.metadata import version as _version

import lazy_loader as _lazy_loader

__getattr__, __dir__, __all__ = _lazy_loader.attach_stub(__name__, __file__)

__version__ = _version("stiffrax")
