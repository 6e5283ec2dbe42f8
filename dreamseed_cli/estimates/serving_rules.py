"""Arithmetic of §B and §I: what a card can hold and generate, and how many users that serves."""

from __future__ import annotations

from math import ceil

from pydantic import ValidationError

from dreamseed_cli.core.counting import counted
from dreamseed_cli.estimates.outcome import Outcome, agrees, expect, figure, say
from dreamseed_cli.estimates.schema import Book, Estimate, NotComputable
from dreamseed_cli.plan.fit import fit, weight_bytes
from dreamseed_cli.plan.tables import Card, Model, cards, models
from dreamseed_cli.profile.schema import VllmEngine

CARD = "rtx5090"
"""The document's card, by its name in plan/cards.toml."""


def document_card() -> Card:
    """The card every figure of §B and §I is about."""
    return cards()[CARD]


def card_memory(book: Book, estimate: Estimate) -> Outcome:
    """§B1's memory against what the driver reports."""
    memory = document_card().memory_gib
    consistent = agrees(estimate.low, estimate.high, memory)
    sentence = f"The driver reports {say(memory)} GiB; the document says {figure(estimate)}."
    return Outcome(consistent, memory, "GiB", sentence)


def card_fp16(book: Book, estimate: Estimate) -> Outcome:
    """§B1's FP16 against the published peak of the tensor cores, which no measurement can pass."""
    peak = document_card().peak_tflops("fp16")
    if peak is None:
        raise NotComputable(f"the table of cards does not know the FP16 of '{CARD}'")
    within = estimate.low <= peak
    verb = "is within it" if within else "exceeds it"
    sentence = f"The published peak is {say(peak)} TFLOPS; {figure(estimate)} {verb}."
    return Outcome(within, peak, "TFLOPS at most", sentence)


def single_stream_bound(book: Book, estimate: Estimate) -> Outcome:
    """One sequence cannot be decoded faster than the card reads the weights: bandwidth / weight bytes."""
    bound, work = _bound(book, estimate)
    within = estimate.low <= bound
    verb = "is within it" if within else "exceeds it"
    return Outcome(within, bound, "tok/s", f"{work}; {figure(estimate)} {verb}.")


def throughput_bound(book: Book, estimate: Estimate) -> Outcome:
    """A batch reads the weights once a step for all its sequences: at most sequences x the bound of one.

    With a field `sequences` the figure must be within it; without, the sentence says how many it takes. A
    model whose weights do not fit the card has no throughput on it at all.
    """
    _, gigabytes = _weights(estimate)
    room = document_card().memory_gib * 2**30 * book.number("b3-memory-utilization") / 1e9
    if gigabytes > room:
        parameters, bits = estimate.field("parameters_billion"), estimate.field("bits")
        sentence = (
            f"{say(parameters)} billion parameters at {say(bits)} bits are {say(gigabytes)} GB of weights, "
            f"more than the {say(room)} GB that vLLM may take of one card: it does not fit, so "
            f"{figure(estimate)} cannot be reached on it."
        )
        return Outcome(False, gigabytes, "GB of weights", sentence)
    bound, work = _bound(book, estimate)
    sequences = estimate.fields.get("sequences")
    if sequences is None:
        needed = max(1, ceil(estimate.low / bound))
        at_least = f"{counted(needed, 'sequence')} at a time"
        return Outcome(
            True,
            bound,
            "tok/s for one sequence",
            f"{work}; {figure(estimate)} takes a batch of at least {at_least}.",
        )
    together = bound * sequences
    within = estimate.low <= together
    verb = "is within it" if within else "exceeds it"
    return Outcome(
        within,
        together,
        "tok/s",
        f"{work}; {say(sequences)} together at most {say(together)} tok/s; {figure(estimate)} {verb}.",
    )


def tensor_parallel(book: Book, estimate: Estimate) -> Outcome:
    """§B3, §G: vLLM shares the attention heads out; the size must divide them."""
    name = book.words(book.about(estimate).id)
    heads, size = _model(name).attention_heads, round(estimate.middle)
    if size < 1:
        raise NotComputable(f"'{estimate.id}' is no number of cards")
    divides = heads % size == 0
    legal = ", ".join(str(n) for n in range(1, size + 1) if heads % n == 0)
    sentence = f"The model {name} has {heads} attention heads, {heads} / {size} = {say(heads / size)}"
    end = "every card gets as many" if divides else f"vLLM cannot start (sizes that divide them: {legal})"
    return Outcome(divides, heads / size, "heads a card", f"{sentence}: {end}.")


def one_sequence(book: Book, estimate: Estimate) -> Outcome:
    """§B3: the KV cache left beside the weights must hold one sequence of max_model_len (plan/fit.py)."""
    model, engine = _model(book.words(book.about(estimate).id)), _engine(book, estimate)
    size = engine.tensor_parallel_size if model.attention_heads % engine.tensor_parallel_size == 0 else 1
    layout = fit(model, document_card(), engine, size)
    enough = layout.kv_tokens >= estimate.middle
    verb = "holds" if enough else "is less than"
    sentence = (
        f"The model {engine.model} in {engine.dtype} has {say(weight_bytes(model, engine) / 1e9)} GB of "
        f"weights; on {counted(size, 'card')} that leaves a KV cache of "
        f"{say(layout.kv_tokens)} tokens of "
        f"{say(layout.kv_per_token / 1e6)} MB on each, which {verb} one sequence of {figure(estimate)}."
    )
    return Outcome(enough, float(layout.kv_tokens), "tokens", sentence)


