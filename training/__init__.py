"""How the bundled reader is made: rows from text, a tiny llama, its training, its GGUF. Not part of the installed package."""
