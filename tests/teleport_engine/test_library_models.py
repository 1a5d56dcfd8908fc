"""Models as their libraries make them (transformers, peft, timm): tiny, of random weights, nothing is downloaded."""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import GrowthStep, Outcome, Teleporter
from teleport_engine.integrations import model_loss
from teleport_engine.model import tensors_in
from tests.teleport_engine import dense

transformers = pytest.importorskip("transformers", reason="these models come from transformers")
peft = pytest.importorskip("peft", reason="LoRA comes from peft")
timm = pytest.importorskip("timm", reason="the vision transformer comes from timm")

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

MOVES = ""
NORM = "not a linear layer: frozen"
EMBEDDING = "an embedding: frozen"
UNSEEN = "not seen as a linear map in the forward: frozen"
ELSEWHERE = "its weight is used outside its linear map: frozen"
KEPT = "requires_grad is False"
FIXED, FULL = "input is fixed", "no null space"


class Entry(NamedTuple):
    """A model, a batch, why each layer stays (the first pattern that is found in its name), and layers for the twin."""

    model: nn.Module
    inputs: Any
    reasons: dict[str, str]
    sampled: tuple[str, ...] = ()
    targets: Any = None
    loss_fn: Any = model_loss
    dtype: torch.dtype = torch.float64


def _words(length: int, seed: int = 1) -> Tensor:
    return torch.randint(23, (2, length), generator=torch.Generator().manual_seed(seed))


def _sizes(**more: Any) -> dict[str, Any]:
    shared = {"vocab_size": 23, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, "num_hidden_layers": 2}
    return {**shared, "num_attention_heads": 4, **more}


def _gpt2() -> Entry:
    config = transformers.GPT2Config(vocab_size=23, n_positions=8, n_embd=24, n_layer=2, n_head=2)
    reasons = {r"wte|wpe": EMBEDDING, r"ln_": NORM, r"lm_head": ELSEWHERE, r"attn\.c_|mlp\.c_": MOVES}
    words = _words(4)
    inputs = {"input_ids": words, "labels": words}
    sampled = ("transformer.h.1.attn.c_attn", "transformer.h.0.mlp.c_proj")
    return Entry(transformers.GPT2LMHeadModel(config), inputs, reasons, sampled)


def _llama_model() -> nn.Module:
    """Two heads of queries share one of keys and values."""
    sizes = _sizes(hidden_size=32, intermediate_size=48, num_key_value_heads=2, attention_dropout=0.1)
    model: nn.Module = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    return model


def _llama() -> Entry:
    reasons = {r"embed_tokens": EMBEDDING, r"norm": NORM, r"_proj|lm_head": MOVES}
    sampled = ("model.layers.1.self_attn.k_proj", "model.layers.0.mlp.down_proj")
    return Entry(_llama_model(), {"input_ids": _words(4), "labels": _words(4)}, reasons, sampled)


