"""State that no change of precision touches."""

from collections.abc import Callable

from torch import Tensor, nn


class Float32State(nn.Module):
    """A module whose state stays in float32 wherever it moves: ``.half()`` must not round a history."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Float32State":
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self
