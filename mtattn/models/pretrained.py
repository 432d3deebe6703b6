"""A model that is saved, loaded, and pushed to the hub with its card."""

from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import nn

from mtattn.groups import AttributeGroups
from mtattn.models import loading, saving
from mtattn.models.card import model_card

Model = TypeVar("Model", bound=nn.Module)


class Pretrained(PyTorchModelHubMixin, nn.Module):
    """What FARAMTN has from huggingface_hub, made whole and checked; the weights and ``config`` are what is saved."""

    config: dict[str, Any]

    @classmethod
    def from_pretrained(  # noqa: PYI019  beartype, which checks the tests, cannot read Self on a method
        cls: type[Model],
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        groups: AttributeGroups | None = None,
        map_location: str | torch.device = "cpu",
        **options: Any,
    ) -> Model:
        """Load a model from a folder that ``save_pretrained`` wrote, or from a Hugging Face Hub repository.

        The backbone is built from its name and gets its weights from the folder: nothing is fetched for it, nothing is
        unpickled, and config and weights are compared before it is built. The model comes in evaluation mode and in
        torch's default type; one that was saved in bfloat16 has the same values, and ``.bfloat16()`` gives it back.

        Args:
            pretrained_model_name_or_path: The folder, or the name of a repository on the hub.
            groups: Other groups than it was trained for: what it knows of those that stay is kept by name, see
                :meth:`reset_groups`. None: its own.
            map_location: The device to load to.
            **options: ``trunk``, ``shared`` and ``heads`` where these are your own, ``dropout`` if it is to differ, and
                huggingface_hub's. With ``groups``, ``heads`` are those for the new groups.

        Raises:
            FileNotFoundError: There is no such folder, or it lacks a file.
            ValueError: Config and weights disagree, a file is damaged, or the config lacks the backbone.
        """
        download = {name: options.pop(name) for name in loading.DOWNLOAD_OPTIONS if name in options}
        saved = loading.find(pretrained_model_name_or_path, download)
        if groups is None:
            model: Any = loading.load(cls, saved, map_location, options)
        else:
            heads = options.pop("heads", None)
            model = loading.load(cls, saved, map_location, options, without_own_heads=True)
            model.reset_groups(groups, heads=heads).eval()
        loaded: Model = model
        return loaded

    def save_pretrained(
        self,
        save_directory: str | PathLike[str],
        *,
        model_card_kwargs: dict[str, Any] | None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **options: Any,
    ) -> str | None:
        """Write weights, config and card into a folder, all or nothing: where it fails, what was there stays.

        A card that a person wrote or changed stays, too. Whether the trunk is frozen is not saved.

        Args:
            save_directory: The folder; made if it does not exist.
            model_card_kwargs: What :meth:`generate_model_card` takes.
            repo_id: The name on the hub; None means that of the folder.
            push_to_hub: Whether to push the model as well.
            **options: Those of ``push_to_hub``.

        Returns:
            The commit on the hub, if the model was pushed.

        Raises:
            OSError: The folder cannot be written.
            ValueError: ``config`` holds what JSON cannot.
        """
        options.pop("config", None)  # huggingface_hub passes one; the model's own is saved
        if options and not push_to_hub:
            raise TypeError(f"FARAMTN.save_pretrained: {', '.join(options)} are for push_to_hub=True.")
        folder = Path(save_directory).expanduser()
        with saving.written_whole(folder) as unfinished:
            super().save_pretrained(unfinished, model_card_kwargs=model_card_kwargs)
        if not push_to_hub:
            return None
        commit: str = self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs, **options)
        return commit

    def _save_pretrained(self, save_directory: Path) -> None:
        saving.save(self, save_directory, self.config)

    def generate_model_card(self, **options: Any) -> ModelCard:
        """Write the card beside saved weights: ``run`` is what ``metrics.json`` holds, ``title`` what the model is."""
        return model_card(self.config, **options)
