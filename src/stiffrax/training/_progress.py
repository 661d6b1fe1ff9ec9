"""A progress bar where somebody looks, silence elsewhere."""

import os
import sys
import types
from typing import Any

# Stands in for a progress bar.
_SILENT = types.SimpleNamespace(
    **dict.fromkeys(("update", "set_postfix_str", "close"), lambda *_: None)
)


def progress_bar(show: bool | None, total: int, description: str) -> Any:
    """A tqdm bar if `show`; if `None`, one on a terminal outside CI where tqdm is installed."""
    if show is None:
        show = sys.stderr.isatty() and not os.environ.get("CI") and _has_tqdm()
    if not show:
        return _SILENT
    if not _has_tqdm():
        raise ValueError(
            "`progress=True` was given, which needs tqdm. Install it with "
            "`pip install 'stiffrax[progress]'`, or write `progress=False`."
        )
    from tqdm import tqdm

    return tqdm(total=total, desc=description, unit="step", leave=False)


def loss_and_gradient(row: Any) -> str:
    """What a bar shows of the last step of a training, from its row of the record."""
    return f"loss {row[0]:.3e}, gradient {row[1]:.1e}"


def _has_tqdm() -> bool:
    import importlib.util

    return importlib.util.find_spec("tqdm") is not None
