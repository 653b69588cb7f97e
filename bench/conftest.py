"""How the suite is run, and what is recorded with every number.

    pytest bench --benchmark-only                        all shapes, all peers, all threads
    pytest bench --benchmark-only -k 8192x1000           one shape
    pytest bench --benchmark-only --threads 1            one core

The threads are one choice per process, made here before any peer is imported.
"""

import sys
from pathlib import Path

import pytest

# The suite is not installed; whatever pytest's import mode, its own folder is found this way.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import machine


def pytest_addoption(parser):
    group = parser.getgroup("bench")
    group.addoption(
        "--threads", choices=("1", "all"), default="all",
        help="1: held to one core before anything is imported; all: every core allowed (default)",
    )  # fmt: skip
    group.addoption(
        "--budget", type=float, default=1.0, metavar="SECONDS",
        help="time spent on one benchmark, after its warm-up (default 1)",
    )  # fmt: skip


def pytest_configure(config):
    if config.getoption("benchmark_only"):  # wins over the --benchmark-disable of the ordinary tests
        config.option.benchmark_enable = True
    config.bench_threads = machine.use_threads(config.getoption("--threads"))


@pytest.fixture(scope="session", autouse=True)
def release_build():
    try:
        machine.build_config()
    except SystemExit as refusal:
        pytest.exit(str(refusal), returncode=2)


@pytest.fixture(scope="session")
def n_threads(pytestconfig) -> int:
    return pytestconfig.bench_threads


@pytest.fixture(scope="session")
def budget(pytestconfig) -> float:
    return pytestconfig.getoption("--budget")


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.pop("node", None)  # the host's name
    machine_info.update(machine.record(config.bench_threads))
