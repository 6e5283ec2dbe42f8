"""A whole plan: the document's contradictions follow from it, and wishes change it."""

import pytest

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.plan.planner import Plan, make_plan
from dreamseed_cli.plan.tables import shipped
from dreamseed_cli.plan.wishes import Wishes, base_profile
from dreamseed_cli.profile.load import load_profile


def _plan(name: str, context: int = 512, **wishes: object) -> Plan:
    return make_plan(load_profile(name), Wishes(**wishes), shipped(), context=context)  # type: ignore[arg-type]


def test_contradiction_2_three_does_not_divide_forty_heads() -> None:
    """§B3: the documented command cannot start, and what can is named, best first."""
    plan = _plan("rtx5090x3-document")
    assert not plan.can_start
    assert "3 does not divide the model's 40 attention heads" in plan.reasons[0].cause
    assert plan.profiles == ["rtx5090x3", "rtx5090x1"]
    nearest = plan.alternatives[0]
    assert nearest.model.parameters > 14e9
    assert nearest.layout.data == 3
    assert all(one.layout.fits for one in plan.alternatives)


def test_contradiction_3_one_card_holds_less_than_one_sequence() -> None:
    """§B3: 26 GB of float16 weights leave 3,816 tokens of the 4,096."""
    alone = next(one for one in _plan("rtx5090x3-document").layouts if one.group == 1)
    assert alone.memory.weights == pytest.approx(26.03e9, rel=0.001)
    assert alone.memory.kv_tokens < 4096
    assert not alone.fits


def test_contradiction_4_single_streams_and_the_batches_that_reach_the_documents_rates() -> None:
    """§B1, §I2: 200 tok/s alone is over the bound of 133; 600 to 800 take a batch of 8 or more."""
    plan = _plan("rtx5090x1")
    assert plan.single_card_tok_s == pytest.approx(133.0, abs=0.1)
    assert _plan("rtx5090x3-document").single_card_tok_s == pytest.approx(68.8, abs=0.1)
    assert plan.speed is not None
    bound = {one.batch: one.bound_tok_s for one in plan.speed.decode}
    assert bound[1] < 200
    assert bound[4] < 600
    assert bound[8] > 800
    model = "TheBloke/Llama-2-70B-Chat-AWQ"
    assert not _plan("rtx5090x1", model=model).can_start
    assert _plan("rtx5090x1", model=model, gpus=2).can_start


def test_contradiction_8_the_box_draws_more_than_the_ups_gives() -> None:
    """§B2, §H3: also with a model that starts."""
    for name in ("rtx5090x3-document", "rtx5090x3"):
        power = _plan(name).power
        assert power is not None
        assert power.draw_w == 2005
        assert len(power.problems()) == 2


def test_a_profile_keeps_its_own_layout_a_wish_gets_the_best() -> None:
    """§B3's box with the layout left open: two cards together, one stays free."""
    own, free = _plan("rtx5090x3"), _plan("rtx5090x3-document", gpus=3)
    assert own.chosen is not None
    assert own.chosen.data == 3
    assert free.can_start
    assert free.chosen == free.best
    assert free.chosen is not None
    assert (free.chosen.tensor, free.chosen.data) == (2, 1)


def test_a_processor_has_memory_and_no_roofline() -> None:
    """1 GiB over 2 x 30 layers x 3 heads x 64 x 2 bytes = 23,040: 46,603 tokens."""
    plan = _plan("laptop")
    assert plan.can_start
    assert plan.memory is not None
    assert (plan.memory.kv_bytes_per_token, plan.memory.cpu_kv_tokens) == (23_040, 46_603)
    assert (plan.speed, plan.layouts, plan.single_card_tok_s) == (None, (), None)
    assert "no roofline is known for processors" in plan.notes[0]
    on_card = _plan("laptop", card="l4")
    assert on_card.speed is not None


def test_an_emulated_engine_has_no_model_to_compute() -> None:
    """Unless one is asked for."""
    assert "emulated" in _plan("emulated-rtx5090x3").notes[0]
    assert _plan("emulated-rtx5090x3", model="Qwen/Qwen3-8B").can_start


def test_a_sequence_holds_no_more_than_max_model_len() -> None:
    """A longer context is cut to it."""
    assert _plan("rtx5090x3", context=10**9).context == 4096


def test_another_model_brings_its_own_length_and_quantisation() -> None:
    """Not the profile's 4-bit kernels, nor more positions than it has."""
    engine = _plan("rtx5090x3", model="Qwen/Qwen3-8B").profile.engine
    assert engine.kind == "vllm"
    assert engine.quantization is None
    power_limited = load_profile("rtx5090x3")
    box = power_limited.box.model_copy(update={"gpu_power_limit_w": 400.0})
    limited = power_limited.model_copy(update={"box": box})
    same = make_plan(limited, Wishes(gpus=2), shipped(), context=1)
    other = make_plan(limited, Wishes(card="l4"), shipped(), context=1)
    assert same.power is not None
    assert other.power is not None
    assert (same.power.card_w, other.power.card_w) == (400, 72)


def test_wishes_that_no_table_knows_are_wrong_usage() -> None:
    """With what is known."""
    with pytest.raises(UsageError, match="Known are: rtx5090"):
        _plan("rtx5090x3", card="voodoo2")
    with pytest.raises(UsageError, match="Known are: meta-llama"):
        _plan("rtx5090x3", model="nobody/nothing")
    with pytest.raises(UsageError, match="names no card"):
        _plan("laptop", gpus=2)
    with pytest.raises(UsageError, match="a card alone is no plan"):
        base_profile(Wishes(card="l4"))
