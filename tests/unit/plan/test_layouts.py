"""Which layouts are legal, which fit, and which is best."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.plan import heads
from dreamseed_cli.plan.layouts import Layout, best_layout, legal_layouts, why_best
from dreamseed_cli.plan.tables import cards, models
from dreamseed_cli.profile.schema import VllmEngine

_7B, _13B, _14B_AWQ = (
    "meta-llama/Llama-2-7b-chat-hf",
    "meta-llama/Llama-2-13b-chat-hf",
    "Qwen/Qwen2.5-14B-Instruct-AWQ",
)
_70B_AWQ, _70B = "TheBloke/Llama-2-70B-Chat-AWQ", "meta-llama/Llama-2-70b-chat-hf"


def _layouts(model: str, count: int, card: str = "rtx5090") -> list[Layout]:
    engine = VllmEngine(kind="vllm", device="cuda", model=model, dtype="float16")
    return legal_layouts(models()[model], cards()[card], engine, count)


def _shape(layout: Layout | None) -> tuple[int, int, int] | None:
    return None if layout is None else (layout.tensor, layout.pipeline, layout.data)


@pytest.mark.parametrize(
    ("model", "size", "legal"),
    [
        (_13B, 3, False),  # 40 heads (§B3, contradiction 2)
        (_7B, 3, False),  # 32 heads
        (_13B, 2, True),
        (_13B, 5, True),
        (_70B, 8, True),  # 8 KV heads, one a card
        (_70B, 16, True),  # every KV head twice
        ("Qwen/Qwen2.5-7B-Instruct", 7, False),  # 7 divides 28 heads, but 4 KV heads do not divide 7
        ("smollm2-135m-instruct", 3, True),  # 9 heads, 3 KV heads
        ("smollm2-135m-instruct", 9, True),
    ],
)
def test_what_vllm_takes_as_tensor_parallel_size(model: str, size: int, legal: bool) -> None:
    """Whole attention heads, whole KV heads or whole copies of them."""
    assert (heads.refusal(models()[model], size) is None) is legal


def test_kv_heads_are_shared_out_and_then_copied() -> None:
    """8 KV heads: an eighth of them on each of 8 cards, and no less on each of 16."""
    shares = [heads.kv_share(models()[_70B], size) for size in (1, 4, 8, 16)]
    assert shares == [1, 1 / 4, 1 / 8, 1 / 8]


def test_all_layouts_of_the_documents_box() -> None:
    """Three cards: 1x1 with one to three replicas, 1x2, 1x3 and 2x1; tensor 3 is none of them."""
    assert {_shape(one) for one in _layouts(_13B, 3)} == {
        (1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 2, 1), (1, 3, 1), (2, 1, 1),
    }  # fmt: skip


def test_13b_in_float16_fits_two_cards_but_not_one() -> None:
    """§B3, contradiction 3: 0.9 x 31.84 GiB - 1.5 - 24.24 = 2.91 GiB, 3,816 tokens of 0.78 MiB."""
    fits = {_shape(one): one.fits for one in _layouts(_13B, 3)}
    assert not fits[1, 1, 3]
    assert fits[2, 1, 1]
    assert _layouts(_13B, 3)[0].memory.kv_tokens == pytest.approx(3816, abs=2)


def test_70b_in_four_bits_does_not_fit_one_5090() -> None:
    """§B1, contradiction 4: 36.6 GB of weights against 0.9 x 34.2."""
    assert best_layout(_layouts(_70B_AWQ, 1)) is None
    assert _shape(best_layout(_layouts(_70B_AWQ, 2))) == (2, 1, 1)


@pytest.mark.parametrize(
    ("model", "card", "count", "best"),
    [
        (_14B_AWQ, "rtx5090", 3, (1, 1, 3)),
        (_7B, "rtx5090", 1, (1, 1, 1)),
        (_13B, "rtx5090", 3, (2, 1, 1)),
        (_70B_AWQ, "rtx5090", 4, (2, 1, 2)),
        (_70B, "rtx4090", 8, (8, 1, 1)),  # a pipeline of seven would start, with next to no cache
        (_70B, "rtx5090", 5, (1, 5, 1)),  # 5 does not divide 64 heads, and 4 cards are too few
        (_70B, "l4", 4, None),
    ],
)
def test_the_best_layout(model: str, card: str, count: int, best: tuple[int, int, int] | None) -> None:
    """Independent replicas where they fit, else the smallest group that is not starved."""
    assert _shape(best_layout(_layouts(model, count, card))) == best


def test_the_reason_names_what_a_failing_card_takes_and_what_stays_free() -> None:
    """One sentence."""
    own = best_layout(_layouts(_14B_AWQ, 3))
    pair = best_layout(_layouts(_13B, 3))
    assert own is not None
    assert pair is not None
    assert "its own 1/3 of the service" in why_best(own, 3)
    assert "1 of the 3 cards stays free" in why_best(pair, 3)


_NAMES = st.sampled_from(sorted(models()))


@given(model=_NAMES, card=st.sampled_from(sorted(cards())), count=st.integers(1, 12))
def test_more_cards_never_take_a_layout_away(model: str, card: str, count: int) -> None:
    """Nor make the best one slower by its bound, where independent replicas fit."""
    less, more = _layouts(model, count, card), _layouts(model, count + 1, card)
    assert {_shape(one) for one in less} < {_shape(one) for one in more}
    assert all(one.cards <= count for one in less)
    best, better = best_layout(less), best_layout(more)
    if best is not None:
        assert better is not None
        if best.group == 1:
            assert better.bound_tok_s >= best.bound_tok_s


@given(model=_NAMES, card=st.sampled_from(sorted(cards())), count=st.integers(1, 12))
def test_what_fits_holds_a_full_sequence_beside_its_weights(model: str, card: str, count: int) -> None:
    """And its memory is within the share vLLM may take."""
    budget = 0.9 * cards()[card].memory_gib * 2**30
    for one in _layouts(model, count, card):
        if one.fits:
            assert one.memory.weights + 4096 * one.memory.kv_per_token <= budget
            assert 0 < one.expected_tok_s <= one.bound_tok_s
        else:
            assert one.bound_tok_s == 0
