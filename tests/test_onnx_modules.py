"""Every module goes to ONNX by itself and gives the same there, for any number of images."""

import pytest
import torch
from test_contract import MODELS, cases
from torch.export import Dim

pytestmark = pytest.mark.compile
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
pytest.importorskip("onnxscript", reason="the extra export is not installed")


@pytest.mark.filterwarnings("ignore")  # torch's about its own insides
@cases({name: case for name, case in MODELS.items() if not name.startswith("FARAMTN")})  # test_export.py has the models
def test_it_gives_the_same_in_onnx(case):
    module, inputs = case.grown().eval(), tuple(case.inputs())
    shapes = tuple({0: Dim("batch", max=64)} for _ in inputs)
    program = torch.onnx.export(module, inputs, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    others = case.inputs(batch=3, seed=1)
    names = [given.name for given in session.get_inputs()]
    (got,) = session.run(None, {name: x.numpy() for name, x in zip(names, others, strict=True)})
    torch.testing.assert_close(torch.from_numpy(got), module(*others).detach(), rtol=1e-4, atol=1e-5)
