"""Chroma, in memory and with its telemetry off.  pip install 'fourcorners[retrievers]'"""

from chromadb.config import Settings
from langchain_chroma import Chroma
from lsa import LsaEmbeddings
from showing import passages, show

if __name__ == "__main__":
    documents = passages()
    embeddings = LsaEmbeddings([document.page_content for document in documents])
    quiet = Settings(anonymized_telemetry=False)
    store = Chroma.from_documents(documents, embeddings, collection_name="manuals", client_settings=quiet)
    show(store.as_retriever(search_kwargs={"k": 4}))
