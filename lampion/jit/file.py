"""Graph files: a zip of `graph.json` and `weights.safetensors`; docs/graph_format.md says what is
in them. Imports encoding, compiler.graph and io.

Loading runs no code from the file. Equal graphs make equal files.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors
import safetensors.numpy

from .. import dtypes
from ..compiler.trace.graph import Graph, Input, Step, Value
from ..errors import check
from ..io.archive import SAFETENSORS_NAMES, add_member, in_rows
from ..io.atomic import replacing
from ..version import __version__
from .encoding import Decoder, Encoder, dtype_named, operator

FORMAT = "lampion-graph"
VERSION = 1  # of the format; raised when older readers could not read a new file
KNOWN = {kind.numpy for kind in SAFETENSORS_NAMES.values()}


# -- writing -----------------------------------------------------------------------------------


def write(
    file: str | os.PathLike | IO[bytes],
    graph: Graph,
    results: Any,
    weights: Mapping[str, np.ndarray],
    trainable: set[str],
) -> None:
    """Writes a graph whose state inputs have the names of `weights`; `results` is the nested
    structure of what it returns, values in their places. A path is replaced whole or not at all.
    """
    encode = Encoder()
    content = {
        "format": FORMAT,
        "version": VERSION,
        "made by": f"lampion {__version__}",
        "inputs": [input_record(item, encode) for item in graph.inputs],
        "steps": [step_record(step, encode) for step in graph.steps],
        "writes": [[target.name, value.name] for target, value in graph.writes],
        "returns": structure_record(results, encode),
        "trainable": sorted(trainable),
    }
    text = json.dumps(content, indent=1, allow_nan=False).encode()
    tensors = safetensors_of({**weights, **encode.arrays})
    if isinstance(file, (str, os.PathLike)):
        with replacing(file) as opened:
            write_members(opened, text, tensors)
    else:
        write_members(file, text, tensors)


def write_members(file: IO[bytes], text: bytes, tensors: bytes) -> None:
    """The zip archive."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        add_member(archive, "graph.json", text)
        add_member(archive, "weights.safetensors", tensors)


def value_record(value: Value) -> dict:
    """A value's name, type, shape and strides."""
    return {
        "name": value.name,
        "dtype": dtypes.FROM_NUMPY[value.dtype].name,
        "shape": list(value.shape),
        "strides": list(value.strides),
    }


def input_record(item: Input, encode: Encoder) -> dict:
    """An input and its role."""
    record = {**value_record(item.value), "role": item.role}
    if item.role == "constant":
        record["data"] = encode.array(item.data)  # type: ignore[arg-type]
    return record


def step_record(step: Step, encode: Encoder) -> dict:
    """An operator and what it is run on."""
    return {
        "op": step.op.name,
        "inputs": [None if v is None else v.name for v in step.inputs],
        "params": {name: encode(value) for name, value in step.params.items()},
        "outputs": [value_record(v) for v in step.outputs],
        "line": step.line,
    }


def structure_record(results: Any, encode: Encoder) -> Any:
    """Nested results: a value is `{"value": name}`, containers keep their kind."""
    if isinstance(results, Value):
        return {"value": results.name}
    if isinstance(results, tuple):
        return [structure_record(r, encode) for r in results]
    if isinstance(results, list):
        return {"list": [structure_record(r, encode) for r in results]}
    if isinstance(results, dict):
        return {"dict": [[encode(k), structure_record(r, encode)] for k, r in results.items()]}
    return encode(results)


