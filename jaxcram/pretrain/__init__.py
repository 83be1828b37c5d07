"""Language-model training of small decoders: from texts to a directory in Hugging Face's layout.

`train.pretrain(PretrainSettings(out=...))` trains a byte-level BPE, tokenises a mixture of sources into
token files, trains a Llama on random windows of them, and writes model, tokenizer and figures. Interrupted,
it continues where it was.
"""
