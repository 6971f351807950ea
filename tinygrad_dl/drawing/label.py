"""A box as an HTML-like label: title, shape, value and gradient, in the colours of its kind."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any, Literal

import graphviz
import numpy as np

from ..graph import SMALL
from .trace import Box

FONT, INK, QUIET = "Helvetica", "#1f2a3a", "#66727f"
_RED = "#b4235a"  # gradients
_COLOURS = {  # fill, border
    "parameter": ("#fff3d1", "#d9a233"),
    "input": ("#e1effb", "#4d8fcc"),
    "constant": ("#eceff3", "#9aa5b4"),
    "operation": ("#ffffff", "#7d8a9c"),
    "module": ("#e9e7fb", "#7a70c9"),
    "cut": ("#ffffff", "#b8c0cc"),
    "result": ("#dff4e6", "#3f9d68"),
}
_ENTITY = re.compile(r"&(?=#?\w+;)")
_LONGEST = 44  # characters of a text


def text(value: str, longest: int = _LONGEST) -> str:
    """A user's text, shortened and fit to print, with DOT's backslashes escaped."""
    return str(graphviz.escape(_plain(value, longest)))


def _plain(value: str, longest: int = _LONGEST) -> str:
    value = "".join(c if c.isprintable() else "�" for c in value)
    value = _ENTITY.sub("&\u200c", value)  # `dot` would take it for an entity, and write broken SVG
    return value if len(value) <= longest else value[: longest - 1] + "…"


def label(box: Box, values: bool | Literal["auto"], grads: bool) -> str:
    """The label of a box, as DOT's table."""
    fill, border = _COLOURS["result" if box.result else box.kind]
    rows = [_line(box.module, 9)] if box.module else []
    rows.append(_title(box))
    width = 1
    if box.mark is not None:
        border, width = box.mark.colour, 2
        rows.append(_line(box.mark.text, 9, border))
    if box.shape is not None and box.kind != "cut":
        shape = f"{box.dtype} {box.shape}" if box.shape else box.dtype
        rows.append(_line(shape, 9))
    if box.kind == "module":
        rows.append(_line(box.detail, 9))
    pairs = [*_value(box, values), *(_gradient(box) if grads else [])]
    rows += [_pair(*pair, first=i == 0) for i, pair in enumerate(pairs)]
    dashes = ",DASHED" if box.kind == "cut" else ""
    return (
        f'<<TABLE BORDER="{width}" CELLBORDER="0" CELLSPACING="0" CELLPADDING="2" STYLE="ROUNDED{dashes}" '
        f'COLOR="{border}" BGCOLOR="{fill}"><TR><TD COLSPAN="2" HEIGHT="2" FIXEDSIZE="FALSE"></TD></TR>'
        f'{"".join(rows)}<TR><TD COLSPAN="2" HEIGHT="2"></TD></TR></TABLE>>'
    )


def _title(box: Box) -> str:
    title = f"<B>{html.escape(_plain(box.title))}</B>"
    detail = "" if box.kind == "module" else _plain(box.detail)
    gap = " " * (2 + len(box.title) // 3)  # that wide bold letters may take up
    more = f'{gap}<FONT COLOR="{QUIET}">{html.escape(detail)}</FONT>' if detail else ""
    return f"<TR>{_cell(title + more, box.title + gap + detail, 11, span=True, letter=0.63)}</TR>"


def _line(line: str, size: float, colour: str = QUIET) -> str:
    written = f'<FONT POINT-SIZE="{size}" COLOR="{colour}">{html.escape(_plain(line))}</FONT>'
    return f"<TR>{_cell(written, line, size, span=True)}</TR>"


def _pair(name: str, number: str, colour: str, first: bool) -> str:
    rule = "<HR/>" if first else ""
    key = f'<FONT POINT-SIZE="9" COLOR="{colour}">{name}</FONT>'
    value = f'<FONT POINT-SIZE="10.5" COLOR="{colour}">{html.escape(number)}</FONT>'
    return f"{rule}<TR>{_cell(key, name, 9)}{_cell(value, number, 10.5)}</TR>"


def _cell(written: str, plain: str, size: float, span: bool = False, letter: float = 0.55) -> str:
    """A cell as wide as its text in DejaVu Sans, which often replaces Helvetica, whose widths `dot` goes by.

    letter: the mean width of a letter, of the size.
    """
    wide = sum(1.0 if unicodedata.east_asian_width(c) in "WF" else letter for c in _plain(plain)) * size + 12
    columns = ' COLSPAN="2"' if span else ""
    return f'<TD ALIGN="LEFT"{columns} WIDTH="{wide:.0f}">&nbsp;{written}&nbsp;</TD>'


def _value(box: Box, values: bool | Literal["auto"]) -> list[tuple[str, str, str]]:
    if values is False or box.value is None:
        return []
    if box.stale:
        return [("value", "changed since", QUIET)]
    if box.value.size <= SMALL:
        return [("value", _numbers(box.value), INK)]
    if values is True and box.value.dtype.kind == "f":
        return [("mean ± std", f"{box.value.mean():.3g} ± {box.value.std():.3g}", INK)]
    return []


def _gradient(box: Box) -> list[tuple[str, str, str]]:
    if box.grad is None:
        return []
    if box.grad.size <= SMALL:
        return [("grad", _numbers(box.grad), _RED)]
    return [("‖grad‖", f"{np.linalg.norm(box.grad.astype(np.float64)):.3g}", _RED)]


def _numbers(array: Any) -> str:
    """`0.8814`, `[1, -2.5]`, `[[1, 0], [0, 1]]`."""
    return _nested(array.tolist(), array.dtype.kind == "f")


def _nested(value: Any, floating: bool) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_nested(v, floating) for v in value)}]"
    return f"{value + 0.0:.4g}" if floating else str(value)
