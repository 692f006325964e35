"""The competitors of benchmarks/streaming.py compute the same."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import streaming
from benchmarks.streaming import LSTM, Case, Elman


@pytest.mark.usefixtures("c_compiler")
@pytest.mark.parametrize("case", [LSTM(1, 3, 4), LSTM(3, 3, 4), Elman(1, 2, 3, 1), Elman(2, 2, 3, 7)])
def test_hand_written_steps_and_streams_agree(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "STEPS", 40)
    expected = streaming.handwritten(case)["step"].run()
    for setup in (streaming.kernel_stream, streaming.saved_stream, streaming.saved_c_stream, streaming.pure_step):
        task = setup(case)["step"]
        for _ in range(2):  # each run starts anew
            np.testing.assert_allclose(task.run(), expected, rtol=1e-5, atol=1e-5, err_msg=setup.__name__)
