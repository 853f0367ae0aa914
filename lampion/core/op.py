"""The operator record: everything Lampion knows about an operation, in one place. May import
naming and errors.

A record names its inputs, its kernel on raw arrays and its derivative. A derivative rule says what
it needs by the names of its parameters: `g` the incoming gradient, `y` (or an output's name) the
result, an input, a parameter, or an input's name with `_shape`. Only what is named is kept for the
backward pass. Elementwise operators give their formula and local derivatives as strings of scalar
arithmetic, which run on raw arrays, on tensors, and print. After MLX's `Primitive` class and the
rule makers of JAX's `lax.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import check
from .naming import node_name

OPS: dict[str, Op] = {}
ARRAY_NAMES: dict[str, Any] = {}  # what a formula's names mean on raw arrays
TENSOR_NAMES: dict[str, Any] = {}  # the same on tensors; `ops` fills both

# What replaces the arrays' kernel and gradient of a formula for large arrays; `ops` sets both.
LARGE_KERNEL: Callable[[Op, Callable], Callable] = lambda op, kernel: kernel  # noqa: E731
LARGE_GRADIENT: Callable[..., Callable] = lambda raw, names, terms: raw  # noqa: E731


class Op:
    """One operator. `apply(op, *inputs, **params)` runs it; see the module's docstring for the
    rules.

    kernel     f(*arrays, **params) -> array, or tuple of arrays where `outputs` has several names
    vjp        {input: rule} or one rule returning a gradient for each input; None: not
               differentiable
    partials   {input: formula of the local derivative}, instead of `vjp`, for elementwise operators
    parameters names of an elementwise operator's numbers that its formulas use
    jvp        f(tangents, inputs, outputs, params) -> tangents; "linear": the op itself on the
               tangent; None: derived from the partials or from the vjp
    batch      f(size, values, dims, params, op) -> (result, dim); None: a loop
    autocast   "lower" | "float32", either also "... on cuda": the type it computes in under
               autocast
    promote    "common" | "float" | "none": how operands are brought to one type
    random     whether the kernel draws random numbers
    title      f(node) -> what its node is called, where that depends on more than `grad_name` knows
    outputs    names of the results; `(name, ...)` where their number depends on the call
    """

    def __init__(
        self,
        name: str,
        inputs: tuple[str, ...],
        kernel: Callable[..., Any],
        *,
        kind: str = "general",
        vjp: Mapping[str, Callable] | Callable | None = None,
        partials: Mapping[str, str] | None = None,
        parameters: tuple[str, ...] = (),
        jvp: Callable | str | None = None,
        batch: Callable | None = None,
        promote: str = "none",
        formula: str = "",
        outputs: tuple[Any, ...] = ("y",),
        constant_outputs: tuple[str, ...] = (),
        grad_name: str | Callable[[dict], str] | None = None,
        autocast: str | None = None,
        view: bool = False,
        variadic: bool = False,
        random: bool = False,
        title: Callable[[Any], str] | None = None,
    ) -> None:
        check(name not in OPS, lambda: f"[operator] {name!r} is defined twice")
        self.name, self.inputs, self.kernel, self.kind = name, inputs, kernel, kind
        self.vjp, self.partials, self.jvp, self.batch = vjp, partials, jvp, batch
        self.promote, self.formula, self.outputs = promote, formula, outputs
        self.parameters = parameters
        self.differentiable = tuple(o for o in outputs if o not in constant_outputs)
        self.grad_name, self.autocast = grad_name, autocast
        self.view, self.variadic, self.random = view, variadic, random
        self.title = title
        self.has_gradient = bool(vjp is not None or partials)
        self.plans = Plans(self)
        if formula:
            self.kernel = LARGE_KERNEL(self, kernel)
        OPS[name] = self

    __call__: Callable[..., Any]  # apply, set by dispatch

    def gradient_name(self, params: dict[str, Any]) -> str:
        """What `grad_fn` is called, e.g. `AddBackward0`."""
        name = self.grad_name(params) if callable(self.grad_name) else self.grad_name
        return name or node_name(self.name)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class Plan:
    """The backward of an operator for one set of inputs that require a gradient (the bits of
    `mask`).

    targets   indices of those inputs
    names     what must be saved, in order
    run       f(g, *saved) -> one gradient per target, on tensors
    raw       the same on raw arrays where the operator has partials, else None
    save      f(*inputs, y) -> what must be saved, for the short paths; None where there is nothing
              to save
    keep      f(inputs, params, output) -> the same for all others; output(i) is the i-th result, to
              be kept
    kept      the number of the one input to be saved, where that is all; else None
    short     whether the short paths may record it: it needs no parameters
    """

    __slots__ = ("op", "targets", "names", "save", "keep", "keeps_output", "kept", "short", "raw",
                 "_run", "_source")  # fmt: skip

    def __init__(self, op: Op, mask: int) -> None:
        self.op = op
        self.targets = tuple(i for i in range(mask.bit_length()) if mask >> i & 1)
        self.raw: Any = None
        self._run: Any = None
        self._source = ""
        if op.partials:
            self._plan_formulas(op.partials)
        elif isinstance(op.vjp, Mapping):
            self._plan_rules(op.vjp)
        else:
            self._plan_joint(op.vjp)
        self.keeps_output = any(n in op.outputs for n in self.names)
        alone = len(self.names) == 1 and self.names[0] in op.inputs and not op.variadic
        self.kept = op.inputs.index(self.names[0]) if alone else None
        self.short = set(self.names) <= {*op.inputs, "y"}
        self.keep = eval(f"lambda inputs, params, output: ({''.join(map(self._kept, self.names))})")
        self.save = None
        if self.names and self.short:
            arguments = ", ".join((*op.inputs, "y"))
            self.save = eval(f"lambda {arguments}: ({', '.join(self.names)},)")

    def _kept(self, name: str) -> str:
        """The expression for what a rule means by a name: see the module's docstring."""
        op = self.op
        if name in op.inputs:
            return "inputs, " if op.variadic else f"inputs[{op.inputs.index(name)}], "
        if name in op.outputs:
            return f"output({op.outputs.index(name)}), "
        if name.endswith("_shape") and name[:-6] in op.inputs:
            at = f"inputs[{op.inputs.index(name[:-6])}]"
            return f"None if {at} is None else {at}._data.shape, "
        special = {"shapes": "tuple([t._data.shape for t in inputs]), ", "params": "params, "}
        return special.get(name) or f"params[{name!r}], "

    def _plan_formulas(self, partials: Mapping[str, str]) -> None:
        op, terms, names = self.op, list[str](), set[str]()
        for i in self.targets:
            partial = partials.get(op.inputs[i], "None")
            names.update(compile(partial, op.name, "eval").co_names)
            short = {"1": "g", "-1": "-g", "0": "zeros_like(g)", "None": "None"}
            terms.append(short.get(partial) or f"g * conj({partial})")
        self.names = tuple(n for n in (*op.inputs, "y", *op.parameters) if n in names)
        self._source = f"lambda {', '.join(('g', *self.names))}: ({', '.join(terms)},)"
        raw = eval(self._source.replace("conj(", "("), ARRAY_NAMES)
        self.raw = LARGE_GRADIENT(raw, self.names, tuple(terms)) if op.formula else raw

    def _plan_rules(self, rules: Mapping[str, Callable]) -> None:
        chosen = [rules.get(self.op.inputs[0 if self.op.variadic else i]) for i in self.targets]
        wanted = [parameters_of(r) if r else () for r in chosen]
        self.names = tuple(dict.fromkeys(n for names in wanted for n in names if n != "g"))
        if len(chosen) == 1 and wanted[0] == ("g", *self.names):
            rule: Any = chosen[0]
            self._run = lambda *values: (rule(*values),)
            return
        places = [tuple(0 if n == "g" else self.names.index(n) + 1 for n in w) for w in wanted]

        def run(*values: Any) -> list:
            return [r(*[values[i] for i in at]) if r else None for r, at in zip(chosen, places)]

        self._run = run

    def _plan_joint(self, rule: Any) -> None:
        """One rule for all inputs; it may name `needs`,
        a tuple that says which gradients are wanted.
        """
        wanted = parameters_of(rule)
        self.names = tuple(n for n in wanted if n not in ("g", "needs"))
        needs = tuple(
            i in self.targets for i in range(max(len(self.op.inputs), self.targets[-1] + 1))
        )
        targets = self.targets

        def run(g: Any, *saved: Any) -> list:
            values = dict(zip(self.names, saved), g=g, needs=needs)
            grads = rule(*[values[n] for n in wanted])
            return [grads[i] for i in targets]

        self._run = run

    @property
    def run(self) -> Callable:
        """The backward on tensors; a formula's is compiled at first use."""
        if self._run is None:
            self._run = eval(self._source, TENSOR_NAMES)
        return self._run


class Plans(dict):
    """The plans of an operator by mask, each made when first asked for."""

    def __init__(self, op: Op) -> None:
        self.op = op

    def __missing__(self, mask: int) -> Plan:
        self[mask] = Plan(self.op, mask)
        return self[mask]


def parameters_of(rule: Callable) -> tuple[str, ...]:
    """The names of a rule's parameters."""
    code = rule.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
