"""What the choice of one token costs, in µs: .venv/bin/python -m benchmarks.sampling

Flat logits are normal with deviation 1, peaked ones with deviation 4. The last column is llama.cpp's own chain of
samplers, given the same logits. Run it with OMP_NUM_THREADS=1 on an idle machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from fourcorners.engine.sampling import Sampler, Sampling

SIZES = (49_152, 151_936)
WARM = Sampling(temperature=1.0, seed=1)
SETTINGS = {
    "greedy": Sampling(),
    "temperature 1": WARM,
    "temperature 0.3": replace(WARM, temperature=0.3),
    "top_k 40": replace(WARM, top_k=40),
    "top_k 5000": replace(WARM, top_k=5000),
    "top_p 0.95": replace(WARM, top_p=0.95),
    "top_p 0.5": replace(WARM, top_p=0.5),
    "top_p 0.21": replace(WARM, top_p=0.21),
    "top_p 0.1": replace(WARM, top_p=0.1),
    "top_p 0.01": replace(WARM, top_p=0.01),
    "min_p 0.05": replace(WARM, min_p=0.05),
    "top_p 0.95 min_p 0.05": replace(WARM, top_p=0.95, min_p=0.05),
    "all": replace(WARM, temperature=0.8, top_k=40, top_p=0.95, min_p=0.05),
}


def microseconds(choose: Callable[[], int], n_calls: int = 300, n_repeats: int = 5) -> float:
    """The mean of the best repeat: the draws differ, so a single call says little."""
    best = float("inf")
    for _ in range(n_repeats):
        start = time.perf_counter()
        for _ in range(n_calls):
            choose()
        best = min(best, time.perf_counter() - start)
    return best / n_calls * 1e6


def ours(
    sampling: Sampling, logits: NDArray[np.float32], n_generated: int = 0, allowed: NDArray[np.int32] | None = None
) -> float:
    sampler = Sampler(sampling)
    for token in range(n_generated):
        sampler.accept(token * 7)
    return microseconds(lambda: sampler.choose(logits, allowed))


def native(sampling: Sampling, logits: NDArray[np.float32]) -> float:
    """llama.cpp's chain in the same order, on an array that is filled before each choice as llama.cpp fills its own."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    if not sampling.temperature:
        parts = [llama_cpp.llama_sampler_init_greedy()]
    else:
        parts = [llama_cpp.llama_sampler_init_temp(sampling.temperature)]
        parts += [llama_cpp.llama_sampler_init_top_k(sampling.top_k)] if sampling.top_k else []
        parts += [llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1)] if sampling.top_p < 1 else []
        parts += [llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1)] if sampling.min_p else []
        parts += [llama_cpp.llama_sampler_init_dist(1)]
    for part in parts:
        llama_cpp.llama_sampler_chain_add(chain, part)
    candidates = np.zeros(len(logits), [("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    ids = np.arange(len(logits), dtype=np.int32)
    data = candidates.ctypes.data_as(llama_cpp.llama_token_data_p)

    def choose() -> int:
        candidates["id"], candidates["logit"] = ids, logits
        view = llama_cpp.llama_token_data_array(data=data, size=len(logits), selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(chain, view)
        return int(candidates["id"][view.selected])

    try:
        return microseconds(choose, 20, 3)
    finally:
        llama_cpp.llama_sampler_free(chain)


def main() -> None:
    for n_tokens in SIZES:
        print(f"\n{n_tokens:,} tokens{'':12}{'ours':>10}{'':10}{'llama.cpp':>10}")
        print(f"{'':25}{'flat':>10}{'peaked':>10}{'flat':>10}{'peaked':>10}")
        normal = np.random.default_rng(0).normal(0, 1, n_tokens).astype(np.float32)
        for name, sampling in SETTINGS.items():
            times = [measure(sampling, normal * spread) for measure in (ours, native) for spread in (1, 4)]
            print(f"{name:25}" + "".join(f"{each:10.1f}" for each in times))
        for name in ("greedy", "top_p 0.95", "all"):
            sampling = replace(SETTINGS[name], repetition_penalty=1.1, presence_penalty=0.2, frequency_penalty=0.1)
            times = [ours(sampling, normal * spread, n_generated=500) for spread in (1, 4)]
            print(f"{name + ', 500 penalized':25}" + "".join(f"{each:10.1f}" for each in times))
        for n_allowed in (10, 5000):
            allowed = np.arange(0, n_tokens, n_tokens // n_allowed, dtype=np.int32)[:n_allowed]
            for name in ("greedy", "top_p 0.95", "all"):
                times = [ours(SETTINGS[name], normal * spread, allowed=allowed) for spread in (1, 4)]
                print(f"{f'{name}, {n_allowed:,} allowed':25}" + "".join(f"{each:10.1f}" for each in times))


if __name__ == "__main__":
    main()
