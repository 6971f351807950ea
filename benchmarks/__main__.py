"""`python -m benchmarks` measures everything and writes docs/benchmarks.md; with names, prints only those tables."""

from __future__ import annotations

import importlib
import sys
import time

NAMES = ("compiled", "fresh", "budget", "busy", "depth", "eager", "insight", "products")


def main() -> None:
    wanted = sys.argv[1:]
    if unknown := set(wanted) - set(NAMES):
        sys.exit(f"no table {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    from . import report  # not in the processes of contestants, which import this file

    start, about, found = time.perf_counter(), report.machine(), []
    print("\n".join(about), "\n")
    for name in wanted or NAMES:
        for table in importlib.import_module(f".{name}", __package__).tables():
            print(table, flush=True)
            found.append(table)
        print(f"({name}: {time.perf_counter() - start:.0f} s since the start)", file=sys.stderr)
    if not wanted:
        report.PAGE.write_text(report.page(about, found, (time.perf_counter() - start) / 60), "utf-8")


if __name__ == "__main__":
    main()
