"""The chat template of a model: messages to the text that it was trained to go on with.

A template is a small program that comes with the model. It runs in the sandbox of jinja2, which
keeps it from everything but strings; how long it runs nobody can know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pyattn.models import _check_generator, _check_models
from pyattn.models._files import Settings
from pyattn.models._gguf import Gguf

GGUF_TEMPLATE = "tokenizer.chat_template"


class ChatTemplate:
    """`special` are the tokens that it may speak of. There may be none: `source` is None then."""

    def __init__(self, path: Path, source: str | None, special: Mapping[str, str]) -> None:
        self.path, self.source, self.special = path, source, dict(special)

    def prompt(self, function: str, messages: Sequence[Mapping[str, str]]) -> str:
        """What the assistant's answer follows."""
        _check_generator.template(function, self.path, self.source)
        jinja2 = _check_models.extra("jinja2")
        sandbox = _check_models.extra("jinja2.sandbox")

        def refuse(message: str) -> None:
            _check_generator.refused(function, self.path, message)

        def render() -> str:
            # As Hugging Face has them, for which templates are written: they ask whether tools are
            # none, which what is not given is not.
            environment = sandbox.ImmutableSandboxedEnvironment(
                trim_blocks=True,
                lstrip_blocks=True,
                extensions=["jinja2.ext.loopcontrols", _generation()],
            )
            environment.filters["tojson"] = _json
            environment.globals |= {"raise_exception": refuse, "strftime_now": _now}
            return environment.from_string(self.source).render(
                messages=[dict(m) for m in messages],
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self.special,
            )

        return _check_generator.rendered(self.path, render, jinja2.TemplateError)


def _generation() -> type:
    """What stands between {% generation %} and {% endgeneration %} is what the model has said. That
    matters in training only."""
    jinja2, nodes = _check_models.extra("jinja2.ext"), _check_models.extra("jinja2.nodes")

    class Generation(jinja2.Extension):
        tags = frozenset({"generation"})

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True))

    return Generation


def _json(value: Any, ensure_ascii: bool = False, **form: Any) -> str:
    """jinja2's own is for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **form)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def directory_template(directory: Path, special: Mapping[str, str]) -> ChatTemplate:
    """In a file of its own, or in tokenizer_config.json: one, or several with names."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return ChatTemplate(path, _check_generator.utf8(path), special)
    settings = Settings.read_optional(directory / "tokenizer_config.json")
    found = settings.values.get("chat_template")
    if isinstance(found, list):
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        found = named.get("default")
    _check_generator.template_text(settings.path, found)
    return ChatTemplate(settings.path, found, special)


def gguf_template(file: Gguf, special: Mapping[str, str]) -> ChatTemplate:
    found = file.metadata.get(GGUF_TEMPLATE)
    _check_generator.template_text(file.path, found)
    return ChatTemplate(file.path, found, special)