def _t5() -> Entry:
    config = transformers.T5Config(
        vocab_size=23,
        d_model=24,
        d_kv=12,
        d_ff=48,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    reasons = {
        r"shared|embed_tokens|relative_attention_bias": EMBEDDING,
        r"norm": NORM,
        r"lm_head": ELSEWHERE,
        r"Attention\.[qkvo]$|DenseReluDense": MOVES,
    }
    sampled = ("decoder.block.1.layer.1.EncDecAttention.k", "encoder.block.0.layer.1.DenseReluDense.wo")
    inputs = {"input_ids": _words(4), "labels": _words(3, 2)}
    return Entry(transformers.T5ForConditionalGeneration(config), inputs, reasons, sampled)


def _bert() -> Entry:
    config = transformers.BertConfig(
        **_sizes(hidden_size=24, intermediate_size=48, max_position_embeddings=8, num_labels=3)
    )
    words, mask = _words(4), torch.ones(2, 4, dtype=torch.int64)
    mask[1, 3] = 0
    inputs = {"input_ids": words, "attention_mask": mask, "labels": torch.tensor([0, 2])}
    reasons = {r"_embeddings": EMBEDDING, r"LayerNorm": NORM, r"self\.|dense|classifier": MOVES}
    sampled = ("bert.encoder.layer.1.attention.self.query", "bert.pooler.dense")
    return Entry(transformers.BertForSequenceClassification(config), inputs, reasons, sampled)


def _mixtral(experts: str, dtype: torch.dtype) -> Entry:
    sizes = _sizes(hidden_size=24, intermediate_size=32, num_key_value_heads=2, num_local_experts=4)
    config = transformers.MixtralConfig(**sizes, num_experts_per_tok=2, output_router_logits=True)
    model = transformers.MixtralForCausalLM(config)
    model.set_experts_implementation(experts)
    # `W[expert of each token]` makes a copy of weights for each token, which is no part of a weight any more.
    reasons = {"embed_tokens": EMBEDDING, "norm": NORM, "experts": UNSEEN if experts == "batched_mm" else MOVES}
    sampled = ("model.layers.0.mlp.gate", "model.layers.1.self_attn.o_proj") if dtype is torch.float64 else ()
    inputs = {"input_ids": _words(4), "labels": _words(4)}
    return Entry(model, inputs, {**reasons, r"gate|_proj|lm_head": MOVES}, sampled, dtype=dtype)


def _lora(is_fresh: bool = False) -> Entry:
    names = ["q_proj", "v_proj", "down_proj"]
    config = peft.LoraConfig(r=6, lora_alpha=12, lora_dropout=0.1, target_modules=names, init_lora_weights=is_fresh)
    reasons = {
        r"embed_tokens": EMBEDDING,
        r"norm": NORM,
        r"lora_B": FULL,  # eight tokens fill the six dimensions between A and B
        r"layers\.0\.self_attn\..*lora_A": FIXED,  # nothing before it is trained
        r"lora_A": MOVES,
        r"base_layer|_proj|lm_head": KEPT,
    }
    prefix = "base_model.model.model.layers"
    sampled = (f"{prefix}.1.self_attn.q_proj.lora_A.default", f"{prefix}.0.mlp.down_proj.lora_A.default")
    model = peft.get_peft_model(_llama_model(), config)
    return Entry(model, {"input_ids": _words(4), "labels": _words(4)}, reasons, sampled)


def _vision_transformer() -> Entry:
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 4}
    model = timm.models.VisionTransformer(**sizes, proj_drop_rate=0.1, drop_path_rate=0.1)
    nn.init.normal_(model.head.weight)
    reasons = {r"cls_token|pos_embed": UNSEEN, r"patch_embed": FIXED, r"norm": NORM, r"qkv|proj|fc|head": MOVES}
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    targets = torch.tensor([1, 3])
    return Entry(model, images, reasons, ("blocks.1.attn.qkv", "head"), targets, nn.functional.cross_entropy)


MODELS: dict[str, Callable[[], Entry]] = {
    "GPT-2": _gpt2,
    "Llama with grouped queries": _llama,
    "T5": _t5,
    "BERT": _bert,
    "Mixtral, experts one by one": lambda: _mixtral("eager", torch.float64),
    "Mixtral, experts by grouped_mm": lambda: _mixtral("grouped_mm", torch.float32),  # takes no double
    "Mixtral, experts gathered": lambda: _mixtral("batched_mm", torch.float64),
    "Llama with LoRA": _lora,
    "timm's vision transformer": _vision_transformer,
}


def enter(name: str, *, is_training: bool = False) -> Entry:
    torch.manual_seed(0)
    entry = MODELS[name]()
    return entry._replace(model=entry.model.to(entry.dtype).train(is_training))


