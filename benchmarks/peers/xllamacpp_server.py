"""The server of xllamacpp, which comes without a command of its own.

    PEER_PYTHON xllamacpp_server.py MODEL PORT THREADS SLOTS CONTEXT_TOKENS

Runs in the interpreter that xllamacpp is installed in, where nothing of this project need be.
"""

from __future__ import annotations

import importlib
import sys
import threading


def main() -> None:
    model, (port, threads, slots, context_tokens) = sys.argv[1], map(int, sys.argv[2:6])
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.ui = False
    params.n_ctx = context_tokens
    params.n_parallel = slots
    params.kv_unified = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
