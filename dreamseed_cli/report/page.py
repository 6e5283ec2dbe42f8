"""The templates of a room's report, with the shared style and parts beside them."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(package: str) -> Environment:
    """Templates of `package` and the shared ones; whatever they print is escaped."""
    loaders = [PackageLoader(package, "templates"), PackageLoader("dreamseed_cli.report", "templates")]
    return Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
