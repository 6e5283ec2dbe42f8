"""What fits and what cannot start, computed."""

import pytest

from dreamseed_cli.core.errors import ErrorGroup
from dreamseed_cli.plan.check import check_profile, require_none, start_errors
from dreamseed_cli.plan.fit import findings, fit, kv_bytes_per_token, weight_bytes
from dreamseed_cli.plan.tables import cards, models
from dreamseed_cli.profile.load import load_profile, parse_profile
from dreamseed_cli.profile.schema import Profile, VllmEngine


def _profile(**engine: object) -> Profile:
    data = {"kind": "vllm", "device": "cuda", "model": "meta-llama/Llama-2-13b-chat-hf", "dtype": "float16"}
    return parse_profile(
        {
            "name": "t",
            "description": "",
            "box": {"gpus": 3, "gpu_model": "rtx5090"},
            "engine": {**data, **engine},
        },
        source="t",
    )


def test_the_documents_13b_needs_over_800_kb_a_token() -> None:
    """2 x 40 layers x 40 heads x 128 x 2 bytes: no grouped-query attention."""
    assert kv_bytes_per_token(models()["meta-llama/Llama-2-13b-chat-hf"], "float16") == 819_200


def test_the_small_models_kv_agrees_with_what_vllm_reports() -> None:
    """vLLM 0.32 printed 46,592 tokens for 1 GiB; the formula must agree within 1 %."""
    per_token = kv_bytes_per_token(models()["smollm2-135m-instruct"], "bfloat16")
    assert 2**30 / per_token == pytest.approx(46_592, rel=0.01)


def test_the_document_profile_cannot_start_because_of_its_heads() -> None:
    """3 does not divide 40, and the remedy computes the sizes that do."""
    with pytest.raises(ErrorGroup) as caught:
        require_none(start_errors(load_profile("rtx5090x3-document")))
    message = str(caught.value)
    assert "3 does not divide the model's 40 attention heads" in message
    assert "with 1 it does not fit" in message
    assert "with 2 it fits" in message
    assert "can start on these cards: rtx5090x3, rtx5090x1." in message


def test_13b_in_float16_on_one_card_holds_less_than_one_sequence() -> None:
    """26 GB of weights leave fewer than 4,096 tokens of KV cache."""
    outcome = check_profile(_profile())
    assert outcome.fit is not None
    assert outcome.fit.kv_tokens < 4096
    assert [finding.place for finding in outcome.findings] == ["engine.model"]


@pytest.mark.parametrize(
    "change", [{"max_model_len": 2048}, {"kv_cache_dtype": "fp8"}, {"quantization": "fp8"}]
)
def test_each_remedy_that_is_named_works(change: dict[str, object]) -> None:
    """The finding disappears with a shorter length, a smaller KV cache or smaller weights."""
    assert check_profile(_profile(**change)).findings == ()


_AWQ_70B = "TheBloke/Llama-2-70B-Chat-AWQ"


def test_what_the_model_is_already_is_no_remedy() -> None:
    """A 70B in AWQ is quantised and has grouped-query attention; its weights are too large for any length."""
    (finding,) = check_profile(_profile(model=_AWQ_70B)).findings
    assert finding.remedy == "Take a smaller model or tensor_parallel_size = 2."
    (plain,) = check_profile(
        _profile(kv_cache_dtype="fp8", max_model_len=4096, gpu_memory_utilization=0.85)
    ).findings
    assert plain.remedy.startswith("Take a quantised model, one with grouped-query attention")
    assert "kv_cache_dtype" not in plain.remedy
    (one,) = check_profile(
        _profile(model=_AWQ_70B, tensor_parallel_size=1).model_copy(
            update={"box": _profile().box.model_copy(update={"gpus": 1})}
        )
    ).findings
    assert one.remedy == "Take a smaller model."


