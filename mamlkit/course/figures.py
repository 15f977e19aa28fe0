"""Figures: one theme, one width, and alt text on every picture."""

import base64
import io

import matplotlib.pyplot as plt
import seaborn as sns
from cycler import cycler
from matplotlib.figure import Figure
from PIL import Image

from mamlkit.course.grammar import BLACK, COLOURS, GREY
from mamlkit.exercises.progress import show_bundle

#: Inches that a figure is wide, which are 691 points of a page. A desktop's
#: column holds that unshrunk; a phone at half the size, with letters that can
#: still be read.
WIDE = 7.2
_PAGE, _SHARP = 96, 2  # points of a page in an inch; dots in such a point


def use_theme() -> None:
    """Set the course's fonts, grid, and colours that differ in marker too."""
    sns.set_theme(
        style="whitegrid",
        rc={
            "axes.edgecolor": GREY,
            "axes.labelcolor": BLACK,
            "axes.labelsize": 13,
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 13,
            "figure.constrained_layout.use": True,
            "figure.figsize": (WIDE, 3.8),
            "font.family": "DejaVu Sans",  # comes with matplotlib
            "font.size": 12,
            "grid.color": "#E6E6E6",
            "legend.fontsize": 12,
            "legend.frameon": False,
            "legend.title_fontsize": 12,
            "text.color": BLACK,
            "xtick.labelsize": 12,
            "ytick.labelsize": 12,
        },
    )


def png(fig: Figure) -> bytes:
    """Render and close a figure; 128 colours keep the file small.

    An octree keeps flat colours to a level or so, at two thirds of the bytes
    that a median cut takes; only its white is not quite white.
    """
    raw = io.BytesIO()
    fig.savefig(raw, format="png", dpi=_SHARP * _PAGE, facecolor="white")
    plt.close(fig)
    image = Image.open(raw).convert("RGB")
    image = image.quantize(128, Image.Quantize.FASTOCTREE, dither=0)
    palette, corner = image.getpalette(), 3 * image.getpixel((0, 0))
    palette[corner : corner + 3] = (255, 255, 255)
    image.putpalette(palette)
    small = io.BytesIO()
    image.save(small, format="PNG", optimize=True)
    return small.getvalue()


def show(fig: Figure, *, alt: str) -> None:
    """Display a figure as PNG with alt text.

    Args:
        fig: closed afterwards.
        alt: one or two sentences that state the finding, for readers who do
            not see the picture.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("alt must state what the figure shows")
    width, height = (round(_PAGE * n) for n in fig.get_size_inches())
    size = {"alt": alt, "width": width, "height": height}
    data = base64.b64encode(png(fig)).decode()
    show_bundle(
        {"image/png": data, "text/plain": alt},
        metadata={"image/png": size},
    )
