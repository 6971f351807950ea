"""docs/benchmarks.md: every table, as measured, on which machine and with which versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .processes import cores
from .tables import Table

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
PACKAGES = ("numpy", "llvmlite", "jax", "jaxlib", "torch", "autograd", "mygrad")
INTRODUCTION = """\
# Benchmarks

`python -m benchmarks` (extra `bench`) has measured and written this page. Every figure is a ratio, or is shown next to
what it is compared with, from the same run. Each contestant of a compiled step runs in its own process, with one and
with two threads; the faster counts. Before the timing, all contestants are checked to compute the same results for
three steps from the same weights and batch, without dropout. Then they are timed in alternating rounds of a block of
steps each. The ratio is our time divided by theirs: lower is better. "must" and "stretch" are upper limits for it.
"""


def machine() -> list[str]:
    """Processor, system and versions, and how busy the machine is with other things."""
    found = [f"- {_processor()}, {cores()} cores, {platform.system()} {platform.release()}"]
    if hasattr(os, "getloadavg"):
        found.append(f"- load before the first measurement: {os.getloadavg()[0]:.2f}")
    versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return [*found, f"- {', '.join(versions)}; NumPy's BLAS: {blas['name']} {blas['version']}"]


def _processor() -> str:
    """Its name, as Linux gives it, or as Python knows it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def page(about: Sequence[str], tables: Sequence[Table], minutes: float) -> str:
    """The whole text."""
    when = f"- {datetime.date.today()}, in {minutes:.0f} minutes"
    return "\n".join([INTRODUCTION, *about, when, "", *map(str, tables)]).rstrip() + "\n"
