"""A run as one HTML page that needs no other file: figures, advice, curves, the model's graph, every epoch."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from .._tensor import Tensor
from ..drawing import draw
from ..nn.module import Module
from ..nn.reporting import summary
from .history import History


def page(history: History, model: Module, inputs: Sequence[Tensor]) -> str:
    """The page's text. inputs: a few examples for the model's graph; without, or without a `dot` program, the page says
    so. Raises ImportError without matplotlib, ValueError for a history without epochs."""
    sections = [
        ("", _figures(history)),
        ("Advice", _advice(history)),
        ("Curves", _curves(history)),
        ("Model", _graph(model, inputs)),
        ("What happened", _events(history)),
        ("Epochs", _table(history)),
    ]
    body = "\n".join(_section(title, content) for title, content in sections if content)
    name = type(model).__name__
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Training of {escape(name)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>Training of {escape(name)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    heading = f"<h2>{title}</h2>\n" if title else ""
    return f"<section>\n{heading}{content}\n</section>"


def _figures(history: History) -> str:
    last = history.epochs[-1] if history.epochs else {}
    shown = {"epochs": f"{len(history)}", "steps": f"{last.get('step', 0):,}"}
    shown["training"] = f"{sum(row.get('seconds', 0) for row in history.epochs):.3g} s"
    shown["loss"] = f"{last['loss']:.4g}" if last else "none"
    if "dev_loss" in history:
        losses = history["dev_loss"]
        shown["lowest dev loss"] = f"{min(losses):.4g}"
        shown["in epoch"] = f"{losses.index(min(losses)) + 1}"
    if history.metric and f"dev_{history.metric}" in history:
        shown[f"best dev {history.metric}"] = f"{max(history[f'dev_{history.metric}']):.4g}"
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in shown.items())
    return f'<dl class="figures">{cells}</dl>'


def _advice(history: History) -> str:
    found = history.advice()
    if not found:
        return '<p class="well">No problems found.</p>'
    items = (
        f"<li><b>{escape(a.verdict)}</b> {escape(a.evidence)}.<br><span>Try: {escape(a.remedy)}.</span></li>"
        for a in found
    )
    return f'<ul class="advice">{"".join(items)}</ul>'


def _curves(history: History) -> str:
    buffer = io.StringIO()
    history.plot().savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return f'<div class="picture">{_inline(buffer.getvalue(), "curves")}</div>'


def _graph(model: Module, inputs: Sequence[Tensor]) -> str:
    table = ""
    if inputs:
        table = f"<pre>{escape(repr(summary(model, *inputs)))}</pre>"
        try:
            svg = _inline(draw(model, *inputs, depth=1, values=False).svg(), "graph")
        except FileNotFoundError as error:
            return f"{table}<p>No picture of the graph: {escape(str(error))}</p>"
        return f'<div class="model"><div class="picture">{svg}</div>{table}</div>'
    return f"<pre>{escape(repr(model))}</pre>"


def _events(history: History) -> str:
    items = (
        f"<li>epoch {event['epoch']}, step {event['step']:,}: {escape(event['text'])}</li>" for event in history.events
    )
    return f'<ul class="events">{"".join(items)}</ul>' if history.events else ""


def _table(history: History) -> str:
    names = [n for n in dict.fromkeys(k for row in history.epochs for k in row) if n not in ("layers", "examples")]
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in names)
    rows = ("".join(f"<td>{_cell(row.get(name))}</td>" for name in names) for row in history.epochs)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _inline(svg: str, prefix: str) -> str:
    """An SVG file as an element of a page, with names of its own: two pictures share one page."""
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg[svg.index("<svg") :])


_CSS = """
:root { color-scheme: light; --ink: #1d2430; --soft: #667080; --line: #e3e6eb; --paper: #fff; --accent: #2f6db5; }
body { margin: 0; background: #f5f6f8; color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 24px; margin: 8px 0 16px; }
h2 { font-size: 16px; margin: 0 0 10px; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; overflow-x: auto;
  padding: 16px 20px; margin: 14px 0; }
.figures { display: flex; flex-wrap: wrap; gap: 8px 36px; margin: 0; }
.figures dt { color: var(--soft); font-size: 12px; }
.figures dd { margin: 0; font-size: 20px; font-variant-numeric: tabular-nums; }
.advice { list-style: none; margin: 0; padding: 0; }
.advice li { border-left: 4px solid #d1495b; padding: 4px 0 4px 12px; margin: 8px 0; }
.advice span { color: var(--soft); }
.well { border-left: 4px solid #3a9a5b; padding-left: 12px; margin: 0; }
.events { white-space: pre-wrap; }
.picture svg { max-width: 100%; height: auto; }
.model { display: flex; flex-wrap: wrap; gap: 20px; align-items: flex-start; }
pre { font: 12.5px/1.45 ui-monospace, monospace; margin: 0; overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; color: var(--soft); }
td { text-align: right; }
th, td { padding: 3px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
"""
