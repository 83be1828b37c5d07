"""Pretraining: a small decoder from texts alone, with a tokenizer of its own."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from jaxcram.devices import configuration, environment
from jaxcram.devices.compilation import use_cache
from jaxcram.devices.mesh import FSDP, LANES, MeshShape, places, replicated, use_memory
from jaxcram.errors import UserError
from jaxcram.forward import predict
from jaxcram.models import port
from jaxcram.models.decoder import Decoder
from jaxcram.models.llama import LlamaConfig
from jaxcram.results import disk, identity
from jaxcram.results.directory import RunDirectory
from jaxcram.results.paths import recorded
from jaxcram.text.sources import is_keyword
from jaxcram.text.tokens import Tokenizer, load_tokenizer
from jaxcram.train.corpora import Corpus, open_corpora
from jaxcram.train.loop import Pace, Training, finished, train
from jaxcram.train.optimizer import make_optimizer
from jaxcram.train.settings import PretrainSettings
from jaxcram.train.streams import (
    Limits,
    Stream,
    held_out_batches,
    open_stream,
    require_windows,
    training_windows,
)
from jaxcram.train.vocabulary import save_tokenizer, train_tokenizer

# Settings that may change when a run resumes. Sources are compared by their texts, not by their paths.
_FREE = {"steps", "checkpoint_every", "log_every", "sources", "mesh"}


class State(NamedTuple):
    """What a step changes: fp32 weights and AdamW's moments and count."""

    decoder: Decoder
    optimizer: optax.OptState


def show(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr, flush=True)


@configuration.pinned()
def pretrain(settings: PretrainSettings, tell: Callable[[str], None] = show) -> dict[str, Any]:
    """Trains a decoder and leaves it in `settings.out`, in Hugging Face's layout.

    Files: config.json, model.safetensors (bf16), tokenizer.json, tokenizer_config.json; those of a run
    directory (`jaxcram.results.directory`), with the returned values as summary.json; token files in
    `tokens/`. The same call resumes an interrupted run from its last checkpoint and ends with the same bits
    on the same devices. `steps` may differ then, if the learning rate of the steps done does not depend on
    it. For a finished run it returns the summary.

    Args:
        settings: of the run.
        tell: prints a line of progress.

    Returns:
        parameters, held_out (nats_per_token and bits_per_character of each source), and what
        `jaxcram.train.loop.train` returns.

    Raises:
        UserError: a source cannot be used; `out` is not writable or has other settings; the batch is no
            multiple of the devices, or there are none; the loss is not finite.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        StoppedError: the disk is full or unavailable.
    """
    shape = MeshShape.parse(settings.mesh)
    use_cache()
    use_memory()
    configuration.start()
    mesh = shape.make()
    if settings.final_batch_size % places(mesh):
        raise UserError(
            f"batch_size={settings.batch_size}: {settings.final_batch_size} windows of "
            f"{settings.max_positions} tokens do not spread over {places(mesh)} devices; give a multiple"
        )
    corpora = open_corpora(settings)
    now, defaults = _recorded(settings, corpora), dataclasses.asdict(PretrainSettings(out=""))
    with RunDirectory.open(settings.out, now, defaults=defaults, kind=KIND) as directory:
        if summary := finished(directory, settings.steps):
            return summary
        if not (directory.path / "tokenizer.json").exists():
            save_tokenizer(train_tokenizer(corpora, settings.vocab_size), directory.path)
        tokenizer = load_tokenizer(directory.path)
        streams = _streams(settings, corpora, tokenizer, directory.path)
        with jax.set_mesh(mesh):  # attention kernels need it, because XLA does not partition them
            training = _training(settings, tokenizer, streams, directory.path, tell, mesh)
            return train(training, directory, tell)


def _recorded(settings: PretrainSettings, corpora: list[Corpus]) -> dict[str, Any]:
    """The content of settings.json: the settings, and a digest of every source's texts."""
    fields = dataclasses.asdict(settings)
    del fields["out"]
    fields["sources"] = [name if is_keyword(name) else recorded(name) for name in (x.name for x in corpora)]
    fields["shares"] = [corpus.share for corpus in corpora]
    fields[identity.CONTENTS] = {"texts": [corpus.digest for corpus in corpora]}
    if compiler := environment.compiler_variables(os.environ):  # what is absent is the default
        fields["compiler"] = compiler
    return fields


