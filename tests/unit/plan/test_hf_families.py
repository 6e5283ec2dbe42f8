"""Mixtures of experts, windows and models that see, from their `config.json`, against published counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.plan.fit import (
    expert_bytes,
    fit,
    kv_bytes_kept,
    kv_bytes_per_token,
    sequences,
    weight_bytes,
)
from dreamseed_cli.plan.hf_config import read_model
from dreamseed_cli.plan.layouts import legal_layouts, roofline_engine
from dreamseed_cli.plan.parts import Model, Window
from dreamseed_cli.plan.tables import cards, models
from dreamseed_cli.profile.schema import VllmEngine

_MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
    "max_position_embeddings": 32768, "sliding_window": None, "tie_word_embeddings": False,
    "vocab_size": 32000,
}  # fmt: skip
_QWEN3_30B = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "max_position_embeddings": 40960, "sliding_window": None, "use_sliding_window": False,
    "tie_word_embeddings": False, "attention_bias": False, "vocab_size": 151936,
}  # fmt: skip
_QWEN15_MOE = {
    "model_type": "qwen2_moe", "hidden_size": 2048, "intermediate_size": 5632, "moe_intermediate_size": 1408,
    "shared_expert_intermediate_size": 5632, "num_hidden_layers": 24, "num_attention_heads": 16,
    "num_key_value_heads": 16, "num_experts": 60, "num_experts_per_tok": 4, "decoder_sparse_step": 1,
    "max_position_embeddings": 8192, "sliding_window": 32768, "use_sliding_window": False,
    "max_window_layers": 21, "tie_word_embeddings": False, "vocab_size": 151936,
}  # fmt: skip
_DEEPSEEK_MOE = {
    "model_type": "deepseek", "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408,
    "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16, "n_routed_experts": 64,
    "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1,
    "max_position_embeddings": 4096, "tie_word_embeddings": False, "vocab_size": 102400,
}  # fmt: skip
_PHI4 = {
    "model_type": "phi3", "hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40,
    "num_attention_heads": 40, "num_key_value_heads": 10, "max_position_embeddings": 16384,
    "sliding_window": None, "tie_word_embeddings": False, "vocab_size": 100352,
}  # fmt: skip
_GRANITE_8B = {
    "model_type": "granite", "hidden_size": 4096, "intermediate_size": 12800, "num_hidden_layers": 40,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
    "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "vocab_size": 49155,
}  # fmt: skip
_SMOLLM3_3B = {
    "model_type": "smollm3", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
    "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 65536,
    "use_sliding_window": False, "sliding_window": None, "vocab_size": 128256,
}  # fmt: skip
_GPT_OSS_20B = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "attention_bias": True,
    "num_local_experts": 32, "num_experts_per_tok": 4, "max_position_embeddings": 131072,
    "sliding_window": 128, "tie_word_embeddings": False, "vocab_size": 201088,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
}  # fmt: skip
_MXFP4 = {"quant_method": "mxfp4"}
_DEEPSEEK_V2_LITE = {
    "model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944, "num_hidden_layers": 27,
    "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": None, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_intermediate_size": 1408,
    "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1,
    "max_position_embeddings": 163840, "tie_word_embeddings": False, "vocab_size": 102400,
}  # fmt: skip
_DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
    "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_intermediate_size": 2048,
    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
    "max_position_embeddings": 163840, "tie_word_embeddings": False, "vocab_size": 129280,
}  # fmt: skip
_GLM4_9B = {
    "model_type": "glm4", "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40,
    "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "attention_bias": True,
    "max_position_embeddings": 32768, "tie_word_embeddings": False, "vocab_size": 151552,
}  # fmt: skip
_GEMMA2_9B = {
    "model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "sliding_window": 4096,
    "max_position_embeddings": 8192, "vocab_size": 256000,
}  # fmt: skip
_GEMMA3_1B = {
    "model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512,
    "sliding_window_pattern": 6, "max_position_embeddings": 32768, "vocab_size": 262144,
}  # fmt: skip
_SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304,
    "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
# As published: what is the family's default is left out.
_GEMMA3_4B = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
        "num_hidden_layers": 34, "sliding_window": 1024,
    },
    "vision_config": _SIGLIP,
}  # fmt: skip
_GEMMA3_12B = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text", "hidden_size": 3840, "intermediate_size": 15360, "num_hidden_layers": 48,
        "num_attention_heads": 16, "num_key_value_heads": 8, "sliding_window": 1024,
    },
    "vision_config": _SIGLIP,
}  # fmt: skip


def _read(folder: Path, config: dict[str, Any], **changes: Any) -> Model:
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return read_model(str(folder))


def _vllm(**changes: Any) -> VllmEngine:
    return VllmEngine(kind="vllm", device="cuda", model="m", dtype="bfloat16", **changes)


@pytest.mark.parametrize(
    ("config", "parameters", "active"),
    [
        # mistral.ai: 46.7 billion, of which 12.9 work on a token.
        (_MIXTRAL, 46_702_792_704, 12_879_925_248),
        # Its model card: 30.5 billion, 3.3 activated.
        (_QWEN3_30B, 30_532_122_624, 3_353_032_704),
        # Its model card: 14.3 billion, 2.7 activated; with a shared expert, its gate and biases.
        (_QWEN15_MOE, 14_315_784_192, 2_689_173_504),
        # Its paper: 16.4 billion, 2.8 activated; the first layer is dense, two experts are shared.
        (_DEEPSEEK_MOE, 16_375_728_128, 2_828_650_496),
        # 14.7 and 8.17 billion; 3.08 where the head is the embedding, as its configuration leaves out.
        (_PHI4, 14_659_507_200, 14_659_507_200),
        (_GRANITE_8B, 8_170_848_256, 8_170_848_256),
        (_SMOLLM3_3B, 3_075_098_624, 3_075_098_624),
        # 20.91 billion with the biases of its experts; an embedding that is only looked up counts as active.
        (_GPT_OSS_20B, 20_914_757_184, 4_193_246_784),
        # 15.7 billion of which 2.4 work beside the embeddings; 671 and 37 billion: latent attention.
        (_DEEPSEEK_V2_LITE, 15_706_484_224, 2_661_150_208),
        (_DEEPSEEK_V3, 671_026_419_200, 37_552_297_472),
        (_GLM4_9B, 9_400_279_040, 9_400_279_040),
        # 9.24 billion; the head is the embedding.
        (_GEMMA2_9B, 9_241_705_984, 9_241_705_984),
        (_GEMMA3_1B, 999_885_952, 999_885_952),
        # 4.3 and 12.2 billion with what sees, which no generated token reads.
        (_GEMMA3_4B, 4_300_079_472, 3_880_263_168),
        (_GEMMA3_12B, 12_187_325_040, 11_766_034_176),
    ],
    ids=[
        "mixtral-8x7b",
        "qwen3-30b-a3b",
        "qwen1.5-moe",
        "deepseek-moe",
        "phi-4",
        "granite-3.1-8b",
        "smollm3-3b",
        "gpt-oss-20b",
        "deepseek-v2-lite",
        "deepseek-v3",
        "glm-4-9b",
        "gemma2-9b",
        "gemma3-1b",
        "4b",
        "12b",
    ],
)
def test_the_counts_are_the_published_ones(
    tmp_path: Path, config: dict[str, Any], parameters: int, active: int
) -> None:
    """To the last weight of what the published files hold."""
    model = _read(tmp_path, config)
    assert (model.parameters, model.active_parameters) == (parameters, active)
    assert model.uncounted is None


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (_QWEN3_30B, "Qwen/Qwen3-30B-A3B"),
        (_MIXTRAL, "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        (_GEMMA3_12B, "google/gemma-3-12b-it"),
        (_GPT_OSS_20B | {"quantization_config": _MXFP4}, "openai/gpt-oss-20b"),
        (_DEEPSEEK_V2_LITE, "deepseek-ai/DeepSeek-V2-Lite-Chat"),
    ],
)
def test_the_table_has_what_the_configuration_says(tmp_path: Path, config: dict[str, Any], name: str) -> None:
    """Experts, window and towers as well."""
    table = models()[name]
    assert _read(tmp_path, config).model_copy(update={"gated": table.gated}) == table


def test_only_some_layers_may_have_experts(tmp_path: Path) -> None:
    """Every second of Qwen's, or all but those that are named."""
    whole, dense = _read(tmp_path, _QWEN3_30B), 3 * 2048 * 6144
    experts, router = 128 * 3 * 2048 * 768, 128 * 2048
    # transformers 5 writes `num_local_experts` where 4 wrote `num_experts`.
    assert _read(tmp_path, _QWEN3_30B, num_experts=None, num_local_experts=128) == whole
    half = _read(tmp_path, _QWEN3_30B, decoder_sparse_step=2)
    assert whole.parameters - half.parameters == 24 * (experts + router - dense)
    named = _read(tmp_path, _QWEN3_30B, mlp_only_layers=[0, 47])
    assert whole.parameters - named.parameters == 2 * (experts + router - dense)


