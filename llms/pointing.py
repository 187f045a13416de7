"""Grounded runs of the bundled reader: what it is shown of the documents, and the policy that reads its scores."""

from __future__ import annotations

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.errors import ContextOverflow
from fourcorners.grounding.decoding import Policy, Rules
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.packing import Packed, pack
from fourcorners.grounding.page import N_MARKS, Page, frame_tokens, page_of, signs_of
from fourcorners.grounding.pointing import answer_by_pointing
from fourcorners.grounding.prior import PriorScores
from fourcorners.llms.profile import Profile

MIN_CONTEXT_TOKENS = 64


def shown_page(
    evidence: Evidence, prior: PriorScores, vocabulary: Vocabulary, profile: Profile, window_tokens: int
) -> tuple[Packed, Page]:
    """The best sentences by the prior, as many as the reader can be shown. Raises ContextOverflow for a tiny window."""
    question = vocabulary.plain(evidence.question)
    frame = frame_tokens(question, min(len(evidence.documents), N_MARKS))
    # The sentence that is shown once more has at most half of the budget.
    budget = min(profile.context_tokens, (window_tokens - frame) * 2 // 3)
    if budget < MIN_CONTEXT_TOKENS:
        raise ContextOverflow(
            f"a window of {window_tokens} tokens leaves {budget} for the documents: the bundled reader needs "
            f"{MIN_CONTEXT_TOKENS}; take n_context_tokens={window_tokens + 2 * MIN_CONTEXT_TOKENS} or more"
        )
    budget = min(budget, evidence.options.context_tokens or budget)
    packed = pack(evidence, prior, lambda text: len(vocabulary.plain(text)), window_tokens, N_MARKS, budget)
    return packed, page_of(evidence, packed, vocabulary, signs_of(vocabulary.control, vocabulary.n_tokens))


def pointing_policy(
    page: Page, packed: Packed, evidence: Evidence, prior: PriorScores, vocabulary: Vocabulary, rules: Rules
) -> Policy:
    """The decoding policy for ``page``."""
    return answer_by_pointing(
        page, packed, evidence, prior, vocabulary, signs_of(vocabulary.control, vocabulary.n_tokens), rules
    )
