"""jaxcram: cramming and progressive cramming of texts into input vectors of frozen language models.

From Python, start at `jaxcram.api`; `import jaxcram` alone loads nothing else.

Where things are. A module imports only from rooms below its own (tests/test_architecture.py checks it):

    cli/       the programs: flags -> settings -> a call of api
    api        the Python interface: load, cram, decode, evaluate, knock out, reconstruct, generate, logits
    experiments/  experiments on disk: evaluations of tasks, generated answers, knockouts, reconstructions
    cramming   samples crammed into a run directory, for api.cram and the experiments
    predictions  what a model says: continuations of prompts, logits after an embedding
    interchange/  runs written as the published data set, and that data set read as runs
    runs       runs on disk as Python values: rows, curves, table, decoded texts, trajectories
    findings/  the analyses of runs: registry, rows of a run, columns of several, their table and figures
    loading    a model with its tokenizer, by path or Hub name
    report/    text output: outline, progress, table, example
    options    the keyword settings of api.cram, with the names of the flags
    evaluate/  tasks and their items; scores of multiple choice, generated answers, accuracies with their
               intervals; what comes back from embeddings under each decoder; knockout sweeps, attention
               masses; a model for lm-evaluation-harness
    train/     pretraining of small decoders
    cram/      cramming: settings, parametrisation, objective, optimiser, stages, the pass over lanes, the
               scheduler, and the loop of a run
    figures/   matplotlib figures from rows
    analysis/  numbers computed from rows and embeddings: surprisal and steps, capacity in bits, the walk of a
               lane, its jumps, solutions of one prefix and the lines between them
    decode     greedy decoding of texts from embeddings
    forward    one forward pass over memory and text: what predicts each token, attention mass
    models/    decoders, one file per family; loading, saving and sharding of checkpoints
    results/   a run on disk: directory, settings, identity, tables and their columns, log, checkpoints
    text/      sources of texts, tokenizers and targets
    devices/   environment, JAX's configuration, compilation cache, device mesh, processes
    hub, documents, errors   Hub names, untrusted JSON files, errors

So a new model family is a file in models/ and an entry in models/registry.py; a new source of texts goes into
text/sources.py; a new form of the trained parameters is a class in cram/parametrization.py, a new loss goes
into cram/objective.py, a new optimiser or schedule into cram/optimizer.py, and a new rule of growing or
stopping into cram/stages.py; a new task is a file in evaluate/tasks/ and an entry in its registry.py; a new
experiment a file in experiments/ with its science in evaluate/; a new statistic of runs is a function in
analysis/ with an entry in findings/registry.py, a new figure a file in figures/, a new column a line of
results/rows.py, and a new program a file in cli/.

Shapes are part of array names, as in `mem_BxKxD`:

    B  lanes of a pass                 N  lanes of a run (the pool); rows of a product in attention
    K  memory embeddings of a lane     T  target tokens of a pass, padded; positions of a decoder's input
    D  width of the model              M  target tokens of the pool's arrays, padded
    L  layers                          H  query heads
    G  key and value heads             C  size of a head
    F  width of the MLP                V  vocabulary
    S  lanes of a chunk over all its devices; in models/ keys of attention; in evaluate/ texts or decisions
    I  items of a task                 E  endings of an item
                                       C  conditions of a knockout, principal components, too
    P  passes of a chunk, points of a curve, of a mesh or of a line
    X, Y  points of a mesh along either side
    U  unfinished lanes of a snapshot; unique values
    R  device groups or shards; rows (tokens) of a sweep; query heads per key head;
       resamples of a bootstrap; stages of a trajectory

A lane is one optimisation: a text, a learning rate and a seed. A pass is one forward and backward pass over
the B lanes of a bucket, and a bucket is a padded shape (T, B). A chunk is a loop of passes on the device. The
memory is the trained input embeddings of a lane; what devices have is device memory.
"""


def __getattr__(name: str) -> str:
    """`jaxcram.__version__`, which is read only when asked for."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jaxcram")
    except PackageNotFoundError:
        return "(sources)"  # on the path without being installed
