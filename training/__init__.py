"""How the bundled reader is made: rows, a tiny llama, its training, its GGUF. Not part of the installed package."""
