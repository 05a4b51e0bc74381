"""How good an exported adapter is: the numbers that were written, put into the base model."""

from __future__ import annotations

from pathlib import Path

from coordinator.evaluation.findings import Evaluation
from ravan.data.source import DataSource
from ravan.manifest.plan import JobPlan


def evaluate_adapter(base: Path, plan: JobPlan, adapter: Path, held_out: DataSource) -> Evaluation:
    """Score the adapter in a folder on held-out examples; loads the whole model into this process.

    Raise ModelError when the base model's folder is not the plan's, DataError for the examples.
    """
    import torch  # noqa: PLC0415 - other commands do not need it
    from safetensors.torch import load_file  # noqa: PLC0415

    from coordinator.evaluation.worker import score  # noqa: PLC0415
    from ravan.adapters.export import adapter_tensors, dense_tensor  # noqa: PLC0415
    from ravan.data.examples import read_examples  # noqa: PLC0415
    from ravan.tasks.loading import load_task_model  # noqa: PLC0415

    tensors = load_file(adapter / "adapter_model.safetensors")
    task = load_task_model(base, plan.training)
    with torch.inference_mode():
        for matrix in plan.matrices:
            columns, rows = (tensors[name] for name in adapter_tensors(matrix))
            task.model.get_parameter(f"{matrix.name}.weight").add_(columns @ rows)
        for parameter in plan.dense:
            task.model.get_parameter(parameter.name).copy_(tensors[dense_tensor(parameter)])
        return score(task, task.encode(read_examples(held_out, plan.training)))
