"""Does the test suite notice faults? Plants the known faults of faults.py one by one in a copy, builds it, runs the tests.

    python -m tests.mutation                      # all faults; exit status 1 if one is alive
    python -m tests.mutation --only denominator   # those whose name matches
    python -m tests.mutation --resume             # only those not caught yet by an earlier run
    python -m tests.mutation --check              # nothing is built: whether every fault's text is found exactly once
    python -m tests.mutation --write docs/mutation.md

Needs what an editable build needs (CONTRIBUTING.md), and takes about a minute a fault. The sources stay untouched: each of
`--jobs` workers has a copy of its own with its own environment and build directory, below `--scratch`. A fault is first met
with the tests and on the instruction-set levels that it names, and with the whole suite on all levels if it outlives these. A
test that fails, crashes or does not end has caught it. A fault whose text is no longer found in the sources is an error: mend
it when you change the code.
"""

import argparse
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutation.faults import FAULTS

ROOT = Path(__file__).resolve().parents[2]
ALIVE = "**alive**"
MINUTES = 60
CMAKE, LEVELS = "CMakeLists.txt", "set(levels v4 v3 baseline)"


def planted(fault, root=ROOT):
    """The text of the fault's file with the fault in it."""
    text = (root / fault.file).read_text(encoding="utf-8")
    if (count := text.count(fault.old)) != 1:
        raise SystemExit(f"{fault.name}: its text is found {count} times in {fault.file}, expected once:\n{fault.old}")
    return text.replace(fault.old, fault.new)


