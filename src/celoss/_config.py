"""What this installation is and how many threads it uses."""

from __future__ import annotations

import importlib.metadata
import math
import operator
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from celoss import _kernels
from celoss._kernels import MOST_THREADS

__all__ = ["get_num_threads", "set_num_threads", "show_config"]

__version__ = importlib.metadata.version("celoss")


def set_num_threads(n: int) -> None:
    """Use at most `n` threads, the calling one among them.

    Results do not depend on it. The default is ``CELOSS_NUM_THREADS`` where that is set, else the number of CPUs that
    this process may use (affinity mask and cgroup quota).

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        For what is no integer, or below 1.

    Examples
    --------
    >>> import celoss
    >>> before = celoss.get_num_threads()
    >>> celoss.set_num_threads(1)
    >>> celoss.get_num_threads()
    1
    >>> celoss.set_num_threads(before)
    """
    try:
        number = operator.index(n)
    except TypeError:
        raise TypeError(f"the number of threads must be an integer, got {n!r}") from None
    if number < 1:
        raise ValueError(f"the number of threads must be at least 1, got {number}")
    _kernels.set_thread_limit(min(number, MOST_THREADS))


def get_num_threads() -> int:
    """Tell how many threads a call uses at most.

    Returns
    -------
    int
        At least 1.

    See Also
    --------
    set_num_threads : Where the number comes from.

    Examples
    --------
    >>> import celoss
    >>> celoss.get_num_threads() >= 1
    True
    """
    return int(_kernels.get_thread_limit())


def _cgroup_quota() -> float:
    """CPUs granted by the control group of this process; infinity where none is set."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text()
        period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def default_num_threads() -> int:
    """``CELOSS_NUM_THREADS``, else the CPUs that this process may use."""
    asked = os.environ.get("CELOSS_NUM_THREADS", "").strip()
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ImportError(f"CELOSS_NUM_THREADS={asked!r} is not a positive integer")
        return min(int(asked), MOST_THREADS)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, math.ceil(_cgroup_quota()) if _cgroup_quota() < math.inf else allowed))


def default_kept_bytes() -> int:
    """How much memory of freed results is kept: an eighth of the machine's. 0 by ``CELOSS_KEEP_RESULTS=0``, and on Windows."""
    asked = os.environ.get("CELOSS_KEEP_RESULTS", "").strip()
    if asked not in ("", "0", "1"):
        raise ImportError(f"CELOSS_KEEP_RESULTS={asked!r} is neither 0 nor 1")
    if asked == "0" or "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return 0
    return max(0, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8)


def kept_results() -> str:
    """How much memory of freed results is kept, and how much may be."""
    most = _kernels.most_kept_bytes()
    return f"{_kernels.kept_bytes() >> 20} MiB of at most {most >> 20} MiB" if most else "off"


def build_config() -> dict[str, Any]:
    """What `show_config` prints, as a dict."""
    levels = _kernels.levels()
    return {
        "version": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        **_kernels.build(),
        "levels_built": [name for name, _ in levels],
        "levels_runnable": [name for name, runs in levels if runs],
        "level": _kernels.level(),
        "threads": get_num_threads(),
        "kept_results": kept_results(),
    }


def show_config() -> None:
    """Print versions, compiler, instruction-set levels, threads and memory: the first lines of a report about celoss.

    Examples
    --------
    >>> import celoss
    >>> celoss.show_config()  # doctest: +ELLIPSIS
    version          ...
    """
    for key, value in build_config().items():
        print(f"{key:<16} {', '.join(value) if isinstance(value, list) else value}")


_kernels.set_thread_limit(default_num_threads())
_kernels.keep_results(default_kept_bytes(), os.environ.get("NUMPY_MADVISE_HUGEPAGE") != "0")
