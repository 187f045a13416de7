"""An index on disk, which a second run only brings up to date.  python examples/retrievers/index_on_disk.py"""

import tempfile
from pathlib import Path

from showing import DOCUMENTS, show

from fourcorners.retrieval import index_folder, open_index

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "manuals.db")
        for _ in range(2):
            report = index_folder(DOCUMENTS, file)
            print(f"{report.n_read} files read, {report.n_unchanged} unchanged, {report.n_passages} passages")
        with open_index(file) as index:
            show(index.as_retriever(k=4))
