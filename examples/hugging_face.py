"""Tunes a GPT-2 of Hugging Face on noisy chips: frozen weights, LoRA adapters, forward pairs.

    pip install transformers peft
    python examples/hugging_face.py

The model learns a text in software. Its weights are then programmed on simulated PCM chips, whose
errors raise its loss, and stay as they are. The adapters of peft are digital, and learn to make up
for the errors from pairs of noisy passes: no derivative of a chip, no weight and no noise is read.
"""

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from noisynets import NodePerturbation
from noisynets.core.losses import sequence_cross_entropy
from noisynets.systems.devices import Chip
from noisynets.tasks import TASKS


def on_chip(layer: Conv1D, number: int) -> nn.Module:
    """Program a layer of GPT-2, which is a Linear with its weight transposed, on a chip."""
    linear = nn.Linear(*layer.weight.shape)
    linear.load_state_dict({"weight": layer.weight.T, "bias": layer.bias})
    return Chip(device_seed=number, cycle_seed=number)(linear.requires_grad_(False))


def main(steps: int = 600, tuning: int = 600) -> list[float]:
    """Return the validation loss in software, on the chips, and after tuning."""
    torch.manual_seed(0)
    text, validation = TASKS["text"].with_context(64).training()
    size = {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 72}
    ends = {"bos_token_id": None, "eos_token_id": None}
    dropout = {f"{part}_pdrop": 0.0 for part in ("resid", "embd", "attn")}
    gpt2 = GPT2LMHeadModel(GPT2Config(**size, **ends, **dropout))

    def loss(outputs, y):
        return sequence_cross_entropy(outputs.logits, y).sum(1)

    def learn(model, steps, rate, gradient) -> float:
        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate)
        for _ in range(steps):
            optimiser.zero_grad()
            gradient(*text.batch(torch.randint(len(text), (16,)), torch.float32))
            optimiser.step()
        x, y = validation.batch(slice(0, 200), torch.float32)
        with torch.no_grad():
            return float(loss(model(x), y).mean())

    found = [learn(gpt2, steps, 3e-3, lambda x, y: loss(gpt2(x), y).mean().backward())]
    lora = LoraConfig(r=8, target_modules=["c_attn", "c_fc", "c_proj"], fan_in_fan_out=True)
    model = get_peft_model(gpt2, lora)
    parents = [m for m in model.modules() if isinstance(getattr(m, "base_layer", None), Conv1D)]
    for number, parent in enumerate(parents):
        parent.base_layer = on_chip(parent.base_layer, number)
    estimator = NodePerturbation(model, loss, "mirrored", sigma=0.05)
    found += [learn(model, n, 1e-3, estimator) for n in (0, tuning)]
    print("software {:.3f}, chips {:.3f}, tuned {:.3f} nats per character".format(*found))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
