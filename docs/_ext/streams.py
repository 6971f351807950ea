"""What a cell prints, in one piece: myst-nb would break a line within which the kernel happened to flush."""

from __future__ import annotations

from typing import Any

import myst_nb.core.render as render
from sphinx.application import Sphinx


def joined(outputs: list[Any]) -> list[Any]:
    """The outputs, with all that was written to a stream in the place of its first part."""
    streams: dict[str, Any] = {}
    result = []
    for output in outputs:
        if output["output_type"] == "stream" and output["name"] in streams:
            streams[output["name"]]["text"] += output["text"]
            continue
        if output["output_type"] == "stream":
            streams[output["name"]] = output
        result.append(output)
    return result


def setup(app: Sphinx) -> dict[str, bool]:
    render.coalesce_streams = joined  # what the option nb_merge_streams calls
    return {"parallel_read_safe": True, "parallel_write_safe": True}
