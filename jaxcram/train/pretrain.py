"""The training loop: a pure jitted step, a thin driver, checkpoints that continue to the bit."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from tokenizers import Tokenizer

from jaxcram.devices import configuration
from jaxcram.errors import UserError
from jaxcram.models import port
from jaxcram.models.decoder import Decoder
from jaxcram.models.llama import LlamaConfig
from jaxcram.train.data import (
    BOS,
    EOS,
    Stream,
    held_out_batches,
    open_corpora,
    save_tokenizer,
    train_tokenizer,
    training_windows,
    write_stream,
)
from jaxcram.train.settings import PretrainSettings

# What a continued run may change: when it ends and what it shows, not what it has learnt so far.
_FREE = ("out", "steps", "checkpoint_every", "log_every")


class State(NamedTuple):
    """What a step changes: fp32 weights and AdamW's moments and count."""

    decoder: Decoder
    optimizer: optax.OptState


@configuration.pinned()
def pretrain(settings: PretrainSettings) -> dict[str, Any]:
    """Trains a decoder and leaves it in `settings.out`, in Hugging Face's layout.

    Files: config.json, model.safetensors (bf16), tokenizer.json, tokenizer_config.json; settings.json;
    metrics.json (what is returned); log.jsonl; `tokens/` and `checkpoints/`, which the model does not need.
    The same call continues an interrupted run from its last checkpoint, with the same result to the bit on
    the same devices. `steps` may differ then, as long as the schedule so far does not depend on it.

    Returns:
        steps, tokens (seen in training), parameters, train_loss (nats per token, mean over the last log
        interval), wall_s and tokens_per_s of this call, held_out: nats_per_token and bits_per_character of
        each source.

    Raises:
        UserError: a source cannot be used; `out` is not writable or belongs to other settings; the batch does
            not divide by the devices, or there are none; the loss is no longer finite.
    """
    configuration.start()
    out = claim(settings)
    corpora = open_corpora(settings)
    if not (out / "tokenizer.json").is_file():
        save_tokenizer(train_tokenizer(corpora, settings.vocab_size), out)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    (out / "tokens").mkdir(exist_ok=True)
    streams = [
        write_stream(corpus, tokenizer, settings, out / "tokens" / str(index))
        for index, corpus in enumerate(corpora)
    ]
    run = _Run(settings, decoder_config(settings, tokenizer), streams)
    with jax.set_mesh(run.mesh):  # for attention's kernels, which XLA does not cut by itself
        return run.to_the_end()


