"""`unfused(model)` computes what the model computes, with the same Parameters, product by product.

The reference is the fused module of PyTorch: outputs, and autograd's gradients of every Parameter
and input, in float64.
"""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from exact_np import components, wrong
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from noisynets import (
    InputError,
    NodePerturbation,
    Noisy,
    SystemRefused,
    check,
    decorrelate,
    find_nodes,
    unfused,
)
from noisynets.systems.unfused import UnfusedAttention, UnfusedGRUCell, UnfusedRecurrent

B, T, S, F, H, E = 3, 4, 5, 2, 3, 6
"""Rows, steps, keys, features, units, features of attention: all different, to see the layout."""
LENGTHS = torch.tensor([2, 4, 1])
bools = st.booleans()
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:.*nested tensors")


def flat(value: Any) -> Iterator[Tensor]:
    """All tensors in an output."""
    if isinstance(value, PackedSequence):
        yield from (value.data, value.batch_sizes)
        yield from (t for t in (value.sorted_indices, value.unsorted_indices) if t is not None)
    elif isinstance(value, Tensor):
        yield value
    elif value is not None:
        for part in value:
            yield from flat(part)


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def results(outputs: Any, by: list[Tensor]) -> list[Tensor]:
    """Outputs, and the gradients of a random sum of them."""
    found = list(flat(outputs))
    torch.manual_seed(1)
    real = [o for o in found if o.is_floating_point()]
    total = sum((o * torch.randn(o.shape, dtype=o.dtype)).sum() for o in real)
    return found + list(torch.autograd.grad(total, by, allow_unused=True, materialize_grads=True))


def rows_first(module: nn.Module, args: Any, output: Tensor) -> None:
    assert args[0].shape[0] == output.shape[0] == B, (type(module), args[0].shape)


def snapshot(model: nn.Module) -> list[object]:
    """What a model is made of: modules, attributes and Parameters."""
    return [
        (
            name,
            module,
            list(module.named_children()),
            [(n, id(p), p.tolist()) for n, p in module.named_parameters(recurse=False)],
            {n: value for n, value in vars(module).items() if isinstance(value, bool | int | str)},
            sorted(vars(module)),
        )
        for name, module in model.named_modules()
    ]


def assert_same(model: nn.Module, run: Callable[..., Any], *inputs: Tensor, rows=True) -> nn.Module:
    """The unfused model has the same outputs, gradients and Parameters, and rows first."""
    for p in model.parameters():  # biases and norms start at 0 and 1, and would hide an error
        nn.init.normal_(p)
    before = snapshot(model)
    by = [*model.parameters(), *inputs]
    expected = results(run(model), by)
    made = unfused(model)
    held = list(made.parameters())
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    assert len(held) == len(by) - len(inputs)
    places = (nn.Linear, nn.LayerNorm, nn.Dropout)
    layers = [m for m in made.modules() if isinstance(m, places)]
    assert layers
    hooks = [m.register_forward_hook(rows_first) for m in layers if rows]
    found = results(run(made), by)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert snapshot(model) == before
    for hook in hooks:
        hook.remove()
    return made


