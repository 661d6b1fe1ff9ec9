"""What a solve did, and why; what gradients cost; how chaotic a system is."""

from ._compare_adjoints import (
    AdjointComparison as AdjointComparison,
    AdjointRow as AdjointRow,
    compare_adjoints as compare_adjoints,
)
from ._estimate_jacobians import estimate_jacobians as estimate_jacobians
from ._explain import explain as explain
from ._lyapunov_spectrum import (
    LyapunovSpectrum as LyapunovSpectrum,
    kaplan_yorke_dimension as kaplan_yorke_dimension,
    lyapunov_spectrum as lyapunov_spectrum,
)
from ._method_report import MethodReport as MethodReport, method_report as method_report
