"""How many weights a model has, from its sizes and its family: embeddings, attention, experts, norms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Windows = Literal["none", "all", "every_second", "but_every_nth", "from_a_layer"]
"""Which layers look back a window only: Mistral all, Gemma 2 every second, Gemma 3 all but every sixth and
Cohere 2 all but every fourth, Qwen those from `max_window_layers` on, if `use_sliding_window` says so."""
InnerNorms = Literal["none", "head", "all"]
"""Norms of queries and keys: of one head's size each, or of all heads' (OLMo 2)."""


@dataclass(frozen=True, slots=True)
class Family:
    """What models of one `model_type` have in common, beyond the sizes in their `config.json`."""

    qkv_bias: bool = False
    """Biases on queries, keys and values, whatever the configuration says."""
    output_bias: bool = True
    """Whether `attention_bias` means that of the output, too."""
    sinks: bool = False
    """One weight a head that takes attention from all tokens (gpt-oss)."""
    inner_norms: InnerNorms = "none"
    inner_norms_asked: bool = False
    """Whether they are there only if `use_qk_norm` says so."""
    norms: int = 2
    """Of a layer, each of the hidden size."""
    tied: bool = False
    """Whether the output head is the input embedding where the configuration does not tell."""
    windows: Windows = "none"
    experts: Literal["none", "mixtral", "qwen", "deepseek"] = "none"
    """How the configuration tells of its experts."""
    expert_biases: bool = False
    """Of the experts, and of what chooses them."""
    choice_bias: bool = False
    """What balances the choice of experts: one number each (DeepSeek-V3's paper, section 2.1.2)."""
    latent: bool = False
    """Multi-head latent attention."""
    defaults: dict[str, int] = field(default_factory=dict)
    """What published configurations of the family leave out, as transformers has it."""


_EVERY_FOURTH = {"sliding_window_pattern": 4}
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
    "qwen3": Family(inner_norms="head", windows="from_a_layer"),
    "qwen2_moe": Family(qkv_bias=True, windows="from_a_layer", experts="qwen"),
    "qwen3_moe": Family(inner_norms="head", windows="from_a_layer", experts="qwen"),
    "deepseek": Family(experts="deepseek"),
    "deepseek_v2": Family(experts="deepseek", latent=True),
    "deepseek_v3": Family(experts="deepseek", choice_bias=True, latent=True),
    "gpt_oss": Family(windows="every_second", experts="mixtral", expert_biases=True, sinks=True),
    "glm": Family(output_bias=False),
    "glm4": Family(norms=4, output_bias=False),
    "glm4_moe": Family(
        output_bias=False,
        experts="deepseek",
        choice_bias=True,
        inner_norms="head",
        inner_norms_asked=True,
    ),
    "cohere": Family(norms=1, tied=True, inner_norms="all", inner_norms_asked=True),
    "cohere2": Family(norms=1, tied=True, windows="but_every_nth", defaults=_EVERY_FOURTH),
    "seed_oss": Family(output_bias=False),
    "ernie4_5": Family(tied=True),
    "exaone4": Family(inner_norms="head", windows="but_every_nth", defaults=_EVERY_FOURTH),
    "olmo2": Family(inner_norms="all"),
    "olmo3": Family(inner_norms="all", windows="but_every_nth", defaults=_EVERY_FOURTH),
    "gemma": Family(tied=True),
    "gemma2": Family(norms=4, tied=True, windows="every_second"),
    "gemma3_text": Family(inner_norms="head", norms=4, tied=True, windows="but_every_nth", defaults=_GEMMA3),
}
"""By `model_type`. What a family does not say of its layers is as in Llama's."""

ALIASES = {
    "qwen2_vl": "qwen2", "qwen2_5_vl": "qwen2", "qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3", "qwen3_vl_moe_text": "qwen3_moe", "kimi_k2": "deepseek_v3",
}  # fmt: skip
"""Those that are built as another family, most of them the language models inside those that see."""


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
class LatentShape:
    """The sizes of multi-head latent attention. q_rank: 0 where queries are made in one step."""

    q_rank: int
    rank: int
    nope: int
    rope: int
    value: int

    def weights(self, hidden: int, heads: int) -> int:
        """Of one layer's matrices."""
        wide = heads * (self.nope + self.rope)
        queries = self.q_rank * (hidden + wide) if self.q_rank else hidden * wide
        keys = hidden * (self.rank + self.rope) + self.rank * heads * (self.nope + self.value)
        return queries + keys + heads * self.value * hidden


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
    inner_norms: InnerNorms
    mixture: Mixture | None = None
    latent: LatentShape | None = None

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
        attention = self._attention()
        shared = self.mixture.layers * self._forward(self.mixture.shared) if self.mixture else 0
        dense = self._dense_layers * self._forward(self.intermediate)
        return self.layers * attention + dense + shared + self.experts

    @property
    def small(self) -> int:
        """Norms, biases, and what chooses the experts."""
        norms = self.family.norms * self.hidden + self._attention_norms()
        sinks = self.heads if self.family.sinks else 0
        biases = self.layers * self._attention_biases() + self._dense_layers * self._forward_biases()
        return self.layers * (norms + sinks) + biases + self._routers() + self.hidden

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

    def _attention(self) -> int:
        """Matrices of one layer's."""
        if self.latent is not None:
            return self.latent.weights(self.hidden, self.heads)
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.hidden * (queries + 2 * keys) + queries * self.hidden

    def _attention_norms(self) -> int:
        """Of one layer's, inside of it."""
        if self.latent is not None:
            return self.latent.q_rank + self.latent.rank
        heads = {"none": 0, "head": 2, "all": self.heads + self.kv_heads}
        return heads[self.inner_norms] * self.head_dim

    def _forward(self, intermediate: int) -> int:
        return 3 * self.hidden * intermediate

    def _attention_biases(self) -> int:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if not (self.family.qkv_bias or self.attention_bias):
            return 0
        output = self.hidden if self.family.output_bias and not self.family.qkv_bias else 0
        return queries + 2 * keys + output

    def _forward_biases(self) -> int:
        return (2 * self.intermediate + self.hidden) if self.mlp_bias else 0

    def _routers(self) -> int:
        """What chooses the experts, and all biases of these."""
        mixture = self.mixture
        if mixture is None:
            return 0
        each = self.hidden * (mixture.routed + mixture.shared_gate)
        if self.family.choice_bias:
            each += mixture.routed
        if self.family.expert_biases:
            each += mixture.routed * (1 + 2 * mixture.size + self.hidden)
        return mixture.layers * each
