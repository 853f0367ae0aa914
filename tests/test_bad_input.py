"""What a clumsy or hostile user gets: PyTorch's class, a clear message, and nothing half changed.

`golden/bad_input.json` holds calls with the class that PyTorch 2.13 raises ("" where it raises
nothing, which for empty and 0-dim tensors is the point) and a regular expression: the gist.
"""

import copy
import io
import json
import re
import traceback
from pathlib import Path

import numpy as np
import pytest

import lampion as torch
import lampion.func
import lampion.nn.functional as F
import lampion.utils.checkpoint
from lampion import nn
from lampion.utils.data import DataLoader

CASES = json.loads((Path(__file__).parent / "golden" / "bad_input.json").read_text())
INSIDE = re.compile(  # what NumPy and Python say of our inside
    r"'_data'|'interpreter'|operands could not|is out of bounds for axis|inhomogeneous"
)


def boom(batch):
    raise KeyError("boom")


LOADING = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "RandomSampler",
    "Subset",
    "TensorDataset",
    "WeightedRandomSampler",
    "random_split",
]
NAMES = {"torch": torch, "nn": nn, "F": F, "np": np, "io": io, "copy": copy, "boom": boom}
NAMES |= {name: getattr(torch.utils.data, name) for name in LOADING}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CASES)
def test_raises_what_pytorch_raises(call):
    expected, gist = CASES[call]
    names = {**NAMES, "P": torch.ones(2, requires_grad=True)}
    if not expected:
        eval(call, names)
        return
    with pytest.raises(Exception, match=gist) as caught:
        eval(call, names)
    error = caught.value
    assert expected in [c.__name__ for c in type(error).__mro__]
    assert not INSIDE.search(str(error)), str(error)
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    assert "/numpy/" not in last, "NumPy's error, not ours"


@pytest.mark.filterwarnings("ignore")
def test_the_classes_are_pytorchs(pytorch):
    names = {"torch": pytorch, "nn": pytorch.nn, "F": pytorch.nn.functional}
    names = {**NAMES, **names, **{n: getattr(pytorch.utils.data, n) for n in LOADING}}
    for call, (expected, _) in CASES.items():
        found = ""
        try:
            eval(call, {**names, "P": pytorch.ones(2, requires_grad=True)})
        except Exception as error:
            found = type(error).__name__
        assert found == expected, call


# -- nothing half changed ----------------------------------------------------------------------

UNCHANGED = {  # a write that fails; x is tensor([[0., 1., 2.], [3., 4., 5.]])
    "broadcast": (lambda x: x.add_(torch.ones(4)), RuntimeError, "size of tensor a"),
    "grows": (lambda x: x[0].add_(torch.ones(2, 3)), RuntimeError, "doesn't match the broadcast"),
    "copy": (lambda x: x.copy_(torch.ones(2)), RuntimeError, "must match"),
    "cast": (lambda x: x.add_(1j), RuntimeError, "can't be cast"),
    "item": (lambda x: x.__setitem__((0, 3), 9.0), IndexError, "out of bounds"),
    "rows": (lambda x: x.__setitem__(torch.tensor([0, 5]), 9.0), IndexError, "out of bounds"),
    "values": (lambda x: x.__setitem__(0, torch.ones(2)), RuntimeError, "expand"),
    "no number": (lambda x: x.__setitem__(0, "a"), TypeError, "str"),
    "fill": (lambda x: x.fill_("a"), TypeError, "must be Tensor or Number, not str"),
    "masked_fill": (lambda x: x.masked_fill_(x > 0, "a"), TypeError, "Number, not str"),
    "scatter": (
        lambda x: x.scatter_(1, torch.tensor([[0, 7]]), 9.0),
        (IndexError, RuntimeError),
        "out of bounds",
    ),
    "scatter_add": (
        lambda x: x.scatter_add_(1, torch.tensor([[0, 7]]), torch.ones(1, 2)),
        (IndexError, RuntimeError),
        "out of bounds",
    ),
    "index_add": (
        lambda x: x.index_add_(0, torch.tensor([0, 5]), torch.ones(2, 3)),
        (IndexError, RuntimeError),
        "out of",
    ),
    "index_copy": (
        lambda x: x.index_copy_(0, torch.tensor([0, 5]), torch.ones(2, 3)),
        (IndexError, RuntimeError),
        "out of",
    ),
    "put": (
        lambda x: x.put_(torch.tensor([0, 9]), torch.ones(2)),
        (IndexError, RuntimeError),
        "out of",
    ),
    "out": (lambda x: torch.matmul(x, x, out=x), RuntimeError, "cannot be multiplied"),
    "uniform": (lambda x: x.uniform_(3, 1), RuntimeError, "uniform_"),
    "overlap": (lambda x: x[:1].expand(2, 3).add_(1), RuntimeError, "single memory location"),
}


@pytest.mark.parametrize("case", UNCHANGED)
def test_a_write_that_fails_changes_nothing(case):
    write, error, message = UNCHANGED[case]
    x = torch.arange(6.0).view(2, 3)
    with pytest.raises(error, match=message):
        write(x)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]


