"""How often CelebA's attributes occur, and which occur together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class LabelModel:
    """A Gaussian copula with the rates and correlations of CelebA's own labels.

    Attributes:
        rates: The share of faces that have the attribute.
        correlations: The latent correlations; labels correlate less, because they are thresholded.
    """

    rates: Float[np.ndarray, " attribute"]
    correlations: Float[np.ndarray, "attribute attribute"]

    @classmethod
    def of(cls, attributes: Sequence[str]) -> "LabelModel":
        """Read the packaged numbers of the named attributes."""
        stored = json.loads((files("mtattn.data") / "label_model.json").read_text())
        names = list(stored["rates"])
        chosen = [names.index(attribute) for attribute in attributes]
        correlations = np.eye(len(names))
        for row, values in enumerate(stored["correlations"]):
            correlations[row, :row] = correlations[:row, row] = np.divide(values, 1000)
        return cls(np.array([stored["rates"][name] for name in attributes]), correlations[np.ix_(chosen, chosen)])

    @cached_property
    def thresholds(self) -> Float[np.ndarray, " attribute"]:
        """The latent value below which a face has the attribute."""
        return np.array([NormalDist().inv_cdf(rate) for rate in self.rates])

    @cached_property
    def factor(self) -> Float[np.ndarray, "attribute attribute"]:
        """The matrix that gives independent normal numbers these correlations."""
        values, vectors = np.linalg.eigh(self.correlations)
        # Measured correlations need not form a correlation matrix: what is negative goes, and variances stay at one.
        # The symmetric root is unique, while the eigenvectors' signs may differ from machine to machine.
        root: Float[np.ndarray, "attribute attribute"] = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
        root /= np.linalg.norm(root, axis=1, keepdims=True)
        return root

    def draw(self, rng: np.random.Generator) -> Bool[np.ndarray, " attribute"]:
        """Draw the labels of one face."""
        has: Bool[np.ndarray, " attribute"] = self.factor @ rng.standard_normal(len(self.rates)) < self.thresholds
        return has
