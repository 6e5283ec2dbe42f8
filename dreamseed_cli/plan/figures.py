"""A plan for machines: JSON-able, every number with its unit in its name. All of it is `computed`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from dreamseed_cli.core.result import Provenance
from dreamseed_cli.plan.layouts import Layout
from dreamseed_cli.plan.planner import Plan, Speed
from dreamseed_cli.plan.power import HOURS_PER_MONTH, PSU_CONTINUOUS, PSU_EFFICIENCY, USD_PER_KWH, Power
from dreamseed_cli.plan.roofline import BANDWIDTH_EFFICIENCY, COMPUTE_EFFICIENCY
from dreamseed_cli.profile.schema import VllmEngine

_CENT = Decimal("0.01")


def figures(plan: Plan) -> dict[str, Any]:
    """Everything in the plan, and the assumptions behind it."""
    engine = plan.profile.engine
    vllm = engine if isinstance(engine, VllmEngine) else None
    return {
        "provenance": Provenance.COMPUTED.value,
        "profile": plan.profile.name,
        "model": vllm.model if vllm else None,
        "card": plan.profile.box.gpu_model,
        "card_source": plan.card.source if plan.card else None,
        "gpus": plan.profile.box.gpus,
        "can_start": plan.can_start,
        "reasons": [{"place": f.place, "cause": f.cause, "remedy": f.remedy} for f in plan.reasons],
        "notes": list(plan.notes),
        "assumptions": _assumptions(plan),
        "memory": _memory(plan),
        "layouts": [_layout(one) for one in plan.layouts],
        "best_layout": _layout(plan.best) if plan.best else None,
        "layout": _layout(plan.chosen) if plan.chosen else None,
        "single_stream_one_card_tok_s": _rounded(plan.single_card_tok_s),
        "speed_per_replica": _speed(plan.speed) if plan.speed else None,
        "power": _power(plan.power) if plan.power else None,
        "profiles_that_can_start": list(plan.profiles),
        "models_that_fit": [{"model": one.name, **_layout(one.layout)} for one in plan.alternatives],
    }


def _assumptions(plan: Plan) -> dict[str, Any]:
    return {
        "context_tokens": plan.context,
        "bandwidth_efficiency": BANDWIDTH_EFFICIENCY,
        "compute_efficiency": COMPUTE_EFFICIENCY,
        "psu_continuous": PSU_CONTINUOUS,
        "psu_efficiency": PSU_EFFICIENCY,
        "hours_per_month": HOURS_PER_MONTH,
        "usd_per_kwh": float(USD_PER_KWH),
    }


def _memory(plan: Plan) -> dict[str, Any] | None:
    if plan.memory is None:
        return None
    return {
        "weights_bytes": round(plan.memory.weights_bytes),
        "kv_bytes_per_token": plan.memory.kv_bytes_per_token,
        "parameters": plan.model.parameters if plan.model else None,
        "active_parameters": plan.memory.active_parameters,
        "experts": plan.model.experts.model_dump() if plan.model and plan.model.experts else None,
        "latent": plan.model.latent.model_dump() if plan.model and plan.model.latent else None,
        "window": plan.model.window.model_dump() if plan.model and plan.model.window else None,
        "cpu_kv_cache_tokens": plan.memory.cpu_kv_tokens,
    }


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "tensor_parallel": layout.tensor,
        "pipeline_parallel": layout.pipeline,
        "replicas": layout.data,
        "cards": layout.cards,
        "fits": layout.fits,
        "weights_bytes_per_card": round(layout.memory.weights),
        "kv_cache_tokens_per_replica": layout.memory.kv_tokens,
        "full_sequences_per_replica": layout.full_sequences,
        "batch_per_replica": layout.batch,
        "bound_tok_s": _rounded(layout.bound_tok_s),
        "expected_tok_s": _rounded(layout.expected_tok_s),
    }


def _speed(speed: Speed) -> dict[str, Any]:
    return {
        "single_stream_bound_tok_s": _rounded(speed.single_stream_tok_s),
        "compute_bound_from_batch": speed.compute_from,
        "prefill_bound_tok_s": _rounded(speed.prefill[0]) if speed.prefill else None,
        "prefill_expected_tok_s": _rounded(speed.prefill[1]) if speed.prefill else None,
        "decode": [
            {
                "batch": one.batch,
                "bound_tok_s": _rounded(one.bound_tok_s),
                "expected_tok_s": _rounded(one.expected_tok_s),
                "limited_by": one.limited_by,
            }
            for one in speed.decode
        ],
    }


def _power(power: Power) -> dict[str, Any]:
    return {
        "card_w": power.card_w,
        "draw_w": _rounded(power.draw_w),
        "wall_w": _rounded(power.wall_w),
        "psu_margin_w": _rounded(power.psu_margin_w),
        "psu_continuous_margin_w": _rounded(power.psu_continuous_margin_w),
        "ups_margin_w": _rounded(power.ups_margin_w),
        "card_limit_for_psu_w": power.limit_for_psu_w,
        "card_limit_for_ups_w": power.limit_for_ups_w,
        "card_lowest_limit_w": power.min_card_w,
        "cards_at_lowest_limit_for_ups": power.cards_at_lowest_for_ups,
        "usd_per_month": float(power.usd_per_month().quantize(_CENT)),
        "problems": power.problems(),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
