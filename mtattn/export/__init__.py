"""A trained model as one ONNX file that needs no torch, with all that a program must know to use it.

Inputs and outputs carry names: ``images`` (batch, color, height, width), normalised as the image transform does it,
gives ``logits`` (batch, column) and, if asked for, ``maps`` (batch, column, h, w), which average to the logits.
"""

from mtattn.export.metadata import read_onnx_metadata
from mtattn.export.quantization import quantize_onnx
from mtattn.export.writing import export_onnx

__all__ = ["export_onnx", "quantize_onnx", "read_onnx_metadata"]
