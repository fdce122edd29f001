"""What a caption says of the networks: kind and size, batch norm, data, length of training, seeds."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from landscape.models import MODELS

KINDS = {"mlp": "Perceptron", "resnet": "ResNet", "cnn": "Convolutional network", "vit": "ViT", "mixer": "MLP-Mixer"}
SIZES = {
    "mlp": " with {layers}",
    "resnet": "-{depth} of width {width}",
    "vit": " of {depth} blocks and width {dim}",
    "mixer": " of {depth} blocks and width {dim}",
}
NORMS = {"batch": "batch norm with stored statistics", "none": "no batch norm"}


def described(config: Any) -> str:
    """One sentence from a script's config that has `setting` (fields of TrainConfig), and `seeds`."""
    setting = getattr(config, "setting", {})
    if not isinstance(setting, dict) or "model" not in setting:
        return ""  # a script of several networks says itself which
    parts = [sized(setting["model"], setting.get("model_settings", {}))]
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


def sized(model: str, settings: Mapping[str, Any]) -> str:
    """Kind and size of a network of MODELS, and whether it has batch norm."""
    own = {name: each.default for name, each in signature(MODELS[model]).parameters.items()} | dict(settings)
    if model == "mlp":
        own["layers"] = (
            f"{'layers' if len(own['hidden']) > 1 else 'a layer'} of {' and '.join(map(str, own['hidden']))}"
        )
    said = KINDS.get(model, "Network") + SIZES.get(model, "").format(**own)
    return ", ".join(part for part in (said, NORMS.get(own.get("norm", ""), "")) if part)


def each_sized(models: Mapping[str, Mapping[str, Any]]) -> str:
    """The same of several networks, by their settings."""
    return "; ".join(sized(model, settings) for model, settings in models.items())
