"""Figures that answer: what matplotlib drew, drawn again by Bokeh, with zoom and values to hover.

The figure is the one description of a drawing. Lines, bands, bars and maps are read back from it,
so that every figure of the page answers, and no number is kept twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.core.validation import silence
from bokeh.core.validation.warnings import MISSING_RENDERERS
from bokeh.document import Document
from bokeh.embed import components
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    GlyphRenderer,
    HoverTool,
    Legend,
    LegendItem,
    LinearAxis,
    LinearColorMapper,
    LinearScale,
    LogColorMapper,
    LogScale,
    Patch,
    Patches,
    Quad,
    Range1d,
    Scatter,
    Span,
    TapTool,
)
from bokeh.models import Line as Curve
from bokeh.plotting import figure as bokeh_figure
from bokeh.resources import INLINE
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PolyCollection, QuadMesh
from matplotlib.colors import LogNorm, to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FuncFormatter

from mld_ff.report.style import PANEL, PURPLE
from mld_ff.trajectory import Floats

HEIGHT = 300
"""Of a panel of PANEL's height [pixel]; its width is that of its place on the page."""
LEAST_HEIGHT = 260
DASHES = {"--": "dashed", ":": "dotted", "-.": "dashdot"}
NOTHING = ("None", "", " ")
"""How matplotlib says that there is no line, or no marker."""
SIDES = {side: side for side in ("left", "right", "bottom", "top")}
LEGEND = {
    "orientation": "horizontal",
    "click_policy": "hide",
    "border_line_color": None,
    "label_text_font_size": "11px",
    "glyph_width": 14,
    "margin": 0,
    "padding": 2,
}
FAINT = 0.5
"""Lines fainter than this lie behind what is read, and tell no values."""
SCALES = {"linear": LinearScale, "log": LogScale}


def embed(figures: Mapping[str, Figure]) -> tuple[str, dict[str, list[str]]]:
    """The script that draws figures in a page, Bokeh's own included, and the elements by the name
    of the figure that it draws panels into.
    """
    plots = {name: list(panels_of(figure)) for name, figure in figures.items()}
    for name, panels in plots.items():
        for k, plot in enumerate(panels):
            plot.name = f"{name}:{k + 1}"
    flat = [plot for panels in plots.values() for plot in panels]
    if not flat:
        return "", {name: [] for name in plots}
    document = Document()
    with document.models.freeze():  # which are counted once, and not with every root
        for plot in flat:
            document.add_root(plot)
    silence(MISSING_RENDERERS)  # of kinds of pairs that were never seen
    script, elements = components(flat, wrap_script=False)
    left = iter(elements)
    return (
        "\n".join([*INLINE.js_raw[:1], script]),
        {name: [next(left) for _ in panels] for name, panels in plots.items()},
    )


def panels_of(figure: Figure) -> Iterator[Any]:
    """A Bokeh figure of every panel."""
    by_place: dict[Any, list[Axes]] = {}
    for axis in figure.axes:
        if axis.get_visible() and axis.get_label() != "<colorbar>":
            by_place.setdefault(axis.get_position().bounds, []).append(axis)
    places = [spec for axis in figure.axes if (spec := axis.get_subplotspec()) is not None]
    rows = max((place.get_gridspec().nrows for place in places), default=1)
    height = max(round(HEIGHT * figure.get_figheight() / rows / PANEL[1]), LEAST_HEIGHT)
    for axis, *twins in by_place.values():
        yield _Panel(axis, height).drawn(twins)


