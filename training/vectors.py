"""Word vectors to begin with: learned from plain English, then pulled towards what WordNet links.

    python -m training.vectors --corpus training/runs/corpus --out training/runs/vectors.npz

Skip-gram with negative sampling (Mikolov et al. 2013, arXiv 1310.4546), then retrofitting (Faruqui et al. 2015, arXiv
1411.4166) along synonyms, derivations ("weigh", "weight"), attributes ("high", "height") and common stems. About 5
minutes for 20 million words on two cores.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from gensim.models import Word2Vec
from numpy.typing import NDArray
from snowballstemmer import stemmer

from training.data_squad import load
from training.data_templates import relations
from training.written import written

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
LINKS = {"~s": 1.0, "+": 1.0, "=": 0.7, "&": 0.4, "\\": 0.7, "stem": 1.0}
"""Weights of links: same synset, derivation, attribute, similar, pertains to; and words of one stem."""
ROUNDS = 10
MOST_SENSES = 3
"""Only a word's most frequent senses link it."""
OWN_REPEATS = 3
"""The documents written for training count so often beside the corpus."""

Floats = NDArray[np.float32]


class Lines:
    """Word lists of all lines, read anew each time."""

    def __init__(self, corpus: Path, squad: Path | None) -> None:
        self._corpus = corpus
        own = [document.text for document in written()]
        own += [way for document in written() for asked in document.asked for way in asked.ways]
        own += [text for relation in relations() for text in (*relation.statements, *relation.questions)]
        if squad is not None:
            own += [text for p in load(squad) for text in (p.text, *(question.text for question in p.questions))]
        self._own = own

    def __iter__(self) -> Iterator[list[str]]:
        for _ in range(OWN_REPEATS):
            yield from (WORD.findall(text.lower()) for text in self._own)
        with self._corpus.open(encoding="utf-8") as lines:
            for line in lines:
                yield WORD.findall(line.lower())


def wordnet_links(folder: Path) -> dict[tuple[str, str], float]:
    """Pairs of words that WordNet links, both ways, with weights. ``folder`` holds data.noun and the like."""
    synsets: dict[tuple[str, int], list[str]] = {}
    pointers: list[tuple[tuple[str, int], str, tuple[str, int], int, int]] = []
    for part, name in (("n", "noun"), ("v", "verb"), ("a", "adj"), ("r", "adv")):
        for line in (folder / f"data.{name}").read_text("utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields = line.partition(" | ")[0].split()
            offset, count = int(fields[0]), int(fields[3], 16)
            synsets[part, offset] = [fields[4 + 2 * n].lower().partition("(")[0] for n in range(count)]
            at = 4 + 2 * count
            for n in range(int(fields[at])):
                kind, target, other, places = fields[at + 1 + 4 * n : at + 5 + 4 * n]
                if kind in LINKS:
                    source, aim = int(places[:2], 16), int(places[2:], 16)
                    pointers.append(((part, offset), kind, (other.replace("s", "a"), int(target)), source, aim))
    ranks = _sense_ranks(folder)
    found: dict[tuple[str, str], float] = {}
    for (part, offset), words in synsets.items():
        usual = [word for word in words if ranks.get((part, word, offset), 9) < MOST_SENSES]
        _link(found, usual, usual, LINKS["~s"])
    for start, kind, aim_at, source, aim in pointers:
        left, right = synsets[start], synsets.get(aim_at, [])
        lefts = left if source == 0 else left[source - 1 : source]
        rights = right if aim == 0 else right[aim - 1 : aim]
        _link(found, [w for w in lefts if ranks.get((start[0], w, start[1]), 9) < MOST_SENSES], rights, LINKS[kind])
    return found


def _sense_ranks(folder: Path) -> dict[tuple[str, str, int], int]:
    """How frequent each sense of a word is among its senses (0: the most frequent)."""
    ranks = {}
    for part, name in (("n", "noun"), ("v", "verb"), ("a", "adj"), ("r", "adv")):
        for line in (folder / f"index.{name}").read_text("utf-8").splitlines():
            if not line.startswith(" "):
                fields = line.split()
                senses = fields[-int(fields[2]) :]
                ranks.update({(part, fields[0], int(offset)): rank for rank, offset in enumerate(senses)})
    return ranks


def _link(found: dict[tuple[str, str], float], lefts: Iterable[str], rights: Iterable[str], weight: float) -> None:
    rights = list(rights)
    for left in lefts:
        for right in rights:
            if left != right and "_" not in left + right:
                for pair in ((left, right), (right, left)):
                    found[pair] = max(found.get(pair, 0.0), weight)


def stem_links(words: Iterable[str]) -> dict[tuple[str, str], float]:
    """Pairs of words of one stem, such as "lasts" and "lasting"."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    stem = stemmer("english")
    for word in words:
        by_stem[stem.stemWord(word)].append(word)
    found: dict[tuple[str, str], float] = {}
    for group in by_stem.values():
        _link(found, group[:6], group[:6], LINKS["stem"])
    return found


def retrofitted(words: Mapping[str, int], vectors: Floats, links: Mapping[tuple[str, str], float]) -> Floats:
    """Vectors (of length 1) pulled towards those they are linked to; each keeps half of itself."""
    neighbours: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for (left, right), weight in links.items():
        if left in words and right in words:
            neighbours[words[left]].append((words[right], weight))
    original = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    result = original.copy()
    for _ in range(ROUNDS):
        for at, around in neighbours.items():
            weights = np.array([weight for _, weight in around], dtype=np.float32)
            pull = weights @ result[[n for n, _ in around]] / weights.sum()
            result[at] = 0.5 * original[at] + 0.5 * pull
    scaled: Floats = result / np.linalg.norm(result, axis=1, keepdims=True)
    return scaled


def main() -> None:
    """Learn, retrofit, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder made by training.corpus")
    parser.add_argument("--squad", type=Path, default=None, help="SQuAD JSON of the train split")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = Word2Vec(
        Lines(options.corpus / "corpus.txt", options.squad),
        vector_size=options.width,
        sg=1,
        negative=6,
        window=5,
        min_count=4,
        sample=1e-4,
        workers=2,
        epochs=options.epochs,
        seed=options.seed,
    )
    words = dict(model.wv.key_to_index)
    folder = next((options.corpus / "files").glob("wordnet-base*")) / "usr/share/wordnet"
    links = wordnet_links(folder) | stem_links(words)
    vectors = retrofitted(words, model.wv.vectors, links)
    np.savez(options.out, words=np.array(list(words)), vectors=vectors.astype(np.float16))
    print(f"{len(words):,} words, {len(links):,} links")
    for word in ("weighs", "warranty", "founded", "cost", "refund", "bring"):
        if word in words:
            near = np.argsort(-(vectors @ vectors[words[word]]))[1:9]
            print(word, "→", " ".join(list(words)[n] for n in near))


if __name__ == "__main__":
    main()
