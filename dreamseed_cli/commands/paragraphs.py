"""The words of a help text as paragraphs: they break where the window ends, not the source's lines."""

from __future__ import annotations

import inspect

import typer


def let_paragraphs_flow(app: typer.Typer) -> None:
    """Typer joins the lines of a help text's first paragraph only; this joins those of the others."""
    for command in app.registered_commands:
        command.help = flowing(command.help or inspect.getdoc(command.callback) or "")
    for group in app.registered_groups:
        if group.typer_instance:
            let_paragraphs_flow(group.typer_instance)


def flowing(text: str) -> str:
    """Each paragraph on one line; an empty line stays between two."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))