def test_a_batch_reads_as_many_experts_as_are_expected(tmp_path: Path) -> None:
    """Of 8 experts 2 a token: one token reads 2, two on average 3.5, four 5.47; many all of them."""
    model, engine = _read(tmp_path, _MIXTRAL), _vllm()
    speed = roofline_engine(model, cards()["h100-sxm"], engine)
    one_layers = expert_bytes(model, engine) / 8
    always = weight_bytes(model, engine) - expert_bytes(model, engine)
    for tokens, read in ((1, 2.0), (2, 3.5), (4, 5.46875)):
        assert speed.read_bytes(tokens) == pytest.approx(always + read * one_layers)
    assert speed.read_bytes(1) == pytest.approx(2 * model.active_parameters)
    assert speed.read_bytes(1000) == pytest.approx(weight_bytes(model, engine))
    assert speed.parameters == model.active_parameters


def test_quantised_experts_are_small_and_routers_are_not(tmp_path: Path) -> None:
    """4 bits and their scales for Mixtral's matrices: 24.7 GB, of which 23.4 GB are experts."""
    quantization = {"quant_method": "awq", "bits": 4, "group_size": 128}
    model, engine = _read(tmp_path, _MIXTRAL, quantization_config=quantization), _vllm()
    assert model.weights_gb == pytest.approx((46_439_333_888 * 4.15625 / 8 + 263_458_816 * 2) / 1e9)
    assert expert_bytes(model, engine) == pytest.approx(45_097_156_608 * 4.15625 / 8)


