"""A plan for people: the verdict first, then tables. Every figure is computed, and says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.render import wrapped
from dreamseed_cli.plan.alternatives import Alternative
from dreamseed_cli.plan.layouts import Layout, why_best
from dreamseed_cli.plan.parts import Model
from dreamseed_cli.plan.planner import Plan, Speed
from dreamseed_cli.plan.power import HOURS_PER_MONTH, PSU_EFFICIENCY, USD_PER_KWH, Power
from dreamseed_cli.plan.roofline import BANDWIDTH_EFFICIENCY, COMPUTE_EFFICIENCY
from dreamseed_cli.profile.schema import VllmEngine

_SHOWN_ALTERNATIVES = 6
_SHOWN_LAYOUTS = 12


def view(plan: Plan) -> list[RenderableType]:
    """Verdict, memory, layouts, roofline, power; each only where it was computed."""
    parts = (*_verdict(plan), *_memory(plan), *_layouts(plan), *_speed(plan), *_power(plan))
    return [wrapped(part) if isinstance(part, Text) else part for part in parts]


def _verdict(plan: Plan) -> Iterator[RenderableType]:
    engine = plan.profile.engine
    what = f"{engine.model} of " if isinstance(engine, VllmEngine) else ""
    subject = f"{what}profile '{plan.profile.name}'"
    if plan.can_start:
        known = plan.model is not None
        yield Text(f"{subject}: {'can start' if known else 'not computed'}", "green" if known else "yellow")
    else:
        yield Text(f"{subject}: cannot start", "bold red")
    for reason in plan.reasons:
        yield Text.assemble((f"  {reason.place}: ", "bold"), f"{reason.cause}. {reason.remedy}")
    for note in plan.notes:
        yield Text(f"  Note: {note}.", "yellow")
    if not plan.can_start:
        yield from _instead(plan)


def _instead(plan: Plan) -> Iterator[RenderableType]:
    if plan.profiles:
        yield Text(f"  Profiles that can start on these cards: {', '.join(plan.profiles)}")
    if plan.alternatives:
        yield _alternatives_table(plan.alternatives, plan.context)
    elif not plan.profiles:
        yield Text("  No model of the table fits these cards: take more of them, or larger ones.")


def _alternatives_table(alternatives: Sequence[Alternative], context: int) -> Group:
    table = _table()
    for column in ("model", "layout"):
        table.add_column(column, no_wrap=True)
    _numbers(table, "full\nseq.", "bound\ntok/s", "expected\ntok/s")
    for one in alternatives[:_SHOWN_ALTERNATIVES]:
        table.add_row(one.name, one.layout.short, str(one.layout.full_sequences), *_rates(one.layout))
    title = f"Models that fit these cards instead, nearest in size first (computed; {context} tokens each)"
    return _titled(title, table)


def _memory(plan: Plan) -> Iterator[RenderableType]:
    engine = plan.profile.engine
    if plan.memory is None or not isinstance(engine, VllmEngine):
        return
    words = (
        f"Memory (computed): {plan.memory.weights_bytes / 1e9:.2f} GB of weights, "
        f"{plan.memory.kv_bytes_per_token / 1e6:.2f} MB of KV cache a token"
    )
    if (tokens := plan.memory.cpu_kv_tokens) is not None:
        full = tokens // engine.max_model_len
        words += f"; {tokens:,} tokens fit its KV cache = {full} sequences of {engine.max_model_len:,}"
    yield Text(f"{words}.")
    yield from _special(plan.model)


def _special(model: Model | None) -> Iterator[Text]:
    """What is not as in a dense model that keeps all it has seen."""
    if model is not None and (experts := model.experts) is not None:
        yield Text(
            f"Experts (computed): {experts.active} of {experts.routed} work on a token, so "
            f"{model.active_parameters / 1e9:.1f} of {model.parameters / 1e9:.1f} billion weights do; all of "
            "them are kept, and the larger the batch, the more of them a step reads."
        )
    if model is not None and model.latent is not None:
        yield Text(
            f"Latent attention (computed): a layer keeps {model.latent.kept:,} numbers of a token in place "
            "of its keys and values, all of them on every card of a group."
        )
    if model is not None and (window := model.window) is not None:
        yield Text(
            f"Window (computed): {window.layers} of {model.layers} layers keep the last {window.tokens:,} "
            "tokens only; KV tokens a replica are those of sequences of max_model_len."
        )


def _layouts(plan: Plan) -> Iterator[RenderableType]:
    if not plan.layouts or plan.card is None:
        return
    gpus = plan.profile.box.gpus
    table = _table()
    for column in ("layout", ""):
        table.add_column(column, no_wrap=True)
    _numbers(
        table,
        "weights\na card",
        "KV tokens\na replica",
        "full\nseq.",
        "bound\ntok/s",
        "expected\ntok/s",
    )
    for layout in _shown(plan):
        table.add_row(layout.short, _mark(layout, plan), *_layout_cells(layout))
    yield _titled(
        f"Layouts on {gpus} x {plan.card.title}: TP tensor, PP pipeline, DP data parallel (computed; "
        f"{plan.context} tokens each; tok/s of all replicas)",
        table,
    )
    if plan.best is not None:
        yield Text(f"Best: {plan.best}, since {why_best(plan.best, gpus)}.")


def _shown(plan: Plan) -> list[Layout]:
    """Of each group of cards the layout with the most replicas, and the profile's own; few of many."""
    widest = {(one.tensor, one.pipeline): one for one in sorted(plan.layouts, key=lambda one: one.data)}
    shown = {_shape(one): one for one in widest.values()}
    if plan.chosen is not None:
        shown[_shape(plan.chosen)] = plan.chosen
    ordered = sorted(shown.values(), key=lambda one: (one.group, one.pipeline, -one.data))
    if len(ordered) <= _SHOWN_LAYOUTS:
        return ordered
    return [one for one in ordered if one.fits][:_SHOWN_LAYOUTS] or ordered[-_SHOWN_LAYOUTS:]