@pytest.mark.parametrize(
    ("model", "quantization", "starts"),
    [
        (_AWQ_70B, None, True),
        (_AWQ_70B, "awq", True),
        (_AWQ_70B, "awq_marlin", True),
        (_AWQ_70B, "fp8", False),
        (_AWQ_70B, "gptq", False),
        ("Qwen/Qwen2.5-7B-Instruct", "fp8", True),
        ("Qwen/Qwen2.5-7B-Instruct", "awq", False),
        ("Qwen/Qwen2.5-7B-Instruct", "compressed-tensors", False),
    ],
)
def test_a_quantisation_is_the_models_own(model: str, quantization: str | None, starts: bool) -> None:
    """vLLM refuses any other; only fp8 it makes itself of 16 bits."""
    size = 2 if model == _AWQ_70B else 1
    found = check_profile(
        _profile(model=model, quantization=quantization, tensor_parallel_size=size)
    ).findings
    assert [finding.place for finding in found] == ([] if starts else ["engine.quantization"])


def test_what_vllm_makes_fp8_of_16_bits_keeps_embeddings_and_norms_as_they_are() -> None:
    """Llama-3.1-8B: 6,979,321,856 weights of matrices at one byte, 1,050,939,392 others at two."""
    eight = models()["meta-llama/Llama-3.1-8B-Instruct"]
    engine = _profile(model="m", quantization="fp8").engine
    assert isinstance(engine, VllmEngine)
    assert weight_bytes(eight, engine) == 6_979_321_856 + 2 * 1_050_939_392
    untold = eight.model_copy(update={"plain_parameters": None})
    assert weight_bytes(untold, engine) == 8_030_261_248


def test_weights_of_which_only_the_size_is_known_are_believed() -> None:
    """A table of one's own need not say how they are quantised."""
    untold = models()[_AWQ_70B].model_copy(update={"quantization": None})
    engine = _profile(model=_AWQ_70B, quantization="gptq", tensor_parallel_size=2).engine
    assert isinstance(engine, VllmEngine)
    assert findings(engine, untold, cards()["rtx5090"], 3) == []


def test_a_length_beyond_the_models_positions_is_a_finding() -> None:
    """Llama-2 has 4,096 positions."""
    outcome = check_profile(_profile(quantization="fp8", max_model_len=8192))
    assert [finding.place for finding in outcome.findings] == ["engine.max_model_len"]


def test_every_shipped_profile_but_the_documents_can_start() -> None:
    """What we ship, starts."""
    for name in ("laptop", "rtx5090x1", "rtx5090x3", "emulated-rtx5090x3"):
        require_none(start_errors(load_profile(name)))


def test_unknown_models_and_cards_are_said_to_be_unchecked() -> None:
    """No verdict without figures."""
    assert "someone/model" in (check_profile(_profile(model="someone/model")).unchecked or "")
    profile = _profile()
    odd = profile.model_copy(update={"box": profile.box.model_copy(update={"gpu_model": "rtx9090"})})
    assert "rtx9090" in (check_profile(odd).unchecked or "")


def test_tensor_parallelism_shares_weights_and_kv_heads() -> None:
    """Half the weights and half the bytes a token on each of two cards."""
    engine = _profile().engine
    assert isinstance(engine, VllmEngine)
    model, card = models()["meta-llama/Llama-2-13b-chat-hf"], cards()["rtx5090"]
    one, two = (fit(model, card, engine, size) for size in (1, 2))
    assert two.weights == one.weights / 2
    assert two.kv_per_token == one.kv_per_token / 2


def test_kv_heads_keep_a_size_from_starting_too() -> None:
    """7 divides the 28 attention heads, but 4 KV heads cannot be copied onto 7 cards evenly."""
    profile = _profile(model="Qwen/Qwen2.5-7B-Instruct", tensor_parallel_size=3)
    assert "3 does not divide the model's 28 attention heads" in check_profile(profile).findings[0].cause
    seven = profile.model_copy(
        update={
            "box": profile.box.model_copy(update={"gpus": 7}),
            "engine": profile.engine.model_copy(update={"tensor_parallel_size": 7}),
        }
    )
    (finding,) = check_profile(seven).findings
    assert "4 KV heads, copied, do not divide 7" in finding.cause
    assert "Sizes that divide them on 7 cards: 1, 2, 4;" in finding.remedy
