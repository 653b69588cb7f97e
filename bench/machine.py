"""What ran: processor, threads, build, versions; and how a process is held to its threads.

Must be imported, and ``use_threads`` called, before anything that makes threads of its own (NumPy's
BLAS, PyTorch, XLA). Names the kind of machine, never the machine: no host name, no user, no path.
"""

import os
import re
from functools import cache
from importlib import metadata

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "jax", "jaxlib", "optax", "ml_dtypes", "pytest-benchmark")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CELOSS_NUM_THREADS")


def available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(which: str) -> int:
    """Hold this process and its children to one thread ("1"), or leave it all ("all"); the count.

    One thread means one core: XLA has no setting for its threads and asks the affinity mask.
    """
    if which == "1":
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        return 1
    if which != "all":
        raise ValueError(f"threads are '1' or 'all', not {which!r}")
    return available_cores()


def build_config() -> dict:
    """How celoss was built and what it chose here; refuses a build whose times mean nothing."""
    try:
        from celoss._config import build_config
    except ImportError as error:
        raise SystemExit(f"celoss is not installed ({error}); try: pip install .") from None
    config = dict(build_config())
    if config["build_type"] != "Release":
        raise SystemExit(f"celoss is a {config['build_type']} build; benchmarks need Release")
    return config


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


@cache
def processor() -> dict:
    import cpuinfo  # comes with pytest-benchmark

    info = cpuinfo.get_cpu_info()
    return {
        "processor": info.get("brand_raw", "unknown"),
        "architecture": info.get("arch", "unknown"),
        "L2 cache": info.get("l2_cache_size", "unknown"),
        "L3 cache": info.get("l3_cache_size", "unknown"),
        "python": info.get("python_version", "unknown"),
    }


def record(threads: int) -> dict:
    """Everything that a number measured here must be read with."""
    return {
        **processor(),
        "cores": available_cores(),
        "threads": threads,
        "celoss": build_config(),
        "versions": versions(),
    }


def name() -> str:
    """A folder name for this kind of machine and, where it is not the best one, the level: ``amd-epyc-9b14-2-cores-v3``."""
    words = re.sub(r"\(\w+\)|@.*|\b(cpu|processor)\b", " ", processor()["processor"].lower())
    slug = re.sub(r"[^a-z0-9]+", "-", words).strip("-")
    celoss = build_config()
    level = "" if celoss["level"] == celoss["levels_runnable"][0] else f"-{celoss['level']}"
    return f"{slug}-{available_cores()}-cores{level}"