def _agreed(
    path: Path, was: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings to record for a run that resumes; see `RunKind`."""
    was = {**{name: value for name, value in defaults.items() if name in now}, **was}
    differences = list(identity.settings_differ(was, now, _FREE))
    if was.get("shares") == now["shares"] and was.get(identity.CONTENTS) != now[identity.CONTENTS]:
        old, new = (settings.get(identity.CONTENTS, {}).get("texts", []) for settings in (was, now))
        changed = [name for i, name in enumerate(now["sources"]) if old[i : i + 1] != new[i : i + 1]]
        differences += [f"sources: the texts of {name} have changed" for name in changed]
    identity.refuse(path, differences, "steps, checkpoint_every, log_every and mesh may change")
    return {name: was[name] if name in _FREE else value for name, value in now.items()}


KIND = identity.RunKind("pretrain", tables=(), agreed=_agreed)


def _streams(
    settings: PretrainSettings, corpora: list[Corpus], tokenizer: Tokenizer, path: Path
) -> list[Stream]:
    """The tokens of all sources, in files of the run directory."""
    folder = path / "tokens"
    with disk.writing(folder):
        folder.mkdir(exist_ok=True)
        disk.remove_leftovers(folder)
    limits = Limits(settings.stream_tokens, settings.held_out_tokens)
    streams = [
        open_stream(corpus, tokenizer, settings.vocab_size, limits, folder / str(index))
        for index, corpus in enumerate(corpora)
    ]
    require_windows(streams, settings.max_positions)
    return streams


def _training(
    settings: PretrainSettings,
    tokenizer: Tokenizer,
    streams: list[Stream],
    path: Path,
    tell: Callable[[str], None],
    mesh: jax.sharding.Mesh,
) -> Training[State]:
    """What the loop trains."""
    optimizer = make_optimizer(settings)
    state = init_state(settings, decoder_config(settings, tokenizer), optimizer, mesh)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.decoder))
    by_window = jax.NamedSharding(mesh, jax.P((LANES, FSDP)))

    def batch(step: int) -> jax.Array:
        windows = training_windows(streams, settings.seed, step, *settings.shape_at(step))
        return jax.device_put(windows, by_window)

    def keep(state: State, step: int) -> dict[str, Any]:
        save_model(state.decoder, path)
        held_out = {}
        for stream in streams:
            batches = held_out_batches(stream, *settings.shape_at(step - 1))
            losses = [window_loss(state.decoder, jax.device_put(batch, by_window)) for batch in batches]
            nats = float(np.mean(jax.device_get(losses)))
            bits = nats / math.log(2) / stream.characters_per_token
            held_out[stream.name] = {"nats_per_token": nats, "bits_per_character": bits}
            tell(f"held out, {stream.name}: {nats:.4f} nats per token, {bits:.4f} bits per character")
        return {"parameters": parameters, "held_out": held_out}

    return Training(
        state=state,
        step=make_step(state, optimizer, settings.dtype),
        batch=batch,
        keep=keep,
        pace=Pace(
            steps=settings.steps,
            steps_matter_from=settings.steps_matter_from,
            tokens=settings.batch_size * settings.window,
            checkpoint_every=settings.checkpoint_every,
            log_every=settings.log_every,
        ),
    )


def decoder_config(settings: PretrainSettings, tokenizer: Tokenizer) -> LlamaConfig:
    """A Llama with tied embeddings, as the settings say."""
    return LlamaConfig(
        vocab_size=settings.vocab_size,
        width=settings.width,
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
        num_kv_heads=settings.num_kv_heads,
        head_size=settings.head_size,
        mlp_width=settings.mlp_width,
        max_positions=settings.max_positions,
        tied_head=True,
        norm_eps=1e-5,
        bos_token_id=tokenizer.bos_id,
        eos_token_ids=() if tokenizer.eos_id is None else (tokenizer.eos_id,),
    )


def init_state(
    settings: PretrainSettings,
    config: LlamaConfig,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
) -> State:
    """The initial state; the moments are sharded like their weights."""
    decoder = port.place(Decoder(config, rngs=nnx.Rngs(configuration.key(settings.seed))), mesh)
    # Moments are made with the shardings of their weights; the step counts are replicated.
    moments = jax.tree.map(
        lambda leaf: leaf if leaf.ndim else replicated(leaf, mesh), optimizer.init(decoder)
    )
    return State(decoder, moments)


def save_model(decoder: Decoder, path: Path) -> None:
    """Writes config.json and model.safetensors atomically."""
    with disk.writing_through(path):
        partial = path / "model.partial"
        port.save(decoder, partial)
        for file in ("config.json", "model.safetensors"):
            disk.adopt(partial / file, path / file)
        partial.rmdir()


def make_step(
    state: State, optimizer: optax.GradientTransformation, dtype: str
) -> Callable[[State, jax.Array], tuple[State, jax.Array]]:
    """One step of the optimiser on windows [B, T + 1]; returns the loss before it. Donates the state."""
    where = jax.tree.map(lambda leaf: leaf.sharding, state)

    def step(state: State, tokens_BxT: jax.Array) -> tuple[State, jax.Array]:
        def objective(decoder: Decoder) -> jax.Array:
            return next_token_loss(jax.tree.map(lambda leaf: leaf.astype(dtype), decoder), tokens_BxT)

        loss, gradient = jax.value_and_grad(objective)(state.decoder)
        update, moments = optimizer.update(gradient, state.optimizer, state.decoder)
        return State(optax.apply_updates(state.decoder, update), moments), loss

    return jax.jit(step, donate_argnums=0, out_shardings=(where, None))


def next_token_loss(decoder: Decoder, tokens_BxT: jax.Array) -> jax.Array:
    """Mean cross-entropy of windows [B, T + 1], in nats per token: every token but the first."""
    # Recomputing the layers on the way back is faster on CPU too: memory is slower than arithmetic there.
    hidden_BxTxD = predict(decoder, None, tokens_BxT, remat=True)
    logits_BxTxV = decoder.logits(hidden_BxTxD)
    return optax.softmax_cross_entropy_with_integer_labels(logits_BxTxV, tokens_BxT[:, 1:]).mean()


window_loss = jax.jit(next_token_loss)
