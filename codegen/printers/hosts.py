"""How a buffer prints that lies in the memory of another one (codegen.passes.share_buffers)."""

from __future__ import annotations

HELPERS = {
    "_from_start": '''
def _from_start(host, shape):
    """An array in the first part of another one's memory."""
    return host.reshape(-1)[: np.prod(shape)].reshape(shape)
''',
    "_up_to_end": '''
def _up_to_end(host, shape):
    """An array in the last part of another one's memory."""
    return host.reshape(-1)[host.size - np.prod(shape) :].reshape(shape)
''',
}
