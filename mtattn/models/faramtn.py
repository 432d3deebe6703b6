"""FARAMTN, the reference model: trunk, WSGSA, CGFF and group heads, with exact attribute maps."""

from collections.abc import Mapping
from math import gcd
from os import PathLike
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from mtattn import functional
from mtattn._checks import check_features, check_positive
from mtattn._version import installed_version
from mtattn.groups import AttributeGroups, check_groups, check_known
from mtattn.models import regroup
from mtattn.models.backbones import FreshBottleneck, build_backbone
from mtattn.models.config import AFFINITIES, OPTIONS
from mtattn.models.freezing import Freezable
from mtattn.models.parameters import sort_parameters
from mtattn.models.pretrained import Pretrained
from mtattn.modules import CGFF, WSGSA, GroupHeads


class FARAMTN(Freezable, Pretrained):
    """The multi-task attribute network FAR-AMTN: images in, one logit an attribute out.

    ``trunk -> WSGSA (pooled) -> linear projection -> CGFF -> group heads``. After the shared module everything is
    linear while gates and affinities are held, so each logit is exactly the mean of a map over the image.

    Args:
        trunk: From images to a feature map (b, channels, h, w).
        channels: Channels that the trunk returns.
        groups: The attributes of each group; logits come in the order of ``groups.attributes``.
        shared: The module f, shared by all groups, from the trunk's map to (b, out_channels, h, w). None: the identity.
        out_channels: Channels that ``shared`` returns; None means as many as it gets.
        heads: Heads of your own, from the features of the groups (b, g, c) to (b, column), in place of
            :class:`GroupHeads`. Attribute maps need linear ones that take maps (b, g, c, h, w) as well and say so by an
            attribute ``linear = True``.
        reduction: The gates' hidden layer has ``channels / reduction`` units; None makes each gate a learned constant.
        fused_channels: Channels of each group in CGFF and heads; where f has more, a linear layer brings them down.
        num_heads: Attention heads of CGFF, and queries with which a group looks; of these fewer where ``out_channels``
            cannot be parted into as many.
        dropout: Dropout on CGFF's affinity while training, in [0, 1).
        spatial: Whether each group also learns where to look; without it, only which channels to take.
        key_channels: Width of the queries and keys of CGFF, all heads together and at most as wide as its channels, and
            of those that weigh the positions.
        affinity: What decides who listens to whom in CGFF: "content", queries and keys of what the groups see in the
            image; "pairs", a learned number for each pair of groups, the same for all images; or "both".
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
        heads: nn.Module | None = None,
        reduction: int | None = 16,
        fused_channels: int = 512,
        num_heads: int = 8,
        dropout: float = 0.0,
        spatial: bool = True,
        key_channels: int = 64,
        coordinates: bool = True,
        affinity: Literal["content", "pairs", "both"] = "content",
    ) -> None:
        super().__init__()
        check_groups("FARAMTN", groups)
        check_known("FARAMTN", "affinity", [affinity], AFFINITIES)
        out_channels = channels if out_channels is None else out_channels
        channels, out_channels, fused_channels, num_heads, key_channels = check_positive(
            "FARAMTN",
            channels=channels,
            out_channels=out_channels,
            fused_channels=fused_channels,
            num_heads=num_heads,
            key_channels=key_channels,
        )
        if reduction is not None:
            (reduction,) = check_positive("FARAMTN", reduction=reduction)
        self.groups, self.trunk = groups, trunk
        gating: dict[str, Any] = {"reduction": reduction, "spatial": bool(spatial), "key_channels": key_channels}
        looks = gcd(num_heads, out_channels)
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
        head_keys = max(key_channels // num_heads, 1) if key_channels < fused else None
        self.cgff = CGFF(
            fused,
            num_heads=num_heads,
            key_channels=0 if affinity == "pairs" else head_keys,
            norm=False,
            num_groups=None if affinity == "content" else len(groups),
            dropout=dropout,
        )
        self.heads = GroupHeads(fused, groups) if heads is None else heads
        self.config: dict[str, Any] = {
            "mtattn_version": installed_version(),
            "groups": groups.to_plain(),
            "channels": channels,
            "out_channels": out_channels,
            "fused_channels": fused_channels,
            "num_heads": num_heads,
            "dropout": float(dropout),
            "coordinates": bool(spatial and coordinates),
            "affinity": affinity,
            "own_shared": shared is not None,
            **gating,
        }
        if heads is not None:
            self.config["own_heads"] = True

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
            backbone_weights: A local checkpoint of the backbone, read instead of fetching one; its names may have any
                prefix. ``model.safetensors`` of a saved FARAMTN on the same backbone does as well.
            backbone_options: Further arguments for ``timm.create_model`` that decide the form of the backbone; they are
                saved as JSON.
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

    def forward(self, images: Float[Tensor, "batch color height width"]) -> Float[Tensor, "batch column"]:
        """Compute the outputs in the order of ``groups.columns``; of binary attributes these are logits."""
        return self._read(self.forward_features(images))

    def forward_features(
        self, images: Float[Tensor, "batch color height width"]
    ) -> Float[Tensor, "batch group channel"]:
        """Compute the features of each group that the heads read, averaged over the image."""
        features: Tensor = self.cgff(self._project(self.wsgsa.pooled(self.trunk(images))))
        return features

    def attribute_maps(self, images: Float[Tensor, "batch color height width"]) -> Float[Tensor, "batch column h w"]:
        """Compute where each output comes from: maps whose mean over the image is that output, exactly.

        Raises:
            ValueError: The model has heads of its own that are not linear.
        """
        if not (isinstance(self.heads, GroupHeads) or getattr(self.heads, "linear", False)):
            raise ValueError(
                f"FARAMTN.attribute_maps: only linear heads have maps whose mean is the prediction, got heads of your "
                f"own, {type(self.heads).__name__}; where these are linear and take maps, say so: heads.linear = True."
            )
        return self._read(self.cgff(self._project(self.wsgsa(self.trunk(images)))))

    def affinity(self, images: Float[Tensor, "batch color height width"]) -> Float[Tensor, "batch group group"]:
        """Compute how much each group (row) listens to each group (column); rows sum to 1."""
        return self.cgff.affinity(self._project(self.wsgsa.pooled(self.trunk(images))))

    def _project(self, grouped: Float[Tensor, "batch group out *space"]) -> Float[Tensor, "batch group channel *space"]:
        scaled = 2 * grouped  # gates start near one half
        return scaled if self.projection is None else functional.on_channels(self.projection, scaled)

    def _read(self, features: Float[Tensor, "batch group channel *space"]) -> Float[Tensor, "batch column *space"]:
        outputs: Tensor = self.heads(features)
        check_features("The heads of FARAMTN", outputs, "batch", "column", column=len(self.groups.columns.attributes))
        return outputs

    def reset_groups(self, groups: AttributeGroups, *, heads: nn.Module | None = None) -> "FARAMTN":
        """Give the model other groups and attributes, and keep what it knows of those that stay, by name.

        A group keeps its gates and queries, an attribute its head; all that does not depend on groups stays. One line
        of log says what was kept. An attribute that is now of another kind, or in another unit, starts fresh. Do this
        before you make the optimizer, because some parameters are new ones.

        Args:
            groups: The new groups.
            heads: Heads of your own for them; needed where the model has such heads.

        Example:
            >>> model = FARAMTN(nn.Conv2d(3, 32, 8), 32, AttributeGroups({"mouth": ["Smiling"]}))
            >>> model = model.reset_groups(AttributeGroups({"hair": ["Bald"], "mouth": ["Smiling", "Big_Lips"]}))
            >>> model(torch.rand(2, 3, 64, 64)).shape
            torch.Size([2, 3])
        """
        check_groups("FARAMTN.reset_groups", groups)
        if heads is None and "own_heads" in self.config:
            raise ValueError(
                "FARAMTN.reset_groups: this model has heads of its own, made for its groups; pass heads= for the new."
            )
        options = {name: self.config[name] for name in OPTIONS}
        with next(self.cgff.parameters()).device:
            fresh = FARAMTN(self.trunk, groups=groups, shared=self.wsgsa.shared, heads=heads, **options)
        regroup.take_over(self, fresh)
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
