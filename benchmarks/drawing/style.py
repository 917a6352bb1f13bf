"""The one style of all figures: colours, type, and a sheet measured in the pixels of a README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import ArrayLike

from molgen.io.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 900
"""Pixels of a README's column; a sheet is saved twice as fine."""
_SCALE = 2
_PX = 0.72  # points of a pixel at 100 to the inch

INK, SOFT, FAINT, GROUND = "#1f2430", "#5b6472", "#c9ced6", "#f4f5f7"

FAMILIES: dict[str, tuple[str, str]] = {
    "energy": ("Energy", "#b4432f"),
    "vae": ("VAE", "#b7791f"),
    "gan": ("GAN", "#4f8a34"),
    "flow": ("Flow", "#178076"),
    "autoregressive": ("Autoregressive", "#2566a8"),
    "diffusion": ("Diffusion", "#6546a0"),
    "consistency": ("Consistency", "#a83279"),
}
"""The name and the colour of each family, in the order in which figures show them."""

MODALITIES: dict[str, str] = {
    "image": "images",
    "smiles": "strings",
    "graph": "molecular graphs",
    "molecule": "molecules in 3D",
    "protein": "protein backbones",
}
"""What figures call each kind of data."""

CLASSES = (
    "#4269d0",
    "#d99a1c",
    "#d6493c",
    "#3f9c94",
    "#3c8a4a",
    "#e07fa5",
    "#8a5fbf",
    "#7f98bf",
    "#8d6544",
    "#7c828c",
)
"""Colours of ten classes."""

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 12 * _PX,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 12 * _PX,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e6e8ec",
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 11 * _PX,
    "ytick.labelsize": 11 * _PX,
    "legend.fontsize": 11 * _PX,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@contextmanager
def styled() -> Iterator[None]:
    """A context in which matplotlib draws in this style only."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        options: Any = matplotlib.rcParams  # whose keys are literals to a type checker
        options.update(_RC)
        yield


def tint(colour: str, share: float = 0.14) -> tuple[float, float, float]:
    """A colour mixed with white.

    Example:
        >>> tint("#000000", 0.25)
        (0.75, 0.75, 0.75)
    """
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (1 - share * (1 - part) for part in parts)
    return red, green, blue


@final
class Sheet:
    """A figure whose items are placed in pixels of a README, from the top left corner.

    Arguments:
        height: in pixels; the width is `WIDTH`.
        title: set in bold at the top.
        about: one sentence under it.
        colour: of the bar of the title, and the default colour.
    """

    def __init__(self, height: int, title: str, about: str, colour: str = INK) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.height, self.colour = height, colour
        self.figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=100 * _SCALE, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        self.page = self.figure.add_axes((0, 0, 1, 1))
        self.page.set_xlim(0, WIDTH)
        self.page.set_ylim(height, 0)
        self.page.set_axis_off()
        self.rectangle(16, 14, 5, 44, colour)
        self.text(32, 25, title, size=19, weight="bold", align="left")
        self.text(32, 48, about, size=13, colour=SOFT, align="left")

    # ------------------------------------------------------------------ words and shapes

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 12,
        colour: str = INK,
        align: str = "center",
        weight: str = "normal",
        turned: bool = False,
        **options: Any,
    ) -> None:
        """Text, centred vertically at y."""
        self.page.text(
            x,
            y,
            words,
            fontsize=size * _PX,
            color=colour,
            ha=align,
            va="center",
            fontweight=weight,
            rotation=90 if turned else 0,
            **options,
        )

    def head(self, x: float, y: float, words: str, colour: str = INK, **options: Any) -> None:
        """A heading: bold text that starts at x."""
        self.text(x, y, words, 13, colour, "left", "bold", **options)

    def rectangle(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: Any,
        edge: Any = "none",
        line: float = 0.8,
        **options: Any,
    ) -> None:
        """A plain rectangle from its top left corner."""
        from matplotlib.patches import Rectangle

        patch = Rectangle((x, y), width, height, facecolor=fill, edgecolor=edge, linewidth=line, **options)
        self.page.add_patch(patch)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str,
        colour: str | None = None,
        size: float = 13,
        narrows: float = 0.0,
    ) -> None:
        """A network: a box whose right side is shorter than its left by a share, or longer, below zero."""
        from matplotlib.patches import FancyBboxPatch, Polygon

        colour = colour or self.colour
        kind: dict[str, Any] = {"facecolor": tint(colour), "edgecolor": colour, "linewidth": 1.1}
        left, right = (height * min(1.0, 1 + s) / 2 for s in (narrows, -narrows))
        middle = y + height / 2
        if narrows:
            corners = [
                (x, middle - left),
                (x + width, middle - right),
                (x + width, middle + right),
                (x, middle + left),
            ]
            self.page.add_patch(Polygon(corners, joinstyle="round", **kind))
        else:
            style = "round,pad=0,rounding_size=6"
            self.page.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, **kind))
        self.text(x + width / 2, middle, words, size=size, linespacing=1.35)

    def arrow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        colour: str = SOFT,
        bend: float = 0.0,
        width: float = 1.2,
        both: bool = False,
        dashed: bool = False,
    ) -> None:
        """An arrow, bent to one side by a share of its length."""
        from matplotlib.patches import FancyArrowPatch

        self.page.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="<|-|>" if both else "-|>",
                mutation_scale=9,
                connectionstyle=f"arc3,rad={bend}",
                color=colour,
                linewidth=width,
                linestyle=(0, (3, 2)) if dashed else "solid",
                shrinkA=0,
                shrinkB=0,
                zorder=3,
            )
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], colour: str = FAINT, width: float = 1.0) -> None:
        """A line through points of the sheet."""
        self.page.plot(list(xs), list(ys), color=colour, linewidth=width, solid_capstyle="round")

    # ------------------------------------------------------------------ pictures and plots

    def picture(
        self,
        x: float,
        y: float,
        width: float,
        values: ArrayLike,
        limits: tuple[float, float] = (0, 255),
        colours: Any = "gray_r",
        edge: str = FAINT,
        line: float = 0.8,
        smooth: bool = False,
    ) -> float:
        """A tensor as a tile of square cells, `(H, W)`, or an RGB image `(H, W, 3)`; returns its height.

        A picture finer than the sheet is averaged if `smooth`; else its cells stay sharp.
        """
        tensor = np.asarray(values)
        tensor = tensor[..., 0] if tensor.ndim == 3 and tensor.shape[2] == 1 else tensor
        height = float(width * tensor.shape[0] / tensor.shape[1])
        self.page.imshow(
            tensor,
            cmap=None if tensor.ndim == 3 else colours,
            vmin=limits[0],
            vmax=limits[1],
            extent=(x, x + width, y + height, y),
            interpolation="antialiased" if smooth else "nearest",
            aspect="auto",
            zorder=2,
        )
        self.page.set_xlim(0, WIDTH)
        self.page.set_ylim(self.height, 0)
        if line:
            self.rectangle(x, y, width, height, "none", edge, line, zorder=2.5)
        return height

    def axes(self, x: float, y: float, width: float, height: float, **options: Any) -> Axes:
        """A coordinate system in a rectangle of the sheet."""
        place = (x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height)
        return self.figure.add_axes(place, **options)

    def save(self, path: Path) -> None:
        """Writes a PNG; the same sheet gives the same file."""
        with atomic(path) as temporary:
            self.figure.savefig(temporary, format="png", dpi=100 * _SCALE, metadata={"Software": None})