class Workshop:
    """A copy of the sources with an environment of its own, which sees the packages of this one but not its celoss."""

    def __init__(self, folder):
        # Always afresh: a build directory may hold what was compiled with a fault in it.
        shutil.rmtree(folder, ignore_errors=True)
        self.sources, self.build, environment = folder / "sources", folder / "build", folder / "environment"
        left_out = shutil.ignore_patterns(".git", "build", "dist", "__pycache__", "*.so", ".*_cache", ".hypothesis", ".venv")
        shutil.copytree(ROOT, self.sources, ignore=left_out)
        venv.create(environment, clear=True)
        self.python = next(environment.glob("[bS]*/python*"))
        # Lines of a .pth file are not searched for further .pth files: an editable celoss is not found.
        self.site = next(environment.glob("[lL]ib/**/site-packages"))
        self.site.joinpath("peers.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
        self.path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])  # CMake looks for Cython

    def run(self, *command, timeout):
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            try:
                status = subprocess.run(
                    command, cwd=self.sources, stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, timeout=timeout, env={**os.environ, "PATH": self.path},
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                status = None
            output.seek(0)
            return status, output.read()

    def install(self, levels=None):
        """Build and install: some of the levels only and in half the time, or all as they are."""
        text = (ROOT / CMAKE).read_text(encoding="utf-8")
        assert LEVELS in text, f"the levels of x86-64 are not found in {CMAKE}"
        text = text.replace(LEVELS, f"set(levels {levels})").replace("-O3", "-O1") if levels else text
        if (self.sources / CMAKE).read_text(encoding="utf-8") != text:
            (self.sources / CMAKE).write_text(text, encoding="utf-8")
        commands = [
            [self.python, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--ignore-installed",
             f"-Cbuild-dir={self.build}", "."]
        ]  # fmt: skip
        cache = self.build / "CMakeCache.txt"
        if cache.exists():  # not the first time: the same without the packaging
            cmake = re.search(r"^CMAKE_COMMAND:INTERNAL=(.*)", cache.read_text(), re.M)[1]
            commands = [[cmake, "--build", self.build], [cmake, "--install", self.build, "--prefix", self.site]]
            for file in (self.sources / "src" / "celoss").glob("*.py"):
                shutil.copyfile(file, self.site / "celoss" / file.name)
        for command in commands:
            status, output = self.run(*command, timeout=30 * MINUTES)
            if status != 0:
                raise SystemExit(f"the build failed\n{output}")

    def first_failure(self, names, timeout):
        """The first test of these files, or file::test, that fails, and how (none: of all); None where all pass."""
        # test_bits.py compares hashes of results with recorded ones: it would catch all that changes a bit, and hide that no
        # test knows what is right.
        whole = ["tests", "--ignore=tests/test_bits.py"]
        tests = [re.sub(r"^(\w+)", r"tests/\1.py", name) for name in names] or whole
        status, output = self.run(
            self.python, "-m", "pytest", "-x", "-v", "--tb=no", "-p", "no:cacheprovider", *tests, timeout=timeout
        )
        if status == 0:
            return None
        if failed := re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", output, re.M):
            return failed[1].removeprefix("tests/")
        begun = re.findall(r"^tests/(\S+::.*?)(?: (?:PASSED|SKIPPED|XFAIL|Fatal).*)?$", output, re.M)
        if begun:
            return f"{begun[-1].strip()} ({'does not end' if status is None else 'crash'})"
        raise SystemExit(f"pytest ended with {status}\n{output}")

    def verdict(self, fault, quick):
        """The test that catches the fault."""
        at = self.sources / fault.file
        whole = at.read_text(encoding="utf-8")
        try:
            at.write_text(planted(fault, self.sources), encoding="utf-8")
            self.install(fault.levels)
            caught = self.first_failure(fault.tests.split(), 20 * MINUTES)
            if caught is None and not quick:
                self.install()
                caught = self.first_failure([], 90 * MINUTES)
            return caught
        finally:
            at.write_text(whole, encoding="utf-8")


def table(verdicts):
    """The faults in their order, as Markdown."""
    yield "| fault | file | caught by |\n|---|---|---|"
    for fault in FAULTS:
        if fault.name in verdicts:
            caught = verdicts[fault.name]
            yield f"| {fault.name} | `{fault.file.removeprefix('src/')}` | {f'`{caught}`' if caught else ALIVE} |"


def write(page, rows):
    """Replace the table of a page."""
    text = page.read_text(encoding="utf-8")
    page.write_text(re.sub(r"\| fault \|.*?(?=\n\n|\n?\Z)", lambda _: rows, text, count=1, flags=re.S), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="faults whose name matches")
    parser.add_argument("--resume", action="store_true", help="leave out what an earlier run has seen caught")
    parser.add_argument("--check", action="store_true", help="only look whether every fault's text is found exactly once")
    parser.add_argument("--quick", action="store_true", help="only the tests that a fault names, not the whole suite")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    parser.add_argument("--jobs", type=int, default=2, help="how many copies work beside each other (default: 2)")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "celoss-mutation")
    options = parser.parse_args()

    for fault in FAULTS:
        planted(fault)
        for name in fault.tests.split():
            file, _, test = name.partition("::")
            text = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
            assert f"def {test}" in text, f"{fault.name}: there is no test {name}"
    assert len({fault.name for fault in FAULTS}) == len(FAULTS), "two faults have the same name"
    if options.check:
        print(f"{len(FAULTS)} faults, each found exactly once")
        return 0

    if hasattr(os, "nice"):
        os.nice(10)
    options.scratch.mkdir(parents=True, exist_ok=True)
    record = options.scratch / "verdicts.json"
    verdicts = json.loads(record.read_text()) if options.resume and record.exists() else {}
    chosen = [f for f in FAULTS if re.search(options.only, f.name) and not verdicts.get(f.name)]
    chosen.sort(key=lambda fault: (fault.levels, fault.file))  # a build compiles what has changed

    if not chosen:
        raise SystemExit("no fault is left to plant")
    workshops = queue.SimpleQueue()
    for number in range(max(1, min(options.jobs, len(chosen)))):
        workshops.put(Workshop(options.scratch / str(number)))
    if not options.resume:
        shop = workshops.get()
        shop.install(chosen[0].levels)
        if red := shop.first_failure(sorted({name for fault in chosen for name in fault.tests.split()}), 90 * MINUTES):
            raise SystemExit(f"{red} fails without any fault")
        workshops.put(shop)

    def judge(fault):
        shop = workshops.get()
        try:
            verdicts[fault.name] = shop.verdict(fault, options.quick)
        finally:
            workshops.put(shop)
        record.write_text(json.dumps(verdicts, indent=1))
        print(f"{fault.name}: {verdicts[fault.name] or ALIVE}", flush=True)

    with ThreadPoolExecutor(workshops.qsize()) as pool:
        list(pool.map(judge, chosen))

    rows = "\n".join(table(verdicts))
    print(rows)
    if options.write:
        write(options.write, rows)
    return int(any(caught is None for caught in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
