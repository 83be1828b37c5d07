"""`jaxcram generate`: continues a prompt with a model, as a quick check that it was loaded correctly."""

import dataclasses

from jaxcram.cli.flags import Doc


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    prompt: str
    model: str | None = None
    dtype: str | None = None
    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0


TOPICS = {
    "Model and prompt": {
        "model": Doc(
            "Directory or Hub name of a model: Llama, GPT-NeoX, Gemma 3, Qwen, SmolLM3",
            unset="the bundled mini-llama",
        ),
        "dtype": Doc(
            "Precision of the model, float32 or bfloat16", unset="float32 on CPU, bfloat16 elsewhere"
        ),
        "prompt": Doc("The text to continue"),
    },
    "Decoding": {
        "max_new_tokens": Doc("Most tokens to add", "tokens"),
        "temperature": Doc("Sample at this temperature; 0 is greedy", "no unit"),
        "seed": Doc("Seed of the sampling", "no unit"),
    },
}


def run(command: Command) -> None:
    """Prints the prompt and its continuation."""
    from jaxcram import api
    from jaxcram.errors import printable

    model = api.load_model(command.model, dtype=command.dtype)
    text = api.generate(
        model,
        command.prompt,
        max_new_tokens=command.max_new_tokens,
        temperature=command.temperature,
        seed=command.seed,
    )
    print(printable(text))
