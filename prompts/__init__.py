"""Prompts: the contract with the model as text files, chat formats, and the prompt template that carries evidence."""
