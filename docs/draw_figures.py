"""Draw the README's figure from a finished run on drawn faces.

python examples/celeba.py --synthetic
python docs/draw_figures.py runs/celeba/model runs/synthetic-4000-seed-0
"""

import sys
from pathlib import Path

from mtattn import FARAMTN
from mtattn.data import CelebA, image_transform
from mtattn.recipes import explain_faces
from mtattn.report import plot_attribute_maps

ATTRIBUTES = ["Smiling", "Wearing_Lipstick", "Black_Hair", "Bushy_Eyebrows"]
FACES = [10, 20, 26]  # test faces that differ in these attributes

if __name__ == "__main__":
    model_folder, root = map(Path, sys.argv[1:])
    model = FARAMTN.from_pretrained(model_folder)
    transform = image_transform(**model.config["image"])
    faces = explain_faces(model, CelebA(root, "test", attributes=model.groups.attributes, transform=transform), FACES)
    images = Path(__file__).parent / "images"
    images.mkdir(exist_ok=True)
    figure = plot_attribute_maps(faces, model.groups, ATTRIBUTES)
    figure.savefig(images / "attribute-maps.png", dpi=100)