def _shape(layout: Layout) -> tuple[int, int, int]:
    return layout.tensor, layout.pipeline, layout.data


def _mark(layout: Layout, plan: Plan) -> Text:
    if not layout.fits:
        return Text("does not fit", "red")
    if plan.best is not None and _shape(layout) == _shape(plan.best):
        return Text("best", "green")
    is_own = plan.chosen is not None and _shape(layout) == _shape(plan.chosen)
    return Text("the profile's" if is_own else "", "cyan")


def _layout_cells(layout: Layout) -> list[str]:
    memory = layout.memory
    return [
        f"{memory.weights / 1e9:.1f} GB",
        f"{memory.kv_tokens:,}",
        str(layout.full_sequences),
        *_rates(layout),
    ]


def _rates(layout: Layout) -> tuple[str, str]:
    if not layout.fits:
        return "-", "-"
    return f"{layout.bound_tok_s:,.0f}", f"{layout.expected_tok_s:,.0f}"


def _speed(plan: Plan) -> Iterator[RenderableType]:
    if plan.single_card_tok_s is not None:
        yield Text(
            f"One sequence alone gets at most {plan.single_card_tok_s:.1f} tok/s from one card (computed): "
            "every token reads once all weights that work on it. More comes only from batching or from "
            "groups of cards."
        )
    if plan.speed is not None and plan.chosen is not None:
        yield _decode_table(plan.speed, plan.chosen, plan.context)
        yield Text(_decode_words(plan.speed))
        yield Text(_prefill_words(plan.speed, plan.context))


