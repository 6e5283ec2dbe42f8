"""A model's figures from the `config.json` of its folder: what no table needs to know beforehand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.plan.hf_fields import TAKE_A_FILE, Fields
from dreamseed_cli.plan.hf_layers import mixture_of, window_of
from dreamseed_cli.plan.hf_shape import ALIASES, FAMILIES, Family, LatentShape, Shape
from dreamseed_cli.plan.hf_towers import tower_parameters
from dreamseed_cli.plan.parts import Experts, Latent, Model

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_BYTES_16 = 2


@dataclass(frozen=True, slots=True)
class _Quantised:
    """How weights are made smaller, and the bits that one takes with its scales."""

    method: Literal["awq", "gptq", "fp8", "mxfp4"]
    bits: float


def is_model_folder(name: str) -> bool:
    """Whether this is a folder with a `config.json`, or the path of one."""
    return _config_path(name).is_file()


def read_model(name: str) -> Model:
    """The model in a folder (or behind the path of a `config.json`).

    Of a model that sees, the language model inside `text_config` is computed, and its towers where they are
    known. Raises UsageError for an unknown architecture or quantisation, or a missing field.
    """
    path = _config_path(name)
    config = _load(path)
    fields, family = _language_model(config, str(path))
    shape = _shape(fields, family)
    towers = tower_parameters(config, shape.hidden, str(path))
    small = _quantised(config, str(path))
    return Model(
        parameters=shape.parameters + (towers or 0),
        layers=shape.layers,
        attention_heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_positions=fields.number("max_position_embeddings"),
        weights_gb=None if small is None else _quantised_gb(shape, towers or 0, small),
        quantization=None if small is None else small.method,
        experts=_experts(shape, small),
        plain_parameters=shape.plain if small is None else None,
        latent=_latent_of(shape),
        window=window_of(fields, family, shape.layers),
        tower_parameters=towers or None,
        uncounted=None if towers is not None else "the weights of what sees or hears (its towers)",
    )


def _config_path(name: str) -> Path:
    path = Path(name).expanduser()
    return path if path.name == "config.json" else path / "config.json"


def _load(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=str(path)) from error
    except ValueError as error:
        raise UsageError(f"not valid JSON: {error}", place=str(path)) from error
    if not isinstance(config, dict):
        raise UsageError("not a model's configuration: it holds no table", place=str(path))
    return config


def _language_model(config: dict[str, Any], place: str) -> tuple[Fields, Family]:
    """The table of the language model, and its family."""
    text = config.get("text_config")
    if isinstance(text, dict):
        config, place = (
            {"tie_word_embeddings": config.get("tie_word_embeddings"), **text},
            f"{place}: text_config",
        )
    fields = Fields(config, place)
    kind = str(config.get("model_type"))
    family = FAMILIES.get(ALIASES.get(kind, kind))
    if family is None:
        known = ", ".join([*FAMILIES, *ALIASES])
        raise fields.refuse(f"model_type {config.get('model_type')!r} is not computed: known are {known}")
    if config.get("kv_lora_rank") and not family.latent:
        raise fields.refuse(f"kv_lora_rank {config['kv_lora_rank']} in a '{kind}': it is not computed")
    experts = [key for key in _EXPERTS if config.get(key)]
    if experts and family.experts == "none":
        raise fields.refuse(
            f"{experts[0]} {config[experts[0]]} in a '{kind}', which has no experts: it is not computed"
        )
    return Fields(config, place, family.defaults), family


def _shape(fields: Fields, family: Family) -> Shape:
    hidden, heads = fields.number("hidden_size"), fields.number("num_attention_heads")
    layers = fields.number("num_hidden_layers")
    # Models from before grouped-query attention do not name it.
    kv_heads = fields.number("num_key_value_heads", heads)
    if heads % kv_heads:
        raise fields.refuse(f"num_key_value_heads {kv_heads} does not divide num_attention_heads {heads}")
    asked = fields.flag("use_qk_norm") or not family.inner_norms_asked
    return Shape(
        family=family,
        hidden=hidden,
        intermediate=fields.number("intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=fields.number("head_dim", hidden // heads),
        vocab=fields.number("vocab_size"),
        tied=fields.flag("tie_word_embeddings", family.tied),
        attention_bias=fields.flag("attention_bias"),
        mlp_bias=fields.flag("mlp_bias"),
        inner_norms=family.inner_norms if asked else "none",
        mixture=mixture_of(fields, family, layers),
        latent=_latent_shape(fields) if family.latent else None,
    )


def _latent_shape(fields: Fields) -> LatentShape:
    return LatentShape(
        q_rank=fields.number("q_lora_rank", 0, least=0),
        rank=fields.number("kv_lora_rank"),
        nope=fields.number("qk_nope_head_dim"),
        rope=fields.number("qk_rope_head_dim"),
        value=fields.number("v_head_dim"),
    )


def _latent_of(shape: Shape) -> Latent | None:
    return None if shape.latent is None else Latent(rank=shape.latent.rank, rope=shape.latent.rope)


def _experts(shape: Shape, small: _Quantised | None) -> Experts | None:
    mixture = shape.mixture
    if mixture is None:
        return None
    return Experts(
        routed=mixture.routed,
        active=mixture.active,
        parameters=shape.experts,
        weights_gb=None if small is None else shape.experts * small.bits / 8 / 1e9,
    )


def _quantised_gb(shape: Shape, towers: int, small: _Quantised) -> float:
    """Gigabytes of quantised weights. Embeddings, head, norms, biases, routers and towers stay in 16 bits;
    gpt-oss's attention, too.
    """
    quantised = shape.experts if small.method == "mxfp4" else shape.linears
    return (quantised * small.bits / 8 + (shape.parameters - quantised + towers) * _BYTES_16) / 1e9


def _quantised(config: dict[str, Any], place: str) -> _Quantised | None:
    """None for a model in 16 bits.

    AWQ and GPTQ keep for every group of weights a 16-bit scale and a zero point of as many bits as a weight,
    MXFP4 one of 8 bits for 32 (OCP Microscaling Formats 1.0).
    """
    quantization = config.get("quantization_config")
    if not isinstance(quantization, dict):
        return None
    method = quantization.get("quant_method")
    if method == "fp8":
        return _Quantised(method, 8.0)
    if method == "mxfp4":
        return _Quantised(method, 4 + 8 / 32)
    if method in {"awq", "gptq"}:
        bits = Fields(quantization, f"{place}: quantization_config").number("bits")
        group = quantization.get("group_size", 128)
        by_group = isinstance(group, int) and group > 0
        return _Quantised(method, bits + (16 + bits) / group if by_group else float(bits))
    raise UsageError(
        f"quantization_config.quant_method {method!r} is not computed: known are awq, gptq, fp8, mxfp4",
        place=place,
        remedy=TAKE_A_FILE,
    )
