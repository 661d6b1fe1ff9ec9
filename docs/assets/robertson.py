"""Draws robertson.svg, the picture of the README: the figure of the first example.

Run it from anywhere: `python docs/assets/robertson.py`.
"""

import pathlib
import runpy

import matplotlib as mpl

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLE = HERE.parents[1] / "examples" / "01_robertson.py"

mpl.use("agg")
# Text as text, and names that do not change from run to run: a small file with small differences.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "stiffrax"})
figure = runpy.run_path(str(EXAMPLE))["figure"]
figure.savefig(HERE / "robertson.svg", metadata={"Date": None, "Creator": None})