def _decode_table(speed: Speed, layout: Layout, context: int) -> Group:
    table = _table()
    _numbers(table, "batch", "bound tok/s", "each", "expected tok/s")
    table.add_column("limited by")
    for one in speed.decode:
        table.add_row(
            str(one.batch),
            f"{one.bound_tok_s:,.0f}",
            f"{one.bound_per_sequence_tok_s:,.1f}",
            f"{one.expected_tok_s:,.0f}",
            one.limited_by,
        )
    return _titled(f"Decode of one replica, {layout.group} x card (computed; {context} tokens each)", table)


def _decode_words(speed: Speed) -> str:
    takes_over = (
        f"Compute takes over from a batch of {speed.compute_from}."
        if speed.compute_from
        else "Compute never takes over: keys and values take longer to read than to work on."
    )
    return (
        f"bound: what the card's published peaks allow. expected: at {BANDWIDTH_EFFICIENCY:.0%} of bandwidth "
        f"and {COMPUTE_EFFICIENCY:.0%} of compute. {takes_over}"
    )


def _prefill_words(speed: Speed, context: int) -> str:
    if speed.prefill is None:
        return "Prefill: the table does not know the card's compute."
    bound, expected = speed.prefill
    return (
        f"Prefill of a {context}-token prompt (computed): at most {bound:,.0f} tok/s, "
        f"expected {expected:,.0f}."
    )


def _power(plan: Plan) -> Iterator[RenderableType]:
    power = plan.power
    if power is None:
        return
    table = _table()
    table.add_column("")
    _numbers(table, "watts")
    for name, watts in _power_rows(power):
        table.add_row(name, f"{watts:,.0f}")
    yield _titled("Power at full load (computed)", table)
    for problem in power.problems():
        yield Text(f"  {problem}.", "yellow")
    if power.problems():
        yield Text(_limit_words(power))
    yield Text(
        f"Energy (computed): {power.usd_per_month():,.0f} USD a month at {USD_PER_KWH} USD/kWh, if it draws "
        f"this for all {HOURS_PER_MONTH} hours; idle hours cost less."
    )


def _power_rows(power: Power) -> Iterator[tuple[str, float]]:
    yield (
        f"{counted(power.gpus, 'card')} of {power.card_w:,.0f} W",
        power.gpus * power.card_w,
    )
    yield "processor" if power.cpu_w else "processor (box.cpu_power_w is not set)", power.cpu_w
    yield "the rest" if power.other_w else "the rest (box.other_power_w is not set)", power.other_w
    yield "in all, from the PSU", power.draw_w
    yield f"from the wall, at {PSU_EFFICIENCY:.0%} efficiency", power.wall_w
    if power.psu_margin_w is not None:
        yield "left of the PSU's rating", power.psu_margin_w
    if power.psu_continuous_margin_w is not None:
        yield "left by the rule of 80 % continuous load", power.psu_continuous_margin_w
    if power.ups_margin_w is not None:
        yield "left of the UPS's rating", power.ups_margin_w


def _limit_words(power: Power) -> str:
    limits = []
    if power.limit_for_psu_w is not None:
        limits.append(f"{power.limit_for_psu_w} W a card for 80 % of the PSU")
    if power.limit_for_ups_w is not None:
        limits.append(f"{power.limit_for_ups_w} W a card for the UPS")
    return f"  Power limits that keep within (computed): {', '.join(limits)}. {_how_low(power)}"


def _how_low(power: Power) -> str:
    if (cards := power.cards_at_lowest_for_ups) is not None:
        return (
            f"The driver takes no less than {power.min_card_w:,.0f} W: this UPS carries {cards} of the "
            f"{power.gpus} cards at full load, or take a larger one."
        )
    return "`nvidia-smi -q -d POWER` says how low your cards go, `nvidia-smi -pl WATTS` sets it."


def _table() -> Table:
    return Table(box=None, header_style="dim")


def _titled(title: str, table: Table) -> Group:
    return Group(Text(title, "bold"), table)


def _numbers(table: Table, *columns: str) -> None:
    for column in columns:
        table.add_column(column, justify="right")