def outputs_of(entry: Entry, random_state: Tensor) -> list[Tensor]:
    """Every number that the model gives, under the dropout masks that this random state brings."""
    torch.set_rng_state(random_state)
    with torch.no_grad():
        outputs = dense.called(entry.model, entry.inputs)
    return [tensor.clone() for tensor in tensors_in(outputs) if tensor.is_floating_point()]


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_stay_and_each_layer_moves_or_says_why_not(name: str, is_training: bool) -> None:
    entry = enter(name, is_training=is_training)
    random_state = torch.get_rng_state()
    before = outputs_of(entry, random_state)
    torch.set_rng_state(random_state)
    weights = copy.deepcopy(entry.model.state_dict())
    teleporter = Teleporter(entry.model, entry.loss_fn, step=GrowthStep(1.3), num_steps=2)
    report = teleporter.teleport(entry.inputs, entry.targets)
    assert (report.outcome, report.route, report.messages) == (Outcome.MOVED, "jvp", ())
    assert report.grad_norm_ratio**2 == pytest.approx(1.3**2, rel=0.15)
    rounding = 1e-9 if entry.dtype is torch.float64 else 1e-4
    assert abs(report.loss_drift) <= rounding * report.loss_before
    for one, other in zip(before, outputs_of(entry, random_state), strict=True):
        assert float((one - other).abs().max()) <= rounding * max(1.0, float(one.abs().max()))
    found = {layer.name: layer.reason for layer in report.layers}
    patterns = {layer: next((key for key in entry.reasons if re.search(key, layer)), "none") for layer in found}
    assert found == {layer: entry.reasons.get(key, key) for layer, key in patterns.items()}
    assert set(patterns.values()) == set(entry.reasons), "each pattern is some layer's"
    moved = {layer.name for layer in report.layers if layer.moved}
    assert moved == {layer for layer, reason in found.items() if reason == MOVES}
    changed = {key for key, value in entry.model.state_dict().items() if not torch.equal(value, weights[key])}
    assert {key.removesuffix(".weight") for key in changed} == moved
    assert all(
        layer.d_in == (layer.rank or 0) + (layer.null_dim or 0) for layer in report.layers if layer.rank is not None
    )


def _rows(entry: Entry, layer: str) -> Tensor:
    """What a layer multiplies: its input, by a hook."""
    seen: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0].detach().reshape(-1, args[0].shape[-1]))

    hook = entry.model.get_submodule(layer).register_forward_pre_hook(note)
    with torch.no_grad():
        dense.called(entry.model, entry.inputs)
    hook.remove()
    return torch.cat(seen)


@pytest.mark.parametrize("tau", [1.0, 0.9])
@pytest.mark.parametrize("name", [name for name in MODELS if "grouped_mm" not in name])  # the twin takes doubles
def test_the_direction_is_that_of_the_dense_twin(name: str, tau: float) -> None:
    entry = enter(name)
    directions = Teleporter(entry.model, entry.loss_fn, tau=tau).direction(entry.inputs, entry.targets)
    twin = copy.deepcopy(entry.model)
    parameters: Mapping[str, nn.Parameter] = dict(twin.named_parameters())
    wanted = [parameters[f"{layer}.weight"] for layer in entry.sampled]
    full = dense.half_square_norm_gradient(twin, entry.loss_fn, entry.inputs, entry.targets, wanted)
    for layer, part in zip(entry.sampled, full, strict=True):
        is_transposed = type(entry.model.get_submodule(layer)).__name__ == "Conv1D"  # GPT-2's x @ W
        P = dense.projector(_rows(entry, layer), tau)
        expected = P @ part if is_transposed else part @ P
        assert float(expected.norm()) > 1e-6 * float(part.norm()), "something is left to compare"
        assert float((directions[f"{layer}.weight"] - expected).norm()) <= 1e-8 * float(part.norm()), layer


def test_a_fresh_lora_has_nowhere_to_go_at_tau_1() -> None:
    """Its B is zero, so no gradient reaches A, and the tokens fill the space between A and B."""
    torch.manual_seed(0)
    entry = _lora(is_fresh=True)
    model = entry.model.double().eval()
    before = copy.deepcopy(model.state_dict())
    report = Teleporter(model, model_loss, step=GrowthStep(1.3)).teleport(entry.inputs, None)
    assert report.outcome is Outcome.NO_ASCENT
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert reasons["base_model.model.model.layers.0.mlp.down_proj.lora_A.default"] == "no gradient in its null space"