CELLS: dict[str, Callable[..., nn.Module]] = {
    "tanh": nn.RNNCell,
    "relu": lambda *a, **k: nn.RNNCell(*a, nonlinearity="relu", **k),
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
}


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(CELLS)), bools, bools, bools)
def test_cells(kind: str, bias: bool, state: bool, batched: bool) -> None:
    cell = CELLS[kind](F, H, bias=bias, dtype=torch.float64)
    rows = (B,) if batched else ()
    x, h, c = rand(*rows, F), rand(*rows, H), rand(*rows, H)
    given = {"hx": (h, c) if kind == "lstm" else h} if state else {}
    made = assert_same(cell, lambda cell: cell(input=x, **given), x, h, c, rows=batched)
    assert made.ih.weight is cell.weight_ih and made.hh.weight is cell.weight_hh
    assert made.ih.bias is cell.bias_ih and made.hh.bias is cell.bias_hh


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["tanh", "relu", "gru", "lstm", "projected"]),
    st.integers(1, 2),
    bools,
    bools,
    bools,
    bools,
    st.sampled_from(["rows", "one", "sorted", "unsorted"]),
)
def test_recurrent(
    kind: str, layers: int, both: bool, bias: bool, batch_first: bool, state: bool, layout: str
) -> None:
    options = {"num_layers": layers, "bidirectional": both, "bias": bias}
    options |= {"batch_first": batch_first, "dtype": torch.float64}
    if kind in ("tanh", "relu"):
        model: nn.Module = nn.RNN(F, H, nonlinearity=kind, **options)
    elif kind == "gru":
        model = nn.GRU(F, H, **options)
    else:
        model = nn.LSTM(F, H, proj_size=2 if kind == "projected" else 0, **options)
    size, count = 2 if kind == "projected" else H, layers * (1 + both)
    rows = () if layout == "one" else (B,)
    x = rand(T, F) if layout == "one" else rand(B, T, F) if batch_first else rand(T, B, F)
    h, c = rand(count, *rows, size), rand(count, *rows, H)
    given = {"hx": (h, c) if kind in ("lstm", "projected") else h} if state else {}

    def run(model: nn.Module) -> Any:
        lengths = LENGTHS.sort(descending=True).values if layout == "sorted" else LENGTHS
        packs = layout in ("sorted", "unsorted")
        sequence = (
            pack_padded_sequence(x, lengths, batch_first, enforce_sorted=layout == "sorted")
            if packs
            else x
        )
        return model(sequence, **given)

    assert_same(model, run, x, h, c, rows=layout != "one")


def test_dropout_between_recurrent_layers() -> None:
    """With p = 1 the second layer sees zeros in training, and everything in evaluation."""
    model = nn.GRU(F, H, 2, dropout=1.0, dtype=torch.float64)
    x = rand(T, B, F)
    assert_same(model, lambda model: model(x), x)
    assert_same(model.eval(), lambda model: model(x), x)