def safetensors_of(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays in the safetensors format."""
    for name, array in arrays.items():
        check(
            array.dtype in KNOWN,
            lambda: f"[jit.save] safetensors knows no {array.dtype} ({name}); convert it first",
            TypeError,
        )
    rows = {name: in_rows(array) for name, array in arrays.items()}
    return safetensors.numpy.save(rows, {"format": FORMAT})


# -- reading -----------------------------------------------------------------------------------


def read(file: str | os.PathLike | IO[bytes]) -> tuple[Graph, Any, dict[str, np.ndarray], set[str]]:
    """The graph, its results, its weights by name and which of these are trainable.

    Raises RuntimeError for a damaged file and for one of a later format.
    """
    data = Path(file).read_bytes() if isinstance(file, (str, os.PathLike)) else file.read()
    name = str(file) if isinstance(file, (str, os.PathLike)) else "the given file"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            content = json.loads(archive.read("graph.json"))
            arrays = arrays_of(archive.read("weights.safetensors"))
        check_version(content, name)
        graph, results = graph_of(content, arrays)
        graph.verify()
        weights = {i.value.name: arrays[i.value.name] for i in graph.inputs if i.role == "state"}
        return graph, results, weights, set(content["trainable"])
    except (zipfile.BadZipFile, safetensors.SafetensorError, OSError, ValueError) as error:
        raise RuntimeError(f"[jit.load] {name} is damaged or no graph file: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise RuntimeError(f"[jit.load] {name} is damaged: it lacks {error}") from error


def check_version(content: dict, name: str) -> None:
    """Raises RuntimeError unless the file is of this format and of a version that is known."""
    check(
        isinstance(content, dict) and content.get("format") == FORMAT,
        lambda: f"[jit.load] {name} is no graph file: its format is not {FORMAT!r}",
    )
    version = content["version"]
    check(
        version <= VERSION,
        lambda: (
            f"[jit.load] {name} has format version {version}, this Lampion ({__version__}) reads "
            f"up to {VERSION}; install the version that made it: {content['made by']}"
        ),
    )


def graph_of(content: dict, arrays: dict[str, np.ndarray]) -> tuple[Graph, Any]:
    """The graph and the structure of its results."""
    decode = Decoder(arrays)
    values: dict[str, Value] = {}

    def define(record: dict) -> Value:
        dtype = dtype_named(record["dtype"]).numpy
        value = Value(record["shape"], dtype, record["name"], record["strides"])
        return values.setdefault(value.name, value)

    def find(name: str | None) -> Value | None:
        return None if name is None else values[name]

    inputs = [Input(define(r), r["role"], arrays.get(r.get("data"))) for r in content["inputs"]]
    steps = []
    for r in content["steps"]:
        params = {name: decode(value) for name, value in r["params"].items()}
        operands = tuple([find(name) for name in r["inputs"]])
        outputs = tuple([define(o) for o in r["outputs"]])
        steps.append(Step(operator(r["op"]), operands, params, outputs, r["line"]))
    results = structure_of(content["returns"], values, decode)
    writes = [(values[target], values[value]) for target, value in content["writes"]]
    return Graph(inputs, steps, list(values_in(results)), writes), results


def structure_of(record: Any, values: dict[str, Value], decode: Decoder) -> Any:
    """What `structure_record` wrote."""
    if isinstance(record, list):
        return tuple([structure_of(r, values, decode) for r in record])
    if isinstance(record, dict) and "value" in record:
        return values[record["value"]]
    if isinstance(record, dict) and "list" in record:
        return [structure_of(r, values, decode) for r in record["list"]]
    if isinstance(record, dict) and "dict" in record:
        return {decode(k): structure_of(r, values, decode) for k, r in record["dict"]}
    return decode(record)


def values_in(results: Any) -> list[Value]:
    """The values of a nested structure, in order."""
    if isinstance(results, Value):
        return [results]
    if isinstance(results, dict):
        results = list(results.values())
    if isinstance(results, (tuple, list)):
        return [value for r in results for value in values_in(r)]
    return []


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, each with memory of its own."""
    found = {}
    for name, record in safetensors.deserialize(data):
        kind = SAFETENSORS_NAMES[record["dtype"]].numpy
        found[name] = np.frombuffer(record["data"], kind).reshape(record["shape"]).copy()
    return found
