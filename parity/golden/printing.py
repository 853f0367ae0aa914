"""Writes tests/golden/printing.json: what PyTorch 2.13 prints for some sixty tensors.

Values are stored as nested lists (complex ones as [real, imaginary] in the last dimension), so the
test rebuilds each array without torch.
"""

import json
import pathlib

import torch

INF, NAN = float("inf"), float("nan")
cases = []


def add(values, dtype="float32", shape=None, options=None, device="cpu", **given):
    """Prints the tensor of `values` under `options` and stores everything needed to do so again."""
    tensor = torch.tensor(values, dtype=torch.float64 if "float8" in dtype else None)
    if dtype.startswith("complex"):
        tensor = torch.view_as_complex(torch.tensor(values, dtype=torch.float64))
    tensor = tensor.to(getattr(torch, dtype))
    if shape is not None:
        tensor = tensor.reshape(shape)
    tensor = tensor.to(device)
    if given.get("requires_grad"):
        tensor.requires_grad_()
    if "grad_fn" in given:
        tensor = tensor.clone()
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, given.get("default_float", "float32")))
    with torch._tensor_str.printoptions(**(options or {})):
        text = repr(tensor)
    torch.set_default_dtype(before)
    arguments = given | {"dtype_name": dtype, "device": device}
    cases.append(
        {
            "values": values,
            "shape": list(tensor.shape),
            "options": options or {},
            "arguments": arguments,
            "text": text,
        }
    )


def range_list(count, step=1.0):
    """Multiples of `step`, from 0 on."""
    return [i * step for i in range(count)]


for value, dtype in [
    (3.5, "float32"),
    (2.0, "float32"),
    (1e-5, "float32"),
    (-0.0, "float32"),
    (NAN, "float32"),
    (7, "int64"),
    (True, "bool"),
    (7, "uint8"),
    ([1.5, -2.0], "complex64"),
]:
    add(value, dtype)
add([], shape=[0])
add([], shape=[0, 3])
add([], "int64", [2, 0])
add([], "int64", [0])
add([1, -20, 300], "int64")
add([[1, 2], [3, 4]], "int32")
add([[True, False], [False, False]], "bool")
add([1.0, 2.0, 30.0])
add([1.0, NAN, INF, -INF])
add([0.5, NAN, INF, -INF])
add([0.0, NAN])
add([[0.1, -22.25], [3.0, 4.0]])
add([1.0, 1001.0])
add([1.0, 1000.0])
add([1e8, 2e8])
add([1e8 + 8, 2e8])
add([1e-4, 2e-4])
add([9e-5, 2e-4])
add([1e-10, 1e10, NAN, -INF])
add([123456.789, 654321.123])
add([0.1, 0.2], "float64")
add([0.1, 0.2], "float64", default_float="float64")
add([0.1, 0.2], "float32", default_float="float64")
add([0.1, 65504.0], "float16")
add([0.1, 3.0], "bfloat16")
add([[0.1, 3.0, -448.0]], "float8_e4m3fn")
add([0.1, 3.0, INF], "float8_e5m2")
add([[1.0, 2.0], [3.5, -4.0]], "complex64")
add([[1.0, 2000.0], [1e6, -0.0]], "complex128")
add([[1.0, NAN], [INF, -INF], [-0.5, 0.25]], "complex64")
add([[1.0, 2.0]], "complex128", default_float="float64")
add([1.5, 2.5], requires_grad=True)
add([1.5, 2.5], requires_grad=True, grad_fn="CloneBackward0")
add(range_list(10, 0.3), requires_grad=True, grad_fn="CloneBackward0", dtype="float64")
add(range_list(24), shape=[2, 3, 4])
add(range_list(16, 0.25), shape=[2, 2, 2, 2])
add(list(range(40)), "int64")
add(range_list(40, -1.75))
add([[i * 1.0, -i / 3] for i in range(20)], "complex64")
add(list(range(1001)), "int64")
add(range_list(40, 0.5), options={"threshold": 10})
add(range_list(64, 0.5), shape=[8, 8], options={"threshold": 10})
add(range_list(64, 0.5), shape=[2, 8, 4], options={"threshold": 10, "edgeitems": 1})
add(range_list(64, 0.5), shape=[8, 2, 4], options={"threshold": 10, "edgeitems": 2})
add(range_list(8), options={"threshold": 5, "edgeitems": 0})
add(range_list(8), shape=[2, 4], options={"threshold": 5, "edgeitems": 0})
add(range_list(8), shape=[2, 4], options={"edgeitems": 0})
add([1.23456789, 2.0], options={"precision": 2})
add([1.23456789, 2.0], options={"precision": 0})
add([1.0, 2.0], options={"sci_mode": True})
add([1e-9, 2.5], options={"sci_mode": False})
add(range_list(12, 0.1), options={"linewidth": 30})
add([0.123456, 2.0], options={"profile": "short"})
add(range_list(8, 0.5), options={"profile": "short", "threshold": 6})
add([[1.0, 2.0], [3.0, 4.0]], device="meta")
add([1, 2], "int64", device="meta")

target = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "printing.json"
lines = ",\n".join(json.dumps(case) for case in cases)
target.write_text(f"[\n{lines}\n]\n")
