"""What was found cut into pieces, and only the nearest of them kept.  pip install 'fourcorners[retrievers]'

The chain sees, and cites, the pieces: ``start`` and ``end`` count in the text that reaches it.
"""

from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline, EmbeddingsFilter
from langchain_text_splitters import RecursiveCharacterTextSplitter
from lsa import LsaEmbeddings
from showing import passages, show

from fourcorners.retrieval import bm25_retriever

if __name__ == "__main__":
    documents = passages()
    embeddings = LsaEmbeddings([document.page_content for document in documents])
    splitter = RecursiveCharacterTextSplitter(chunk_size=400, chunk_overlap=0, separators=["\n\n", "\n", ". "])
    compressor = DocumentCompressorPipeline(transformers=[splitter, EmbeddingsFilter(embeddings=embeddings, k=6)])
    show(ContextualCompressionRetriever(base_retriever=bm25_retriever(documents, k=4), base_compressor=compressor))
