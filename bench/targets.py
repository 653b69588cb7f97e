"""The ratios that the project set itself to reach, each measured in one process by interleaved rounds.

``python -m bench.targets`` prints "what | target | reached | yes/no"; ``--json PATH`` also writes every median;
``--only speed memory`` measures some sections, which are the functions of that name in the files below.
"""

import argparse
import json
from dataclasses import asdict

from bench import against_itself, against_memory, against_peers, fresh_processes, heads, machine, peers
from bench.ratios import Run

FILES = (against_peers, against_memory, against_itself, fresh_processes, heads)
SECTIONS = {section.__name__: section for file in FILES for section in file.SECTIONS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", choices=("1", "all"), default="all")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="3 rounds, and no torch.compile")
    parser.add_argument("--json", metavar="PATH")
    given = parser.parse_args()

    n_threads = machine.use_threads(given.threads)
    config = machine.record(n_threads)  # refuses a build that is not Release
    chosen = tuple(peer for peer in peers.OTHERS if not (given.quick and peer.compiles))
    run = Run(n_threads, rounds=3 if given.quick else 15, peers=chosen)

    print(f"{n_threads} thread(s), level {config['celoss']['level']}, {run.rounds} rounds\n")
    print("| what | target | reached | |\n|---|---|---|---|")
    rows = []
    for name in given.only:
        for row in SECTIONS[name](run):
            print(row.markdown(), flush=True)
            rows.append({"section": name, "reached": row.reached, **asdict(row)})
    print(f"\n{sum(row['reached'] for row in rows)} of {len(rows)} reached")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"machine": config, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
