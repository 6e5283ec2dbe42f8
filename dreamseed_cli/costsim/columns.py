"""Many scenarios at once: every figure of the cost model is one number, or a column with one number a draw.

The model is written once. Its arithmetic takes both: a Scenario of columns and a PriceBook whose
amounts are columns give columns, and these hold to the last digit what each draw's own would give. Types name
the one number. Figures by the hour have the hours first: a column then meets each hour as a number does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]


def plain(figure: Any) -> Any:
    """Numpy's number as Python's own; a column as it is."""
    return figure if np.ndim(figure) else figure.item()


def each(function: Callable[..., Any], *values: Any) -> Any:
    """The function of single values; if some are columns, the column of its results, draw by draw."""
    for value in values:
        if isinstance(value, np.ndarray):
            return np.frompyfunc(function, len(values), 1)(*values)
    return function(*values)


def always(condition: Any) -> bool:
    """Whether it holds, in every draw of a column."""
    return bool(condition.all() if isinstance(condition, np.ndarray) else condition)


def ever(condition: Any) -> bool:
    """Whether it holds, in any draw of a column."""
    return bool(condition.any() if isinstance(condition, np.ndarray) else condition)
