"""Graphs as modules and files: traced, saved, loaded, run, trained; what is refused and how."""

import io
import json
import zipfile

import numpy as np
import pytest

import lampion as torch
import lampion.nn as nn
from lampion import jit
from lampion.cli import main


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def saved(module):
    file = io.BytesIO()
    jit.save(module, file)
    return file.getvalue()


def reloaded(module):
    return jit.load(io.BytesIO(saved(module)))


def changed(data, change):
    """A graph file whose JSON went through `change`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = json.loads(archive.read("graph.json"))
        weights = archive.read("weights.safetensors")
    change(content)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("graph.json", json.dumps(content))
        archive.writestr("weights.safetensors", weights)
    return io.BytesIO(file.getvalue())


def test_a_graph_prints():
    graph = jit.trace(lambda x: (x.relu() + x).sum(), torch.ones(2))
    assert str(graph) == (
        "graph:\n"
        "  argument %x: f32[2]\n"
        "  %v0: f32[2] = relu(%x)\n"
        "  %v1: f32[2] = add(%v0, %x)\n"
        "  %v2: f32[] = sum(%v1, dim=None, keepdim=False)\n"
        "  return (%v2)"
    )


def test_a_loaded_module_gives_the_same_and_has_the_same_names():
    model, x = network().eval(), torch.randn(3, 1, 8, 8)
    loaded = reloaded(jit.trace(model, x))
    assert torch.equal(loaded(x), model(x))
    used = [name for name in model.state_dict() if "num_batches" not in name]
    assert sorted(loaded.state_dict()) == sorted(used)
    assert sorted(n for n, _ in loaded.named_parameters()) == sorted(
        n for n, _ in model.named_parameters()
    )


def test_a_loaded_module_trains_as_the_original():
    model, x, target = network(), torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4])
    loaded = reloaded(jit.trace(model, x))
    losses = []
    for net in (model, loaded):
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
        for _ in range(4):
            loss = nn.functional.cross_entropy(net(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:4] == losses[4:]
    assert losses[3] < losses[0]
    statistics = "1.running_mean"
    one, other = model.state_dict()[statistics], loaded.state_dict()[statistics]
    # the trace itself moved the original's statistics once before the graph was saved
    assert torch.equal(one, other) and one.abs().sum() > 0


def test_a_traced_module_shares_its_weights():
    linear = nn.Linear(2, 2)
    traced = jit.trace(linear, torch.ones(1, 2))
    assert traced.weight is linear.weight


def test_nested_arguments_and_results():
    def f(pair, scale):
        return {"sum": pair[0] + pair[1], "rest": [pair[0] * scale, (None, 3)]}

    loaded = reloaded(jit.trace(f, ((torch.ones(2), torch.ones(2)), torch.tensor(2.0))))
    found = loaded(torch.ones(2), torch.full((2,), 4.0), torch.tensor(3.0))
    assert found["sum"].tolist() == [5, 5]
    assert found["rest"][0].tolist() == [3, 3]
    assert found["rest"][1] == (None, 3)


def test_random_numbers_are_drawn_at_each_call():
    drop = jit.trace(nn.Dropout(0.5), torch.ones(100))
    assert not torch.equal(drop(torch.ones(100)), drop(torch.ones(100)))
    torch.manual_seed(3)
    one = drop(torch.ones(100))
    torch.manual_seed(3)
    assert torch.equal(one, nn.Dropout(0.5)(torch.ones(100)))


def test_writes_to_arguments_are_done():
    traced = jit.trace(lambda x: x.add_(1)[:1], torch.zeros(2))
    x = torch.ones(2)
    assert traced(x).tolist() == [2] and x.tolist() == [2, 2]


def test_a_branch_on_a_value_is_refused_with_its_line():
    def f(x):
        return x if x.sum() > 0 else -x

    with pytest.raises(RuntimeError, match=r"\[jit.trace\] `bool` reads .*test_jit.py:\d+, so"):
        jit.trace(f, torch.ones(2))


def test_another_shape_is_refused():
    traced = jit.trace(lambda x: x.mean(), torch.ones(2, 3))
    with pytest.raises(RuntimeError, match=r"traced as f32\[2, 3\], got torch.float32 \[4, 3\]"):
        traced(torch.ones(4, 3))
    with pytest.raises(TypeError, match="takes 1 tensors, got 2"):
        traced(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(TypeError, match="must be a Tensor, not float"):
        traced(1.0)


def test_arguments_that_do_not_fit_the_function():
    with pytest.raises(TypeError, match="example_inputs do not fit"):
        jit.trace(lambda x: x, (torch.ones(1), torch.ones(1)))


def test_only_traced_modules_are_saved():
    with pytest.raises(TypeError, match="trace it first"):
        jit.save(nn.Linear(1, 1), "nowhere")


def test_a_full_or_missing_folder_leaves_the_old_file(tmp_path):
    traced = jit.trace(lambda x: x + 1, torch.ones(2))
    with pytest.raises(FileNotFoundError):
        traced.save(tmp_path / "no" / "such.lampion")
    path = tmp_path / "a.lampion"
    traced.save(path)
    before = path.read_bytes()
    number = torch.tensor(1 + 2j, dtype=torch.complex128)
    odd = jit.trace(lambda x: x * number, torch.ones(2))
    with pytest.raises(TypeError, match="complex128"):
        odd.save(path)
    assert path.read_bytes() == before


def test_equal_graphs_make_equal_files():
    linear = nn.Linear(2, 2)
    traced = jit.trace(linear, torch.ones(1, 2))
    assert saved(traced) == saved(traced)
    assert saved(reloaded(traced))[:2000] == saved(traced)[:2000]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=2), "format version 2.*reads up to 1"),
        (lambda c: c.update(format="onnx"), "no graph file"),
        (lambda c: c["steps"][0].update(op="launch"), "operator 'launch'"),
        (lambda c: c["steps"][0].update(params={"x": {"code": "1"}}), "of no known kind"),
        (lambda c: c["steps"][0].update(inputs=["nothing", None]), "damaged"),
        (lambda c: c["steps"].append(c["steps"][0]), "defined twice"),
        (lambda c: c["inputs"][0].update(dtype="__class__"), "unknown type"),
        (lambda c: c.pop("returns"), "damaged: it lacks 'returns'"),
    ],
)
def test_files_that_are_refused(change, message):
    data = saved(jit.trace(nn.Linear(2, 2), torch.ones(1, 2)))
    with pytest.raises(RuntimeError, match=message):
        jit.load(changed(data, change))


@pytest.mark.parametrize("size", [0, 10, 200, 900])
def test_a_truncated_file(size):
    data = saved(jit.trace(nn.Linear(2, 2), torch.ones(1, 2)))
    with pytest.raises(RuntimeError, match="damaged or no graph file"):
        jit.load(io.BytesIO(data[:size]))


def test_unknown_keys_are_ignored():
    data = saved(jit.trace(lambda x: x + x, torch.ones(1)))
    assert jit.load(changed(data, lambda c: c.update(later=1)))(torch.ones(1)).item() == 2


def test_run_graph(tmp_path, capsys):
    path, given, result = tmp_path / "g.lampion", tmp_path / "x.npy", tmp_path / "y.npy"
    jit.trace(lambda x: x * 2, torch.ones(2)).save(path)
    np.save(given, np.array([1, 5], np.float32))
    assert main(["run-graph", str(path), "--input", str(given)]) == 0
    assert capsys.readouterr().out == "tensor([ 2., 10.])\n"
    assert main(["run-graph", str(path), "--input", str(given), "--output", str(result)]) == 0
    assert np.load(result).tolist() == [2, 10]
    assert main(["run-graph", str(path), "--print"]) == 0
    assert "mul(%x" in capsys.readouterr().out
    np.save(given, np.ones(3, np.float32))
    assert main(["run-graph", str(path), "--input", str(given)]) == 1
    assert "traced as f32[2]" in capsys.readouterr().err
    assert main(["run-graph", str(tmp_path / "missing"), "--input", str(given)]) == 1


def test_script_leaves_python_as_it_is():
    @jit.script
    def double(x):
        return x * 2

    assert double(torch.ones(1)).item() == 2
    assert not jit.is_scripting() and not jit.is_tracing()
    jit.trace(lambda x: x if jit.is_tracing() else x / 0, torch.ones(1))
