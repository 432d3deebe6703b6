"""MATLAB's format of versions 5 to 7, read so that a damaged file is refused.

scipy.io.loadmat, which reads more of it, ends the process on some damaged files, and unpacks without a limit.
"""

import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

MOST_BYTES = 2**28  # of one variable, unpacked; PETA's has 17 MB
_HEADER, _DEEPEST = 128, 16
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
_CELLS, _STRUCTS, _CHARACTERS, _NUMERIC = 1, 2, 4, range(6, 16)  # classes of matrices


def read_mat(path: Path, name: str) -> Any:
    """Read one variable: numbers as an array, a text as a string, cells as an array of these, a struct as one of dicts.

    Raises:
        KeyError: There is no such variable.
        ValueError: The file is damaged, has another form, or unpacks to more than 256 MB.
    """
    data = path.read_bytes()
    if data[124:128] != b"\x00\x01IM":
        raise ValueError("it is no MATLAB file of version 5 to 7")
    at = _HEADER
    while at < len(data):
        kind, content, at = _element(memoryview(data), at)
        if kind == _COMPRESSED:
            kind, content, _ = _element(memoryview(_unpacked(content)), 0)
        if kind == _MATRIX and (found := _matrix(content, name, depth=0)) is not None:
            return found
    raise KeyError(name)


def _unpacked(content: memoryview) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(content, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if unpacking.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes")
    return unpacked


def _element(data: memoryview, at: int) -> tuple[int, memoryview, int]:
    """Give the type of an element, what it holds, and where the next one begins."""
    word, length = np.frombuffer(data[at : at + 8], "<u4").tolist() if at + 8 <= len(data) else (0, len(data))
    start = at + 8
    if word >> 16:  # up to four bytes fit in the place of the length
        word, length, start = word & 0xFFFF, word >> 16, at + 4
    if start + length > len(data):
        raise ValueError(f"it is cut short at byte {at}")
    end = start + length
    return word, data[start:end], end if word == _COMPRESSED else at + 8 + (end - at - 1) // 8 * 8


def _matrix(content: memoryview, name: str | None, *, depth: int) -> Any:
    """Read a matrix; None if it has another name than the one that is wanted."""
    if not len(content):
        return np.empty((0, 0))
    if depth > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")
    _, flags, at = _element(content, 0)
    _, sizes, at = _element(content, at)
    _, own, at = _element(content, at)
    if name is not None and bytes(own) != name.encode():
        return None
    shape = np.frombuffer(sizes, "<i4").tolist()
    form, count = flags[0], prod(shape)
    if min(shape, default=-1) < 0 or count > len(content):
        raise ValueError(f"a variable of shape {shape} stands in {len(content)} bytes")
    if form == _CELLS:
        return _array(_all(content, at, count, depth), shape)
    if form == _STRUCTS:
        _, length, at = _element(content, at)
        _, names, at = _element(content, at)
        width = int(np.frombuffer(length, "<i4")[0]) if len(length) == 4 else 0
        if width < 1:
            raise ValueError("a struct has no names")
        fields = [bytes(names[start : start + width]).split(b"\0")[0].decode() for start in range(0, len(names), width)]
        values = _all(content, at, count * len(fields), depth)
        rows = [values[start : start + len(fields)] for start in range(0, len(values), len(fields) or 1)]
        return _array([dict(zip(fields, row, strict=True)) for row in rows], shape)
    kind, numbers, _ = _element(content, at)
    if form == _CHARACTERS and kind in _TEXTS and shape[0] <= 1:
        return bytes(numbers).decode(_TEXTS[kind])
    if form in _NUMERIC and kind in _NUMBERS:
        return np.frombuffer(numbers, _NUMBERS[kind]).reshape(shape, order="F")
    raise ValueError(f"it holds a value of class {form} and type {kind}, which no label file has")


def _all(content: memoryview, at: int, count: int, depth: int) -> list[Any]:
    if 8 * count > len(content):
        raise ValueError(f"{count} values stand in {len(content)} bytes")
    values = []
    for _ in range(count):
        _, value, at = _element(content, at)
        values.append(_matrix(value, None, depth=depth + 1))
    return values


def _array(values: list[Any], shape: list[int]) -> Any:
    array = np.empty(len(values), object)
    for place, value in enumerate(values):
        array[place] = value
    return array.reshape(shape, order="F")
