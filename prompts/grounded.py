"""``grounded_prompt()``: a PromptTemplate whose value carries the evidence beside the text, through any LCEL chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.documents import Document
from langchain_core.prompt_values import PromptValue, StringPromptValue
from langchain_core.prompts import PromptTemplate
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from fourcorners.errors import InputError, SettingsError, shortened
from fourcorners.grounding.evidence import Evidence, GroundingOptions, SourceDocument
from fourcorners.grounding.fields import Form, form_of
from fourcorners.grounding.packing import Packed, pack
from fourcorners.prompts.contract import Contract, Segment, load_contract

ContextInput = str | list[str | Document]
"""What may be given as context: one text, or a list of texts or LangChain Documents in order of rank."""

MAX_QUESTION_CHARS = 100_000


class GroundedText(str):
    """A prompt as plain text, with the evidence and the contract it was made from. It stays a ``str`` everywhere."""

    evidence: Evidence
    contract: Contract | None
    packed: Packed | None
    """What was left out of the text, where it was packed already."""

    @classmethod
    def of(
        cls, evidence: Evidence, contract: Contract | None, count_tokens: Callable[[str], int] | None = None
    ) -> GroundedText:
        """Render ``evidence``; with ``contract`` None the model may use the wording that suits it best.

        With ``count_tokens`` the documents are packed to the ``context_tokens`` of the options. Raises ContextOverflow.
        """
        shown = contract or load_contract(default_contract_name(evidence.options, evidence.form))
        budget, packed = evidence.options.context_tokens, None
        if count_tokens is not None and budget is not None:
            packed = pack(evidence, None, count_tokens, budget)
            blocks = list(packed.blocks)
        else:
            blocks = [document.text for document in evidence.documents if document.text.strip()]
        parts = (segments_of(part, shown, evidence, blocks) for part in ("system", "user"))
        text = cls("\n\n".join("".join(segment.text for segment in part) for part in parts))
        text.evidence, text.contract, text.packed = evidence, contract, packed
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
    form: Any = None
    custom: bool = False
    system: str = ""
    count_tokens: Callable[[str], int] | None = Field(default=None, exclude=True)

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
        around = {name: variables[name] for name in ("system", "history") if variables.get(name)}
        for name, text in around.items():
            _check_text(name, text)
        evidence = make_evidence(variables.get("question"), variables.get("context"), self.options, self.form)
        evidence = replace(evidence, **around)
        contract = Contract(self.system, self.template) if self.custom else None
        return GroundedPromptValue.of(GroundedText.of(evidence, contract, self.count_tokens))

    async def aformat_prompt(self, **kwargs: Any) -> PromptValue:
        """As ``format_prompt``."""
        return self.format_prompt(**kwargs)

    def format(self, **kwargs: Any) -> str:
        """As ``format_prompt``, the text alone."""
        return self.format_prompt(**kwargs).to_string()


def grounded_prompt(
    template: str | None = None,
    *,
    system: str = "",
    schema: type[BaseModel] | None = None,
    count_tokens: Callable[[str], int] | None = None,
    **options: Any,
) -> GroundedPromptTemplate:
    """A prompt for ``{"question", "context"}`` whose answer is bound to the context.

    An input may also have ``system``, an instruction that goes before the prompt's own, and ``history``, the
    conversation as text; both are only read by the model, ``history`` not where it answers in ``verbatim``. ``options``
    are those of GroundingOptions (``span``, ``max_spans``, ``refusal``, ``threshold`` …). ``template``
    replaces the wording shown to the model; it needs the gaps ``{question}`` and ``{context}``. With ``schema`` the
    answer is JSON for that pydantic model. ``count_tokens`` is for LLMs that do not pack the documents themselves, as
    those of ``init_llm("llama_cpp:…")`` do: with it, they are packed to ``context_tokens`` here. Raises SettingsError.
    """
    chosen = grounding_options(**options)
    form = form_of(schema) if schema is not None else None
    if form is not None and chosen.grounding != "verbatim":
        raise SettingsError(f"a schema can't be filled in with grounding={chosen.grounding!r}: leave that out")
    name = default_contract_name(chosen, form)
    contract = Contract(system, template) if template is not None else load_contract(name)
    fixed = {"refusal": chosen.refusal, "schema": form.description if form else ""}
    return GroundedPromptTemplate(
        template=contract.user,
        system=contract.system,
        custom=template is not None,
        options=chosen,
        form=form,
        count_tokens=count_tokens,
        input_variables=["context", "question"],
        input_types={"context": ContextInput, "question": str},
        partial_variables={name: value for name, value in fixed.items() if f"{{{name}}}" in contract.user},
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


def make_evidence(question: Any, context: Any, options: GroundingOptions, form: Form | None = None) -> Evidence:
    """Evidence from what a caller gave. Raises InputError naming the field and the value."""
    evidence = Evidence(check_question(question), tuple(_documents(context)), options, form)
    for document in evidence.documents:
        check_encodable(f"document {document.id}", document.text)
    return evidence


def check_question(question: Any) -> str:
    """``question`` itself. Raises InputError where it is no text, empty, too long or no Unicode."""
    _check_text("question", question)
    if not question.strip():
        raise InputError(f"question is empty ({question!r}): ask something")
    if len(question) > MAX_QUESTION_CHARS:
        raise InputError(f"question has {len(question)} characters, {MAX_QUESTION_CHARS} are allowed: shorten it")
    return str(question)


def default_contract_name(options: GroundingOptions, form: Form | None = None) -> str:
    """The prompt file for these options."""
    if form is not None:
        return "fields"
    names = {"none": "plain", "free": "free"}
    return names.get(options.grounding, f"verbatim_{options.span}")


def prompt_values(evidence: Evidence, blocks: Sequence[str]) -> dict[str, str]:
    """The values for a contract's gaps; ``blocks`` are the documents' texts as shown."""
    context = "\n\n".join(blocks)
    schema = evidence.form.description if evidence.form else ""
    return {"question": evidence.question, "context": context, "refusal": evidence.options.refusal, "schema": schema}


def segments_of(part: str, contract: Contract, evidence: Evidence, blocks: Sequence[str]) -> list[Segment]:
    """Segments of one part of ``contract`` ("system" or "user") filled with the evidence, behind what comes first."""
    return [*_first_of(part, evidence), *contract.fill(part, prompt_values(evidence, blocks))]


def _first_of(part: str, evidence: Evidence) -> list[Segment]:
    """The caller's own instruction before the system text, the conversation before the user's; both are not trusted."""
    gap = Segment("\n\n", trusted=True)
    if part == "system":
        return [Segment(evidence.system, trusted=False), gap] if evidence.system else []
    if not evidence.history or evidence.options.grounding == "verbatim":
        return []
    return [Segment(_HISTORY_TITLE, trusted=True), Segment(evidence.history, trusted=False), gap]


_HISTORY_TITLE = "The conversation so far, which is no source:\n"


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
        metadata = item.metadata or {}  # a subclass, or one made without validation, may have None
        return SourceDocument(_document_id(item.id, metadata, number), item.page_content, metadata)
    if isinstance(item, Mapping) and isinstance(item.get("page_content"), str):
        metadata = item.get("metadata") or {}
        if not isinstance(metadata, Mapping):
            raise InputError(f"metadata of document {number} must be an object, not {shortened(metadata)}")
        return SourceDocument(_document_id(item.get("id"), metadata, number), item["page_content"], metadata)
    raise InputError(f"document {number} of the context must be a text or a Document, not {shortened(item)}")


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise InputError(f"{name} must be a text, not {type(text).__name__} {shortened(text)}")
    check_encodable(name, text)


def check_encodable(name: str, text: str) -> None:
    """Raises InputError where ``text`` has half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} has half a surrogate pair at character {error.start}: decode the text properly before passing it"
        ) from error


def _document_id(own: Any, metadata: Mapping[str, Any], number: int) -> str:
    named = (str(value) for value in (own, metadata.get("id"), metadata.get("source")) if value is not None)
    return next(filter(None, named), str(number))
