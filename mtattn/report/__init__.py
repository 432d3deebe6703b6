"""Tables and figures of a finished run: ``metrics.json``, ``metrics.csv`` and ``report.html``."""

from mtattn.report.faces import FaceExample, plot_attribute_maps
from mtattn.report.figures import plot_attribute_bars, plot_links, plot_loss_left, plot_weights
from mtattn.report.files import write_metrics
from mtattn.report.page import write_report

__all__ = [
    "FaceExample",
    "plot_attribute_bars",
    "plot_attribute_maps",
    "plot_links",
    "plot_loss_left",
    "plot_weights",
    "write_metrics",
    "write_report",
]
