"""Figures that answer: what matplotlib drew, drawn again by Bokeh, with zoom and values to hover.

The figure is the one description of a drawing. Lines, bands, bars and maps are read back from it,
so that every figure of the page answers, and no number is kept twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.models import (
    BoxZoomTool,
    ColorBar,
    CustomJSTickFormatter,
    FixedTicker,
    GlyphRenderer,
    HoverTool,
    LinearAxis,
    LinearColorMapper,
    LinearScale,
    LogColorMapper,
    LogScale,
    Range1d,
    Span,
    TapTool,
)
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

HEIGHT = 300
"""Of a panel of PANEL's height [pixel]; its width is that of its place on the page."""
DASHES = {"--": "dashed", ":": "dotted", "-.": "dashdot"}
FAINT = 0.5
"""Lines fainter than this lie behind what is read, and tell no values."""
SCALES = {"linear": LinearScale, "log": LogScale}

Plot = Any
"""A Bokeh figure; its attributes are made at run time, which types do not know."""


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
    script, elements = components(flat, wrap_script=False)
    left = iter(elements)
    return (
        "\n".join([*INLINE.js_raw[:1], script]),
        {name: [next(left) for _ in panels] for name, panels in plots.items()},
    )


def panels_of(figure: Figure) -> Iterator[Plot]:
    """A Bokeh figure of every panel."""
    by_place: dict[Any, list[Axes]] = {}
    for axis in figure.axes:
        if axis.get_visible() and axis.get_label() != "<colorbar>":
            by_place.setdefault(axis.get_position().bounds, []).append(axis)
    rows = max((spec.get_gridspec().nrows for spec in _places(figure)), default=1)
    height = round(HEIGHT * figure.get_figheight() / rows / PANEL[1])
    for axis, *twins in by_place.values():
        yield _draw(axis, twins, max(height, 260))


def _places(figure: Figure) -> list[Any]:
    return [spec for axis in figure.axes if (spec := axis.get_subplotspec()) is not None]


def _draw(axis: Axes, twins: Sequence[Axes], height: int) -> Plot:
    plot = bokeh_figure(
        title=" ".join(t for t in (axis.get_title(), axis.get_title("left"), _note(axis)) if t),
        height=height,
        sizing_mode="stretch_width",
        x_axis_label=axis.get_xlabel(),
        y_axis_label=axis.get_ylabel(),
        x_axis_type=axis.get_xscale(),
        y_axis_type=axis.get_yscale(),
        x_range=Range1d(*map(float, axis.get_xlim())),
        y_range=Range1d(*map(float, axis.get_ylim())),
        tools="pan,wheel_zoom,reset,save",
    )
    zoom = BoxZoomTool()
    plot.add_tools(zoom)
    plot.toolbar.active_drag = zoom
    plot.toolbar.logo = None
    for twin in twins:
        _add_twin(plot, twin)
    _add_all(plot, axis, "default")
    _name_ticks(plot.xaxis, axis.xaxis)
    _name_ticks(plot.yaxis, axis.yaxis)
    for second in axis.child_axes:  # of the same quantity in another unit
        factor = float(second.get_ylim()[1] / axis.get_ylim()[1])
        form = CustomJSTickFormatter(code=f"return (tick * {factor!r}).toPrecision(3)")
        plot.add_layout(LinearAxis(axis_label=second.get_ylabel(), formatter=form), "right")
    if plot.legend:
        legend = plot.legend[0]
        legend.update(
            orientation="horizontal",
            click_policy="hide",
            border_line_color=None,
            label_text_font_size="11px",
            glyph_width=14,
            margin=0,
            padding=2,
        )
        plot.add_layout(legend, "above")
    return plot


def _note(axis: Axes) -> str:
    """What is written in the middle of an empty panel."""
    texts = [t.get_text() for t in axis.texts if t.get_transform() == axis.transAxes]
    return f"({', '.join(texts)})" if texts else ""


def _add_twin(plot: Plot, twin: Axes) -> None:
    """What is drawn behind a panel on a scale of its own."""
    name = twin.get_ylabel()
    low, high = map(float, twin.get_ylim())
    plot.extra_y_ranges = {name: Range1d(low, high)}
    plot.extra_y_scales = {name: SCALES[twin.get_yscale()]()}
    _add_all(plot, twin, name)


