"""Draw the README's figure with the small model of the documentation, which is trained first if it is not there.

python docs/draw_figures.py
"""

from pathlib import Path

import torch
from torchvision.transforms import v2
from trained import FACES, split, trained

from mtattn.data import SyntheticFaces
from mtattn.models import map_centres
from mtattn.report import FaceExample, plot_attribute_maps

ATTRIBUTES = ["Blond_Hair", "Eyeglasses", "Wearing_Lipstick", "Wearing_Necktie"]  # from the top of a face to its foot
SHOWN = [213, 204, 46]  # of the test part; they differ in all of these
SIZE = (324, 264)  # larger than what the model was trained on, so that people see them well


@torch.no_grad()
def main() -> None:
    model, _, folder = trained()
    data, pictures = split(folder, "test"), SyntheticFaces(FACES, size=SIZE)
    first = FACES - len(data)  # the test part comes last
    faces = []
    for index in SHOWN:
        image, targets = data[index]
        maps = model.attribute_maps(image[None])[0]
        picture = v2.functional.pil_to_tensor(pictures[first + index][0].convert("RGB")) / 255
        centres = map_centres(model, image.shape[-2:])
        faces.append(FaceExample(picture, maps.mean((-2, -1)).sigmoid(), targets, maps, centres))
    file = Path(__file__).parent / "images/attribute-maps.png"
    plot_attribute_maps(faces, model.groups, ATTRIBUTES).savefig(file, dpi=120)


if __name__ == "__main__":
    main()
