"""For the tests of the server: a model made by hand, whose answers one knows in advance, and pictures to send."""

import json
import struct
import zlib
from io import BytesIO

import numpy as np
import onnx
from PIL import Image

IMAGE = {"size": [32, 48], "mean": [0.5] * 3, "std": [0.25] * 3}
GROUPS = {"warm": ["Red"], "cold": ["Green", "Blue_Or_So"]}  # an attribute is how much of its colour there is


def write_model(file, *, maps=True, metadata=True, centres=None, image=IMAGE):
    """Maps are the colours averaged over blocks of 8 pixels, from -2 (none of it) to 2; logits their means."""
    nodes = [
        onnx.helper.make_node("AveragePool", ["images"], ["maps"], kernel_shape=[8, 8], strides=[8, 8]),
        onnx.helper.make_node("ReduceMean", ["maps", "axes"], ["logits"], keepdims=0),
    ]
    axes = onnx.numpy_helper.from_array(np.array([2, 3]), "axes")
    tensors = {"images": ["batch", 3, "height", "width"], "logits": ["batch", 3], "maps": ["batch", 3, "h", "w"]}
    images, *outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in tensors.items()
    ]
    graph = onnx.helper.make_graph(nodes, "colours", [images], outputs if maps else outputs[:1], [axes])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    if metadata:
        told = {"groups": GROUPS, "image": image, "mtattn_version": "0.1.0"}
        told |= {} if centres is None else {"map_centres": centres}
        model.metadata_props.add(key="mtattn", value=json.dumps(told))
    onnx.save(model, file)
    return file


def encoded(picture, form="PNG", **options):
    stream = BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def red_above_blue(mode="RGB", size=(48, 32)):
    """A picture whose upper half is red and whose lower half is blue."""
    picture = Image.new("RGB", size, "blue")
    picture.paste("red", (0, 0, size[0], size[1] // 2))
    return picture.convert(mode)


def png_of_size(width, height):
    """A small PNG that claims to be large."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def animated(form):
    return encoded(Image.new("RGB", (48, 32)), form, save_all=True, append_images=[red_above_blue()])


BAD_UPLOADS = {  # name: body, status, what the answer says
    "zero bytes": (b"", 400, "The body is empty"),
    "text": (b"no picture" * 50, 415, "The body is not a picture; send one of JPEG"),
    "html": (b"<!DOCTYPE html><html></html>", 415, "not a picture"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "not a picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "not a picture"),
    "jpeg header only": (encoded(red_above_blue(), "JPEG")[:20], 415, "not a picture"),
    "truncated jpeg": (encoded(red_above_blue(size=(400, 400)), "JPEG")[:-900], 422, "damaged or cut short"),
    "truncated png": (encoded(red_above_blue(size=(400, 400)))[:-200], 422, "damaged or cut short"),
    "damaged png": (encoded(red_above_blue()).replace(b"IDAT", b"IDAT\x00\x00"), 422, "damaged or cut short"),
    "animated gif": (animated("GIF"), 422, "holds several pictures; send one"),
    "animated png": (animated("PNG"), 422, "holds several pictures"),
    "animated webp": (animated("WEBP"), 422, "holds several pictures"),
    "several pages": (animated("TIFF"), 422, "holds several pictures"),
    "many pixels": (png_of_size(8000, 8000), 413, "more than 40 million pixels"),
    "decompression bomb": (png_of_size(50_000, 50_000), 413, "more than 40 million pixels"),
    "many bytes": (bytes(10 * 2**20 + 1), 413, "more than 10 MB; send a smaller picture"),
    "32-bit floats": (encoded(Image.new("F", (9, 9), 0.5), "TIFF"), 422, "32 bits a pixel"),
}
