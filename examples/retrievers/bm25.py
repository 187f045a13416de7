"""LangChain's own BM25 retriever.  python examples/retrievers/bm25.py"""

import re

from langchain_community.retrievers import BM25Retriever
from showing import passages, show


def words(text: str) -> list[str]:
    """What is compared: words without case."""
    return re.findall(r"\w+", text.lower())


if __name__ == "__main__":
    show(BM25Retriever.from_documents(passages(), k=4, preprocess_func=words))
