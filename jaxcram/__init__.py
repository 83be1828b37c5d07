"""jaxcram: cramming and progressive cramming of texts into input vectors of frozen language models.

From Python, start at `jaxcram.api`; `import jaxcram` alone loads nothing else.
"""
