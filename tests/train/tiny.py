"""A training small enough for tests."""

from jaxcram.train.settings import PretrainSettings

TINY = PretrainSettings(
    out="unused",
    sources="stories:1,novel.txt:9",
    stream_tokens=20_000,
    held_out_tokens=2_000,
    vocab_size=300,
    width=16,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_size=8,
    mlp_width=24,
    max_positions=32,
    window=16,
    batch_size=4,
    steps=12,
    learning_rate=1e-2,
    warmup=2,
    decay_share=0.25,
    checkpoint_every=6,
    log_every=3,
    mesh="lanes:1",  # however many devices other tests have made
)
