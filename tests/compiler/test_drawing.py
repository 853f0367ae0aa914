"""Random numbers in compiled functions: those of an eager run with the same seed, and the same
state of the generator afterwards, whatever happens in between.
"""

import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

import lampion as torch


def outcomes(f, calls):
    """What the calls give with a fresh seed (an exception as its type), and the generator's state
    after them.
    """
    torch.manual_seed(7)
    found = []
    for args in calls:
        try:
            result = f(*args)
        except Exception as error:
            found.append(type(error).__name__)
            continue
        results = result if isinstance(result, tuple) else (result,)
        found.append([r.detach().clone().tolist() for r in results])
    return found, torch.get_rng_state().tolist(), torch.randn(3).tolist()


def check_draws(f, *calls, programs=1):
    """A compiled function draws what the function itself draws; gives it back."""
    c = torch.compile(f)
    assert outcomes(c, calls) == outcomes(f, calls)
    assert outcomes(c, calls) == outcomes(f, calls)
    assert c.count == programs
    return c


def test_draws_keep_their_order():
    def f():
        first = torch.bernoulli(torch.full((40,), 0.5))  # its chances are made by a kernel
        return first, torch.rand(3), torch.randn(20)

    check_draws(f, (), (), (), ())