def mask(kind: str, *shape: int) -> Tensor | None:
    """A mask that leaves every query a key; of numbers, without −∞."""
    if kind == "none":
        return None
    if kind == "float":
        return torch.randn(*shape, dtype=torch.float64)
    found = torch.rand(*shape) < 0.4
    found[..., 0] = False
    return found


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["self", "cross", "three", "query=value"]),
    st.fixed_dictionaries(
        {name: bools for name in ("bias", "add_bias_kv", "add_zero_attn", "batch_first")}
    ),
    bools,
    st.sampled_from(["none", "bool", "float"]),
    bools,
    bools,
    st.fixed_dictionaries({name: bools for name in ("need_weights", "average_attn_weights")}),
    bools,
    bools,
)
def test_attention(
    inputs: str,
    options: dict[str, bool],
    sizes: bool,
    masked: str,
    per_head: bool,
    padded: bool,
    wanted: dict[str, bool],
    batched: bool,
    training: bool,
) -> None:
    kdim, vdim = (4, 5) if sizes and inputs == "three" else (E, E)
    keys = T if inputs in ("self", "query=value") else S
    model = nn.MultiheadAttention(E, 2, kdim=kdim, vdim=vdim, dtype=torch.float64, **options)
    model.train(training)

    def sequence(length: int, width: int) -> Tensor:
        rows = (B,) if batched else ()
        first = batched and options["batch_first"]
        return rand(*rows, length, width) if first else rand(length, *rows, width)

    q, k, v = sequence(T, E), sequence(keys, kdim), sequence(keys, vdim)
    given = {"self": (q, q, q), "cross": (q, k, k), "three": (q, k, v), "query=value": (q, k, q)}
    heads = (2 * B if batched else 2,) if per_head else ()
    masks = {
        "attn_mask": mask(masked, *heads, T, keys),
        "key_padding_mask": mask(masked, *(B,) * batched, keys) if padded else None,
    }
    made = assert_same(
        model, lambda model: model(*given[inputs], **masks, **wanted), q, k, v, rows=batched
    )
    assert made.out_proj.weight is model.out_proj.weight and type(made.out_proj) is nn.Linear
    with torch.no_grad():
        fast = model(*given[inputs], **masks, **wanted)
        for a, b in zip(flat(made(*given[inputs], **masks, **wanted)), flat(fast), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_causal_mask(need_weights: bool) -> None:
    model = nn.MultiheadAttention(E, 2, dtype=torch.float64)
    x, causal = rand(T, B, E), torch.ones(T, T, dtype=torch.bool).triu(1)
    settings = {"attn_mask": causal, "is_causal": True, "need_weights": need_weights}
    made = assert_same(model, lambda model: model(x, x, x, **settings), x)
    with pytest.raises(InputError, match="give the causal mask as attn_mask"):
        made(x, x, x, is_causal=True)


@pytest.mark.parametrize("need_weights", [True, False])
def test_dropout_of_attention(need_weights: bool) -> None:
    """With p = 1 only the bias of the output is left in training."""
    model = nn.MultiheadAttention(E, 2, dropout=1.0, dtype=torch.float64)
    nn.init.normal_(model.out_proj.bias)
    x = rand(T, B, E)
    found, _ = unfused(model)(x, x, x, need_weights=need_weights)
    torch.testing.assert_close(found, model.out_proj.bias.expand(T, B, E))


class Squared(nn.Module):
    """An activation function of a user."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.tanh()


STYLE = st.fixed_dictionaries(
    {
        "norm_first": bools,
        "batch_first": bools,
        "bias": bools,
        "activation": st.sampled_from(["relu", "gelu", nn.functional.silu, Squared()]),
    }
)
TINY = {"d_model": E, "nhead": 2, "dim_feedforward": 7, "dropout": 0.0, "dtype": torch.float64}


def laid(x: Tensor, batch_first: bool) -> Tensor:
    return x if batch_first else x.transpose(0, 1)


@settings(max_examples=30, deadline=None)
@given(STYLE, st.integers(0, 2), bools, st.sampled_from(["none", "bool", "float"]), bools, bools)
def test_encoders(
    style: dict[str, Any], layers: int, norm: bool, masked: str, padded: bool, training: bool
) -> None:
    """A layer alone, or a stack of one or two."""
    model: nn.Module = nn.TransformerEncoderLayer(**TINY, **style)
    names = ("src_mask", "src_key_padding_mask")
    if layers:
        end = nn.LayerNorm(E, dtype=torch.float64) if norm else None
        model, names = nn.TransformerEncoder(model, layers, end), ("mask", names[1])
    x = rand(B, T, E)
    padding = torch.arange(T) >= LENGTHS[:, None]
    float_padding = torch.zeros(B, T, dtype=torch.float64).masked_fill(padding, -torch.inf)
    masks = dict(zip(names, (mask(masked, T, T), None), strict=True))
    if padded:
        masks[names[1]] = float_padding if masked == "float" else padding
        if masked == "bool":
            masks[names[0]] = torch.ones(T, T, dtype=torch.bool).triu(1)
    model.train(training)

    def run(model: nn.Module) -> Tensor:
        return laid(model(laid(x, style["batch_first"]), **masks), style["batch_first"])

    made = assert_same(model, run, x)
    if masked == "float":
        return  # the fused kernel takes such a mask for a boolean one, and returns NaN
    with torch.no_grad():  # the fused kernel; nested tensors come back with zeros as padding
        seen = ~padding if padded else ~torch.zeros_like(padding)
        torch.testing.assert_close(run(made)[seen], run(model)[seen], rtol=1e-10, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(STYLE, st.integers(0, 1), bools, bools, bools)
def test_decoders(
    style: dict[str, Any], layers: int, norm: bool, masked: bool, training: bool
) -> None:
    model: nn.Module = nn.TransformerDecoderLayer(**TINY, **style)
    if layers:
        end = nn.LayerNorm(E, dtype=torch.float64) if norm else None
        model = nn.TransformerDecoder(model, layers, end)
    x, memory, first = rand(B, T, E), rand(B, S, E), style["batch_first"]
    masks = {
        "tgt_mask": torch.ones(T, T, dtype=torch.bool).triu(1),
        "memory_mask": mask("bool", T, S),
        "tgt_key_padding_mask": torch.arange(T) >= LENGTHS[:, None],
        "memory_key_padding_mask": mask("bool", B, S),
        "tgt_is_causal": True,
    }
    model.train(training)
    given = masks if masked else {}
    run = lambda model: laid(model(laid(x, first), laid(memory, first), **given), first)  # noqa: E731
    assert_same(model, run, x, memory)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_whole_transformer(batch_first: bool, training: bool) -> None:
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 1}
    model = nn.Transformer(**TINY, **layers, batch_first=batch_first).train(training)
    x, y = rand(B, S, E), rand(B, T, E)
    masks = {"tgt_mask": nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64)}
    given = laid(x, batch_first), laid(y, batch_first)
    made = assert_same(model, lambda model: model(*given, **masks), x, y)
    assert made.training == training


def test_a_layer_within_a_stack_keeps_its_layout() -> None:
    """A user may call the layers of a stack one by one."""
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(**TINY), 2)
    x = rand(T, B, E)
    assert_same(model, lambda model: model.layers[1](model.layers[0](x)), x)


class OwnLayer(nn.TransformerEncoderLayer):
    """A subclass with a forward of its own."""

    def forward(self, src: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return 2 * super().forward(src, *args, **kwargs)


class OwnDecoderLayer(nn.TransformerDecoderLayer):
    def forward(self, tgt: Tensor, memory: Tensor) -> Tensor:
        return 2 * super().forward(tgt, memory)


@pytest.mark.parametrize("kind", [nn.TransformerDecoderLayer, OwnDecoderLayer])
def test_the_activation_module_of_a_decoder_layer_is_kept(kind: type[nn.Module]) -> None:
    """deepcopy() of such a layer forgets it in PyTorch 2.13."""
    model = kind(**TINY, activation=Squared(), batch_first=True)
    x, memory = rand(B, T, E), rand(B, S, E)
    made = assert_same(model, lambda model: model(x, memory), x, memory)
    if kind is nn.TransformerDecoderLayer:
        assert torch.equal(pickle.loads(pickle.dumps(made))(x, memory), made(x, memory))


def test_the_forward_of_a_subclass_is_kept_and_its_attention_unfused() -> None:
    for batch_first in (True, False):
        layer = OwnLayer(**TINY, batch_first=batch_first)
        for model in (layer.eval(), nn.TransformerEncoder(layer, 2).eval()):
            x = rand(B, T, E)
            run = lambda model: laid(model(laid(x, batch_first)), batch_first)  # noqa: E731, B023
            made = assert_same(model, run, x, rows=batch_first)
            assert any(type(m) is OwnLayer for m in made.modules())
            assert any(isinstance(m, UnfusedAttention) for m in made.modules())
            with torch.no_grad():
                torch.testing.assert_close(run(made), run(model), rtol=1e-10, atol=1e-10)


def test_no_fused_kernel_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(**TINY, batch_first=True), 2).eval()
    x, padding = torch.randn(B, T, E).double(), torch.arange(T) >= LENGTHS[:, None]
    called = []
    for name in ("_transformer_encoder_layer_fwd", "_native_multi_head_attention"):
        kernel = getattr(torch, name)
        spy = lambda *a, kernel=kernel, **k: [called.append(1), kernel(*a, **k)][1]  # noqa: E731
        monkeypatch.setattr(torch, name, spy)
    with torch.no_grad():
        unfused(model)(x, src_key_padding_mask=padding)
        assert not called
        model(x, src_key_padding_mask=padding)
        assert called


class Named(nn.GRU):
    """A subclass that only chooses its sizes."""

    def __init__(self) -> None:
        super().__init__(F, H, batch_first=True)


class OwnCell(nn.GRUCell):
    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return super().forward(2 * input, hx)


class Nested(nn.Module):
    """Fused modules in several places, one of them in three."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = Named()
        self.again = self.gru
        self.listed = [self.gru]
        self.parts = nn.ModuleDict({"cell": nn.LSTMCell(H, H), "own": OwnCell(H, H)})
        self.norm = nn.BatchNorm1d(H)
        self.head = nn.Linear(H, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.gru.flatten_parameters()
        h, _ = self.parts["cell"](self.again(x)[1][-1])
        return self.head(self.norm(self.parts["own"](self.listed[0](x)[0][:, -1]) + h))


def test_modules_anywhere() -> None:
    model = Nested().double().eval()
    x = rand(B, T, F)
    made = assert_same(model, lambda model: model(x), x)
    assert made.gru is made.again is made.listed[0] and isinstance(made.gru, UnfusedRecurrent)
    assert (made.gru.hidden_size, made.gru.bidirectional) == (H, False)
    assert type(made.parts["own"]) is OwnCell and made.parts["own"] is not model.parts["own"]
    assert made.norm.running_mean is model.norm.running_mean
    assert not made.gru.training and not made.gru.cells[0].ih.training
    again = unfused(made)
    assert [type(m) for m in again.modules()] == [type(m) for m in made.modules()]


def test_other_forwards_and_parametrizations_are_left() -> None:
    model = nn.Sequential(nn.GRUCell(F, F), nn.GRUCell(F, F), nn.LSTM(F, F))
    model[0].forward = lambda x: 2 * x
    nn.utils.parametrizations.weight_norm(model[1], "weight_hh")
    nn.utils.parametrizations.weight_norm(model[2], "weight_hh_l0")
    assert [type(m) for m in unfused(model)] == [type(m) for m in model]


def test_the_random_numbers_stay_and_hooks_are_kept() -> None:
    model, seen = nn.GRU(F, H), []
    model.register_forward_hook(lambda module, args, output: seen.append(type(module)))
    state = torch.get_rng_state()
    made = unfused(model)
    assert torch.equal(state, torch.get_rng_state())
    made(torch.zeros(T, B, F))
    assert seen == [UnfusedRecurrent]


def test_layers_can_be_wrapped_and_decorrelated() -> None:
    model = Everything().double()
    x = torch.randn(B, T, E).double()
    expected, made = model(x), unfused(model)
    torch.testing.assert_close(decorrelate(unfused(model), rate=0.1)(x), expected)
    for module in list(made.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, Noisy(child, nn.Identity()))
    torch.testing.assert_close(made(x), expected)
    assert {type(node.outlet) for node in check(made)} == {Noisy, nn.LayerNorm}


class Everything(nn.Module):
    """A projected LSTM in two directions, attention, a cell, and a layer with time first."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(E, 4, proj_size=3, bidirectional=True, batch_first=True)
        self.layer = nn.TransformerDecoderLayer(E, 2, 7, 0.0)
        self.attention = nn.MultiheadAttention(E, 2, batch_first=True)
        self.cell = nn.LSTMCell(E, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lstm(x)[0].transpose(0, 1)
        y = self.layer(y, x.transpose(0, 1)).transpose(0, 1)
        return self.cell(self.attention(y, x, x)[0][:, 0])[0]


def test_pickles() -> None:
    model = nn.Sequential(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(**TINY), 1),
        nn.LSTM(E, H, dtype=torch.float64),
    )
    x, made = torch.randn(T, B, E).double(), unfused(model)
    expected = made(x)[0]
    for copied in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert torch.equal(copied(x)[0], expected)
        assert not {id(p) for p in copied.parameters()} & {id(p) for p in model.parameters()}


class Copies(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(F, H)

    def __deepcopy__(self, memo: Any) -> "Copies":
        """Copy without the memo."""
        return Copies()


def test_a_copied_parameter_is_refused() -> None:
    with pytest.raises(InputError, match=r"'0\.cell\.weight_ih', .*copied instead of shared") as e:
        unfused(nn.Sequential(Copies()))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("model", "run", "words"),
    [
        (nn.GRU(F, H), lambda m: m(torch.zeros(T, B, F), torch.zeros(1, 1, H)), r"\(1, 3, 3\)"),
        (nn.GRU(F, H), lambda m: m(torch.zeros(F)), "a sequence of 1 dimensions"),
        (nn.GRUCell(F, H), lambda m: m(torch.zeros(B, F), torch.zeros(1, H)), r"\(3, 3\)"),
        (
            nn.MultiheadAttention(E, 2),
            lambda m: m(*[torch.zeros(T, B, E)] * 3, attn_mask=torch.zeros(1, T, T)),
            r"attn_mask has shape \(1, 4, 4\): give it shape \(4, 4\) or \(6, 4, 4\)",
        ),
        (
            nn.MultiheadAttention(E, 2),
            lambda m: m(*[torch.zeros(T, B, E)] * 3, key_padding_mask=torch.zeros(T, B)),
            "key_padding_mask has shape",
        ),
    ],
)
def test_wrong_shapes(model: nn.Module, run: Callable[..., Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        run(unfused(model))
    assert "\n" not in str(error.value)
    with pytest.raises((RuntimeError, ValueError, AssertionError)):
        run(model)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (nn.Sequential(nn.GRU(F, H)), "'0' (GRU)"),
        (nn.Sequential(nn.RNNCell(F, H)), "'0' (RNNCell)"),
        (nn.Sequential(nn.LSTMCell(F, H)), "'0' (LSTMCell)"),
        (nn.Sequential(nn.MultiheadAttention(E, 2)), "'0' (MultiheadAttention)"),
        (nn.Sequential(nn.TransformerEncoderLayer(E, 2, 7, 0.0)), "'0.self_attn' (Multihead"),
        (nn.TransformerDecoderLayer(E, 2, 7, 0.0), "'multihead_attn' (MultiheadAttention)"),
    ],
)
def test_check_says_what_to_do(model: nn.Module, name: str) -> None:
    with pytest.raises(SystemRefused) as refusal:
        check(model)
    message = str(refusal.value)
    assert name in message and "train noisynets.unfused(model) instead" in message
    assert "\n" not in message
    nodes = {id(p) for node in check(unfused(model)) for p in node.layer.parameters()}
    assert nodes == {id(p) for p in model.parameters()}


def test_check_says_that_a_subclass_is_left() -> None:
    with pytest.raises(SystemRefused, match=r"'0' \(OwnCell\): is a GRUCell with its own forward"):
        check(unfused(nn.Sequential(OwnCell(F, H))))


class Reader(nn.Module):
    """A recurrent network, with a read-out of its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 2)
        self.head = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x.transpose(0, 1))[0][-1])


