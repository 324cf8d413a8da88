"""On-policy distillation (GKD): the student writes, and learns what its teacher would have said there. TRL
trains; both are Hugging Face directories with one tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from edgekit.converters.distill.recipe import Recipe
from edgekit.converters.interpreters.torch import torch  # says it when there is no torch
from edgekit.errors import UnsupportedModel, UsageError

Messages = list[dict[str, Any]]


def train(
    teacher: Path,
    student: Path,
    samples: Iterable[dict[str, Any]],
    recipe: Recipe,
    out: Path,
    told: Callable[[int, dict[str, float]], None],
) -> None:
    """Writes the trained student into the directory `out`, where a run that was cut goes on from. Raises
    UnsupportedModel without TRL, UsageError for samples without prompts.
    """
    try:
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
        from trl.experimental.gkd import GKDConfig, GKDTrainer
    except ImportError as error:
        raise UnsupportedModel(
            f"on-policy distillation needs TRL, which is not installed ({error})",
            hint="pip install trl datasets, or leave --on-policy out",
        ) from None
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token

    class Told(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **given: Any) -> None:
            if "loss" in logs and state.is_world_process_zero:
                told(state.global_step - 1, {"loss": float(logs["loss"])})

    trainer = GKDTrainer(
        model=AutoModelForCausalLM.from_pretrained(student, dtype="float32"),
        teacher_model=AutoModelForCausalLM.from_pretrained(teacher, dtype="float32"),
        args=GKDConfig(
            output_dir=str(out),
            lmbda=recipe.on_policy,
            beta=recipe.beta,
            temperature=recipe.temperature,
            max_length=recipe.context,
            max_new_tokens=recipe.context // 2,
            max_steps=max(1, round(recipe.tokens / recipe.batch_tokens)),
            per_device_train_batch_size=1,
            gradient_accumulation_steps=recipe.batch_tokens // recipe.context,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            seed=recipe.seed,
            bf16=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_total_limit=1,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"messages": _messages(sample)} for sample in samples]),
        processing_class=tokenizer,
        callbacks=[Told()],
    )
    trainer.remove_callback(PrinterCallback)  # stdout is the report's
    trainer.train(resume_from_checkpoint=any(out.glob("checkpoint-*")))
    trainer.save_model(str(out))


def _messages(sample: dict[str, Any]) -> Messages:
    if "messages" in sample:
        return list(sample["messages"])
    if "prompt" in sample:
        said = {"user": sample["prompt"], "assistant": sample["completion"]}
        return [{"role": role, "content": content} for role, content in said.items()]
    raise UsageError(
        "a sample has no prompt, which a student answers on its own",
        hint='give lines of {"messages": […]} or {"prompt": "…", "completion": "…"}',
    )
