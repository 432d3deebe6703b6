"""Loss weighting that makes tasks converge together: DynamicWeighting for any losses, DWSLoss for attributes."""

from mtattn.losses.attributes import AttributeLosses, LossSums
from mtattn.losses.dws import DWSLoss
from mtattn.losses.dynamic import DynamicWeighting, Rule, RuleName

__all__ = ["AttributeLosses", "DWSLoss", "DynamicWeighting", "LossSums", "Rule", "RuleName"]
