"""SAM in the Hugging Face Trainer: a small BERT reads the embedded digits as 64 tokens; needs the extra `huggingface`.

Nothing is downloaded. Any Trainer becomes sharpness-aware by its class and `rule=`; the optimiser, schedules, gradient
accumulation, `max_grad_norm`, bf16 and checkpoints are set as ever.

    python analysis_scripts/examples/huggingface_sam.py
"""

from typing import Any

import transformers

import landscape as ls
from landscape.data import digits
from landscape.interop.huggingface import SharpnessAwareTrainer

INK = 17  # shades of grey, one token each


def main(steps: int = 60, folder: str = "runs/huggingface_sam", **settings: Any) -> SharpnessAwareTrainer:
    """Train; `settings` are TrainingArguments'."""
    data = digits()
    pixels = data.train_inputs.flatten(1)
    shades = (INK - 1) * (pixels - pixels.min()) / (pixels.max() - pixels.min())
    rows = [
        {"input_ids": x, "labels": y} for x, y in zip(shades.round().long(), data.train_targets.tolist(), strict=True)
    ]
    config = transformers.BertConfig(
        vocab_size=INK, max_position_embeddings=64, num_labels=data.classes,
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
    )  # fmt: skip
    arguments = transformers.TrainingArguments(
        folder, max_steps=steps, learning_rate=5e-3, per_device_train_batch_size=100,
        save_strategy="no", report_to="none", logging_steps=10, **settings,
    )  # fmt: skip
    trainer = SharpnessAwareTrainer(
        transformers.BertForSequenceClassification(config), arguments, train_dataset=rows, rule=ls.rules.sam(rho=0.05)
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    main()
