"""matplotlib's drawings as elements of a page, in the page's colours, light or dark.

matplotlib draws with sentinel colours; every style is then turned into a class of the site's style sheet, because the
pages allow no inline style, and every id is renamed, because several drawings share a page.
"""

from __future__ import annotations

import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from markupsafe import Markup

from assay.report.looks import COLOURS

WIDTH = 5.6  # inches of every picture: its labels are still read on a screen of 360 px
SERIES = [f"#0000a{index}" for index in range(COLOURS)]
INK, AXIS, GRID, SURFACE = "#0000f0", "#0000f1", "#0000f2", "#0000f3"
_CLASSES = {colour: f"s{index + 1}" for index, colour in enumerate(SERIES)} | {
    INK: "ink", AXIS: "axis", GRID: "grid", SURFACE: "surface"
}  # fmt: skip
STYLE = {
    "svg.fonttype": "none", "text.parse_math": False, "axes.unicode_minus": True,
    "font.size": 10.5, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": AXIS, "xtick.color": AXIS,
    "ytick.color": AXIS, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "grid.color": GRID,
    "grid.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "ytick.major.size": 0, "figure.facecolor": "none", "axes.facecolor": "none", "axes.linewidth": 0.9,
    "axes.axisbelow": True, "hatch.linewidth": 1.3, "lines.linewidth": 1.9, "lines.markersize": 5.5,
}  # fmt: skip


def printable(text: str) -> str:
    """Text that XML can carry: control characters and lone surrogates become a replacement mark."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def short_label(text: str, length: int) -> str:
    """A label that fits the picture; the table below it has the whole."""
    text = printable(text)
    return text if len(text) <= length else text[: length - 1] + "…"


_SVG_ONLY = re.compile(r"^\{[^}]*\}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
EMBEDDED = "data:image/png;base64,"  # of a picture inside the drawing
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def inline_svg(text: str, prefix: str, title: str, description: str) -> Markup:
    """matplotlib's file as an element of an HTML page: no style, no foreign id, no namespace; named for all readers."""
    root = ElementTree.fromstring(text)
    _drop(root, {"metadata", "style"})
    renamed: dict[str, str] = {}
    for element in root.iter():
        for target in _references(element):
            renamed.setdefault(target, f"{prefix}-{len(renamed)}")
    for element in root.iter():
        element.tag = _SVG_ONLY.sub("", element.tag)
        element.attrib = dict(_attributes(element, renamed))
        element.tail = None
        if element.tag != "text":
            element.text = None
    names = {"class": "plot", "role": "img", "aria-labelledby": f"{prefix}-title {prefix}-desc"}
    root.attrib = {"viewBox": root.attrib["viewBox"], **names}
    for index, (tag, content) in enumerate((("title", title), ("desc", description))):
        child = ElementTree.Element(tag, {"id": f"{prefix}-{tag}"})
        child.text = printable(content.replace("`", ""))
        root.insert(index, child)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _drop(parent: ElementTree.Element, tags: set[str]) -> None:
    for child in list(parent):
        if _SVG_ONLY.sub("", child.tag) in tags:
            parent.remove(child)
        else:
            _drop(child, tags)


def _references(element: ElementTree.Element) -> Iterator[str]:
    for name, value in element.attrib.items():
        if name.endswith("href") and not value.startswith(EMBEDDED):
            yield value.removeprefix("#")
        elif match := _REFERENCE.search(value):
            yield match[1]


def _attributes(element: ElementTree.Element, renamed: dict[str, str]) -> Iterator[tuple[str, str]]:
    classes = []
    for name, value in element.attrib.items():
        if name == "style":
            for declaration in value.split(";"):
                key, _, setting = (part.strip() for part in declaration.partition(":"))
                if setting in _CLASSES:
                    classes.append(f"{key[0]}-{_CLASSES[setting]}")
                elif key and not key.startswith("font") and setting:
                    yield key, _REFERENCE.sub(lambda match: f"url(#{renamed[match[1]]})", _short(setting))
        elif value in _CLASSES:
            classes.append(f"{name[0]}-{_CLASSES[value]}")
        elif name == "id":
            if value in renamed:
                yield "id", renamed[value]
        elif name.endswith("href"):
            yield "href", value if value.startswith(EMBEDDED) else "#" + renamed[value.removeprefix("#")]
        elif name not in ("version", "width", "height") or element.tag in ("rect", "use", "image", "pattern"):
            yield name, _REFERENCE.sub(lambda match: f"url(#{renamed[match[1]]})", _short(value))
    if classes:
        yield "class", " ".join(sorted(set(classes)))


def _short(value: str) -> str:
    """Two decimals of a point are finer than any screen, and half the bytes."""
    value = _LONG_NUMBER.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), value)
    return re.sub(r"\s+", " ", value).strip()