class _Panel:
    """One panel while it is drawn again."""

    def __init__(self, axis: Axes, height: int) -> None:
        self.axis = axis
        self.labels: dict[str, list[GlyphRenderer]] = {}
        """What the legend says, and of what."""
        self.told: dict[tuple[Any, ...], list[GlyphRenderer]] = {}
        """What is said under the pointer, and of what."""
        titles = (axis.get_title(), axis.get_title("left"), _written_inside(axis))
        self.plot = bokeh_figure(
            title=" ".join(title for title in titles if title),
            height=height,
            sizing_mode="stretch_width",
            x_axis_label=axis.get_xlabel(),
            y_axis_label=axis.get_ylabel(),
            x_axis_type=axis.get_xscale(),
            y_axis_type=axis.get_yscale(),
            x_range=Range1d(*map(float, axis.get_xlim())),
            y_range=Range1d(*map(float, axis.get_ylim())),
            tools="pan,box_zoom,wheel_zoom,reset,save",
            active_drag="box_zoom",
            active_scroll=None,  # the wheel goes on moving the page
        )
        self.plot.toolbar.logo = None

    def drawn(self, twins: Sequence[Axes]) -> Any:
        """The Bokeh figure. twins: drawn behind, on a scale of their own each."""
        for twin in twins:
            name, (low, high) = twin.get_ylabel(), map(float, twin.get_ylim())
            self.plot.extra_y_ranges = {name: Range1d(low, high)}
            self.plot.extra_y_scales = {name: SCALES[twin.get_yscale()]()}
            self.add_all(twin, name)
        self.add_all(self.axis, "default")
        _name_ticks(self.plot.xaxis, self.axis.xaxis)
        _name_ticks(self.plot.yaxis, self.axis.yaxis)
        for second in self.axis.child_axes:  # of the same quantity in another unit
            factor = float(second.get_ylim()[1] / self.axis.get_ylim()[1])
            form = CustomJSTickFormatter(code=f"return (tick * {factor!r}).toPrecision(3)")
            right = LinearAxis(axis_label=second.get_ylabel(), formatter=form)
            self.plot.add_layout(right, "right")
        for (mode, *what), drawn in self.told.items():
            fields = [part[: part.index("{")] for _, text in what for part in text.split(" ± ")]
            forms = dict.fromkeys(fields, "printf")
            hover = {"tooltips": [("", "$name"), *what], "formatters": forms, "mode": mode}
            self.plot.add_tools(HoverTool(renderers=drawn, visible=False, **hover))
        if self.labels:
            items = [LegendItem(label=name, renderers=of) for name, of in self.labels.items()]
            self.plot.add_layout(Legend(items=items, **LEGEND), "above")
        return self.plot

    def add(self, glyph: Any, data: Mapping[str, Any], artist: Any, **more: Any) -> GlyphRenderer:
        """Draw something, under the label that it has in the legend."""
        source = ColumnDataSource({name: _compact(values) for name, values in data.items()})
        label = str(artist.get_label())
        label = "" if label.startswith("_") or label == "None" else label
        drawn = self.plot.add_glyph(source, glyph, name=label, **more)
        if label:
            self.labels.setdefault(label, []).append(drawn)
        return drawn

    def tell(self, drawn: GlyphRenderer, *what: tuple[str, str], mode: str = "mouse") -> None:
        """Say under the pointer what is there: names and formats of columns."""
        self.told.setdefault((mode, *what), []).append(drawn)

    def add_all(self, axis: Axes, scale: str) -> None:
        """Everything on one of matplotlib's axes."""
        for bars in axis.containers:
            if isinstance(bars, BarContainer):
                self.add_bars(axis, bars, scale)
        bands = []
        for collection in axis.collections:
            if isinstance(collection, QuadMesh):
                self.add_mesh(collection)
            elif isinstance(collection, PolyCollection) and collection.get_array() is not None:
                self.add_hexagons(collection)
            elif isinstance(collection, PolyCollection):
                bands += self.add_bands(collection)
        for line in axis.lines:
            if line.get_transform() == axis.transData:
                self.add_line(line, bands)
            else:  # axhline, axvline
                self.add_span(line, upright=line.get_transform() == axis.get_xaxis_transform())

    def add_span(self, line: Line2D, upright: bool) -> None:
        x, y = line.get_data()
        place = {"location": float(np.ravel(x if upright else y)[0])}
        look = {"line_color": to_hex(line.get_color()), "line_dash": _dash(line)}
        self.plot.add_layout(Span(dimension="height" if upright else "width", **place, **look))

    def add_line(self, line: Line2D, bands: list[Floats]) -> None:
        x, y = (np.atleast_1d(np.asarray(z, dtype=float)) for z in line.get_data())
        color, alpha = to_hex(line.get_color()), line.get_alpha() or 1.0
        data = {"x": x, "y": y} | _error_of(x, y, bands)
        if line.get_linestyle() not in NOTHING:
            look = {"line_color": color, "line_alpha": alpha, "line_dash": _dash(line)}
            width = float(line.get_linewidth())
            drawn = self.add(Curve(x="x", y="y", line_width=width, **look), data, line)
        else:
            size = 7 if line.pickable() else 5
            look = {"line_color": color, "fill_color": color, "size": size}
            drawn = self.add(Scatter(x="x", y="y", **look), data, line)
        if line.get_linestyle() not in NOTHING and line.get_marker() not in NOTHING:
            look = {"line_color": color, "fill_color": color, "size": 5}
            self.add(Scatter(x="x", y="y", **look), data, line)
        if line.pickable():  # the page's script hears which point was
            drawn.nonselection_glyph = drawn.glyph
            drawn.selection_glyph = drawn.glyph.clone(size=14, line_color=PURPLE, line_width=3)
            self.plot.add_tools(TapTool(renderers=[drawn], visible=False))
        if alpha > FAINT:
            error = " ± @error{%.2g}" if "error" in data else ""
            of_x, of_y = self.axis.get_xlabel(), self.axis.get_ylabel()
            self.tell(drawn, (of_x, "@x{%.4g}"), (of_y, "@y{%.4g}" + error), mode="vline")

    def add_bands(self, band: PolyCollection) -> list[Floats]:
        """The corners of every band."""
        every = [np.asarray(path.vertices, dtype=float) for path in band.get_paths()]
        *_, alpha = color = np.asarray(band.get_facecolor())[0].tolist()
        look = {"fill_color": to_hex(color), "fill_alpha": alpha, "line_color": None}
        for corners in every:
            self.add(Patch(x="x", y="y", **look), dict(zip("xy", corners.T, strict=True)), band)
        return every

    def add_bars(self, axis: Axes, bars: BarContainer, scale: str) -> None:
        boxes = [box for box in bars.patches if isinstance(box, Rectangle)]
        extents = np.array([box.get_bbox().extents for box in boxes])
        lowest = [
            max(limits[0], 0.0) if kind == "log" else -np.inf
            for limits, kind in (
                (axis.get_xlim(), axis.get_xscale()),
                (axis.get_ylim(), axis.get_yscale()),
            )
        ]
        extents[:, :2] = np.maximum(extents[:, :2], lowest)
        left, bottom, right, top = extents[(extents[:, 2:] > extents[:, :2]).all(axis=1)].T
        data = {"left": left, "right": right, "bottom": bottom, "top": top}
        look = {"fill_color": to_hex(boxes[0].get_facecolor()), "line_color": None}
        drawn = self.add(Quad(**SIDES, **look), data, bars, y_range_name=scale)
        if axis.get_xscale() == "log":
            self.tell(drawn, (axis.get_xlabel(), "@right{%.3g}"))
        elif scale == "default":
            self.tell(drawn, (axis.get_ylabel(), "@top{%.4g}"))

    def add_mesh(self, mesh: QuadMesh) -> None:
        corners = np.asarray(mesh.get_coordinates())
        values: Floats = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan)
        (left, bottom), (right, top) = (
            np.moveaxis(part, 2, 0).reshape(2, -1) for part in (corners[:-1, :-1], corners[1:, 1:])
        )
        data = {"left": left, "right": right, "bottom": bottom, "top": top}
        data |= {"x": (left + right) / 2, "y": (bottom + top) / 2, "value": np.ravel(values)}
        color = {"field": "value", "transform": _colors(mesh)}
        drawn = self.add(Quad(**SIDES, fill_color=color, line_color=color), data, mesh)
        label = "" if mesh.colorbar is None else mesh.colorbar.ax.get_ylabel()
        self.plot.title.text += f": {label}"
        self.plot.add_layout(ColorBar(color_mapper=color["transform"], width=10), "right")
        self.tell_place(drawn, (label, "@value{%.4g}"))

    def add_hexagons(self, bins: PolyCollection) -> None:
        shape = np.asarray(bins.get_paths()[0].vertices)[:-1]
        x, y = np.asarray(bins.get_offsets()).T
        data = {"x": x, "y": y, "count": np.asarray(bins.get_array())}
        data |= {
            "xs": [(shape[:, 0] + centre).round(4).tolist() for centre in x],
            "ys": [(shape[:, 1] + centre).round(4).tolist() for centre in y],
        }
        color = {"field": "count", "transform": _colors(bins)}
        drawn = self.add(Patches(xs="xs", ys="ys", fill_color=color, line_color=None), data, bins)
        self.tell_place(drawn, ("components", "@count{%d}"))

    def tell_place(self, drawn: GlyphRenderer, what: tuple[str, str]) -> None:
        of_x, of_y = self.axis.get_xlabel(), self.axis.get_ylabel()
        self.tell(drawn, (of_x, "@x{%.4g}"), (of_y, "@y{%.4g}"), what)


