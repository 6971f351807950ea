"""Curves, the HTML page and TensorBoard's event files hold what the history holds."""

import builtins
import re
import shutil
import struct
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from runs import build

from tinygrad_dl.train import History, TensorBoard

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def trainer():
    trainer, train, dev = build(patience=2)
    trainer.fit(train, dev, epochs=5)
    return trainer


def lines(axis):
    return {line.get_label(): line.get_xydata() for line in axis.get_lines()}


def test_the_figure_shows_the_columns(trainer):
    history = trainer.history
    panels = {axis.get_title(loc="left"): axis for axis in history.plot().axes}
    assert list(panels) == [
        "loss", "learning rate", "accuracy", "activations: root mean square", "gradients: norm",
        "size of updates to weights (usual: 0.001)",
    ]  # fmt: skip
    epochs = np.arange(1, len(history) + 1)
    for title in ("loss", "accuracy"):
        shown = lines(panels[title])
        np.testing.assert_array_equal(shown["train"], np.c_[epochs, history[title]])
        np.testing.assert_array_equal(shown["dev"], np.c_[epochs, history[f"dev_{title}"]])
    np.testing.assert_array_equal(panels["learning rate"].get_lines()[0].get_ydata(), history["lr"])
    gradients = lines(panels["gradients: norm"])
    assert list(gradients) == ["0 Linear", "1 BatchNorm1d", "5 Linear"]
    np.testing.assert_array_equal(gradients["0 Linear"], history.layers("gradient")["0"])
    [legend] = history.plot().legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "0 Linear", "1 BatchNorm1d", "2 ReLU", "3 Dropout", "4 Dropout", "5 Linear"
    ]  # fmt: skip


def test_a_history_without_metric_dev_data_and_layers_is_drawn_too():
    rows = [{"epoch": i, "loss": 1.0 / i, "lr": 0.1} for i in (1, 2)]
    assert [axis.get_title(loc="left") for axis in History(rows).plot().axes] == ["loss", "learning rate"]
    with pytest.raises(ValueError, match="before the end of the first epoch"):
        History().plot()


def without(monkeypatch, module):
    imported = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.split(".")[0] == module:
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)


@pytest.mark.parametrize("epochs", [1, 2, 7])
def test_epochs_are_whole_numbers_on_the_axis(epochs):
    rows = [{"epoch": 1 + i, "loss": 1 / (1 + i), "lr": 0.1} for i in range(epochs)]
    for axis in History(rows).plot().axes:
        shown = [t for t in axis.get_xticks() if axis.get_xlim()[0] <= t <= axis.get_xlim()[1]]
        assert shown
        assert all(t == int(t) for t in shown)


def test_without_matplotlib_that_is_said(trainer, monkeypatch):
    without(monkeypatch, "matplotlib")
    with pytest.raises(ImportError, match=r'pip install "tinygrad-dl\[train\]"'):
        trainer.history.plot()


class Page(HTMLParser):
    """What a page asks for, its tags, and whether they are closed."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.open, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        self.links += [v for name, v in attributes if name in ("src", "href", "xlink:href") and not v.startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_data(self, text):
        self.text.append(text)


def test_the_report_is_one_page_that_needs_nothing_else(trainer, tmp_path):
    path = tmp_path / "run.html"
    trainer.history.note("change", "lr <set> to 0.1 & back", 2, 9)
    trainer.report(path)
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert page.links == []
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]+"|<metadata>.*?</metadata>', "", text, flags=re.S)
    assert len(set(page.ids)) == len(page.ids)
    shown = " ".join(page.text)
    assert f"{trainer.history['dev_loss'][-1]:.4g}" in shown
    assert "lr <set> to 0.1 & back" in shown
    for heading in ("Advice", "Curves", "Model", "What happened", "Epochs"):
        assert f"<h2>{heading}</h2>" in text
    pictures = re.findall(r"<svg.*?</svg>", text, flags=re.S)
    assert len(pictures) == (2 if shutil.which("dot") else len(pictures))
    for picture in pictures:
        names = {element.get("id") for element in ElementTree.fromstring(picture).iter()}
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', picture))
        assert used <= names


def test_the_report_of_a_run_that_is_well_or_not(trainer, tmp_path):
    history = trainer.history
    from tinygrad_dl.train.report import page

    assert "No problems found" in page(History(history.epochs[:1], metric="accuracy"), trainer.model, [])
    bad = History([{"epoch": 1, "step": 3, "loss": 9.0, "first_loss": 1.0, "lr": 3.0}])
    text = page(bad, trainer.model, [])
    assert "<b>rate too high</b>" in text
    assert "Try: " in text
    assert "BatchNorm1d(8" in text


def test_event_files_hold_every_number(tmp_path):
    pytest.importorskip("tensorboardX")
    trainer, train, dev = build(callbacks=[TensorBoard(tmp_path)])
    history = trainer.fit(train, dev, epochs=3)
    [file] = tmp_path.iterdir()
    found = scalars(file.read_bytes())
    for name in ("loss", "dev_loss", "accuracy", "dev_accuracy", "lr", "gradient"):
        np.testing.assert_allclose(list(found[name].values()), history[name], rtol=1e-6)
        assert list(found[name]) == history["step"]
    updates = [value for _, value in history.layers("update")["0"]]
    np.testing.assert_allclose(list(found["update/0"].values()), updates, rtol=1e-6)
    assert "kind/0" not in found


def scalars(content):
    """Name to step to value, from the records of an event file."""
    from tensorboardX.proto.event_pb2 import Event

    found, at = {}, 0
    while at < len(content):
        [length] = struct.unpack_from("<Q", content, at)
        event = Event.FromString(content[at + 12 : at + 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
        at += 12 + length + 4
    return found


def test_without_tensorboardx_that_is_said(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorboardX", raising=False)
    without(monkeypatch, "tensorboardX")
    with pytest.raises(ImportError, match=r'TensorBoard needs tensorboardX: pip install "tinygrad-dl\[train\]"'):
        TensorBoard("runs")


def test_a_legend_of_long_names_fits_the_figure():
    names = [f"encoder_blocks.{i}.feed_forward_network.{j}" for i in range(4) for j in range(3)]
    layers = {name: {"kind": "Linear", "activation": 1.0} for name in names}
    rows = [{"epoch": i, "loss": 1.0, "lr": 0.1, "layers": layers} for i in (1, 2)]
    figure = History(rows).plot()
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
