"""`dreamseed plan`: what a model needs, where it fits, how fast it can be, and what it draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamseed_cli.commands.options import JsonFlag, ProfileOption
from dreamseed_cli.core.result import Result

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Another model: its name in the table, or a folder with its config.json.",
        show_default=False,
    ),
]
CardOption = Annotated[
    str | None, typer.Option("--card", help="Another card, by its name in the table.", show_default=False)
]
CountOption = Annotated[
    int | None, typer.Option("--gpus", min=1, max=128, help="Plan for this many cards.", show_default=False)
]
ContextOption = Annotated[
    int, typer.Option("--context", min=1, help="Tokens a sequence holds, prompt and answer together.")
]
ModelsFile = Annotated[
    Path | None,
    typer.Option("--models", help="A TOML file with further models.", show_default=False),
]
CardsFile = Annotated[
    Path | None,
    typer.Option("--cards", help="A TOML file with further cards.", show_default=False),
]


def plan(
    profile: ProfileOption = None,
    model: ModelOption = None,
    card: CardOption = None,
    gpus: CountOption = None,
    context: ContextOption = 512,
    models_file: ModelsFile = None,
    cards_file: CardsFile = None,
    as_json: JsonFlag = False,
) -> Result:
    """Compute whether a model fits its cards, in which layout, how fast it can be and what it draws.

    With --model, --card or --gpus the best layout is looked for; otherwise the profile's own is judged.
    Exit code 1 if it cannot start. Starts nothing and needs no card.
    """
    from dreamseed_cli.plan.figures import figures
    from dreamseed_cli.plan.planner import make_plan
    from dreamseed_cli.plan.tables import extended
    from dreamseed_cli.plan.view import view
    from dreamseed_cli.plan.wishes import Wishes, base_profile
    from dreamseed_cli.profile.select import choose_profile

    wishes = Wishes(model, card, gpus)
    as_wished = profile is None and card is not None
    base = base_profile(wishes) if as_wished else choose_profile(profile).profile
    outcome = make_plan(base, wishes, extended(cards_file, models_file), context=context)
    return Result(figures(outcome), view=view(outcome), target_met=outcome.can_start)
