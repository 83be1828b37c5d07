"""Help texts of the flags that programs which cram have: model, texts, procedure, what is stored."""

from jaxcram.cli.flags import Doc

# How experiments go on; `cli.main` reads it from each program.
RESUMES = "what is finished is kept; the same command with the same --out does the rest"

MODEL = {
    "model": Doc(
        "Directory or Hub name of a model: Llama, GPT-NeoX, Gemma 3, Qwen, SmolLM3",
        unset="the bundled mini-llama",
    ),
    "dtype": Doc(
        "Precision of the model, float32 or bfloat16; embeddings and optimiser state are always float32",
        unset="float32 on CPU, bfloat16 elsewhere",
    ),
}

TEXTS = {
    "texts": Doc(
        "bundled, stories:COUNT, passages; a .txt file (one text per paragraph, separated by blank "
        "lines); a .jsonl, .json, .csv, .tsv or .parquet file (one text per row); a directory of .txt "
        "files (one text each) or of tables, with its subdirectories; or a Hub data set as NAME or "
        "NAME:CONFIG",
        unset="none",
    ),
    "split": Doc("Split of a Hub data set"),
    "column": Doc("Column that holds the text in a table"),
    "num_samples": Doc("Number of texts", "texts", "all"),
    "offset": Doc("Number of texts to skip at the beginning of the source", "texts"),
    "max_tokens": Doc("Number of tokens to keep of each text", "tokens", "all of them"),
    "bos": Doc("Begin each target with the BOS token, or not", unset="as the tokenizer says"),
}

STORED = {
    "checkpoint_minutes": Doc(
        "Time between two checkpoints of the unfinished lanes; 0 turns them off", "minutes"
    ),
    "trajectory": Doc("Embeddings to store in the rows: of all stages, of the horizon, or none"),
    "log_every": Doc(
        "Store curves in curves/ and draw them: loss, accuracy, learning rate and embedding norm of "
        "every lane at this interval; 0 stores none",
        "steps",
    ),
}

TOPICS = {
    "Lanes (one for each text, learning rate and seed)": {
        "learning_rates": Doc("Peaks of the learning-rate schedule, comma-separated", "per step"),
        "seeds": Doc("Seeds of the initial embeddings; the learning rates of a text share them", "no unit"),
        "num_memory": Doc("K, the number of embeddings that a text is crammed into", "embeddings"),
        "init": Doc(
            "Initial embedding: uniform in [0, 0.02), or normal with the token embeddings' standard deviation"
        ),
    },
    "Stages": {
        "mode": Doc("progressive grows the prefix whenever it is exact; full takes the whole text at once"),
        "min_tokens": Doc("Length of the first prefix", "tokens"),
        "progressive_step": Doc("Growth of the prefix per stage", "tokens"),
        "max_steps": Doc("Cap on the optimiser steps of a lane; the cosine ends there", "steps"),
        "max_steps_per_token": Doc("Cap on the optimiser steps of one stage; full has none", "steps"),
        "full_threshold": Doc(
            "In mode full, end a text at this teacher-forced accuracy, such as 0.99", "0 to 1"
        ),
    },
    "Objective": {
        "loss": Doc("cross_entropy, or hinge: max(0, margin + best other logit - true logit)"),
        "temperature": Doc("T of the cross-entropy of logits / T", "no unit"),
        "temperature_squared": Doc(
            "Multiply that cross-entropy by T squared, which keeps the scale of its gradient"
        ),
        "margin": Doc("Margin of the hinge", "logits"),
    },
    "Optimiser (AdamW)": {
        "schedule": Doc("cosine: linear warm-up, then cosine to min_lr; constant: no warm-up, no decay"),
        "warmup_steps": Doc("Length of the warm-up", "steps"),
        "min_lr": Doc("Learning rate at the end of the cosine", "per step"),
        "beta1": Doc("Decay rate of the mean gradient", "no unit"),
        "beta2": Doc("Decay rate of the mean squared gradient", "no unit"),
        "eps": Doc("Added to the root of the mean squared gradient", "no unit"),
        "weight_decay": Doc("Decoupled weight decay, times the learning rate", "per step"),
    },
    "Speed and device memory (they do not change the procedure)": {
        "token_budget": Doc(
            "Most padded tokens of one pass on one device; auto measures once which shapes of passes are "
            "fastest with this model on this device",
            "tokens",
        ),
        "chunk_passes": Doc("Passes on the device between two reads by the host", "passes"),
        "remat": Doc(
            "Recompute layers in the backward pass instead of storing activations: slower, but takes less "
            "device memory",
            unset="if the device's memory would not hold them",
        ),
    },
}
