"""FARAMTN, the reference model: trunk, WSGSA, CGFF and group heads, with exact attribute maps."""

from collections.abc import Mapping
from math import gcd
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_positive
from mtattn._version import installed_version
from mtattn.groups import AttributeGroups, check_groups
from mtattn.models import saving
from mtattn.models.backbones import FreshBottleneck, build_backbone
from mtattn.models.card import model_card
from mtattn.models.parameters import sort_parameters
from mtattn.modules import CGFF, WSGSA, GroupHeads


class FARAMTN(nn.Module, PyTorchModelHubMixin):
    """The multi-task attribute network FAR-AMTN: images in, one logit an attribute out.

    ``trunk -> WSGSA (pooled) -> linear projection -> CGFF -> group heads``. After the shared module everything is
    linear while gates and affinities are held, so each logit is exactly the mean of a map over the image.

    Args:
        trunk: From images to a feature map (b, channels, h, w).
        channels: Channels that the trunk returns.
        groups: The attributes of each group; logits come in the order of ``groups.attributes``.
        shared: The module f, shared by all groups, from the trunk's map to (b, out_channels, h, w). None: the identity.
        out_channels: Channels that ``shared`` returns; None means as many as it gets.
        reduction: The gates' hidden layer has ``channels / reduction`` units.
        fused_channels: Channels of each group in CGFF and heads; where f has more, a linear layer brings them down.
        num_heads: Attention heads of CGFF, and queries with which a group looks; of these fewer where ``out_channels``
            cannot be parted into as many.
        dropout: Dropout on CGFF's affinity while training, in [0, 1).
        spatial: Whether each group also learns where to look; without it, only which channels to take.
        key_channels: Width of the queries and keys of CGFF, all heads together and at most as wide as its channels, and
            of those that weigh the positions.
        coordinates: Whether where a group looks may also depend on the place in the image, and not only on what is
            there. Suits aligned images, such as cropped faces.

    Raises:
        ValueError: The sizes do not fit each other, see :class:`WSGSA` and :class:`CGFF`.

    Example:
        >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
        >>> model = FARAMTN(nn.Conv2d(3, 32, 8, stride=8), 32, groups)
        >>> images = torch.rand(2, 3, 64, 64)
        >>> model(images).shape
        torch.Size([2, 3])
        >>> maps = model.attribute_maps(images)
        >>> maps.shape
        torch.Size([2, 3, 8, 8])
        >>> torch.allclose(maps.mean((-2, -1)), model(images), atol=1e-5)
        True

    Source:
        FAR-AMTN, Gao, Wang, Liu and Zhao 2025 (arXiv 2601.01537). Where a group looks, the projection, the narrow keys
        without a norm, the fixed factor of two for the gates' one half, and the starting values are mtattn's.
    """

    def __init__(
        self,
        trunk: nn.Module,
        channels: int,
        groups: AttributeGroups,
        *,
        shared: nn.Module | None = None,
        out_channels: int | None = None,
        reduction: int = 16,
        fused_channels: int = 512,
        num_heads: int = 8,
        dropout: float = 0.0,
        spatial: bool = True,
        key_channels: int = 64,
        coordinates: bool = True,
    ) -> None:
        super().__init__()
        check_groups("FARAMTN", groups)
        check_positive("FARAMTN", fused_channels=fused_channels)
        out_channels = channels if out_channels is None else out_channels
        self.groups, self.trunk = groups, trunk
        self._frozen = False
        gating: dict[str, Any] = {"reduction": reduction, "spatial": spatial, "key_channels": key_channels}
        looks = gcd(max(num_heads, 1), out_channels)
        self.wsgsa = WSGSA(
            channels,
            len(groups),
            shared=shared,
            out_channels=out_channels,
            num_heads=looks,
            coordinates=2 if spatial and coordinates else 0,
            **gating,
        )
        narrow = out_channels > fused_channels
        self.projection = nn.Linear(out_channels, fused_channels, bias=False) if narrow else None
        if self.projection is not None:
            nn.init.orthogonal_(self.projection.weight)  # keeps the scale of what it carries
        fused = min(out_channels, fused_channels)
        head_keys = max(key_channels // max(num_heads, 1), 1) if key_channels < fused else None
        self.cgff = CGFF(fused, num_heads=num_heads, key_channels=head_keys, norm=False, dropout=dropout)
        self.heads = GroupHeads(fused, groups)
        self.config: dict[str, Any] = {
            "mtattn_version": installed_version(),
            "groups": {name: list(attributes) for name, attributes in groups.items()},
            "channels": channels,
            "out_channels": out_channels,
            "fused_channels": fused_channels,
            "num_heads": num_heads,
            "dropout": dropout,
            "coordinates": spatial and coordinates,
            "own_shared": shared is not None,
            **gating,
        }

    @classmethod
    def from_timm(
        cls,
        name: str,
        groups: AttributeGroups,
        *,
        pretrained: bool = False,
        backbone_weights: str | PathLike[str] | None = None,
        backbone_options: Mapping[str, Any] | None = None,
        drop_stages: int = 0,
        shared: nn.Module | None = None,
        **options: Any,
    ) -> "FARAMTN":
        """Build the model on a timm backbone; its last block becomes the module that all groups share.

        For ResNets the trunk goes to conv5_2 and conv5_3 is shared. EfficientNets, MobileNets and ConvNeXts are cut
        before their last block too. Other models stay whole and get a fresh 1x1 bottleneck, see
        :func:`mtattn.models.backbones.build_backbone`.

        Args:
            name: A timm model name.
            groups: The attributes of each group.
            pretrained: Whether timm fetches its pretrained weights.
            backbone_weights: A local checkpoint of the backbone, read instead of fetching one.
            backbone_options: Further arguments for ``timm.create_model``.
            drop_stages: How many of the last stages to leave out; keeps the map large for small images.
            shared: Your own shared module after the whole backbone, in place of its last block.
            **options: Those of :class:`FARAMTN`.

        Raises:
            ValueError: timm has no such model, its checkpoint does not fit, or the options do not fit each other.
            OSError: The pretrained weights could not be fetched.

        Example:
            >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
            >>> FARAMTN.from_timm("resnet18", groups)(torch.rand(2, 3, 64, 64)).shape
            torch.Size([2, 3])
        """
        backbone = build_backbone(
            name,
            pretrained=pretrained,
            weights=backbone_weights,
            options=backbone_options,
            drop_stages=drop_stages,
            whole=shared is not None,
        )
        cut: dict[str, Any] = {"shared": backbone.shared, "out_channels": backbone.out_channels}
        options = (cut if shared is None else {"shared": shared}) | options
        model = cls(backbone.trunk, backbone.channels, groups, **options)
        model.config["backbone"] = {
            "name": name,
            "options": dict(backbone_options or {}),
            "drop_stages": drop_stages,
        }
        model.config["own_shared"] = shared is not None
        model.config["image"] = {"size": backbone.size, "mean": backbone.mean, "std": backbone.std}
        return model

    def forward(self, images: Float[Tensor, "batch color height width"]) -> Float[Tensor, "batch attribute"]:
        """Compute the logits in attribute order."""
        logits: Tensor = self.heads(self.forward_features(images))
        return logits

    def forward_features(
        self, images: Float[Tensor, "batch color height width"]
    ) -> Float[Tensor, "batch group channel"]:
        """Compute the features of each group that the heads read, averaged over the image."""
        features: Tensor = self.cgff(self._project(self.wsgsa.pooled(self.trunk(images))))
        return features

    def attribute_maps(self, images: Float[Tensor, "batch color height width"]) -> Float[Tensor, "batch attribute h w"]:
        """Compute where each logit comes from: maps in logits, whose mean over the image is the prediction, exactly."""
        maps: Tensor = self.heads(self.cgff(self._project(self.wsgsa(self.trunk(images)))))
        return maps

    def affinity(self, images: Float[Tensor, "batch color height width"]) -> Float[Tensor, "batch group group"]:
        """Compute how much each group (row) listens to each group (column); rows sum to 1."""
        return self.cgff.affinity(self._project(self.wsgsa.pooled(self.trunk(images))))

    def _project(self, grouped: Float[Tensor, "batch group out *space"]) -> Float[Tensor, "batch group channel *space"]:
        scaled = 2 * grouped  # gates start near one half
        return scaled if self.projection is None else functional.on_channels(self.projection, scaled)

    def freeze(self) -> "FARAMTN":
        """Stop training the trunk: no gradients, and its batch norms keep their statistics even in ``train()``."""
        self.trunk.requires_grad_(False)
        self._frozen = True
        return self.train(self.training)

    def unfreeze(self) -> "FARAMTN":
        """Train the trunk again."""
        self.trunk.requires_grad_(True)
        self._frozen = False
        return self.train(self.training)

    def train(self, mode: bool = True) -> "FARAMTN":
        """Set training or evaluation mode; a frozen trunk stays in evaluation mode."""
        super().train(mode)
        if self._frozen:
            self.trunk.eval()
        return self

    def parameter_groups(
        self, learning_rate: float, *, trunk_factor: float = 0.1, weight_decay: float = 0.0
    ) -> list[dict[str, Any]]:
        """Sort the trainable parameters for an optimizer: the backbone gets a smaller rate, biases and norms no decay.

        The backbone is the trunk and the shared block that :meth:`from_timm` cut from it; a fresh bottleneck and a
        shared module of your own count as new.

        Args:
            learning_rate: Of the new modules.
            trunk_factor: The backbone's learning rate is this times ``learning_rate``.
            weight_decay: Of everything but biases and norms.

        Example:
            >>> model = FARAMTN(nn.Conv2d(3, 32, 8), 32, AttributeGroups({"mouth": ["Smiling"]}))
            >>> groups = model.parameter_groups(1e-3, weight_decay=0.05)
            >>> for group in groups:
            ...     print(group["name"], group["lr"], group["weight_decay"])
            trunk 0.0001 0.05
            trunk, no decay 0.0001 0.0
            new 0.001 0.05
            new, no decay 0.001 0.0
        """
        new_shared = self.config["own_shared"] or isinstance(self.wsgsa.shared, FreshBottleneck)
        trunk = ["trunk."] if new_shared else ["trunk.", "wsgsa.shared."]
        return sort_parameters(self, trunk, learning_rate, trunk_factor * learning_rate, weight_decay)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], **options: Any) -> "FARAMTN":
        """Load a model from a folder that ``save_pretrained`` wrote, or from a Hugging Face Hub repository.

        The backbone is built anew from its name and gets its weights from the folder: nothing is fetched for it and
        nothing is unpickled. The model comes in evaluation mode.

        Args:
            pretrained_model_name_or_path: The folder, or the name of a repository on the hub.
            **options: ``trunk`` and ``shared`` of a model not made by :meth:`from_timm`, and huggingface_hub's.

        Raises:
            FileNotFoundError: There is no such folder, or it lacks a file.
            ValueError: Config and weights disagree, a file is damaged, or the config lacks the backbone.
        """
        place = saving.checked_place(pretrained_model_name_or_path, options)
        model: FARAMTN = super().from_pretrained(place, **options)
        return model

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        config: dict[str, Any] | None = None,
        map_location: str | torch.device = "cpu",
        **options: Any,
    ) -> "FARAMTN":
        weights = saving.weights_file(model_id, options)
        config = saving.checked_config(config, model_id)
        try:
            model: FARAMTN = saving.rebuilt(cls, config, **options)
        except (KeyError, AttributeError) as error:
            raise ValueError(
                f"FARAMTN.from_pretrained: {saving.CONFIG_FILE} of {model_id} is damaged ({error})."
            ) from error
        model.config |= {key: value for key, value in config.items() if key not in options}
        saving.load_exactly(model, weights, map_location, model.config)
        return model.to(map_location).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        saving.save(self, save_directory, self.config)

    def generate_model_card(self, **options: Any) -> ModelCard:
        """Write the card beside saved weights: ``run`` is what ``metrics.json`` holds, ``title`` what the model is."""
        return model_card(self.config, **options)