def farm_throughput(book: Book, estimate: Estimate) -> Outcome:
    """§B1: cards x tokens/s of one."""
    count, each = book.number("b1-cards"), book.number("b1-card-tok-s")
    return expect(estimate, count * each, f"{say(count)} cards x {say(each)} tok/s")


def farm_answers(book: Book, estimate: Estimate) -> Outcome:
    """§B1: the farm's tokens/s / the tokens of an answer."""
    speed, length = book.number("b1-farm-tok-s"), book.number("b1-answer-tokens")
    return expect(estimate, speed / length, f"{say(speed)} tok/s / {say(length)} tokens")


def answers_per_minute(book: Book, estimate: Estimate) -> Outcome:
    """§B1: answers/s x 60."""
    rate = book.number("b1-answers-per-s")
    return expect(estimate, rate * 60, f"{say(rate)} requests/s x 60 s")


def ai_share(book: Book, estimate: Estimate) -> Outcome:
    """§B1: concurrent AI users / concurrent users, in percent."""
    served, all_users = book.number("b1-concurrent-ai-users"), book.number("goal-concurrent-users")
    return expect(estimate, served / all_users * 100, f"{say(served)} / {say(all_users)} users")


def little(book: Book, estimate: Estimate) -> Outcome:
    """§B1: concurrency = arrival rate x time in system; none of them may stay past §D1's timeout."""
    users, rate = estimate.middle, book.number("b1-answers-per-s")
    speed, timeout = book.number("b1-farm-tok-s"), book.number("d1-client-timeout-s")
    stay = users / rate
    within = stay <= timeout
    verb = "within" if within else "past"
    sentence = (
        f"Requests a minute are not users at a time (concurrency = rate x time in system): {say(users)} at a "
        f"time at {say(rate)} answers/s stay {say(users)} / {say(rate)} = {say(stay)} s each, with "
        f"{say(speed)} / {say(users)} = {say(speed / users)} tok/s each: {verb} the client's timeout of "
        f"{say(timeout)} s (§D1), in which {say(rate * timeout)} at a time can be answered."
    )
    return Outcome(within, rate * timeout, "users", sentence)


def row_cards(book: Book, estimate: Estimate) -> Outcome:
    """§F3: generations/s of a row (§B1's AI share of its requests) against what its cards answer."""
    share, rps = book.number("b1-ai-share-percent") / 100, estimate.field("api_rps")
    count, each = estimate.field("cards"), book.number("b1-card-tok-s") / book.number("b1-answer-tokens")
    asked, answered = rps * share, count * each
    enough = answered >= asked
    sentence = (
        f"{say(share * 100)} % of {say(rps)} requests/s are {say(asked)} generations/s; {say(count)} "
        f"card{'s' if count > 1 else ''} x {say(each)} answers/s are {say(answered)}"
    )
    if not enough:
        sentence += f": too few, unless a cache answers {say((1 - answered / asked) * 100)} % of them"
    return Outcome(enough, answered, "answers/s", f"{sentence}.")


def batch_speedup(book: Book, estimate: Estimate) -> Outcome:
    """§I2: a batch's tokens/s / a single request's."""
    batch, single = book.number("i2-batch-tok-s"), book.number("i2-single-tok-s")
    return expect(estimate, batch / single, f"{say(batch)} / {say(single)} tok/s")


def _bound(book: Book, estimate: Estimate) -> tuple[float, str]:
    """Tokens/s of one sequence, and the words of the computation."""
    bandwidth = document_card().bandwidth_gb_s
    words, gigabytes = _weights(estimate)
    bound = bandwidth / gigabytes
    return bound, f"One sequence: {say(bandwidth)} GB/s / {words} = {say(bound)} tok/s at most"


def _weights(estimate: Estimate) -> tuple[str, float]:
    """The size of a model's weights in 10^9 bytes, from its row: in words, and as a number."""
    gigabytes = estimate.field("parameters_billion") * estimate.field("bits") / 8
    return f"{say(gigabytes)} GB of weights", gigabytes


def _model(name: str) -> Model:
    if name not in models():
        raise NotComputable(f"the table of models has no '{name}'")
    return models()[name]


def _engine(book: Book, estimate: Estimate) -> VllmEngine:
    """§B3's engine, as its settings stand in the file."""
    given = {
        "kind": "vllm",
        "device": "cuda",
        "model": book.words(book.about(estimate).id),
        "dtype": book.words("b3-dtype"),
        "tensor_parallel_size": round(book.number("b3-tensor-parallel")),
        "gpu_memory_utilization": book.number("b3-memory-utilization"),
        "max_model_len": round(estimate.middle),
    }
    try:
        return VllmEngine.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise NotComputable(f"§B3's engine is not one: {place}: {first['msg']}") from error
