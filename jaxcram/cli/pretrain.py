"""`jaxcram pretrain`: trains a small decoder on texts and saves it in Hugging Face layout."""

import os

from jaxcram.cli import streams
from jaxcram.cli.flags import Doc
from jaxcram.devices import launched
from jaxcram.train.settings import PretrainSettings

RESUMES = "the same command resumes from the last checkpoint"

Command = PretrainSettings

TOPICS = {
    "Data": {
        "sources": Doc(
            "Mixture SOURCE:WEIGHT,... of stories (the generator's, without end), hub:NAME, and what --texts "
            "of cram reads: .txt, .jsonl, .json, .csv, .tsv or .parquet files, directories of them"
        ),
        "hub_texts": Doc("Most texts to read from a Hub data set", "texts"),
        "stream_tokens": Doc("Most tokens of one source to train on", "tokens"),
        "held_out_share": Doc("Share of a source's texts that is held out from training", "0 to 1"),
        "held_out_tokens": Doc("Tokens of each source on which the held-out loss is measured", "tokens"),
        "vocab_size": Doc("Size of the byte-level BPE vocabulary, with BOS and EOS", "tokens"),
    },
    "Output": {
        "out": Doc("Directory of the run: model, tokenizer, token files, checkpoints and log"),
        "checkpoint_every": Doc("Interval between checkpoints, each with the held-out loss", "steps"),
        "log_every": Doc("Interval between progress lines", "steps"),
    },
    "Model (Llama family)": {
        "width": Doc("Channels of the residual stream", "channels"),
        "num_layers": Doc("Number of layers", "layers"),
        "num_heads": Doc("Number of query heads", "heads"),
        "num_kv_heads": Doc("Number of key and value heads, a divisor of num_heads", "heads"),
        "head_size": Doc("Channels of a head, an even number", "channels"),
        "mlp_width": Doc("Channels inside the MLP", "channels"),
        "max_positions": Doc("Maximum number of positions in the saved config", "positions"),
    },
    "Training (AdamW)": {
        "steps": Doc("Optimiser steps of the whole run", "steps"),
        "batch_size": Doc("Windows per step", "windows"),
        "window": Doc("Length of a window", "tokens"),
        "learning_rate": Doc("Peak learning rate", "per step"),
        "warmup": Doc("Length of the linear warm-up from 0", "steps"),
        "schedule": Doc(
            "After the warm-up: wsd is constant, then linear to 0; cosine decays to a tenth of the peak"
        ),
        "decay_share": Doc("Share of the steps over which wsd decays", "0 to 1"),
        "weight_decay": Doc("Decoupled weight decay of matrices, times the learning rate", "per step"),
        "clip": Doc("Global norm to which gradients are clipped", "no unit"),
        "seed": Doc("Seed of the initial weights and of the windows", "no unit"),
        "dtype": Doc("Precision of the passes, float32 or bfloat16; trained weights stay float32"),
        "mesh": Doc(
            "Devices along lanes, over which the windows of a step are spread; along model, which share the "
            "weights and the work; or along fsdp, which share the weights and spread windows. -1 takes all "
            "that are left"
        ),
    },
}


def run(command: PretrainSettings) -> None:
    """Trains the model, or resumes its run; prints its directory and its held-out loss."""
    from jaxcram.train.pretrain import pretrain

    launched.refuse_several(os.environ)
    metrics = pretrain(command)
    with streams.work_is_kept():
        print(f"model     {command.out} ({metrics['parameters']} parameters, {metrics['steps']} steps)")
        for source, loss in metrics["held_out"].items():
            print(
                f"held out  {source}: {loss['nats_per_token']:.3f} nats per token, "
                f"{loss['bits_per_character']:.3f} bits per character"
            )
