"""A Llama in plain NumPy, one text at a time, in fp64: what knockout and attention should be."""

import numpy as np

FLOOR = np.finfo(np.float32).min


def rms(x, norm):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + norm.eps) * np.asarray(norm.weight[...], np.float64)


def linear(x, layer):
    return x @ np.asarray(layer.weight[...], np.float64).T


def rotated(x_TxHxC, frequencies):
    angles = np.arange(len(x_TxHxC))[:, None, None] * np.asarray(frequencies, np.float64)
    first, second = np.split(x_TxHxC, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def run(model, mem_KxD, tokens, knocked_L=None, own_row=False):
    """Logits [N, V] at every position, and attention weights [L, H, N, N], of a memory (or None) and a text.

    A knockout adds the lowest number to the scores of memory keys: of the text's queries, or with `own_row`,
    as in published code, of all queries.
    """
    config, text = model.config, np.asarray(model.embedding_VxD[...], np.float64)[np.asarray(tokens)]
    x = text if mem_KxD is None else np.concatenate([mem_KxD.astype(np.float64), text])
    num_memory, shape = len(x) - len(text), (len(x), -1, config.head_size)
    weights = []
    for number, block in enumerate(model.blocks):
        normed = rms(x, block.attention_norm)
        query, key, value = (linear(normed, p).reshape(shape) for p in (block.query, block.key, block.value))
        query, key = (rotated(heads, config.rotary_frequencies()) for heads in (query, key))
        key, value = (np.repeat(heads, query.shape[1] // key.shape[1], axis=1) for heads in (key, value))
        scores = np.einsum("thc,shc->hts", query, key) / np.sqrt(config.head_size)
        barred = ~np.tri(len(x), dtype=bool)
        if knocked_L is not None and knocked_L[number]:
            barred[0 if own_row else num_memory :, :num_memory] = True
        scores = np.where(barred, FLOOR, scores)  # fp32 would round the sum to it
        exp = np.exp(scores - scores.max(-1, keepdims=True))
        weights.append(exp / exp.sum(-1, keepdims=True))
        attended = np.einsum("hts,shc->thc", weights[-1], value).reshape(len(x), -1)
        x = x + linear(attended, block.out)
        normed = rms(x, block.mlp_norm)
        gate = linear(normed, block.gate)
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(normed, block.up), block.down)
    head = np.asarray(model.head.weight, np.float64)
    return rms(x, model.final_norm) @ head.T, np.stack(weights)


def nlls(model, mem_KxD, tokens, knocked_L=None, own_row=False):
    """-log p of tokens 0.. of a text after a memory, or of tokens 1.. of the text alone."""
    logits, _ = run(model, mem_KxD, tokens, knocked_L, own_row)
    logits = logits[len(logits) - len(tokens) - 1 : -1] if mem_KxD is not None else logits[:-1]
    top = logits.max(-1, keepdims=True)
    log_sums = np.log(np.exp(logits - top).sum(-1)) + top[:, 0]
    return log_sums - logits[np.arange(len(logits)), tokens[len(tokens) - len(logits) :]]
