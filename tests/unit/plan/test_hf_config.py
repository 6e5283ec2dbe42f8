"""A model's figures from its `config.json`, against the counts its authors published."""

import json
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.plan.hf_config import is_model_folder, read_model
from dreamseed_cli.plan.tables import models

_LLAMA_7B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}


def _llama(layers: int, heads: int, hidden: int, intermediate: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers}
    return {**_LLAMA_7B, **sizes, "num_attention_heads": heads, "num_key_value_heads": heads, **more}


_QWEN3_8B = _llama(
    36, 32, 4096, 12288, model_type="qwen3", num_key_value_heads=8, head_dim=128, vocab_size=151936
)
_QWEN25_14B = _llama(48, 40, 5120, 13824, model_type="qwen2", num_key_value_heads=8, vocab_size=152064)
_QWEN25_7B = _llama(28, 28, 3584, 18944, model_type="qwen2", num_key_value_heads=4, vocab_size=152064)
_QWEN3_14B = _llama(
    40, 40, 5120, 17408, model_type="qwen3", num_key_value_heads=8, head_dim=128, vocab_size=151936
)
_LLAMA_3_70B = _llama(80, 64, 8192, 28672, num_key_value_heads=8, vocab_size=128256)
_LLAMA_2_70B = _llama(80, 64, 8192, 28672, num_key_value_heads=8)


def _write(folder: Path, config: object) -> str:
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (_LLAMA_7B, "meta-llama/Llama-2-7b-chat-hf"),
        (_llama(40, 40, 5120, 13824), "meta-llama/Llama-2-13b-chat-hf"),
        (_LLAMA_2_70B, "meta-llama/Llama-2-70b-chat-hf"),
        (
            _llama(32, 32, 4096, 14336, num_key_value_heads=8, vocab_size=128256),
            "meta-llama/Llama-3.1-8B-Instruct",
        ),
        (_LLAMA_3_70B, "meta-llama/Llama-3.3-70B-Instruct"),
        (_QWEN25_7B, "Qwen/Qwen2.5-7B-Instruct"),
        (_QWEN25_14B, "Qwen/Qwen2.5-14B-Instruct-AWQ"),
        (_QWEN3_8B, "Qwen/Qwen3-8B"),
        (_QWEN3_14B, "Qwen/Qwen3-14B"),
        (
            _llama(30, 9, 576, 1536, num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True),
            "smollm2-135m-instruct",
        ),
    ],
)
def test_the_count_is_the_published_one_to_the_last_weight(
    tmp_path: Path, config: dict[str, Any], published: str
) -> None:
    """Embedding, layers with their norms and biases, last norm, head: 6,738,415,616 for Llama-2-7B."""
    computed, table = read_model(_write(tmp_path, config)), models()[published]
    assert computed.parameters == table.parameters
    shape = (computed.layers, computed.attention_heads, computed.kv_heads, computed.head_dim)
    assert shape == (table.layers, table.attention_heads, table.kv_heads, table.head_dim)


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (_QWEN25_7B, "Qwen/Qwen2.5-7B-Instruct-AWQ"),
        (_QWEN25_14B, "Qwen/Qwen2.5-14B-Instruct-AWQ"),
        (_QWEN3_14B, "Qwen/Qwen3-14B-AWQ"),
        (_LLAMA_2_70B, "TheBloke/Llama-2-70B-Chat-AWQ"),
    ],
)
def test_four_bit_weights_agree_with_the_table(
    tmp_path: Path, config: dict[str, Any], published: str
) -> None:
    """4 bits, and for every 128 of them a scale of 16 and a zero point of 4: 4.156 bits a weight."""
    quantization = {"quant_method": "awq", "bits": 4, "group_size": 128}
    computed = read_model(_write(tmp_path, {**config, "quantization_config": quantization}))
    assert computed.weights_gb == pytest.approx(models()[published].weights_gb, rel=0.002)
    assert computed.quantization == models()[published].quantization == "awq"


def test_eight_bits_halve_the_matrices_only(tmp_path: Path) -> None:
    """Llama-2-7B: 6,476,005,376 weights in matrices at one byte, 262,410,240 others at two."""
    config = {**_LLAMA_7B, "quantization_config": {"quant_method": "fp8"}}
    assert read_model(_write(tmp_path, config)).weights_gb == pytest.approx(7.000825856)


@pytest.mark.parametrize(
    "field",
    [
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_size",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    ],
)
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    """And so is the file."""
    config = {key: value for key, value in _LLAMA_7B.items() if key != field}
    with pytest.raises(UsageError, match=f"{field} is missing") as caught:
        read_model(_write(tmp_path, config))
    assert caught.value.place == str(tmp_path / "config.json")


def test_heads_that_do_not_share_out_are_refused(tmp_path: Path) -> None:
    """Every KV head serves as many heads as any other."""
    with pytest.raises(UsageError, match="num_key_value_heads 7 does not divide num_attention_heads 32"):
        read_model(_write(tmp_path, {**_LLAMA_7B, "num_key_value_heads": 7}))


def test_older_models_name_neither_kv_heads_nor_head_size(tmp_path: Path) -> None:
    """Then every head has keys of its own, of hidden size / heads."""
    config = {key: value for key, value in _LLAMA_7B.items() if key != "num_key_value_heads"}
    model = read_model(_write(tmp_path, config))
    assert (model.kv_heads, model.head_dim) == (32, 128)


_FEW_EXPERTS = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_local_experts": 8}, "num_local_experts 8 in a 'llama', which has no experts"),
        ({"model_type": "mixtral"}, "num_local_experts is missing"),
        ({"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 5}, "more than its 4"),
        ({"kv_lora_rank": 512}, "kv_lora_rank 512 in a 'llama'"),
        ({"model_type": "deepseek_v3", **_FEW_EXPERTS}, "kv_lora_rank is missing"),
        ({"text_config": {"model_type": "llama"}}, "hidden_size is missing"),
        ({"model_type": "mamba"}, "model_type 'mamba' is not computed"),
        ({"quantization_config": {"quant_method": "exotic"}}, "'exotic' is not computed"),
        ({"vocab_size": "many"}, "vocab_size is 'many'"),
    ],
)
def test_what_is_not_computed_says_so(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """Never a guess."""
    with pytest.raises(UsageError, match=said):
        read_model(_write(tmp_path, {**_LLAMA_7B, **change}))


def test_a_broken_file_is_an_error_and_a_name_is_no_folder(tmp_path: Path) -> None:
    """By its own message."""
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match="not valid JSON"):
        read_model(str(tmp_path / "config.json"))
    with pytest.raises(UsageError, match="holds no table"):
        read_model(_write(tmp_path, []))
    assert not is_model_folder("meta-llama/Llama-2-7b-chat-hf")