def _add_all(plot: Plot, axis: Axes, scale: str) -> None:
    for bars in axis.containers:
        if isinstance(bars, BarContainer):
            _add_bars(plot, axis, bars, scale)
    bands = []
    for collection in axis.collections:
        if isinstance(collection, QuadMesh):
            _add_mesh(plot, axis, collection)
        elif isinstance(collection, PolyCollection) and collection.get_array() is not None:
            _add_hexagons(plot, axis, collection)
        elif isinstance(collection, PolyCollection):
            bands += _add_bands(plot, collection)
    for line in axis.lines:
        _add_line(plot, axis, line, bands)


def _legend(artist: Any) -> dict[str, str]:
    label = str(artist.get_label())
    return {} if label.startswith("_") or label == "None" else {"legend_label": label}


def _add_line(plot: Plot, axis: Axes, line: Line2D, bands: list[np.ndarray]) -> None:
    x, y = (np.atleast_1d(np.asarray(z, dtype=np.float32)) for z in line.get_data())
    color, alpha = to_hex(line.get_color()), line.get_alpha() or 1.0
    dash = DASHES.get(line.get_linestyle(), "solid")
    if line.get_transform() != axis.transData:  # axhline, axvline
        place = {"location": float(y[0]), "dimension": "width"}
        if line.get_transform() == axis.get_xaxis_transform():
            place = {"location": float(x[0]), "dimension": "height"}
        plot.add_layout(Span(**place, line_color=color, line_dash=dash))
        return
    data = {"x": x, "y": y} | _error_of(x, y, bands)
    look = {"color": color, "alpha": alpha, **_legend(line)}
    drawn = []
    if line.get_linestyle() not in ("None", "", " "):
        width = float(line.get_linewidth())
        drawn.append(plot.line("x", "y", source=data, line_width=width, line_dash=dash, **look))
    if line.get_marker() not in ("None", "", " "):
        drawn.append(plot.scatter("x", "y", source=data, size=7 if line.pickable() else 5, **look))
        if line.pickable():
            _let_pick(plot, drawn[-1])
    if alpha > FAINT and drawn:
        error = " ± @error{%.2g}" if "error" in data else ""
        _tell(
            plot,
            drawn[-1],
            [
                (axis.get_xlabel(), "@x{%.4g}"),
                (axis.get_ylabel(), "@y{%.4g}" + error),
                *([("", str(line.get_label()))] if _legend(line) else []),
            ],
        )


def _let_pick(plot: Plot, points: GlyphRenderer) -> None:
    """The page's script hears which point was picked."""
    points.nonselection_glyph = points.glyph
    points.selection_glyph = points.glyph.clone(size=14, line_color=PURPLE, line_width=3)
    plot.add_tools(TapTool(renderers=[points], visible=False))


