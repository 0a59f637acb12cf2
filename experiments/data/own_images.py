"""Folders of images of your own: which are read, and how they come to one size."""
import numpy as np
from PIL import Image, ImageOps

from minigrad.errors import DataError, FileError

ENDINGS = ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"


def read_images(folder, size, labeled):
    """Return the paths of the images below a folder, (n,), their labels, and the images, (n, size, size, 3), uint8.

    With `labeled`, the label of each is its folder; otherwise labels are None. Hidden files and folders are left out:
    some programs write ._1.png beside 1.png.
    """
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    classes = [path for path in inside if path.is_dir()]
    if labeled:
        empty = [path.name for path in classes if not _images_below(path)]
        if not classes or empty:
            raise DataError(f"{folder}: there is no {f'image in its folder {empty[0]}' if empty else 'folder in it'}\n"
                            f"  help: it needs a folder for each class, with its images ({' '.join(ENDINGS)})")
    paths = [image for path in (classes if labeled else inside) for image in _images_below(path)]
    if not paths:
        raise DataError(f"{folder}: there is no image in it\n  help: images end in {' '.join(ENDINGS)}")
    names = [path.relative_to(folder) for path in paths]
    unfit = [name for name in names if not _is_text(name.as_posix())]
    if unfit:
        raise DataError(f"{folder}: the name {unfit[0].as_posix()!r}{' and others' * (len(unfit) > 1)} cannot be "
                        "written to a file in UTF-8\n  help: rename it")
    labels = np.array([name.parts[0] for name in names]) if labeled else None
    return np.array([name.as_posix() for name in names]), labels, np.stack([_read_image(path, size) for path in paths])


def _is_text(name):
    """Return whether a name can be written in UTF-8; Python keeps the bytes of another encoding as they are."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _images_below(path):
    """Return the images below a folder, or link to one, sorted; of an image, itself."""
    found = path.rglob("*") if path.is_dir() else [path]
    return sorted(each for each in found if each.suffix.lower() in ENDINGS and each.is_file()
                  and not any(part.startswith(".") for part in each.relative_to(path).parts))


def _read_image(path, size):
    """Return an image (size, size, 3), uint8, with white where it is transparent."""
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise ValueError("it has more than 8 bits for each pixel and channel")
            image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:             # where nothing is seen, the color is arbitrary
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    except Exception as error:                          # Pillow raises whatever its decoders meet, TypeError as well
        raise FileError(f"{path}: this image cannot be read ({error})\n"
                        "  help: save it as an 8-bit PNG or JPEG, or move it away") from error