STATES = {  # what is done to a good state_dict, and what is said of it
    "missing": (lambda s: s.pop("1.bias"), r"Missing key\(s\) in state_dict: \"1.bias\""),
    "unexpected": (lambda s: s.update(more=torch.ones(1)), r"Unexpected key\(s\) .* \"more\""),
    "mis-sized": (lambda s: s.update({"1.weight": torch.ones(5, 3)}), "size mismatch for 1.weight"),
    "no tensor": (lambda s: s.update({"1.weight": "a"}), "1.weight"),
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_dict_that_does_not_fit_leaves_the_module_alone(case):
    spoil, message = STATES[case]
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    before = {k: v.tolist() for k, v in net.state_dict().items()}
    state = {k: v + 1 for k, v in net.state_dict().items()}
    spoil(state)
    with pytest.raises(RuntimeError, match=message):
        net.load_state_dict(state)
    assert {k: v.tolist() for k, v in net.state_dict().items()} == before


def test_a_foreign_optimizer_state_leaves_the_optimizer_alone():
    ours = torch.optim.Adam(nn.Linear(2, 3).parameters(), lr=0.5)
    theirs = torch.optim.Adam(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)).parameters(), lr=0.1)
    before = ours.state_dict()
    with pytest.raises(ValueError, match="parameter group that doesn't match the size"):
        ours.load_state_dict(theirs.state_dict())
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        ours.add_param_group({"params": [ours.param_groups[0]["params"][0]]})
    assert ours.state_dict() == before and len(ours.param_groups) == 1


SETTINGS = [
    (lambda: torch.set_default_dtype(torch.int64), TypeError, torch.get_default_dtype),
    (lambda: torch.set_grad_enabled("no"), TypeError, torch.is_grad_enabled),
    (lambda: torch.manual_seed("a"), ValueError, torch.initial_seed),
    (lambda: torch.set_num_threads(0), RuntimeError, torch.get_num_threads),
]


@pytest.mark.parametrize("case", range(len(SETTINGS)))
def test_a_setting_that_is_refused_stays(case):
    call, error, setting = SETTINGS[case]
    before = setting()
    with pytest.raises(error):
        call()
    assert setting() == before


# -- graphs ------------------------------------------------------------------------------------


def test_a_freed_graph():
    x = torch.ones(2, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()
    assert x.grad.tolist() == [2, 2]


def test_a_modified_saved_tensor_names_operator_and_line():
    x = torch.ones(2, requires_grad=True)
    y = x.exp()
    y.add_(1)  # the line that the error names
    with pytest.raises(RuntimeError, match="has been modified by an inplace operation") as caught:
        y.sum().backward()
    lines = Path(__file__).read_text().splitlines()
    line = next(i for i, text in enumerate(lines, 1) if text.endswith("error names"))
    assert "add_" in str(caught.value)
    assert re.search(rf"{Path(__file__).name}(:|.* line ){line}\b", str(caught.value))


VIEWS = [lambda x: x, lambda x: x[0], lambda x: x.view(4), lambda x: x.t()]


@pytest.mark.parametrize("write", VIEWS)
def test_leaves_and_views_of_leaves_are_not_written(write):
    x = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        write(x).mul_(2)
    assert x.tolist() == [[1, 1], [1, 1]]


def test_a_gradient_that_does_not_fit_is_refused():
    x = torch.ones(2, requires_grad=True)
    for wrong in (torch.ones(3), torch.ones(2, dtype=torch.float64), 3):
        with pytest.raises((RuntimeError, TypeError)):
            x.grad = wrong
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match="[Mm]ismatch in shape"):
        (x * 2).backward(torch.ones(3))
    assert x.grad is None


# -- modules and loaders -----------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
        self.fc1 = nn.Linear(100, 10)

    def forward(self, x):
        return self.fc1(self.body(x))


def test_errors_name_the_module():
    net = Net()
    expected = r"\[linear\] net.fc1 expects 100 input features, got 144 .*; set in_features=144"
    with pytest.raises(RuntimeError, match=expected):
        net(torch.ones(2, 1, 8, 8))
    with pytest.raises(RuntimeError, match=r"^\[conv2d\] net.body.0 "):
        net(torch.ones(2, 3, 8, 8))


class Rows:
    def __init__(self, broken):
        self.broken = broken

    def __len__(self):
        return 4

    def __getitem__(self, i):
        if i == 2:
            self.broken()
        return torch.ones(2) * i


def fails():
    raise OSError("row 2 is unreadable")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_data_set_raises_reaches_the_loop(workers):
    rows = DataLoader(Rows(fails), num_workers=workers)
    with pytest.raises(OSError, match="row 2 is unreadable"):
        list(rows)


# -- the tools that say it ---------------------------------------------------------------------


def test_a_method_names_the_argument_too():
    message = r"argument '\w+' \(position \d\) must be Tensor, not list"
    for call in (
        lambda: torch.ones(2).gather(0, [0]),
        lambda: torch.ones(2).index_select(0, [0]),
        lambda: torch.ones(2).dot([1.0]),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_optional_arguments_may_be_none():
    with pytest.raises(TypeError, match="'input' .* must be Tensor, not NoneType"):
        F.linear(None, torch.ones(2, 2), None)
    with pytest.raises(TypeError, match="'bias' .* must be Tensor, not str"):
        F.linear(torch.ones(1, 2), torch.ones(2, 2), "a")


def test_wrong_number_and_names_of_arguments():
    for call in (torch.matmul, lambda: torch.sum(torch.ones(2), nonsense=1), lambda: nn.Linear(3)):
        with pytest.raises(TypeError, match="missing|unexpected"):
            call()