def claim(settings: PretrainSettings) -> Path:
    """The directory of the run, made or found; UserError where it holds a run that this cannot continue."""
    out = Path(settings.out).expanduser()
    file = out / "settings.json"
    new = dataclasses.asdict(settings)
    try:
        out.mkdir(parents=True, exist_ok=True)
        old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else new
    except (OSError, ValueError) as error:
        raise UserError(f"--out={settings.out}: cannot be used ({error}); choose another") from error
    differing = [name for name in new if name not in _FREE and old.get(name) != new[name]]
    if differing:
        changes = ", ".join(f"{name} = {old.get(name)!r}, not {new[name]!r}" for name in differing)
        raise UserError(f"--out={settings.out}: belongs to a run with {changes}; choose another directory")
    steps = [int(entry.name) for entry in out.glob("checkpoints/*") if entry.name.isdigit()]
    done, before = max(steps, default=0), dataclasses.replace(settings, steps=old["steps"])
    if old["steps"] != settings.steps and done > min(before.steps_matter_from, settings.steps_matter_from):
        raise UserError(
            f"--steps={settings.steps}: the run in {settings.out} is at step {done} of {old['steps']}, "
            "and its learning rate already depends on that; keep it, or choose another directory"
        )
    try:
        file.write_text(json.dumps(new, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out={settings.out}: not writable ({error.strerror}); choose another") from error
    return out


def decoder_config(settings: PretrainSettings, tokenizer: Tokenizer) -> LlamaConfig:
    """A Llama with tied embeddings, as the settings say."""
    special = tokenizer.get_vocab()
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
        bos_token_id=special[BOS],
        eos_token_ids=(special[EOS],),
    )


class _Run:
    """The driver: it holds the state, feeds the step, and reports."""

    def __init__(self, settings: PretrainSettings, config: LlamaConfig, streams: list[Stream]):
        self.settings, self.streams, self.out = settings, streams, Path(settings.out).expanduser()
        devices = jax.device_count()
        if settings.final_batch_size % devices:
            raise UserError(
                f"--batch_size={settings.batch_size}: {settings.final_batch_size} windows of "
                f"{settings.max_positions} tokens do not spread over {devices} devices; give a multiple"
            )
        self.mesh = jax.make_mesh((devices,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
        self.by_window = jax.NamedSharding(self.mesh, jax.P("batch"))
        self.optimizer = make_optimizer(settings)
        decoder = Decoder(config, rngs=nnx.Rngs(configuration.key(settings.seed)))
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(decoder))
        state = State(decoder, self.optimizer.init(decoder))
        self.state = jax.device_put(state, jax.NamedSharding(self.mesh, jax.P()))
        keep = ocp.checkpoint_managers.LatestN(2)
        self.checkpoints = ocp.CheckpointManager(
            (self.out / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(preservation_policy=keep),
        )
        self.step = self._restore()

    def to_the_end(self) -> dict[str, Any]:
        settings, started, first = self.settings, time.perf_counter(), self.step
        losses: list[jax.Array] = []
        metrics: dict[str, Any] = {}
        while self.step < settings.steps:
            tokens_BxT = jax.device_put(training_windows(self.streams, settings, self.step), self.by_window)
            self.state, loss = train_step(self.state, tokens_BxT, self.optimizer, settings.dtype)
            self.step += 1
            losses.append(loss)
            last = self.step == settings.steps
            if last or self.step % settings.log_every == 0:
                metrics = self._report(losses, first, started)
                losses.clear()
            if last or self.step % settings.checkpoint_every == 0:
                self._checkpoint()
        self.checkpoints.close()
        metrics["held_out"] = self._held_out()
        (self.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        return metrics

    def _report(self, losses: list[jax.Array], first: int, started: float) -> dict[str, Any]:
        """One line on stderr and one in log.jsonl."""
        settings = self.settings
        loss = float(np.mean(jax.device_get(losses)))  # waits for the device
        if not math.isfinite(loss):
            raise UserError(f"step {self.step}: the loss is {loss}; lower --learning_rate or --clip")
        wall_s = time.perf_counter() - started
        per_step = settings.batch_size * settings.window
        rate = (self.step - first) * per_step / wall_s
        left = (settings.steps - self.step) * per_step / rate
        _show(
            f"step {self.step}/{settings.steps}  {rate:,.0f} tokens/s  loss {loss:.3f}  "
            f"{left / 60:.1f} min left"
        )
        metrics = {
            "steps": self.step,
            "tokens": self.step * per_step,
            "parameters": self.parameters,
            "train_loss": loss,
            "wall_s": wall_s,
            "tokens_per_s": rate,
        }
        self._log(metrics)
        return metrics

    def _checkpoint(self) -> None:
        """Saves the state for continuing, and a model that can be used as it is."""
        self.checkpoints.save(self.step, args=ocp.args.StandardSave(_named(self.state)))
        self.checkpoints.wait_until_finished()  # the next step donates what is being written
        port.save(self.state.decoder, self.out)
        held_out = self._held_out()
        self._log({"steps": self.step, "held_out": held_out})
        for name, figures in held_out.items():
            _show(
                f"held out, {name}: {figures['nats_per_token']:.4f} nats per token, "
                f"{figures['bits_per_character']:.4f} bits per character"
            )

    def _restore(self) -> int:
        """Takes up the latest checkpoint; returns how many steps are done."""
        step = self.checkpoints.latest_step()
        if step is None:
            return 0
        wanted = _named(self.state)
        shapes = {name: ocp.tree.to_shape_dtype_struct(leaf) for name, leaf in wanted.items()}
        found = self.checkpoints.restore(step, args=ocp.args.StandardRestore(shapes))
        self.state = jax.tree.unflatten(jax.tree.structure(self.state), [found[name] for name in wanted])
        return step

    def _held_out(self) -> dict[str, dict[str, float]]:
        figures = {}
        for stream in self.streams:
            batches = held_out_batches(stream, *self.settings.shape_at(self.step - 1))
            losses = [
                window_loss(self.state.decoder, jax.device_put(batch, self.by_window)) for batch in batches
            ]
            nats = float(np.mean(jax.device_get(losses)))
            bits = nats / math.log(2) / stream.characters_per_token
            figures[stream.name] = {"nats_per_token": nats, "bits_per_character": bits}
        return figures

    def _log(self, row: dict[str, Any]) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _named(state: State) -> dict[str, jax.Array]:
    """The arrays of a state by their path, in order: checkpoints know nothing of the classes around them."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.flatten_with_path(state)[0]}


@partial(jax.jit, static_argnums=(2, 3), donate_argnums=0)
def train_step(
    state: State, tokens_BxT: jax.Array, optimizer: optax.GradientTransformation, dtype: str
) -> tuple[State, jax.Array]:
    """One step of the optimiser on windows [B, T + 1]; returns the loss before it."""

    def objective(decoder: Decoder) -> jax.Array:
        return next_token_loss(jax.tree.map(lambda leaf: leaf.astype(dtype), decoder), tokens_BxT)

    loss, gradient = jax.value_and_grad(objective)(state.decoder)
    update, moments = optimizer.update(gradient, state.optimizer, state.decoder)
    return State(optax.apply_updates(state.decoder, update), moments), loss


def next_token_loss(decoder: Decoder, tokens_BxT: jax.Array) -> jax.Array:
    """Mean cross-entropy of windows [B, T + 1], in nats per token: every token but the first."""
    # Recomputing the layers on the way back is faster on CPU too: memory is slower than arithmetic there.
    hidden_BxTxD = decoder(decoder.embed(tokens_BxT[:, :-1]), remat=True)
    logits_BxTxV = decoder.logits(hidden_BxTxD)
    return optax.softmax_cross_entropy_with_integer_labels(logits_BxTxV, tokens_BxT[:, 1:]).mean()


window_loss = jax.jit(next_token_loss)


def learning_rate(settings: PretrainSettings) -> optax.Schedule:
    """Linear warm-up; then cosine to a tenth, or constant and then linear to 0 (Hu et al. 2024, MiniCPM)."""
    peak, warmup = settings.learning_rate, settings.warmup
    if settings.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, settings.steps, peak / 10)
    start = max(settings.final_start, warmup)
    parts = [
        optax.linear_schedule(0.0, peak, warmup),
        optax.constant_schedule(peak),
        optax.linear_schedule(peak, 0.0, settings.steps - start),
    ]
    return optax.join_schedules(parts, [warmup, start])


def make_optimizer(settings: PretrainSettings) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) on clipped gradients; norms and biases do not decay."""

    def decays(decoder: Decoder) -> Any:
        # Stacked layers: a matrix has three axes there, a norm's weight two.
        return jax.tree.map_with_path(
            lambda path, leaf: leaf.ndim > (2 if "layers" in jax.tree_util.keystr(path) else 1), decoder
        )

    return optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.adamw(
            learning_rate(settings), b1=0.9, b2=0.95, weight_decay=settings.weight_decay, mask=decays
        ),
    )
