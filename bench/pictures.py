"""The pictures of the report, drawn from the numbers that ``report`` has loaded.

``speed[threads][kind][case][name]`` is a median in seconds: threads "1" or "all"; kind "shape",
"rows", "classes" or "floor"; case and name as in ``cases``, ``peers`` and ``limits``.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench import cases, limits, peers

# celoss in strong reds, the others in cooler tones; a marker each, for readers without colour.
STYLE = {
    "celoss": ("#c1121f", "o"),
    "celoss out=": ("#f4845f", "D"),
    "NumPy": ("#1d3557", "s"),
    "SciPy": ("#457b9d", "^"),
    "scikit-learn": ("#2a9d8f", "v"),
    "PyTorch": ("#6a4c93", "P"),
    "torch.compile": ("#b388eb", "X"),
    "JAX": ("#6c757d", "*"),
}
THREADS = {"1": "one thread", "all": "all threads"}


def memory_floor(speed: dict, threads: str, case: str) -> float:
    """Seconds of the fastest copy of that shape: one read and one write of every logit."""
    return min(speed[threads]["floor"][case][name] for name in limits.COPIES)


def _save(figure, path):
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def _by_shape(speed, value, ylabel, title, path, floor_label):
    """Points over the shapes, one panel per thread count; ``value(threads, case, seconds)``."""
    figure, panels = plt.subplots(1, len(speed), figsize=(6.5 * len(speed), 5), sharey=True, squeeze=False)
    for axes, (threads, kinds) in zip(panels[0], speed.items(), strict=True):
        shapes = [str(case) for case in cases.SPEED if str(case) in kinds["shape"]]
        for name, (colour, marker) in STYLE.items():
            found = [
                (at, value(threads, case, kinds["shape"][case][name]))
                for at, case in enumerate(shapes)
                if name in kinds["shape"][case]
            ]
            if found:
                size = 75 if name.startswith("celoss") else 45
                axes.scatter(*zip(*found, strict=True), s=size, c=colour, marker=marker, label=name, zorder=3)
        floors = [value(threads, case, memory_floor(speed, threads, case)) for case in shapes]
        axes.scatter(range(len(shapes)), floors, s=700, c="black", marker="_", label=floor_label)
        axes.set_yscale("log")
        axes.set_xticks(range(len(shapes)), shapes, rotation=30, ha="right")
        axes.set_xlabel("rows x classes, float32")
        axes.set_title(THREADS[threads])
        axes.grid(axis="y", which="both", alpha=0.25)
    panels[0][0].set_ylabel(ylabel)
    panels[0][-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, markerscale=0.8)
    figure.suptitle(title)
    _save(figure, path)


def time_per_logit(speed, path):
    sizes = {str(case): case.size for case in cases.SPEED}
    _by_shape(
        speed,
        lambda threads, case, seconds: 1e9 * seconds / sizes[case],
        "ns per logit (log scale; lower is better)",
        "Loss and gradient: time per logit",
        path,
        floor_label="copy of the array",
    )


def roofline(speed, path):
    _by_shape(
        speed,
        lambda threads, case, seconds: seconds / memory_floor(speed, threads, case),
        "time / time of the fastest copy (log scale)",
        "Loss and gradient: distance from the memory's floor",
        path,
        floor_label="floor: copy of the array",
    )


def scaling(speed, path):
    rows = {str(case): case.rows for case in cases.BY_ROWS}
    classes = {str(case): case.classes for case in cases.BY_CLASSES}
    figure, panels = plt.subplots(1, 2, figsize=(13, 5))
    for axes, kind, where in zip(panels, ("rows", "classes"), (rows, classes), strict=True):
        for threads, kinds in speed.items():
            for peer in peers.SCALING:
                found = [
                    (at, 1e6 * kinds[kind][case][peer.name])
                    for case, at in where.items()
                    if peer.name in kinds.get(kind, {}).get(case, ())
                ]
                if found:
                    colour, marker = STYLE[peer.name]
                    axes.plot(
                        *zip(*found, strict=True), c=colour, marker=marker, ms=5,
                        ls="-" if threads == "all" else ":", label=f"{peer.name}, {THREADS[threads]}",
                    )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(which="both", alpha=0.2)
        axes.set_ylabel("µs per call (log scale; lower is better)")
    panels[0].set_xlabel(f"rows (log scale) of {cases.BY_ROWS[0].classes} classes")
    panels[1].set_xlabel(f"classes (log scale), at {cases.BY_CLASSES[0].size:,} logits")
    panels[1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.suptitle("Loss and gradient: scaling")
    _save(figure, path)


def curve(rows: list[dict], path):
    """The time of a logit over that of many classes, and what is allowed, from ``targets``."""
    few = cases.CURVE[:-1]
    at = range(len(few))  # equal steps: 127 and 128 are neighbours that differ
    colour, marker = STYLE["celoss out="]
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    axes.plot(at, [row["value"] for row in rows], c=colour, marker=marker, label="celoss out=", zorder=3)
    axes.scatter(at, [row["limit"] for row in rows], s=200, c="black", marker="_", label="target: at most")
    axes.axhline(1, c="black", lw=0.8)
    axes.set_xticks(at, [case.classes for case in few])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"classes, {few[0].rows} rows, float32")
    axes.set_ylabel(f"time of a logit / that of {cases.CURVE[-1]}")
    axes.set_title("Loss and gradient: what few classes cost, one thread")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    _save(figure, path)


def _bars(groups: list[str], series: dict[str, list[float]], colours, xlabel, ylabel, title, path):
    """Ratios around 1, a group of bars for each x."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    width = 0.8 / max(1, len(series))
    for index, ((name, heights), colour) in enumerate(zip(series.items(), colours, strict=True)):
        at = [group + (index - (len(series) - 1) / 2) * width for group in range(len(groups))]
        bars = axes.bar(at, heights, width=0.94 * width, color=colour, label=name)
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    axes.axhline(1, c="black", lw=0.8)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.margins(y=0.15)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _save(figure, path)


def floors(rows: list[dict], path):
    """Each form of the call over the memory operation that bounds it, from ``targets``."""
    forms = {
        "out": "out= / copy",
        "in_place": "in place / in-place multiply",
        "loss_only": "loss only / read",
        "ignored": "all rows ignored / fill",
    }
    series = {}
    for section, label in forms.items():
        of_form = [row for row in rows if row["section"] == section]
        series[f"{label}: at most {of_form[0]['limit']:g}"] = [row["value"] for row in of_form]
    _bars(
        [str(case) for case in cases.LARGE], series, ("#c1121f", "#f4845f", "#1d3557", "#6c757d"),
        "rows x classes, float32", "time / time of the memory operation", "celoss against its floors, all threads", path,
    )  # fmt: skip


def training_step(rows: list[dict], path):
    """Default threads over one thread, inside a loop of ``matmul``, loss, ``matmul``."""
    rows = [row for row in rows if row["section"] == "training"]
    names = {"celoss": "celoss, {}", "scikit-learn": "scikit-learn (OpenMP), {}"}
    series = {
        name: [row["seconds"][form.format("all")] / row["seconds"][form.format("1")] for row in rows]
        for name, form in names.items()
        if all(form.format("all") in row["seconds"] for row in rows)
    }
    _bars(
        [row["what"].split(":")[0].removeprefix("training step ") for row in rows], series,
        [STYLE[name][0] for name in series], "batch x features x classes", "step time, all threads / one thread",
        "Training step: what the loss's threads do to a NumPy loop", path,
    )  # fmt: skip
