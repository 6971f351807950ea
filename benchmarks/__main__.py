"""`python -m benchmarks eager`: the speed of eager mode beside its peers."""

import sys

from . import eager

TABLES = {"eager": eager.main}


def main() -> None:
    wanted = sys.argv[1:] or list(TABLES)
    for name in wanted:
        if name not in TABLES:
            sys.exit(f"no table {name!r}; there are {', '.join(TABLES)}")
        TABLES[name]()


if __name__ == "__main__":
    main()
