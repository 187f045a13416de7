"""BM25 and vectors together, by reciprocal rank.  pip install 'fourcorners[retrievers]'"""

from langchain_classic.retrievers import EnsembleRetriever
from langchain_core.vectorstores import InMemoryVectorStore
from lsa import LsaEmbeddings
from showing import passages, show

from fourcorners.retrieval import bm25_retriever

if __name__ == "__main__":
    documents = passages()
    embeddings = LsaEmbeddings([document.page_content for document in documents])
    vectors = InMemoryVectorStore.from_documents(documents, embeddings).as_retriever(search_kwargs={"k": 4})
    show(EnsembleRetriever(retrievers=[bm25_retriever(documents, k=4), vectors], weights=[0.7, 0.3]))
