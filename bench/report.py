"""Run the whole suite and write ``bench/results/<machine>/report.md`` with its pictures.

    python -m bench.report                      everything: half an hour
    python -m bench.report --only speed-1       some parts, minutes each; the report is written once all parts are there
    python -m bench.report --quick              a smoke run: few rounds, no compiled peer, no large shapes
    python -m bench.report --redraw             tables and pictures again, from the numbers already there
    CELOSS_LEVEL=v3 python -m bench.report      another level, into ``results/<machine>-v3/``

Every part runs in a process of its own, since the number of threads is one choice per process. Its numbers stay beside the
report as ``<part>.json``; those of ``speed`` and ``family`` are files of pytest-benchmark.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench import (
    accuracy,
    against_itself,
    against_memory,
    against_peers,
    cases,
    family,
    fresh_processes,
    heads,
    limits,
    machine,
    peers,
    pictures,
    usual,
)
from bench.ratios import Row

BENCH = Path(__file__).resolve().parent
THREADS = ("1", "all")
QUICK = "not compile and not 128256 and not 32000 and not 16777216"


def benchmarks(file: str, threads: str) -> tuple[str, ...]:
    return (
        "pytest", f"bench/{file}.py", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "--benchmark-only",
        "--benchmark-columns=median,iqr,rounds,iterations", "--budget=0.5", "--threads", threads,
    )  # fmt: skip


def ratios(threads: str, *sections) -> tuple[str, ...]:
    return "bench.targets", "--threads", threads, "--only", *(section.__name__ for section in sections)


# What a module is run with. Peers are met with all threads and with one; all else runs as it is used.
BENCHMARKS = {
    **{f"speed-{threads}": benchmarks("test_bench_cross_entropy", threads) for threads in THREADS},
    **{f"family-{threads}": benchmarks("test_bench_family", threads) for threads in THREADS},
}
TARGETS = {
    "targets-peers-all": ratios("all", against_peers.latency, against_peers.usual, against_peers.speed),
    "targets-peers-1": ratios("1", against_peers.speed),
    "targets-memory": ratios("all", *against_memory.SECTIONS),
    "targets-itself": ratios("all", *against_itself.SECTIONS),
    "targets-processes": ratios("all", *fresh_processes.SECTIONS),
    "targets-heads": ratios("all", *heads.SECTIONS),
    **{f"targets-family-{threads}": ratios(threads, against_peers.family) for threads in THREADS[::-1]},
}
PARTS = {**BENCHMARKS, "accuracy": ("bench.accuracy",), **TARGETS}


def measure(part: str, path: Path, quick: bool) -> None:
    command = ["-m", *PARTS[part], "--benchmark-json" if part in BENCHMARKS else "--json", str(path)]
    if quick and part in BENCHMARKS:
        command += ["-k", QUICK, "--budget=0.05"]
    elif quick and part in TARGETS:
        command += ["--quick"]
    print("$ python", *command, flush=True)
    code = subprocess.run([sys.executable, *command], cwd=BENCH.parent, check=False).returncode
    if code and not (code == 1 and part in BENCHMARKS):  # 1 of pytest: a benchmark ran and its answer was wrong
        raise SystemExit(f"{part} did not run (exit code {code})")
    if part in BENCHMARKS:
        without_rounds(path)


def without_rounds(path: Path) -> None:
    """Keep the statistics, drop the single rounds and parameters that are no JSON: what ``pytest-benchmark compare`` needs."""
    saved = json.loads(path.read_text(encoding="utf-8"))
    for benchmark in saved["benchmarks"]:
        benchmark["stats"].pop("data", None)
        params = benchmark["params"] or {}
        benchmark["params"] = {name: value for name, value in params.items() if not str(value).startswith("UNSERIALIZABLE")}
    path.write_text(json.dumps(saved, indent=1), encoding="utf-8")


def load(folder: Path, part: str) -> dict:
    return json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))


def load_speed(folder: Path) -> dict:
    """``speed[threads][kind][case][name]``: median seconds."""
    speed = {}
    for part in BENCHMARKS:
        kinds = speed.setdefault(part.partition("-")[2], {})
        for benchmark in load(folder, part)["benchmarks"]:
            about = benchmark["extra_info"]
            if "ns_per_logit" in about:
                cells = kinds.setdefault(about["kind"], {}).setdefault(about["case"], {})
                cells[about["name"]] = benchmark["stats"]["median"]
    return speed


# --- tables ------------------------------------------------------------------------------------


def table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def machine_table(found: dict) -> str:
    celoss, versions = found["celoss"], found["versions"]
    lines = [
        ["processor", f"{found['processor']} ({found['architecture']})"],
        ["cores", f"{found['cores']}; one thread is held to one of them, all threads are one for each"],
        ["caches", f"L2 {_size(found['L2 cache'])}, L3 {_size(found['L3 cache'])}"],
        ["celoss", f"{celoss['version']}, level {celoss['level']}, {celoss['build_type']} build"],
        ["compiler", str(celoss["compiler"])],
        ["Python", found["python"]],
        *([package, version] for package, version in versions.items()),
    ]
    return table(["what", "which"], lines)


def _size(size) -> str:
    return f"{size / 2**20:g} MiB" if isinstance(size, int) else str(size)


def shapes_of(kinds: dict) -> list[cases.Case]:
    return [case for case in cases.SPEED if str(case) in kinds["shape"]]


def ns(seconds: float | None, case: cases.Case) -> str:
    return "" if seconds is None else f"{1e9 * seconds / case.size:.3g}"


def speed_table(kinds: dict, errors: dict) -> str:
    """Speed and accuracy of a peer in one row: neither is worth much without the other."""
    shapes = shapes_of(kinds)
    lines = []
    for peer in peers.ALL:
        cells = [ns(kinds["shape"][str(case)].get(peer.name), case) for case in shapes]
        if not any(cells):
            continue
        own = peers.CELOSS if peer in peers.OWN else peer
        ulps = [accuracy.cell(errors[name][own.name]) for name in (cases.NORMAL, cases.CONFIDENT)]
        lines.append([f"**{peer}**" if peer in peers.OWN else str(peer), *cells, *ulps])
    others = [peer.name for peer in peers.OTHERS]
    ratios = []
    for case in shapes:
        found = kinds["shape"][str(case)]
        rivals = [found[name] for name in others if name in found]
        both = "celoss" in found and rivals
        ratios.append(f"{min(rivals) / found['celoss']:.2g}" if both else "")
    lines.append(["fastest peer / celoss", *ratios, "", ""])
    head = [*(str(case) for case in shapes), f"ulp, {cases.NORMAL}", f"ulp, {cases.CONFIDENT}"]
    return table(["ns per logit", *head], lines)


def family_table(kinds: dict, function: family.Function) -> str:
    """One function: a line for each peer, and how the fastest of those that make a fresh result compares."""
    found = kinds[function.name]
    shapes = [case for case in function.shapes if str(case) in found]
    lines = []
    for peer in function.peers:
        cells = [ns(found[str(case)].get(peer.name), case) for case in shapes]
        if any(cells):
            lines.append([f"**{peer}**" if peer.name.startswith("celoss") else str(peer), *cells])
    own, *rivals = function.runnable()
    ratios = []
    for case in shapes:
        times = [found[str(case)][name] for name in rivals if name in found[str(case)]]
        both = times and own in found[str(case)]
        ratios.append(f"{min(times) / found[str(case)][own]:.2g}" if both else "")
    lines.append(["fastest peer / celoss", *ratios])
    return table([f"`{function}`, ns per number", *map(str, shapes)], lines)


def usual_table(rows: list[dict]) -> str:
    """A line for each label that a function has, as multiples of its plain call: interleaved, as ``targets`` timed them."""
    found = {row["what"].partition(",")[0]: row["seconds"] for row in rows if row["section"] == "usual"}
    functions = [function for function in usual.FUNCTIONS if function in found]
    labels = dict.fromkeys(label for function in functions for label in found[function] if label != usual.PLAIN)
    lines = [[usual.PLAIN, *(f"{1e9 * found[function][usual.PLAIN]:.0f} ns" for function in functions)]]
    for label in labels:
        ratios = [found[f][label] / found[f][usual.PLAIN] if label in found[f] else None for f in functions]
        lines.append([label, *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    return table(["multiple of the plain call", *(f"`{function}`" for function in functions)], lines)


def curve_table(rows: list[dict]) -> str:
    """What a logit takes at each number of classes, and over that of the last case."""
    lines = []
    for case, row in zip(cases.CURVE, rows, strict=False):
        reached = "yes" if row["reached"] else "**no**"
        lines.append([str(case), ns(row["seconds"][str(case)], case), f"{row['value']:.2f}", f"≤ {row['limit']:g}", reached])
    return table(["out=, one thread", "ns per logit", f"over that of {cases.CURVE[-1]}", "target", "reached"], lines)


def floor_table(kinds: dict) -> str:
    shapes = [case for case in shapes_of(kinds) if str(case) in kinds["floor"]]
    lines = [[name, *(ns(kinds["floor"][str(case)].get(name), case) for case in shapes)] for name in limits.NAMES]
    return table(["ns per logit", *map(str, shapes)], lines)


def target_table(rows: list[dict]) -> str:
    """As ``bench.targets`` printed it."""
    names = Row.__dataclass_fields__
    made = [Row(**{name: row[name] for name in names}) for row in rows]
    head = "| what | target | reached | |\n|---|---|---|---|\n"
    return head + "\n".join(row.markdown() for row in made)


def write(folder: Path) -> Path:
    speed, errors = load_speed(folder), load(folder, "accuracy")
    about, errors = errors["machine"], errors["float32"]
    rows = [row for part in TARGETS for row in load(folder, part)["rows"]]
    curve = [row for row in rows if row["section"] == "curve"]
    pictures.time_per_logit(speed, folder / "time-per-logit.png")
    pictures.roofline(speed, folder / "roofline.png")
    pictures.scaling(speed, folder / "scaling.png")
    pictures.curve(curve, folder / "curve.png")
    pictures.floors(rows, folder / "floors.png")
    pictures.training_step(rows, folder / "training-step.png")

    reached = sum(row["reached"] for row in rows)
    title = f"# {about['processor']}, {about['cores']} cores, level {about['celoss']['level']}"
    parts = [title, machine_table(about)]
    for threads, kinds in speed.items():
        parts += [
            f"## Loss and gradient, float32, {pictures.THREADS[threads]}",
            "Median time per logit in ns; beside it the largest error in ulp, loss / gradient, over "
            f"{cases.ACCURACY_ROWS} rows of {cases.ACCURACY_CLASSES} classes, and the share of "
            "losses returned as 0 that are not.",
            speed_table(kinds, errors),
            "What the memory allows on the same arrays, in the same process:",
            floor_table(kinds),
        ]
    parts += [
        "## The curve over classes, float32, one thread",
        "What few classes cost: the time of a logit over that of many, loss and gradient into `out=`.",
        curve_table(curve),
        "![Time of a logit by the number of classes](curve.png)",
    ]
    for threads, kinds in speed.items():
        parts += [
            f"## The family, float32, {pictures.THREADS[threads]}",
            "Median time per number in ns. Every call makes a fresh result, except where a row says `out=`; the last row "
            "compares those that make a fresh one.",
            *(family_table(kinds, function) for function in family.FUNCTIONS if function.name in kinds),
        ]
    parts += [
        f"## Short paths, float32, {cases.SMALL}: multiple of the plain call",
        "Median time of each usual call over that of the function's plain call; lists of numbers are float64.",
        usual_table(rows),
        "![Time per logit by shape and peer](time-per-logit.png)",
        "![Time over the memory's floor by shape and peer](roofline.png)",
        "![Time by rows and by classes](scaling.png)",
        f"## Targets: {reached} of {len(rows)} reached",
        target_table(rows),
        "![Time over the memory operation that bounds it](floors.png)",
        "![Training step, default threads against one](training-step.png)",
        "## Accuracy",
        accuracy.markdown(errors),
    ]
    path = folder / "report.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--redraw", action="store_true", help="measure nothing, write again")
    parser.add_argument("--name", help="the results folder (default: the kind of machine)")
    given = parser.parse_args()
    machine.build_config()  # refuses a build that is not Release, before anything is measured
    folder = BENCH / "results" / (given.name or machine.name() + ("-quick" if given.quick else ""))
    folder.mkdir(parents=True, exist_ok=True)
    for part in () if given.redraw else given.only:
        measure(part, folder / f"{part}.json", given.quick)
    if missing := [part for part in PARTS if not (folder / f"{part}.json").is_file()]:
        print(f"no report yet: bench/results/{folder.name} lacks {', '.join(missing)}")
    else:
        print(f"wrote bench/{write(folder).relative_to(BENCH)}")


if __name__ == "__main__":
    main()
