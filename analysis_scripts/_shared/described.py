"""What a caption says of the networks: kind, batch norm, data, length of training, seeds."""

from typing import Any

KINDS = {"mlp": "Perceptron", "resnet": "ResNet", "cnn": "Convolutional network", "vit": "ViT", "mixer": "MLP-Mixer"}


def described(config: Any) -> str:
    """One sentence from a script's config that has `setting` (fields of TrainConfig), and `seeds`."""
    setting = getattr(config, "setting", {})
    if not isinstance(setting, dict) or "model" not in setting:
        return ""  # a script of several networks says itself which
    own = setting.get("model_settings", {})
    parts = [KINDS.get(setting["model"], "Network")]
    if "hidden" in own:
        parts[0] += f" with layers of {' and '.join(map(str, own['hidden']))}"
    parts.append({"batch": "batch norm with stored statistics", "none": "no batch norm"}.get(own.get("norm"), ""))
    data = setting.get("dataset", "digits")
    parts.append("" if data == "npz" else data)  # of a file the script itself says
    if noise := setting.get("label_noise", 0.0):
        parts[-1] += f" with {100 * noise:g} % wrong training labels"
    if loss := setting.get("stop_at_loss"):
        parts.append(f"trained to a loss of {loss:g}")
    elif "epochs" in setting:
        parts.append(f"{setting['epochs']} epochs")
    if seeds := getattr(config, "seeds", ()):
        parts.append(f"{len(seeds)} seed{'s' * (len(seeds) > 1)}")
    return ", ".join(part for part in parts if part) + "."
