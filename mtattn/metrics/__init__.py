"""How good the predictions are, attribute by attribute, beside what knowing nothing would reach."""

from mtattn._baselines import Baselines
from mtattn.metrics.attribute import AttributeMetrics
from mtattn.metrics.rates import train_rates

__all__ = ["AttributeMetrics", "Baselines", "train_rates"]
