from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.branches import Branch, BranchSearch
from fourcorners.grounding.decoding import log_softmax
from fourcorners.grounding.grammar import Constraint, sentence_grammar
from tests.support import REFUSAL, MadeUpModel, plain_sentences, result_of

PROMPT = [5, 6, 7]
alternatives = st.lists(plain_sentences, min_size=1, max_size=8, unique=True)
seeds = st.integers(0, 1000)


class Tried:
    """A search over made-up logits, and the same probabilities worked out the long way."""

    def __init__(
        self, vocabulary: Vocabulary, sentences: Sequence[str], seed: int, weight: float = 1.0, priors: bool = True
    ) -> None:
        chance = np.random.default_rng(seed)
        values = chance.normal(0, 2, len(sentences)) if priors else np.zeros(len(sentences))
        self.branches = [
            Branch((*vocabulary.plain(text), vocabulary.eos), float(prior))
            for text, prior in zip(sentences, values, strict=True)
        ]
        self.weight = weight
        self.model = MadeUpModel(vocabulary.n_tokens, seed)
        self.model.sequence = list(PROMPT)
        self.search = BranchSearch(
            self.branches,
            Constraint(vocabulary.constraint_tokenizer, sentence_grammar(sentences)),
            base=len(PROMPT),
            model_weight=weight,
            window_tokens=4096,
        )
        self.search.begin(self.model.logits(PROMPT))

    def brute_force(self) -> list[float]:
        return [self._walk(branch.tokens) for branch in self.branches]

    def _walk(self, tokens: tuple[int, ...]) -> float:
        total = 0.0
        for depth, token in enumerate(tokens):
            here = [branch for branch in self.branches if branch.tokens[:depth] == tokens[:depth]]
            options = sorted({branch.tokens[depth] for branch in here})
            mass = [np.logaddexp.reduce([b.prior for b in here if b.tokens[depth] == option]) for option in options]
            logits = self.model.logits([*PROMPT, *tokens[:depth]])[options].astype(float)
            total += log_softmax(self.weight * log_softmax(logits) + np.array(mass))[options.index(token)]
        return total

    def best(self, among: Sequence[int]) -> tuple[int, float]:
        found: tuple[int, float] = result_of(self.search.best(among), self.model)
        return found


@given(alternatives, seeds, st.sampled_from([0.0, 0.5, 1.0]))
def test_branch_probabilities_sum_to_one(
    vocabulary: Vocabulary, sentences: list[str], seed: int, weight: float
) -> None:
    tried = Tried(vocabulary, sentences, seed, weight)
    scores = [result_of(tried.search.log_probability(i), tried.model) for i in range(len(sentences))]
    assert np.exp(scores).sum() == pytest.approx(1)
    assert scores == pytest.approx(tried.brute_force())


@given(alternatives, seeds, st.sampled_from([0.0, 0.5, 1.0]), st.data())
def test_the_best_branch_is_that_of_brute_force(
    vocabulary: Vocabulary, sentences: list[str], seed: int, weight: float, data: st.DataObject
) -> None:
    tried = Tried(vocabulary, sentences, seed, weight)
    among = data.draw(st.lists(st.sampled_from(range(len(sentences))), min_size=1, unique=True))
    scores = tried.brute_force()
    best, score = tried.best(among)
    assert best in among
    assert score == pytest.approx(max(scores[index] for index in among))
    assert score == pytest.approx(scores[best])


def test_a_sentence_that_begins_another_can_win_or_lose(vocabulary: Vocabulary) -> None:
    winners = {Tried(vocabulary, ["the ferry", "the ferry leaves"], seed).best([0, 1])[0] for seed in range(20)}
    assert winners == {0, 1}


def test_without_model_weight_the_prior_decides(vocabulary: Vocabulary) -> None:
    tried = Tried(vocabulary, ["Unsure about", REFUSAL, "Un used", "the ferry"], 3, weight=0.0)
    priors = [branch.prior for branch in tried.branches]
    best, score = tried.best(range(4))
    assert best == int(np.argmax(priors))
    assert score == pytest.approx(log_softmax(np.array(priors)).max())


def test_what_is_forced_is_not_evaluated(vocabulary: Vocabulary) -> None:
    long = "the ferry leaves at 6:40 " * 10
    tried = Tried(vocabulary, [long + "now", long + "later"], 1)
    tried.best([0, 1])
    assert tried.model.n_steps == 1


def test_many_forks_end_with_a_branch_all_the_same(vocabulary: Vocabulary) -> None:
    sentences = [f"{'the ' * count}ferry {count}" for count in range(200)]
    index, score = Tried(vocabulary, sentences, 2, priors=False).best(range(200))
    assert 0 <= index < 200
    assert -np.inf < score <= 0


def test_where_the_window_ends_the_prior_decides(vocabulary: Vocabulary) -> None:
    tried = Tried(vocabulary, ["the ferry leaves at 6:40", "the ferry leaves about 6:40"], 1)
    search = BranchSearch(
        tried.branches,
        Constraint(
            vocabulary.constraint_tokenizer,
            sentence_grammar(["the ferry leaves at 6:40", "the ferry leaves about 6:40"]),
        ),
        base=len(PROMPT),
        model_weight=1.0,
        window_tokens=len(PROMPT),
    )
    search.begin(tried.model.logits(PROMPT))
    best, _ = result_of(search.best([0, 1]), tried.model)
    assert tried.model.n_steps == 0
    assert best == int(np.argmax([branch.prior for branch in tried.branches]))


@given(alternatives, seeds, st.data())
def test_sampling_draws_from_the_wanted_branches(
    vocabulary: Vocabulary, sentences: list[str], seed: int, data: st.DataObject
) -> None:
    tried = Tried(vocabulary, sentences, seed)
    among = data.draw(st.lists(st.sampled_from(range(len(sentences))), min_size=1, unique=True))
    drawn, _ = result_of(tried.search.sample(among, 1.0, np.random.default_rng(seed)), tried.model)
    assert drawn in among
    cold, score = result_of(tried.search.sample([drawn], 0.01, np.random.default_rng(seed)), tried.model)
    assert cold == drawn
    assert score == pytest.approx(tried.brute_force()[drawn])
