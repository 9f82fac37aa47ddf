"""A runbook read from its file, with file, line and column of everything wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from firebreak.documents.yaml_file import YamlDocument, load_yaml, refuse, validate
from firebreak.plans import rules
from firebreak.plans.model import MatchBlock, RunbookModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Runbook:
    """A runbook as read: `model` is what it says, `document` where it says it."""

    model: RunbookModel
    document: YamlDocument = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def source(self) -> str:
        return self.document.source

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the file's bytes."""
        return self.document.digest

    @property
    def match(self) -> MatchBlock:
        return self.model.match


def load_runbook(data: bytes, source: str) -> Runbook:
    """The runbook in `data`. Raises RunbookInvalid with file, line and column of everything that can be seen without
    knowing the actions; `lint_runbook` sees the rest."""
    document = load_yaml(data, source)
    model = validate(document, RunbookModel)
    problems = document.problems(rules.findings(model))
    if problems:
        raise refuse(problems)
    return Runbook(model=model, document=document)
