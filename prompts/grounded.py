"""``grounded_prompt()``: a PromptTemplate whose value carries the evidence beside the text, through any LCEL chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.prompt_values import PromptValue, StringPromptValue
from langchain_core.prompts import PromptTemplate
from pydantic import PrivateAttr, ValidationError

from fourcorners.errors import InputError, SettingsError, shortened
from fourcorners.grounding.evidence import Evidence, GroundingOptions, SourceDocument
from fourcorners.prompts.contract import Contract, Segment, load_contract

ContextInput = str | list[str | Document]
"""What may be given as context: one text, or a list of texts or LangChain Documents in order of rank."""

MAX_QUESTION_CHARS = 100_000


class GroundedText(str):
    """A prompt as plain text, with the evidence and the contract it was made from. It stays a ``str`` everywhere."""

    evidence: Evidence
    contract: Contract | None

    @classmethod
    def of(cls, evidence: Evidence, contract: Contract | None) -> GroundedText:
        """Render ``evidence``; with ``contract`` None the model may use the wording that suits it best."""
        shown = contract or load_contract(default_contract_name(evidence.options))
        blocks = [document.text for document in evidence.documents if document.text.strip()]
        values = prompt_values(evidence, blocks)
        text = cls("\n\n".join("".join(s.text for s in shown.fill(part, values)) for part in ("system", "user")))
        text.evidence, text.contract = evidence, contract
        return text


class GroundedPromptValue(StringPromptValue):
    """The value of a grounded prompt; ``to_string()`` gives the GroundedText."""

    _grounded: GroundedText = PrivateAttr()

    @classmethod
    def of(cls, text: GroundedText) -> GroundedPromptValue:
        """Wrap ``text``; pydantic would strip it to a plain ``str`` in a field, so it is kept apart."""
        value = cls(text=str(text))
        value._grounded = text
        return value

    def to_string(self) -> str:
        """The text with its evidence."""
        return self._grounded


class GroundedPromptTemplate(PromptTemplate):
    """Use ``grounded_prompt()`` to make one."""

    options: GroundingOptions
    custom: bool = False
    system: str = ""

    def _validate_input(self, inner_input: Any) -> dict[str, Any]:
        if not isinstance(inner_input, Mapping):
            raise InputError(f"the input must be {{'question', 'context'}}, not {shortened(inner_input)}")
        missing = [name for name in ("question", "context") if name not in inner_input]
        if missing:
            raise InputError(f"the input lacks {missing}: give question and context")
        return dict(inner_input)

    def format_prompt(self, **kwargs: Any) -> PromptValue:
        """Raises InputError where question or context is missing or of another type."""
        variables = self._merge_partial_and_user_variables(**kwargs)
        evidence = make_evidence(variables.get("question"), variables.get("context"), self.options)
        contract = Contract(self.system, self.template) if self.custom else None
        return GroundedPromptValue.of(GroundedText.of(evidence, contract))

    async def aformat_prompt(self, **kwargs: Any) -> PromptValue:
        """As ``format_prompt``."""
        return self.format_prompt(**kwargs)

    def format(self, **kwargs: Any) -> str:
        """As ``format_prompt``, the text alone."""
        return self.format_prompt(**kwargs).to_string()


def grounded_prompt(template: str | None = None, *, system: str = "", **options: Any) -> GroundedPromptTemplate:
    """A prompt for ``{"question", "context"}`` whose answer is bound to the context.

    ``options`` are those of GroundingOptions (``span``, ``max_spans``, ``refusal``, ``threshold`` …). ``template``
    replaces the wording shown to the model; it needs the gaps ``{question}`` and ``{context}``. Raises SettingsError.
    """
    chosen = grounding_options(**options)
    contract = Contract(system, template) if template is not None else load_contract(default_contract_name(chosen))
    return GroundedPromptTemplate(
        template=contract.user,
        system=contract.system,
        custom=template is not None,
        options=chosen,
        input_variables=["context", "question"],
        input_types={"context": ContextInput, "question": str},
        partial_variables={"refusal": chosen.refusal} if "{refusal}" in contract.user else {},
    )


def grounding_options(**options: Any) -> GroundingOptions:
    """GroundingOptions with errors that name the setting, its value and what is allowed. Raises SettingsError."""
    try:
        return GroundingOptions(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "grounding"
        known = ", ".join(GroundingOptions.model_fields)
        raise SettingsError(f"{name}={shortened(first['input'])}: {first['msg']} (settings: {known})") from error


def make_evidence(question: Any, context: Any, options: GroundingOptions) -> Evidence:
    """Evidence from what a caller gave. Raises InputError naming the field and the value."""
    if not isinstance(question, str):
        raise InputError(f"question must be a text, not {type(question).__name__} {shortened(question)}")
    if not question.strip():
        raise InputError(f"question is empty ({question!r}): ask something")
    if len(question) > MAX_QUESTION_CHARS:
        raise InputError(f"question has {len(question)} characters, {MAX_QUESTION_CHARS} are allowed: shorten it")
    evidence = Evidence(question, tuple(_documents(context)), options)
    for name, text in (("question", question), *((f"document {d.id}", d.text) for d in evidence.documents)):
        _check_encodable(name, text)
    return evidence


def default_contract_name(options: GroundingOptions) -> str:
    """The prompt file for these options."""
    names = {"none": "plain", "free": "free"}
    return names.get(options.grounding, f"verbatim_{options.span}")


def prompt_values(evidence: Evidence, blocks: Sequence[str]) -> dict[str, str]:
    """The values for a contract's gaps; ``blocks`` are the documents' texts as shown."""
    context = "\n\n".join(blocks)
    return {"question": evidence.question, "context": context, "refusal": evidence.options.refusal}


def segments_of(part: str, contract: Contract, evidence: Evidence, blocks: Sequence[str]) -> list[Segment]:
    """Segments of one part of ``contract`` ("system" or "user") filled with the evidence."""
    return contract.fill(part, prompt_values(evidence, blocks))


def _documents(context: Any) -> list[SourceDocument]:
    items = [context] if isinstance(context, str | Document | Mapping) else context
    if not isinstance(items, list | tuple):
        raise InputError(
            f"context must be a text, or a list of texts or Documents, "
            f"not {type(context).__name__} {shortened(context)}"
        )
    return [_document(item, number) for number, item in enumerate(items, start=1)]


def _document(item: Any, number: int) -> SourceDocument:
    if isinstance(item, str):
        return SourceDocument(str(number), item)
    if isinstance(item, Document):
        return SourceDocument(_document_id(item.id, item.metadata, number), item.page_content, item.metadata)
    if isinstance(item, Mapping) and isinstance(item.get("page_content"), str):
        metadata = item.get("metadata") or {}
        if not isinstance(metadata, Mapping):
            raise InputError(f"metadata of document {number} must be an object, not {shortened(metadata)}")
        return SourceDocument(_document_id(item.get("id"), metadata, number), item["page_content"], metadata)
    raise InputError(f"document {number} of the context must be a text or a Document, not {shortened(item)}")


def _check_encodable(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} has half a surrogate pair at character {error.start}: decode the text properly before passing it"
        ) from error


def _document_id(own: Any, metadata: Mapping[str, Any], number: int) -> str:
    return str(own or metadata.get("id") or metadata.get("source") or number)