@pytest.mark.parametrize(
    ("config", "changes", "layers"),
    [
        (_GEMMA2_9B, {}, 21),
        (_GEMMA2_9B, {"num_hidden_layers": 43}, 22),
        (_GEMMA3_1B, {}, 22),
        (_GEMMA3_1B, {"layer_types": ["sliding_attention", "full_attention"] * 13}, 13),
        (_GEMMA3_1B, {"sliding_window": None, "layer_types": ["full_attention"] * 26}, 0),
        (_MIXTRAL, {"sliding_window": 4096}, 32),
        (_MIXTRAL, {}, 0),
        (_QWEN15_MOE, {}, 0),
        (_QWEN15_MOE, {"use_sliding_window": True}, 3),
    ],
)
def test_the_layers_with_a_window_are_those_of_the_family(
    tmp_path: Path, config: dict[str, Any], changes: dict[str, Any], layers: int
) -> None:
    """Every second, five of six, all, or those from a layer on if they are switched on."""
    window = _read(tmp_path, config, **changes).window
    assert (window.layers if window else 0) == layers


def test_a_window_bounds_what_a_sequence_keeps_and_reads(tmp_path: Path) -> None:
    """Gemma 3 12B: 8 of 48 layers keep all of 32,768 tokens, 40 the last 1,024 and a part of the prompt."""
    model, each = _read(tmp_path, _GEMMA3_12B), 2 * 8 * 256 * 2
    assert kv_bytes_per_token(model, "bfloat16") == 48 * each
    assert kv_bytes_kept(model, "bfloat16", 1000) == 48 * each * 1000
    assert kv_bytes_kept(model, "bfloat16", 32_768) == each * (8 * 32_768 + 40 * (1024 + 2048))
    speed = roofline_engine(model, cards()["h100-sxm"], _vllm())
    assert speed.seen_tokens(1024) == 1024
    assert speed.seen_tokens(32_768) == pytest.approx((8 * 32_768 + 40 * 1024) / 48)
    assert speed.seen_on_average(1024) == pytest.approx(512)
    # Of 2,048 tokens the first half sees 512 on average, the second 1,024.
    assert speed.seen_on_average(2048) == pytest.approx((8 * 1024 + 40 * 768) / 48)


