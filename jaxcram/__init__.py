"""jaxcram: cramming and progressive cramming of texts into input vectors of frozen language models."""
