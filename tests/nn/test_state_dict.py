"""Saving and loading: round trips, what does not fit, hooks, extra state."""

import pytest

import lampion as torch
from lampion import nn


def model():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def values(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def unchanged(net, before):
    return all((v == before[k]).all() for k, v in net.state_dict().items())


def test_round_trip():
    a, b = model(), model()
    a(torch.randn(5, 2))
    result = b.load_state_dict(a.state_dict())
    assert str(result) == "<All keys matched successfully>"
    assert unchanged(b, a.state_dict())
    assert a.state_dict()._metadata == {
        "": {"version": 1}, "0": {"version": 1}, "1": {"version": 2}
    }  # fmt: skip


def test_entries_share_memory_and_are_detached():
    net = model()
    state = net.state_dict(prefix="net.")
    assert state["net.0.weight"].data_ptr() == net[0].weight.data_ptr()
    assert not state["net.0.weight"].requires_grad
    assert net.state_dict(keep_vars=True)["0.weight"] is net[0].weight


def test_every_problem_is_named_and_nothing_is_loaded():
    net = nn.Linear(2, 3)
    before = values(net)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict({"weight": torch.zeros(2, 2), "bar": torch.ones(1), "baz": 3})
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Linear:\n"
        '\tMissing key(s) in state_dict: "bias". \n'
        '\tUnexpected key(s) in state_dict: "bar", "baz". \n'
        "\tsize mismatch for weight: copying a param with shape torch.Size([2, 2]) from "
        "checkpoint, the shape in current model is torch.Size([3, 2])."
    )
    assert unchanged(net, before)


def test_one_wrong_size_leaves_all_of_the_model_as_it_was():
    net = model()
    before = values(net)
    state = {k: torch.ones_like(v) for k, v in before.items()}
    state["1.running_var"] = torch.ones(9)
    with pytest.raises(RuntimeError, match="size mismatch for 1.running_var"):
        net.load_state_dict(state)
    with pytest.raises(RuntimeError, match="size mismatch for 1.running_var"):
        net.load_state_dict(state, strict=False)
    assert unchanged(net, before)


def test_values_that_are_no_tensors():
    with pytest.raises(RuntimeError, match='parameter named "weight", expected torch.Tensor'):
        nn.Linear(1, 1).load_state_dict({"weight": 3, "bias": torch.zeros(1)})
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like, got <class 'int'>"):
        nn.Linear(1, 1).load_state_dict(3)


def test_not_strict_loads_what_fits():
    net = nn.Linear(2, 3)
    result = net.load_state_dict({"weight": torch.ones(3, 2), "x": torch.ones(1)}, strict=False)
    assert repr(result) == "_IncompatibleKeys(missing_keys=['bias'], unexpected_keys=['x'])"
    assert (net.weight == 1).all()


def test_unknown_keys_in_children():
    net = model()
    state = {**net.state_dict(), "0.extra": torch.ones(1), "2.weight": torch.ones(1)}
    result = net.load_state_dict(state, strict=False)
    assert sorted(result.unexpected_keys) == ["0.extra", "2.weight"]


def test_assign_takes_the_tensors_themselves():
    net = nn.Linear(2, 3)
    net.bias.requires_grad = False
    weight, bias = torch.ones(3, 2, dtype=torch.float64), nn.Parameter(torch.ones(3))
    net.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    assert net.weight.data_ptr() == weight.data_ptr() and net.weight.dtype == torch.float64
    assert isinstance(net.weight, nn.Parameter) and net.weight.requires_grad
    assert net.bias is bias and not bias.requires_grad


def test_other_types_are_cast_and_old_scalars_accepted():
    net = nn.Module()
    net.register_buffer("x", torch.zeros(()))
    net.load_state_dict({"x": torch.ones(1, dtype=torch.float64)})
    assert net.x.item() == 1.0 and net.x.dtype == torch.float32 and net.x.shape == ()


def test_norms_from_before_batches_were_counted():
    net = nn.BatchNorm1d(2)
    state = net.state_dict()
    del state["num_batches_tracked"]
    state._metadata[""]["version"] = 1
    assert not net.load_state_dict(state).missing_keys


def test_extra_state():
    class Counter(nn.Module):
        count = 0

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

    a, b = nn.Sequential(Counter()), nn.Sequential(Counter())
    a[0].count = 7
    assert list(a.state_dict()) == ["0._extra_state"]
    b.load_state_dict(a.state_dict())
    assert b[0].count == 7
    assert b.load_state_dict({}, strict=False).missing_keys == ["0._extra_state"]
    result = nn.Linear(1, 1).load_state_dict({"_extra_state": 1}, strict=False)
    assert result.unexpected_keys == ["_extra_state"]


def test_hooks_around_saving():
    net, log = nn.Linear(1, 1), []
    net.register_state_dict_pre_hook(lambda m, prefix, keep: log.append((prefix, keep)))
    net.register_state_dict_post_hook(
        lambda m, state, prefix, meta: state.pop(prefix + "bias") and None
    )
    assert list(net.state_dict(prefix="p.")) == ["p.weight"] and log == [("p.", False)]
    net.register_state_dict_post_hook(lambda *args: {})
    with pytest.raises(RuntimeError, match="post-hook must return None"):
        net.state_dict()


def test_hooks_around_loading():
    net = nn.Linear(1, 1)

    def rename(module, state, prefix, *rest):
        assert module is net
        state[prefix + "bias"] = state.pop(prefix + "b")

    net.register_load_state_dict_pre_hook(rename)
    seen = []
    net.register_load_state_dict_post_hook(lambda m, keys: seen.append(m.bias.item()))
    net.load_state_dict({"weight": torch.ones(1, 1), "b": torch.ones(1)})
    assert seen == [1.0]  # the values are there when the hook runs


def test_a_post_hook_may_forgive_missing_keys():
    net = nn.Linear(1, 1)
    handle = net.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
    assert not net.load_state_dict({}).missing_keys
    handle.remove()
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict({})


def test_a_subclass_may_read_older_formats():
    class Renamed(nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
            if prefix + "w" in state_dict:
                state_dict[prefix + "weight"] = state_dict.pop(prefix + "w")
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    net = nn.Sequential(Renamed(1, 1))
    net.load_state_dict({"0.w": torch.full((1, 1), 5.0), "0.bias": torch.zeros(1)})
    assert net[0].weight.item() == 5.0


def test_prefix_of_data_parallel_models():
    state = nn.DataParallel(nn.Linear(1, 1)).state_dict()
    assert list(state) == ["module.weight", "module.bias"]
    nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
    assert list(state) == ["weight", "bias"]
    nn.Linear(1, 1).load_state_dict(state)
