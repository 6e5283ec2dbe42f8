"""How many weights a model has, from its sizes and its family: embeddings, attention, experts, norms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Windows = Literal["none", "all", "every_second", "but_every_sixth", "from_a_layer"]
"""Which layers look back a window only: Mistral all, Gemma 2 every second, Gemma 3 all but every sixth, Qwen
those from `max_window_layers` on, if `use_sliding_window` says so."""


@dataclass(frozen=True, slots=True)
class Family:
    """What models of one `model_type` have in common, beyond the sizes in their `config.json`."""

    qkv_bias: bool = False
    """Biases on queries, keys and values, whatever the configuration says."""
    head_norms: bool = False
    """Norms of queries and keys, of one head's size each."""
    norms: int = 2
    """Of a layer, each of the hidden size."""
    tied: bool = False
    """Whether the output head is the input embedding where the configuration does not tell."""
    windows: Windows = "none"
    experts: Literal["none", "mixtral", "qwen", "deepseek"] = "none"
    """How the configuration tells of its experts."""
    defaults: dict[str, int] = field(default_factory=dict)
    """What published configurations of the family leave out, as transformers has it."""


_GEMMA3 = {
    "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
    "sliding_window": 4096,
}  # fmt: skip

FAMILIES = {
    "llama": Family(),
    "mistral": Family(windows="all"),
    "phi3": Family(windows="all"),
    "granite": Family(),
    "smollm3": Family(tied=True, windows="from_a_layer"),
    "mixtral": Family(windows="all", experts="mixtral"),
    "qwen2": Family(qkv_bias=True, windows="from_a_layer"),
    "qwen3": Family(head_norms=True, windows="from_a_layer"),
    "qwen2_moe": Family(qkv_bias=True, windows="from_a_layer", experts="qwen"),
    "qwen3_moe": Family(head_norms=True, windows="from_a_layer", experts="qwen"),
    "deepseek": Family(experts="deepseek"),
    "gemma": Family(tied=True),
    "gemma2": Family(norms=4, tied=True, windows="every_second"),
    "gemma3_text": Family(head_norms=True, norms=4, tied=True, windows="but_every_sixth", defaults=_GEMMA3),
}
"""By `model_type`. All but the experts build their layers as Llama does."""

ALIASES = {
    "qwen2_vl": "qwen2", "qwen2_5_vl": "qwen2", "qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3", "qwen3_vl_moe_text": "qwen3_moe",
}  # fmt: skip
"""The language models inside those that see, by the family they are of."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """The feed-forward part of a model with experts. layers: those that have them; the others are dense."""

    layers: int
    routed: int
    active: int
    """Routed experts that work on a token."""
    size: int
    """Of one routed expert: its intermediate size."""
    shared: int = 0
    """Intermediate size of what works on every token beside them."""
    shared_gate: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model, named as in `config.json`."""

    family: Family
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
    mixture: Mixture | None = None

    @property
    def embeddings(self) -> int:
        """Weights of the input embedding and, unless it is tied to it, the output head."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def experts(self) -> int:
        """Weights of all routed experts of all layers."""
        mixture = self.mixture
        return mixture.layers * mixture.routed * self._forward(mixture.size) if mixture else 0

    @property
    def linears(self) -> int:
        """Weights of all matrices of all layers: what quantisation makes smaller."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (queries + 2 * keys) + queries * self.hidden
        shared = self.mixture.layers * self._forward(self.mixture.shared) if self.mixture else 0
        dense = self._dense_layers * self._forward(self.intermediate)
        return self.layers * attention + dense + shared + self.experts

    @property
    def small(self) -> int:
        """Norms, biases, and what chooses the experts."""
        norms = self.family.norms * self.hidden + (2 * self.head_dim if self.family.head_norms else 0)
        biases = self.layers * self._attention_biases() + self._dense_layers * self._forward_biases()
        return self.layers * norms + biases + self._routers() + self.hidden

    @property
    def plain(self) -> int:
        """What quantisation leaves as it is."""
        return self.embeddings + self.small

    @property
    def parameters(self) -> int:
        """Every weight of the model."""
        return self.plain + self.linears

    @property
    def _dense_layers(self) -> int:
        return self.layers - (self.mixture.layers if self.mixture else 0)

    def _forward(self, intermediate: int) -> int:
        return 3 * self.hidden * intermediate

    def _attention_biases(self) -> int:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.family.qkv_bias:
            return queries + 2 * keys
        return (queries + 2 * keys + self.hidden) if self.attention_bias else 0

    def _forward_biases(self) -> int:
        return (2 * self.intermediate + self.hidden) if self.mlp_bias else 0

    def _routers(self) -> int:
        if self.mixture is None:
            return 0
        return self.mixture.layers * self.hidden * (self.mixture.routed + self.mixture.shared_gate)
