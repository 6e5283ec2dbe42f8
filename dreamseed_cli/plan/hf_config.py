"""A model's figures from the `config.json` of its folder: what no table needs to know beforehand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.plan.parts import Model

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
# Each builds its layers as Llama does; they differ in biases and in norms of queries and keys.
_LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
_BYTES_16 = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Llama-like dense model, named as in `config.json`."""

    kind: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    attention_bias: bool
    mlp_bias: bool

    @property
    def embeddings(self) -> int:
        """Weights of the input embedding and, unless it is tied to it, the output head."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def linears(self) -> int:
        """Weights of all matrices of all layers: what quantisation makes smaller."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (queries + 2 * keys) + queries * self.hidden
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def small(self) -> int:
        """Norms and biases."""
        return self.layers * (2 * self.hidden + self._biases() + self._head_norms()) + self.hidden

    @property
    def parameters(self) -> int:
        """Every weight of the model."""
        return self.embeddings + self.linears + self.small

    def _biases(self) -> int:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.kind == "qwen2":  # biases on queries, keys and values, always
            attention = queries + 2 * keys
        else:
            attention = (queries + 2 * keys + self.hidden) if self.attention_bias else 0
        return attention + ((2 * self.intermediate + self.hidden) if self.mlp_bias else 0)

    def _head_norms(self) -> int:
        return 2 * self.head_dim if self.kind == "qwen3" else 0


def is_model_folder(name: str) -> bool:
    """Whether this is a folder with a `config.json`, or the path of one."""
    return _config_path(name).is_file()


def read_model(name: str) -> Model:
    """The model in a folder (or behind the path of a `config.json`).

    Raises UsageError for a mixture of experts, an unknown architecture or quantisation, or a missing field.
    """
    path = _config_path(name)
    config = _load(path)
    shape = _shape(config, str(path))
    return Model(
        parameters=shape.parameters,
        layers=shape.layers,
        attention_heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_positions=_number(config, "max_position_embeddings", str(path)),
        weights_gb=_quantised_gb(config, shape, str(path)),
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


def _shape(config: dict[str, Any], place: str) -> Shape:
    _require_computable(config, place)
    hidden, heads = _number(config, "hidden_size", place), _number(config, "num_attention_heads", place)
    return Shape(
        kind=str(config["model_type"]),
        hidden=hidden,
        intermediate=_number(config, "intermediate_size", place),
        layers=_number(config, "num_hidden_layers", place),
        heads=heads,
        # Models from before grouped-query attention do not name it.
        kv_heads=_number(config, "num_key_value_heads", place, default=heads),
        head_dim=_number(config, "head_dim", place, default=hidden // heads),
        vocab=_number(config, "vocab_size", place),
        tied=config.get("tie_word_embeddings", False) is True,
        attention_bias=config.get("attention_bias", False) is True,
        mlp_bias=config.get("mlp_bias", False) is True,
    )


def _require_computable(config: dict[str, Any], place: str) -> None:
    kind = config.get("model_type")
    experts = [key for key in _EXPERTS if config.get(key)]
    if experts:
        raise UsageError(
            f"a mixture of experts ({experts[0]} {config[experts[0]]}): it is not computed",
            place=place,
            remedy="Give its figures in a file of models: dreamseed plan --models FILE.",
        )
    if kind not in _LLAMA_LIKE:
        raise UsageError(
            f"model_type {kind!r} is not computed: known are {', '.join(_LLAMA_LIKE)}",
            place=place,
            remedy="Give its figures in a file of models: dreamseed plan --models FILE.",
        )


def _number(config: dict[str, Any], key: str, place: str, *, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        cause = "is missing" if value is None else f"is {value!r}, not a positive whole number"
        raise UsageError(f"{key} {cause}", place=place, remedy="Take the config.json the model came with.")
    return value


def _quantised_gb(config: dict[str, Any], shape: Shape, place: str) -> float | None:
    """Gigabytes of quantised weights; None for a model in 16 bits.

    Embeddings, output head, norms and biases stay in 16 bits. AWQ and GPTQ keep for every group of weights
    a 16-bit scale and a zero point of as many bits as a weight.
    """
    quantization = config.get("quantization_config")
    if not isinstance(quantization, dict):
        return None
    bits = _bits_a_weight(quantization, place)
    return (shape.linears * bits / 8 + (shape.embeddings + shape.small) * _BYTES_16) / 1e9


def _bits_a_weight(quantization: dict[str, Any], place: str) -> float:
    method = quantization.get("quant_method")
    if method == "fp8":
        return 8.0
    if method in {"awq", "gptq"}:
        bits = _number(quantization, "bits", f"{place}: quantization_config")
        group = quantization.get("group_size", 128)
        return bits + (16 + bits) / group if isinstance(group, int) and group > 0 else float(bits)
    raise UsageError(
        f"quantization_config.quant_method {method!r} is not computed: known are awq, gptq, fp8",
        place=place,
        remedy="Give its figures in a file of models: dreamseed plan --models FILE.",
    )
