"""A complete, commented job file, as `job sample` prints it and the documentation shows it."""

from __future__ import annotations

from typing import Final


def write_sample() -> str:
    """Return a job file with every key, its default where it has one, and a comment for each."""
    return _SAMPLE


_SAMPLE: Final = """\
# A fine-tuning job. Submit it with `ravan-coordinator job submit job.toml`.
# Keys with `default` in their comment may be left out.

[job]
name = "work-orders"        # lower-case letters, digits, dots, hyphens, underscores
rounds = 12                 # rounds to run, at the most
minimum_rounds = 1          # rounds that are run in any case; default 1
# patience = 4              # end after so many rounds in a row without a better version; default: run all
minimum_improvement = 0.0   # by how much a better version must be better; default 0.0
minimum_agent_version = ""  # oldest agent that takes part, such as "0.2.0"; default "": any

[model]
name = "minilm"             # as given to `ravan-coordinator model add`
precision = "float32"       # how its weights are held: or "bfloat16", half of that, or "int8"; default "float32"

[adapter]
heads = 4                   # heads per adapted matrix; 0 trains the new classifier alone; default 4
rank = "auto"               # a head has rank x rank numbers; default "auto": in each matrix the most for lora_rank
lora_rank = 8               # budget: train no more numbers than LoRA of this rank would; default 8
targets = ["query", "value"] # layers to adapt, by the last parts of their names or "attention", "mlp", "all"; default
basis = "aligned"           # or drawn: "gram_schmidt", "normal", "shared", "constant"; default: by task
# seed = "64 hexadecimal digits"  # all bases follow from it; default: drawn at random
train_scales = true         # train each head's scale beside its core; default true

[training]
task = "sequence_classification" # or "image_classification", "series_classification", "causal_lm"; default
data = "orders"             # the [data.orders] table in each site's own agent.toml
labels = ["engine", "hydraulic", "electrical"] # as they stand in the data; order = the model's outputs
max_length = 64             # tokens per text, longer ones are cut; default 64
prompt = ""                 # causal_lm: what comes before the answer, {text} in it stands for the text; default ""
image_side = 0              # images: pixels that both sides are scaled to; default 0: what the model was trained on
window_step = 1             # series: rows from the start of one window to the next; default 1
label_rule = "last"         # series: a window's label, of its "last" row, the "majority", or "any" row; default "last"
expected_labels = "held_out" # how frequent labels are to be: as held out, all "equal", or "local"; default "held_out"
batch_size = 32             # examples per step; default 32
steps = 40                  # steps per round, the same for every site; default 40
optimiser = "adamw"         # starts afresh in every round; default "adamw"
learning_rate = 0.01        # for the heads; default: by task, this one for texts
dense_learning_rate = 0.02  # for the new classifier; default: by task, this one for texts
weight_decay = 0.0          # default 0.0
learning_rate_decay = 1.0   # factor on both rates from one round to the next; default 1.0

[round]
minimum_sites = 8           # ready sites that a round waits for; default: bundle_threshold
# target_sites = 12         # sites that should finish a round, more are asked; default: all that are ready
training_deadline_s = 1800.0 # seconds for training, or "auto": from what the sites have measured; default 1800
longest_training_s = 1800.0 # auto: the most that it comes to; default 1800
phase_deadline_s = 60.0     # seconds for each later phase; default 60
denominator = "trainers"    # divide by the sites that trained a head, or by the whole "cohort"; default "trainers"

[secure_aggregation]
bundle_threshold = 8        # least sites in a sum before anybody may see it, 3 at the least; default 8
profile = "uniform"         # or "weighted": sites count by the size of their data; default "uniform"
examples_per_weight = 16    # weighted: examples that make one unit of weight; default 16
weight_limit = 255          # weighted: largest weight of a site; default 255
cell_threshold = 8          # weighted: least sites of a cell in a sum; default: bundle_threshold
cell_minimum = 13           # weighted: least sites in a cell; default: so that cells bear losing a tenth
ring_bits = 24              # bits of a masked number: 16 for thin lines, 24 or 32; default 24
rotate = false              # spread cores before rounding, where the rank is a power of two; default false
suite = "auto"              # keystream: or "aes-128-ctr", "aes-256-ctr", "chacha20"; default "auto"
clip = 8.0                  # L2 bound of a block's change in round 1, widened where sites clip; default 8.0

[evaluation]
data = "held-out.csv"       # held-out file, relative to this one; it is sent along, no site gets it; images: a zip file
format = "csv"              # or "jsonl"; default "csv"
text = "text"               # column with the texts; default "text"
label = "label"             # column with the labels or answers; default "label"
group = ""                  # series: column that tells them apart, e.g. the machine; default "": all are one
columns = {}                # series: columns called otherwise than the channels, { channel = "column" }; default {}
measure = "accuracy"        # what tells a better version from a worse one, or "loss"; default "accuracy"
gate = "finite"             # refuse versions that are not finite, or worse ones as well: "not_worse"; default "finite"
gate_tolerance = 0.0        # not_worse: by how much a version may be worse, 0.01 is one point of accuracy; default 0.0

[allocation]
policy = "coverage"         # heads from the top first, or at "random", by "weight", by "gradient"; default "coverage"
share = 1.0                 # part of the heads that a site can hold; default: 1.0 for "coverage", 0.5 otherwise
spare_sites = 0             # heads must have so many sites beyond bundle_threshold, to bear losing them; default 0
"""
