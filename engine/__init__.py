"""The in-process llama.cpp engine. It knows nothing of LangChain, HTTP or grounding."""
