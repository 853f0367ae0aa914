"""In which order seeds make loaders, samplers and splits visit samples; PyTorch's answers are
golden.

`python tests/utils/data/cases.py` (needs PyTorch) writes `golden/orders.json` anew.
"""

import json
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "orders.json"
LOADERS = [
    {"batch_size": 4},
    {"batch_size": 4, "shuffle": True},
    {"batch_size": 4, "shuffle": True, "drop_last": True},
    {"batch_size": None, "shuffle": True},
    {"batch_size": 4, "shuffle": True, "num_workers": 2},
    {"batch_size": 4, "shuffle": True, "num_workers": 2, "persistent_workers": True},
]


def loader_name(options):
    return " ".join(f"{k}={v}" for k, v in options.items())


def samples(lib, count=23):
    return lib.utils.data.TensorDataset(lib.arange(count))


def loader_order(lib, options, own_generator):
    """The batches of two passes, and what the default stream gives next."""
    lib.manual_seed(7)
    options = dict(options)
    if own_generator:
        options["generator"] = lib.Generator().manual_seed(3)
    loader = lib.utils.data.DataLoader(samples(lib), **options)
    passes = [[batch[0].tolist() for batch in loader] for _ in range(2)]
    return [*passes, lib.rand(2).tolist()]


def sampler_orders(lib):
    """What each random sampler gives after seed 1, and the parts of random splits."""
    data, weights = samples(lib), [0.1, 0.2, 0.7]
    d = lib.utils.data
    made = {
        "random": d.RandomSampler(data),
        "more than all": d.RandomSampler(data, num_samples=50),
        "with replacement": d.RandomSampler(data, replacement=True, num_samples=70),
        "subset": d.SubsetRandomSampler([3, 1, 4, 1, 5, 9, 2, 6]),
        "weighted": d.WeightedRandomSampler(weights, 9),
        "weighted, each once": d.WeightedRandomSampler(weights, 2, replacement=False),
    }
    orders = {}
    for name, sampler in made.items():
        lib.manual_seed(1)
        orders[name] = list(sampler)
    for lengths in ([20, 3], [0.5, 0.3, 0.2]):
        lib.manual_seed(1)
        orders[str(lengths)] = [part.indices for part in d.random_split(data, lengths)]
    for rank in range(3):
        for drop_last in (False, True):
            sampler = d.DistributedSampler(data, 3, rank, seed=5, drop_last=drop_last)
            sampler.set_epoch(2)
            orders[f"rank {rank}, drop_last={drop_last}"] = list(sampler)
    return orders


def golden():
    return json.loads(GOLDEN.read_text())


def write(lib):
    loaders = {
        f"{loader_name(options)} {own}": loader_order(lib, options, own)
        for options in LOADERS
        for own in (False, True)
    }
    GOLDEN.write_text(json.dumps({"loaders": loaders, "samplers": sampler_orders(lib)}) + "\n")


if __name__ == "__main__":
    import torch

    write(torch)
    print("golden orders of torch", torch.__version__, "in", GOLDEN)