class Attends(nn.Module):
    """A decoder layer whose queries are the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(2, 1, 2, 0.0, "gelu", norm_first=True)
        self.head = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        return self.head(self.layer(x[:1], x)[0])


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(1)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        (Reader, 3 * 6 + 3 * 6 + 1),  # ih for all steps, hh per step, head
        (Attends, 6 + 2 + 6 + 18 + 2 + 2 + 2 + 3 * 2 + 1),  # in and out of both, ff, norms, head
    ],
)
def test_np_agrees_with_autograd(kind: type[nn.Module], count: int) -> None:
    torch.manual_seed(0)
    model = kind().double()
    made, x, y = unfused(model), torch.randn(2, 3, 2).double(), torch.randn(2, 1).double()
    assert components(made, squares, x, y) == count
    assert not wrong(made, squares, x, y)


def test_the_optimiser_of_the_model_goes_on_working() -> None:
    """Steps of `np` on the unfused model change the model itself, under its own names."""
    torch.manual_seed(0)
    model = Reader().double()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2)
    estimator = NodePerturbation(unfused(model), squares, "np", sigma=1e-3, resamples=32)
    x, y = torch.randn(8, 3, 2).double(), torch.randn(8, 1).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start = squares(model(x), y).mean()
    for _ in range(20):
        optimiser.zero_grad()
        estimator(x, y)
        optimiser.step()
    assert squares(model(x), y).mean() < 0.9 * start
    assert all(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [n.name for n in find_nodes(unfused(model))] == [
        "gru.cells.0.ih",
        "gru.cells.0.hh",
        "head",
    ]
    assert isinstance(estimator.system.gru.cells[0], UnfusedGRUCell)
