"""Push the model of a run to the Hugging Face Hub, with a card that tells of the run.

hf auth login
python examples/neighbours/push_to_hub.py runs/celeba ann/faces
"""

import json
import sys
from pathlib import Path

from mtattn import FARAMTN

folder, name = Path(sys.argv[1]), sys.argv[2]
model = FARAMTN.from_pretrained(folder / "model")
run = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
print(model.push_to_hub(name, model_card_kwargs={"run": run, "title": "FAR-AMTN on CelebA"}))
