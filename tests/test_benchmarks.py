"""The benchmark's own machinery: every training step runs, the protocol works, reports are right.

Nothing is timed here; figures come from `make bench`.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import lampion

FOLDER = Path(__file__).parents[1] / "benchmarks"
STEPS = ["scalar", "two_layer", "two_layer_nn", "mlp", "resnet18", "gpt", "lstm"]
CALLS = ["copy", "add", "exp", "chain", "sum", "sum_rows", "sum_columns", "softmax", "layer_norm"]

# A contestant that speaks the protocol; its name is its one argument.
FAKE = """
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "start":
        value = 2.0 if sys.argv[1] == "wrong" else 1.0
        reply = {"values": [[value]], "drift": 0.5, "first": 0.1, "resident": 10.0}
    elif sys.argv[1] == "fails":
        reply = {"error": "RuntimeError: on purpose"}
    elif sys.argv[1] == "dies":
        print("killed on purpose", file=sys.stderr)
        sys.exit(3)
    else:
        reply = {"times": [0.02, 0.01 if sys.argv[1] == "torch" else 0.005, 0.03]}
    print(json.dumps(reply), flush=True)
"""


@pytest.fixture
def module(monkeypatch):
    """Imports a file of benchmarks/ the way its scripts do."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in [n for n, m in sys.modules.items() if getattr(m, "__file__", None)]:
        if Path(sys.modules[name].__file__).parent == FOLDER:
            del sys.modules[name]


@pytest.fixture
def field(module, tmp_path):
    """A field of fake contestants with the given names."""
    contestants = module("contestants")
    fields = []

    def make(*names):
        made = contestants.Field(names, 1, tmp_path)
        made.workers = {
            name: contestants.Worker(name, 1, tmp_path, [sys.executable, "-c", FAKE, name])
            for name in names
        }
        fields.append(made)
        return made

    yield make
    for made in fields:
        made.__exit__()


def test_the_table_is_complete(module):
    workloads, torch_steps = module("workloads"), module("torch_steps")
    assert list(workloads.STEPS) == STEPS == list(torch_steps.BUILDERS)
    assert list(workloads.CALLS) == CALLS == list(torch_steps.CALLS)


@pytest.mark.parametrize("name", STEPS)
def test_two_steps_of_the_eager_workload(module, name):
    """The loss is finite, and the step changes every weight that has a gradient."""
    workload, torch_steps = module("workloads").STEPS[name], module("torch_steps")
    training = torch_steps.build(lampion, name, module("workloads").Size(**workload.tiny))
    batch = [lampion.from_numpy(array) for array in workload.data(workload.tiny)]
    before = {key: weight.detach().clone() for key, weight in training.weights.items()}
    losses = [training.step(*batch).item() for _ in range(2)]
    assert np.isfinite(losses).all()
    if name == "scalar":
        assert all(np.isfinite(grad.item()) for grad in training.results().values())
        return
    assert losses[1] != losses[0]
    still = [key for key, weight in training.weights.items() if (weight == before[key]).all()]
    assert not still


@pytest.mark.parametrize("name", CALLS)
def test_call(module, name):
    workload, torch_steps = module("workloads").CALLS[name], module("torch_steps")
    size = module("workloads").Size(**workload.tiny)
    batch = [lampion.from_numpy(array) for array in workload.data(workload.tiny)]
    assert lampion.isfinite(torch_steps.build(lampion, name, size).step(*batch)).all()


@pytest.mark.parametrize("name", ["scalar", "mlp", "resnet18", "gpt", "lstm"])
def test_steps_agree_with_pytorch(module, pytorch, name):
    """Losses of three steps from the same weights."""
    workload, torch_steps = module("workloads").STEPS[name], module("torch_steps")
    size = module("workloads").Size(**workload.tiny)
    ours, theirs = (torch_steps.build(torch, name, size) for torch in (lampion, pytorch))
    start = {key: weight.detach().numpy().copy() for key, weight in ours.weights.items()}
    losses = []
    for torch, training in ((lampion, ours), (pytorch, theirs)):
        with torch.no_grad():
            for key, weight in training.weights.items():
                weight.copy_(torch.from_numpy(start[key].copy()))
        batch = [torch.from_numpy(array) for array in workload.data(workload.tiny)]
        losses.append([training.step(*batch).item() for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.parametrize("name", STEPS)
def test_traced_steps_agree_with_eager(module, name):
    """The whole step as a graph gives the same losses; nothing in it falls back to eager."""
    workload, torch_steps = module("workloads").STEPS[name], module("torch_steps")
    losses = []
    for wrap in (lambda step: step, lambda step: lampion.compile(step, backend="interpreter")):
        lampion.manual_seed(0)
        training = torch_steps.build(lampion, name, module("workloads").Size(**workload.tiny))
        batch = [lampion.from_numpy(array) for array in workload.data(workload.tiny)]
        step = wrap(training.step)
        losses.append([step(*batch).item() for _ in range(4)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_worker_answers_over_a_pipe(module, tmp_path):
    """The real worker: starts a tiny workload, takes times, names what it cannot do."""
    contestants, measure = module("contestants"), module("measure")
    tiny = dict(module("workloads").STEPS["mlp"].tiny)
    with contestants.Field(["lampion"], 1, tmp_path) as field:
        results = measure.start(field, "mlp", tiny, tmp_path)
        assert np.isfinite(results["lampion"]["values"]).all()
        assert results["lampion"]["drift"] > 0
        assert results["lampion"]["summit"] >= results["lampion"]["resident"] > 1
        times = field.workers["lampion"].ask("burst", seconds=0.01)["times"]
        assert times and all(seconds > 0 for seconds in times)
        if Path("/proc/self/clear_refs").exists():
            assert field.workers["lampion"].ask("memory", steps=1)["peak"] > 1
        with pytest.raises(contestants.Failed, match="no request is called 'sing'"):
            field.workers["lampion"].ask("sing")


def test_race_takes_turns_and_marks_who_disagrees_or_fails(module, field, tmp_path):
    measure = module("measure")
    playing = field("torch", "fast", "wrong", "fails", "dies")
    results = measure.run_workload(playing, "scalar", {}, 0.01, tmp_path)
    assert results["torch"]["best"] == 0.01 and results["torch"]["median"] == 0.02
    assert "results differ" in results["wrong"]["error"] and "best" not in results["wrong"]
    assert results["fails"]["error"] == "RuntimeError: on purpose"
    assert "killed on purpose" in results["dies"]["error"]
    assert measure.speeds(results) == {"torch": 1.0, "fast": 2.0}


def test_report_and_what_is_missing(module):
    report = module("report")
    result = {"best": 0.001, "first": 2.0}
    figures = {
        "machine": {"processor": "P", "threads": 2, "date": "today", "versions": {"torch": "2"}},
        "absent": {"jax.jit": "jax is not installed"},
        "steps": {
            "mlp": {
                "lampion.compile": {**result, "best": 0.0005},
                "torch": result,
                "torch.compile": {"error": "RuntimeError: no"},
            }
        },
    }
    text = report.markdown(figures)
    row = next(line for line in text.splitlines() if line.startswith("| MLP"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [
        "500 us", "1 ms", "failed", "2.00", "-", "1.5",
    ]  # fmt: skip
    assert "- jax.jit: jax is not installed" in text
    assert "- steps, mlp, torch.compile: RuntimeError: no" in text


# Guards against slow regressions that need no clock (kernels of a compiled step, host calls in it,
# memory its plan asks for) belong below, a line for each workload: name, figure, limit.
