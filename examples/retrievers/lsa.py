"""Embeddings without a model from elsewhere: TF-IDF and a truncated SVD (LSA), fitted on the documents themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from langchain_core.embeddings import Embeddings
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer


class LsaEmbeddings(Embeddings):
    """Vectors of length about 1. Texts unlike those it was fitted on get poor ones: for want of better ones."""

    def __init__(self, texts: Sequence[str], n_dimensions: int = 128) -> None:
        words = TfidfVectorizer(stop_words="english", sublinear_tf=True, strip_accents="unicode")
        n_words = words.fit_transform(texts).shape[1]
        svd = TruncatedSVD(min(n_dimensions, n_words, len(texts)), random_state=0)
        self._model = make_pipeline(words, svd, Normalizer()).fit(texts)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text."""
        vectors = np.asarray(self._model.transform(texts))
        # One more dimension, next to nothing, so that a text without a known word has a direction too.
        extended: list[list[float]] = np.hstack([vectors, np.full((len(texts), 1), 1e-6)]).tolist()
        return extended

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        return self.embed_documents([text])[0]
