"""A model whose trunk can be kept as it is while the rest trains."""

from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound="Freezable")


class Freezable(nn.Module):
    """What FARAMTN has for a trunk that is not trained."""

    trunk: nn.Module
    _frozen: frozenset[str] | None = None  # the names of what freeze() froze

    def freeze(self: Model) -> Model:  # noqa: PYI019  as in pretrained.py
        """Stop training the trunk: no gradients, and its batch norms keep their statistics even in ``train()``.

        That is a choice of one training run: neither a state dict nor a saved model remembers it.
        """
        trained = {name for name, parameter in self.trunk.named_parameters() if parameter.requires_grad}
        self._frozen = (self._frozen or frozenset()) | trained
        self.trunk.requires_grad_(False)
        return self.train(self.training)

    def unfreeze(self: Model) -> Model:  # noqa: PYI019  as in pretrained.py
        """Train again what :meth:`freeze` froze; a parameter that you froze yourself stays as it was."""
        for name, parameter in self.trunk.named_parameters():
            if name in (self._frozen or ()):
                parameter.requires_grad_(True)
        self._frozen = None
        return self.train(self.training)

    def train(self: Model, mode: bool = True) -> Model:  # noqa: PYI019  as in pretrained.py
        """Set training or evaluation mode; a frozen trunk stays in evaluation mode."""
        super().train(mode)
        if self._frozen is not None:
            self.trunk.eval()
        return self
