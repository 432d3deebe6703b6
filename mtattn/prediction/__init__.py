"""A trained model at work: pictures in, attributes by name out."""

from mtattn.prediction.predictor import Prediction, Predictor, write_csv

__all__ = ["Prediction", "Predictor", "write_csv"]