def _compact(values: Any) -> Any:
    return values.astype(np.float32) if isinstance(values, np.ndarray) else values


def _dash(line: Line2D) -> str:
    return DASHES.get(str(line.get_linestyle()), "solid")


def _written_inside(axis: Axes) -> str:
    """What is written in the middle of an empty panel."""
    texts = [t.get_text() for t in axis.texts if t.get_transform() == axis.transAxes]
    return f"({', '.join(texts)})" if texts else ""


def _error_of(x: Floats, y: Floats, bands: list[Floats]) -> dict[str, Floats]:
    """Half the height of the band around a line, if there is one of the same points."""
    n = len(x)
    for band in bands:
        if len(band) >= 2 * n + 2 and np.allclose(band[1 : n + 1, 0], x, rtol=1e-5):
            low, high = band[1 : n + 1, 1], band[n + 2 : 2 * n + 2, 1][::-1]
            if np.allclose((low + high) / 2, y, rtol=1e-4, atol=1e-9):
                return {"error": np.abs(high - low) / 2}
    return {}


def _colors(drawn: Collection) -> LinearColorMapper | LogColorMapper:
    kind = LogColorMapper if isinstance(drawn.norm, LogNorm) else LinearColorMapper
    palette = [to_hex(color) for color in drawn.get_cmap()(np.linspace(0, 1, 256))]
    low, high = np.ravel(drawn.get_clim()).astype(float).tolist()
    return kind(palette=palette, low=low, high=high)


def _name_ticks(axis: Any, described: Any) -> None:
    """Where ticks have names, those."""
    if isinstance(described.get_major_formatter(), (FixedFormatter, FuncFormatter)):
        names = [text.get_text() for text in described.get_majorticklabels()]
        places = np.asarray(described.get_majorticklocs(), dtype=float).tolist()
        axis.ticker = FixedTicker(ticks=places)
        axis.major_label_overrides = dict(zip(places, names, strict=False))
