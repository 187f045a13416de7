"""FAISS.  pip install 'fourcorners[retrievers]'"""

from langchain_community.vectorstores import FAISS
from lsa import LsaEmbeddings
from showing import passages, show

if __name__ == "__main__":
    documents = passages()
    embeddings = LsaEmbeddings([document.page_content for document in documents])
    show(FAISS.from_documents(documents, embeddings).as_retriever(search_kwargs={"k": 4}))