def test_short_sequences_do_not_profit_from_a_window(tmp_path: Path) -> None:
    """As many fit as their keys and values take, not as an average of the longest would let through."""
    model, card = _read(tmp_path, _GEMMA3_12B), cards()["h100-sxm"]
    engine = _vllm(max_model_len=32_768, max_num_seqs=4096)
    memory = fit(model, card, engine, 1)
    assert memory.kv_tokens > memory.kv_cache / kv_bytes_per_token(model, "bfloat16") * 3
    assert sequences(model, engine, memory, 512) == int(memory.kv_cache / (48 * 8192 * 512))
    alone = next(one for one in legal_layouts(model, card, engine, 1, context=512) if one.group == 1)
    assert alone.batch == sequences(model, engine, memory, 512)


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        # Norms of queries and keys: of all 8 + 2 heads in Cohere's, of one head each in GLM's, if asked for.
        ({"model_type": "cohere", "use_qk_norm": True}, 2 * (8 + 2) * 32),
        ({"model_type": "cohere"}, 0),
        ({"model_type": "glm4_moe", "use_qk_norm": True}, 2 * 2 * 32),
        ({"model_type": "glm4_moe"}, 0),
        # Biases of queries, keys and values, without the output's.
        ({"model_type": "glm4_moe", "attention_bias": True}, 2 * (8 + 2 + 2) * 32),
    ],
)
def test_norms_and_biases_are_those_of_the_family(tmp_path: Path, changes: dict[str, Any], more: int) -> None:
    """transformers 5.19 builds the plain ones of these sizes with so many, beside GLM's 4 of the choice."""
    sizes = {
        "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 4096, "vocab_size": 300,
        "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
        "first_k_dense_replace": 1,
    }  # fmt: skip
    if changes["model_type"] == "cohere":
        sizes = {name: value for name, value in sizes.items() if "expert" not in name}
    plain = {"cohere": 1_191_680, "glm4_moe": 1_122_560 + 4}[changes["model_type"]]
    assert _read(tmp_path, sizes, **changes).parameters == plain + more


def test_four_bits_of_gpt_oss_are_its_experts_alone(tmp_path: Path) -> None:
    """13,761,264,768 bytes, as its published files say: 4 bits and a scale for 32; all else in 16."""
    model = _read(tmp_path, _GPT_OSS_20B, quantization_config=_MXFP4)
    assert weight_bytes(model, _vllm()) == pytest.approx(13_761_264_768)
    assert (model.quantization, model.window) == ("mxfp4", Window(layers=12, tokens=128))


def test_a_latent_vector_is_kept_whole_on_every_card(tmp_path: Path) -> None:
    """512 + 64 numbers a layer and token, 31,104 bytes; keys and values of 16 heads would be 276,480."""
    model, card = _read(tmp_path, _DEEPSEEK_V2_LITE), cards()["h100-sxm"]
    assert kv_bytes_per_token(model, "bfloat16") == 27 * (512 + 64) * 2 == 31_104
    engine = _vllm(max_model_len=4096)
    assert [fit(model, card, engine, size).kv_per_token for size in (1, 4)] == [31_104, 31_104]
    # A head scores against all of it, and sums what values are made from.
    speed = roofline_engine(model, card, engine)
    assert speed.attention_flops_per_token == 27 * 16 * 2 * ((512 + 64) + 512)


def test_a_tower_that_is_not_known_is_told_and_left_out(tmp_path: Path) -> None:
    """The language model inside is computed; its head may be tied by the table around it."""
    text = {"model_type": "mistral", **{key: _MIXTRAL[key] for key in _MIXTRAL if key not in _EXPERT_KEYS}}
    text["model_type"] = "mistral"
    config = {"model_type": "mistral3", "text_config": text, "vision_config": {"model_type": "pixtral"}}
    model = _read(tmp_path, config)
    assert model.uncounted is not None
    assert model.parameters == 7_241_732_096
    del text["tie_word_embeddings"]
    tied = _read(tmp_path, {**config, "tie_word_embeddings": True})
    assert model.parameters - tied.parameters == 32000 * 4096


_EXPERT_KEYS = ("num_local_experts", "num_experts_per_tok")
