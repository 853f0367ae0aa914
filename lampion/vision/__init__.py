"""Image data sets, named as in torchvision. May import everything but the command line."""

from lampion.vision.digits import Digits as Digits, load_digits as load_digits
