"""Grounding: from documents to spans, from spans to a grammar, from an answer back to exact places.

A leaf: it knows nothing of LangChain, HTTP or llama.cpp.
"""
