"""Parts of other authors' models, and the answers of their code."""