def _error_of(x: np.ndarray, y: np.ndarray, bands: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Half the height of the band around a line, if there is one of the same points."""
    for band in bands:
        n = len(x)
        if len(band) >= 2 * n + 2 and np.allclose(band[1 : n + 1, 0], x, rtol=1e-5):
            low, high = band[1 : n + 1, 1], band[n + 2 : 2 * n + 2, 1][::-1]
            if np.allclose((low + high) / 2, y, rtol=1e-4, atol=1e-9):
                return {"error": np.abs(high - low).astype(np.float32) / 2}
    return {}


def _add_bands(plot: Plot, band: PolyCollection) -> list[np.ndarray]:
    every = [np.asarray(path.vertices) for path in band.get_paths()]
    color, look = band.get_facecolor(), _legend(band)
    for vertices in every:
        x, y = vertices.astype(np.float32).T
        fill = to_hex(color[0])
        plot.patch(x, y, fill_color=fill, fill_alpha=float(color[0][3]), line_color=None, **look)
    return every


def _add_bars(plot: Plot, axis: Axes, bars: BarContainer, scale: str) -> None:
    boxes = [b for b in bars.patches if isinstance(b, Rectangle)]
    low = 0.0 if scale == "default" else float(axis.get_ylim()[0])
    start = max(float(axis.get_xlim()[0]), 0.0) if axis.get_xscale() == "log" else -np.inf
    data = {
        "left": [max(float(b.get_x()), start) for b in boxes],
        "right": [float(b.get_x() + b.get_width()) for b in boxes],
        "bottom": [max(float(b.get_y()), low) for b in boxes],
        "top": [float(b.get_y() + b.get_height()) for b in boxes],
    }
    kept = [k for k, top in enumerate(data["top"]) if top > data["bottom"][k]]
    data = {name: [values[k] for k in kept] for name, values in data.items()}
    if not kept:
        return
    drawn = plot.quad(
        "left",
        "right",
        "top",
        "bottom",
        source=data,
        fill_color=to_hex(boxes[0].get_facecolor()),
        line_color=None,
        y_range_name=scale,
        **_legend(bars),
    )
    if axis.get_xscale() == "log":
        _tell(plot, drawn, [(axis.get_xlabel(), "@right{%.3g}")], mode="mouse")
    elif scale == "default":
        _tell(plot, drawn, [(axis.get_ylabel(), "@top{%.4g}")], mode="mouse")


def _add_mesh(plot: Plot, axis: Axes, mesh: QuadMesh) -> None:
    corners, values = mesh.get_coordinates(), np.ma.filled(mesh.get_array(), np.nan)
    left, right = corners[:-1, :-1], corners[1:, 1:]
    data = {
        "left": left[..., 0].ravel(),
        "right": right[..., 0].ravel(),
        "bottom": left[..., 1].ravel(),
        "top": right[..., 1].ravel(),
        "x": (left[..., 0] + right[..., 0]).ravel() / 2,
        "y": (left[..., 1] + right[..., 1]).ravel() / 2,
        "value": np.asarray(values).ravel(),
    }
    look = {"field": "value", "transform": _colors(mesh)}
    drawn = plot.quad(
        "left",
        "right",
        "top",
        "bottom",
        source={name: np.asarray(z, np.float32) for name, z in data.items()},
        fill_color=look,
        line_color=look,
    )
    label = "" if mesh.colorbar is None else mesh.colorbar.ax.get_ylabel()
    plot.title.text += f": {label}"
    plot.add_layout(ColorBar(color_mapper=look["transform"], width=10), "right")
    told = [(axis.get_xlabel(), "@x{%.4g}"), (axis.get_ylabel(), "@y{%.4g}")]
    _tell(plot, drawn, [*told, (label, "@value{%.4g}")], mode="mouse")


def _add_hexagons(plot: Plot, axis: Axes, bins: PolyCollection) -> None:
    shape = np.asarray(bins.get_paths()[0].vertices)[:-1]
    centres, counts = np.asarray(bins.get_offsets()), np.asarray(bins.get_array())
    drawn = plot.patches(
        "xs",
        "ys",
        source={
            "xs": [(shape[:, 0] + x).round(4).tolist() for x in centres[:, 0]],
            "ys": [(shape[:, 1] + y).round(4).tolist() for y in centres[:, 1]],
            "x": centres[:, 0],
            "y": centres[:, 1],
            "count": counts,
        },
        fill_color={"field": "count", "transform": _colors(bins)},
        line_color=None,
    )
    told = [(axis.get_xlabel(), "@x{%.3g}"), (axis.get_ylabel(), "@y{%.3g}")]
    _tell(plot, drawn, [*told, ("components", "@count{%d}")], mode="mouse")


def _colors(drawn: Collection) -> LinearColorMapper | LogColorMapper:
    kind = LogColorMapper if isinstance(drawn.norm, LogNorm) else LinearColorMapper
    palette = [to_hex(color) for color in drawn.get_cmap()(np.linspace(0, 1, 256))]
    return kind(palette=palette, low=float(drawn.norm.vmin or 0), high=float(drawn.norm.vmax or 1))


def _name_ticks(axis: Any, described: Any) -> None:
    """Where ticks have names, those."""
    if isinstance(described.get_major_formatter(), (FixedFormatter, FuncFormatter)):
        names = [text.get_text() for text in described.get_majorticklabels()]
        places = [float(x) for x in described.get_majorticklocs()]
        axis.ticker = FixedTicker(ticks=places)
        axis.major_label_overrides = dict(zip(places, names, strict=False))


def _tell(
    plot: Plot, drawn: GlyphRenderer, what: list[tuple[str, str]], mode: str = "vline"
) -> None:
    fields = {text[: text.index("{")] for _, t in what for text in t.split(" ± ") if "{" in text}
    plot.add_tools(
        HoverTool(
            renderers=[drawn],
            tooltips=what,
            formatters=dict.fromkeys(fields, "printf"),
            mode=mode,
            visible=False,
        )
    )
